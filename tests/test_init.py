"""A project of one's own: which files it has, and that none is written if one cannot be."""

import compileall
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from prefect_calendly.about import __version__
from prefect_calendly.deploy_steps import filled_in
from prefect_calendly.flows import DEPLOYMENTS, FOLDER, VALUES
from prefect_calendly.init.deployments import available_flows
from prefect_calendly.init.project import FilesExistError, project_files, requirement, write_project

FOLDER_OF_PROJECT = Path("/home/somebody/our calendly")
ALONG = {"cancel_blocked_domains": {"record_expired_approval"}}


def deployments_in(text: str) -> list[dict[str, Any]]:
    deployments: list[dict[str, Any]] = yaml.safe_load(text)["deployments"]
    return deployments


def flow_of(deployment: dict[str, Any]) -> str:
    return str(deployment["entrypoint"]).rpartition(":")[2]


@pytest.mark.parametrize("flow", available_flows())
def test_a_project_has_the_chosen_flow_its_deployments_and_its_tests(flow: str) -> None:
    files = project_files([flow], FOLDER_OF_PROJECT)
    flows = {flow} | ALONG.get(flow, set())
    assert {path for path in files if path.startswith("flows/")} == {
        "flows/__init__.py",
        *(f"flows/{name}.py" for name in flows),
    }
    for name in flows:
        assert files[f"flows/{name}.py"] == (FOLDER / f"{name}.py").read_text()
    assert {path for path in files if path.startswith("tests/")} == {
        "tests/conftest.py",
        "tests/test_deployments.py",
        f"tests/test_{flow}.py",
    }
    steps = yaml.safe_load(files["prefect.yaml"])["build"]
    values, switches = (inputs for step in steps for inputs in step.values())
    assert values == {"id": "values", "file": "values.yaml"}
    assert files["values.yaml"] == VALUES.read_text()
    shipped = [each for each in deployments_in(DEPLOYMENTS.read_text()) if flow_of(each) in flows]
    for each in shipped:
        schedules = {f"{each['name']}/{schedule['slug']}" for schedule in each["schedules"]}
        assert schedules <= {*switches["on_at_first"], *switches["off_at_first"]}
    assert deployments_in(files["prefect.yaml"]) == shipped


def test_nothing_that_writes_runs_before_somebody_has_switched_it_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = project_files(available_flows(), FOLDER_OF_PROJECT)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "values.yaml").write_text(files["values.yaml"])
    writing = [each for each in filled_in(yaml.safe_load(files["prefect.yaml"])) if "writes" in each["tags"]]
    assert len(writing) >= 4
    assert sum(len(each["schedules"]) for each in writing) >= 2
    assert not any(schedule.get("active", True) for each in writing for schedule in each["schedules"])


def test_a_worker_on_this_machine_finds_the_flows_and_the_comments_are_kept() -> None:
    text = project_files(["poll_bookings"], FOLDER_OF_PROJECT)["prefect.yaml"]
    (step,) = yaml.safe_load(text)["pull"]
    assert step == {"prefect.deployments.steps.set_working_directory": {"directory": "{{ $PWD }}"}}
    assert yaml.safe_load(text)["name"] == "our calendly"
    shared = re.search(r"^#[^\n]*\ndefinitions:\n.*?\n\n", DEPLOYMENTS.read_text(), re.MULTILINE | re.DOTALL)
    assert shared
    assert shared[0] in text
    assert "deployments/" not in text  # a folder of ours


def test_every_version_is_pinned_and_no_placeholder_is_left() -> None:
    files = project_files(available_flows(), FOLDER_OF_PROJECT)
    wanted = [line for line in files["requirements.txt"].splitlines() if line and not line.startswith("#")]
    assert [line.partition("==")[0] for line in wanted] == ["prefect-calendly", "prefect", "pytest"]
    assert all(re.fullmatch(r"[a-z-]+==\d[\d.]+", line) for line in wanted)
    for path, text in files.items():
        assert not re.search(r"@[A-Z]+@", text), path
    assert files["README.md"].startswith("# our calendly\n")
    assert "prefect deployment run 'cancel-blocked-domains/cancel-blocked-domains-dry-run'" in files["README.md"]


@pytest.mark.parametrize(
    ("direct_url", "line"),
    [
        (None, f"prefect-calendly=={__version__}"),
        ('{"url": "file:///src", "dir_info": {"editable": true}}', f"prefect-calendly=={__version__}"),
        ('{"url": "file:///tmp/a.whl", "archive_info": {}}', f"prefect-calendly=={__version__}"),
        ('{"url": "https://x.example/a.whl", "archive_info": {}}', "prefect-calendly @ https://x.example/a.whl"),
        (
            '{"url": "https://x.example/r.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}}',
            "prefect-calendly @ git+https://x.example/r.git@c0ffee",
        ),
    ],
)
def test_a_package_that_came_from_no_index_is_installed_from_there_again(direct_url: str | None, line: str) -> None:
    assert requirement(direct_url) == line


def test_the_written_project_is_what_was_put_together(tmp_path: Path) -> None:
    files = project_files(available_flows(), tmp_path / "deep" / "mine")
    write_project(tmp_path / "deep" / "mine", files)
    written = {
        path.relative_to(tmp_path / "deep" / "mine").as_posix(): path.read_text()
        for path in (tmp_path / "deep" / "mine").rglob("*")
        if path.is_file()
    }
    assert written == files
    assert compileall.compile_dir(tmp_path, quiet=2, force=True)
    assert {".env.example", ".gitignore", "README.md", "prefect.yaml", "pytest.ini", "requirements.txt"} <= set(files)


def test_other_files_of_the_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "mine.py").write_text("mine")
    write_project(tmp_path, project_files(["poll_bookings"], tmp_path))
    assert (tmp_path / "flows" / "mine.py").read_text() == "mine"


@pytest.mark.parametrize("path", ["prefect.yaml", "tests/conftest.py", ".env.example"])
def test_nothing_is_written_if_one_of_the_files_exists(path: str, tmp_path: Path) -> None:
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).symlink_to("nowhere")
    with pytest.raises(FilesExistError) as refused:
        write_project(tmp_path, project_files(["poll_bookings"], tmp_path))
    assert refused.value.paths == [tmp_path / path]
    assert [found for found in tmp_path.rglob("*") if not found.is_dir()] == [tmp_path / path]


def test_what_was_written_before_a_file_failed_is_removed(tmp_path: Path) -> None:
    (tmp_path / "tests").write_text("a file where a folder is needed")
    with pytest.raises(NotADirectoryError):
        write_project(tmp_path, project_files(["poll_bookings"], tmp_path))
    assert [found.name for found in tmp_path.rglob("*")] == ["tests"]


@pytest.mark.parametrize(("flows", "why"), [([], "at least one flow"), (["record_expired_approval"], "no flow record")])
def test_flows_that_cannot_be_had_are_refused(flows: list[str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        project_files(flows, FOLDER_OF_PROJECT)
