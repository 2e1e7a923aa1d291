"""Type-checks the examples in all docstrings, in one run of mypy.

python -m tests.type_check_examples
"""

from __future__ import annotations

import ast
import doctest
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from mypy import api

from tests.doc_examples import documented, examples, modules, own

# What every example may take for granted.
GIVEN = "api_key: str, credentials: CalendlyCredentials, body: bytes"


def homes() -> dict[str, str]:
    """The module that each name of the package is imported from."""
    return {name: module.__name__ for module in modules() for name in own(module)}


def imports_for(code: str, home: dict[str, str]) -> Iterator[str]:
    """The imports of ours that an example leaves out."""
    nodes = list(ast.walk(ast.parse(code)))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    assigned = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    imported = {name.name for node in nodes if isinstance(node, ast.ImportFrom) for name in node.names}
    for name in sorted(names & home.keys() - assigned - imported):
        yield f"from {home[name]} import {name}"


def functions() -> Iterator[str]:
    """Each example as a function, which is named after what it belongs to."""
    home = homes()
    for name, item in documented():
        interactive = "".join(example.source for example in doctest.DocTestParser().get_examples(item.__doc__ or ""))
        of_module = dict.fromkeys(own(sys.modules[item.__module__]), item.__module__)  # two modules have a `Plan`
        for number, code in enumerate(filter(None, [*examples(item), interactive])):
            body = "\n".join([*imports_for(code, home | of_module), code])
            yield f"async def {name.replace('.', '__')}_{number}({GIVEN}) -> None:\n{textwrap.indent(body, '    ')}"


def main() -> int:
    """Check them all, and print what is wrong with each."""
    program = "\n\n".join(["from prefect_calendly import CalendlyCredentials", *functions()])
    with TemporaryDirectory() as folder:
        file = Path(folder) / "examples.py"
        file.write_text(program)
        said, failed, status = api.run(["--show-error-context", str(file)])
    print(said, failed, sep="", end="")
    return status


if __name__ == "__main__":
    sys.exit(main())
