"""The files of a new project: put together, and written all or none."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from prefect_calendly.about import DOCUMENTATION_URL, __version__
from prefect_calendly.flows import FOLDER, VALUES
from prefect_calendly.init.deployments import deployments_file, names_of_deployments, with_companions

# Names that an installer or version control would take for its own have another one among the templates.
_RENAMED: Final = {"env.example": ".env.example", "gitignore": ".gitignore"}


class FilesExistError(Exception):
    """Files of the new project are there already; nothing was written."""

    def __init__(self, paths: Collection[Path]) -> None:
        self.paths = sorted(paths)
        super().__init__("nothing was written, for these exist already:\n" + "\n".join(map(str, self.paths)))


def project_files(flows: Collection[str], folder: Path) -> dict[str, str]:
    """Return the texts of a project's files, by their paths within it.

    Args:
        flows: Names of its flows, at least one.
        folder: Where the project will be; the project has its name.

    Raises:
        ValueError: There is no flow of such a name, or none was named.
    """
    if not flows:
        raise ValueError("name at least one flow")
    chosen = with_companions(flows)
    found = {f"flows/{name}.py": (FOLDER / f"{name}.py").read_text(encoding="utf-8") for name in chosen}
    found["prefect.yaml"] = deployments_file(chosen, folder.name)
    found["values.yaml"] = VALUES.read_text(encoding="utf-8")
    values = _values(chosen, folder)
    for path, text in _templates(files("prefect_calendly.init") / "templates"):
        of_flow = re.fullmatch(r"tests/test_(\w+)\.py", path)
        if of_flow is None or of_flow[1] in {"deployments", *chosen}:
            found[_RENAMED.get(path, path)] = _filled_in(text, values)
    return dict(sorted(found.items()))


def write_project(folder: Path, contents: Mapping[str, str]) -> None:
    """Write files into a folder, which may exist and have other files: all of them, or none.

    Args:
        folder: The folder; it is made if it is not there.
        contents: Texts by paths within the folder.

    Raises:
        FilesExistError: One of the files exists.
        OSError: One of them could not be written.
    """
    if existing := [folder / path for path in contents if _exists(folder / path)]:
        raise FilesExistError(existing)
    made: list[Path] = []
    try:
        for path, text in contents.items():
            target = folder / path
            missing = [each for each in (target.parent, *target.parent.parents) if not each.exists()]
            for each in reversed(missing):
                each.mkdir()
                made.append(each)
            with target.open("x", encoding="utf-8") as file:
                made.append(target)
                file.write(text)
    except BaseException:
        for each in reversed(made):
            each.rmdir() if each.is_dir() else each.unlink()
        raise


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _templates(folder: Traversable, within: str = "") -> list[tuple[str, str]]:
    found = []
    for item in folder.iterdir():
        if item.is_dir() and item.name != "__pycache__":
            found += _templates(item, f"{within}{item.name}/")
        elif item.is_file() and not item.name.endswith(".pyc"):
            found.append((within + item.name, item.read_text(encoding="utf-8")))
    return found


def _values(flows: Collection[str], folder: Path) -> dict[str, str]:
    """What stands in the templates in capitals between two `@`."""
    deployments = names_of_deployments(flows)
    return {
        "PROJECT": folder.name,
        "DOCUMENTATION": DOCUMENTATION_URL,
        "FLOWS": "\n".join(f"- `flows/{name}.py`: {_first_line(name)}" for name in flows),
        "DEPLOYMENT": next((name for name in deployments if "dry-run" in name), deployments[0]),
        "PACKAGE": requirement(distribution("prefect-calendly").read_text("direct_url.json")),
        "PREFECT": version("prefect"),
        "PYTEST": _pinned("pytest"),
    }


def requirement(direct_url: str | None) -> str:
    """Return the line of `requirements.txt` that installs this package again, from where it came from.

    Args:
        direct_url: `direct_url.json` of the installed package, which pip writes for what came from no index.
    """
    source = json.loads(direct_url) if direct_url else {}
    if commit := source.get("vcs_info", {}).get("commit_id"):
        return f"prefect-calendly @ {source['vcs_info']['vcs']}+{source['url']}@{commit}"
    if "archive_info" in source and source["url"].startswith("https://"):
        return f"prefect-calendly @ {source['url']}"
    return f"prefect-calendly=={__version__}"


def _first_line(flow: str) -> str:
    """The first line of a flow file's docstring."""
    text = (FOLDER / f"{flow}.py").read_text(encoding="utf-8")
    return text.removeprefix('"""').partition('"""')[0].partition("\n")[0]


def _pinned(package: str) -> str:
    try:
        return f"{package}=={version(package)}"
    except PackageNotFoundError:  # it is not needed to make a project
        return package


def _filled_in(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"@([A-Z]+)@", lambda found: values[found[1]], text)
