"""The examples in the package's docstrings, each with what it belongs to."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from prefect import Task

import prefect_calendly

_BLOCK = re.compile(r"^( *)```python\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
# The sandbox's have none, and the flows have tests of their own.
_NOT_WALKED = ("prefect_calendly.sandbox", "prefect_calendly.flows")


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(prefect_calendly.__path__, "prefect_calendly."):
        if not found.name.startswith(_NOT_WALKED) and not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def own(module: ModuleType) -> dict[str, Any]:
    """What an example need not import: the public names that a module makes itself."""
    return {
        name: item
        for name, item in vars(module).items()
        if getattr(item, "__module__", None) == module.__name__ and not name.startswith("_")
    }


def tasks(module: ModuleType) -> dict[str, Task[..., Any]]:
    return {name: item for name, item in own(module).items() if isinstance(item, Task)}


def documented() -> Iterator[tuple[str, Any]]:
    """Everything whose docstring may hold an example; of a task, its async twin and its endpoint only the task."""
    for module in modules():
        short = module.__name__.rpartition(".")[2]
        for name, task in tasks(module).items():
            if not (name.startswith("a") and name[1:] in tasks(module)):
                yield f"{short}.{name}", task.fn
        for name, item in own(module).items():
            if name.endswith("_via"):
                continue
            if inspect.isfunction(item):
                yield f"{short}.{name}", item
            elif inspect.isclass(item):
                yield f"{short}.{name}", item
                members = vars(item).items()
                yield from ((f"{short}.{name}.{member}", fn) for member, fn in members if inspect.isfunction(fn))


def examples(item: Any) -> list[str]:
    doc = inspect.cleandoc(item.__doc__ or "")
    return [
        "".join(line.removeprefix(indent) for line in code.splitlines(keepends=True))
        for indent, code in _BLOCK.findall(doc)
    ]
