"""The check finds what Prefect would ignore, store in clear, or only fail of when it runs."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.settings import temporary_settings

from deployments.check import __main__ as command
from deployments.check import automations, prefect_yaml, server, values
from deployments.files import AUTOMATIONS, EVENT_AUTOMATIONS, EXAMPLE_VALUES, FILE, VALUES, deployments_of
from tests.settings import changed_settings
from tests.support import Stack

SHIPPED = yaml.safe_load(FILE.read_text().replace(VALUES, EXAMPLE_VALUES))
CANCEL, DRY_RUN, _, DIGEST, WEBHOOK, *_, EXPIRED = range(len(SHIPPED["deployments"]))


def fresh() -> dict[str, Any]:
    """The shipped file, without anchors: a change in one place is none in another."""
    file: dict[str, Any] = json.loads(json.dumps(SHIPPED))
    return file


def of(file: dict[str, Any], number: int = CANCEL) -> Any:
    return file["deployments"][number]


def changed(number: int, *path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    """Set one value of one deployment."""

    def change(file: dict[str, Any]) -> None:
        place = of(file, number)
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = to

    return change


def renamed(number: int, *path: str | int, to: str) -> Callable[[dict[str, Any]], None]:
    """Misspell one key of one deployment."""

    def change(file: dict[str, Any]) -> None:
        place = of(file, number)
        for key in path[:-1]:
            place = place[key]
        place[to] = place.pop(path[-1])

    return change


def without(number: int, *path: str | int) -> Callable[[dict[str, Any]], None]:
    def change(file: dict[str, Any]) -> None:
        place = of(file, number)
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return change


def problems_of(file: Any, tmp_path: Path) -> list[str]:
    path = tmp_path / "prefect.yaml"
    path.write_text(yaml.safe_dump(file))
    return prefect_yaml.problems(path)


def with_values(folder: Path, **changes: Any) -> dict[str, Any]:
    """The shipped file, with values of one's own."""
    values = {**yaml.safe_load(Path(EXAMPLE_VALUES).read_text()), **changes}
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    file = fresh()
    file["build"][0]["prefect_calendly.deploy_steps.read_values"]["file"] = str(folder / "values.yaml")
    return file


def test_the_shipped_files_are_as_they_should_be() -> None:
    assert prefect_yaml.problems() == []
    assert automations.problems() == []
    assert automations.problems(EVENT_AUTOMATIONS) == []


def test_every_flow_that_is_meant_to_run_by_itself_is_deployed_with_a_schedule() -> None:
    deployments = {each["name"]: each for each in deployments_of()}
    schedules = {name: [s["cron"] for s in each.get("schedules", [])] for name, each in deployments.items()}
    assert schedules == {
        "cancel-blocked-domains": ["0 * * * *"],
        "cancel-blocked-domains-dry-run": [],
        "cancel-blocked-domains-with-approval": [],
        "availability-digest": ["0 7 * * 1-5"],
        "ensure-webhook-subscription": ["*/15 * * * *"],
        "screen-booking": [],
        "poll-bookings": ["*/5 * * * *"],
        "reconcile-bookings": ["30 2 * * *"],
        "check-credentials": [],
        "record-expired-approval": [],
    }
    assert deployments["cancel-blocked-domains"]["concurrency_limit"] == {
        "limit": 1,
        "collision_strategy": "CANCEL_NEW",
    }
    writing = [name for name, each in deployments.items() if each["parameters" if "parameters" in each else "name"]]
    assert [name for name in writing if "writes" in deployments[name]["tags"]] == [
        "cancel-blocked-domains",
        "cancel-blocked-domains-with-approval",
        "ensure-webhook-subscription",
        "screen-booking",
    ]


def test_no_description_says_when_it_runs_which_anybody_can_change_in_the_ui() -> None:
    when = re.compile(r"\b(every|hourly|daily|nightly|weekdays?|minutes|scheduled|\d+ [ap]\.?m)\b", re.IGNORECASE)
    assert [each["name"] for each in deployments_of() if when.search(each["description"])] == []


STEP = "prefect.deployments.steps.set_working_directory"
BLOCK = "{{ prefect.blocks.calendly-credentials.main.api_key }}"

MUTATIONS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    # Keys that Prefect ignores without a word
    "top level": (lambda file: file.update(deployment=[]), "deployment: Prefect does not read this; did you mean"),
    "deployment": (
        renamed(CANCEL, "schedules", to="shedules"),
        "cancel-blocked-domains: shedules: Prefect does not read this; did you mean schedules?",
    ),
    "schedule": (
        renamed(DIGEST, "schedules", 0, "timezone", to="timezon"),
        "availability-digest: schedules[0].timezon: Prefect does not read this; did you mean timezone?",
    ),
    "work pool": (renamed(CANCEL, "work_pool", "name", to="nam"), "work_pool.name: is missing"),
    "work pool's others": (
        renamed(CANCEL, "work_pool", "job_variables", to="job_variable"),
        "work_pool.job_variable: Prefect does not read this; did you mean job_variables?",
    ),
    "job variable": (
        renamed(CANCEL, "work_pool", "job_variables", "env", to="environ"),
        "work_pool.job_variables.environ: Prefect does not read this; did you mean env?",
    ),
    "concurrency limit": (
        renamed(CANCEL, "concurrency_limit", "collision_strategy", to="collision"),
        "concurrency_limit.collision: Prefect does not read this; did you mean collision_strategy?",
    ),
    "trigger": (
        renamed(EXPIRED, "triggers", 0, "expect", to="expects"),
        "record-expired-approval: triggers[0].expects: Prefect does not read this; did you mean expect?",
    ),
    # What prefect deploy would ask for, where somebody looks on
    "no schedules": (without(DRY_RUN, "schedules"), "cancel-blocked-domains-dry-run: schedules: is missing"),
    "no pull steps": (lambda file: file.pop("pull"), "pull: is missing, so that prefect deploy asks about it"),
    # Values that Prefect refuses, or that fail when it runs
    "folder of the flows": (
        lambda file: file.update(pull=[{STEP: {"directory": "/nowhere"}}]),
        f"pull[0].{STEP}.directory: there is no flows/cancel_blocked_domains.py in /nowhere; deploy from the project",
    ),
    "variable of the folder": (
        lambda file: file.update(pull=[{STEP: {"directory": "{{ $CALENDLY_NOWHERE }}/x"}}]),
        f"pull[0].{STEP}.directory: $CALENDLY_NOWHERE is not set; deploy from a shell",
    ),
    "cron": (
        changed(CANCEL, "schedules", 0, "cron", to="0 * * *"),
        "schedules[0].cron: '0 * * *' is invalid; write five fields",
    ),
    "cron out of range": (changed(CANCEL, "schedules", 0, "cron", to="0 25 * * *"), "cron: '0 25 * * *' is invalid"),
    "rrule": (
        changed(CANCEL, "schedules", 0, to={"rrule": "FREQ=NEVER", "slug": "x", "timezone": "UTC"}),
        "schedules[0].rrule: 'FREQ=NEVER' is invalid; write RFC 5545",
    ),
    "no kind of schedule": (
        without(CANCEL, "schedules", 0, "cron"),
        "cancel-blocked-domains: schedules[0]: Value error, exactly one of cron, interval and rrule must be given",
    ),
    "zone": (
        changed(DIGEST, "schedules", 0, "timezone", to="Europe/Berln"),
        "schedules[0].timezone: 'Europe/Berln' is no IANA zone; did you mean Europe/Berlin?",
    ),
    "no zone": (without(DIGEST, "schedules", 0, "timezone"), "schedules[0].timezone: is missing; write an IANA zone"),
    "no slug": (without(DIGEST, "schedules", 0, "slug"), "schedules[0].slug: is missing"),
    "slug twice": (
        lambda file: of(file)["schedules"].append(dict(of(file)["schedules"][0])),
        "schedules[0].slug: 'hourly' is there twice",
    ),
    "old schedule": (changed(DRY_RUN, "schedule", to={"cron": "0 * * * *"}), "schedule: is deprecated"),
    "collision strategy": (
        changed(CANCEL, "concurrency_limit", "collision_strategy", to="CANCEL_OLD"),
        "concurrency_limit.collision_strategy: Input should be",
    ),
    "limit": (changed(CANCEL, "concurrency_limit", "limit", to=0), "concurrency_limit.limit: must be a whole number"),
    "plain limit": (changed(CANCEL, "concurrency_limit", to="one"), "concurrency_limit: must be a whole number"),
    "kind of a value": (changed(CANCEL, "paused", to="perhaps"), "cancel-blocked-domains: paused: Input should be"),
    "entrypoint's file": (
        changed(CANCEL, "entrypoint", to="flows/cancel_blocked.py:cancel_blocked_domains"),
        "entrypoint: 'flows/cancel_blocked.py:cancel_blocked_domains' cannot be loaded",
    ),
    "entrypoint's module": (
        changed(CANCEL, "entrypoint", to="flows.cancel_blocked.cancel_blocked_domains"),
        "entrypoint: 'flows.cancel_blocked.cancel_blocked_domains' cannot be loaded",
    ),
    "entrypoint's flow": (
        changed(CANCEL, "entrypoint", to="flows/cancel_blocked_domains.py:cancel"),
        "entrypoint: 'flows/cancel_blocked_domains.py:cancel' cannot be loaded",
    ),
    "no entrypoint": (without(CANCEL, "entrypoint"), "entrypoint: is missing"),
    "no name": (without(CANCEL, "name"), "deployments[0]: needs a name"),
    "name twice": (changed(DRY_RUN, "name", to="cancel-blocked-domains"), "is there twice for the same flow"),
    "no deployments": (lambda file: file.pop("deployments"), "deployments: must be a list of deployments"),
    "trigger's type": (changed(EXPIRED, "triggers", 0, "type", to="events"), "triggers[0].type: must be one of event"),
    "trigger's posture": (changed(EXPIRED, "triggers", 0, "posture", to="Passive"), "triggers[0].posture: "),
    "trigger's template": (
        changed(EXPIRED, "triggers", 0, "parameters", "flow_run_id", to="{{ flow_run.id }}"),
        "triggers[0].parameters.flow_run_id: write {{ flow_run.id | string }}",
    ),
    "trigger's parameter": (
        renamed(EXPIRED, "triggers", 0, "parameters", "flow_run_id", to="flow_run"),
        "triggers[0].parameters.flow_run: the flow has no such parameter; did you mean flow_run_id?",
    ),
    "trigger without a parameter": (
        without(EXPIRED, "triggers", 0, "parameters"),
        "triggers[0].parameters.flow_run_id: is missing",
    ),
    # Parameters
    "unknown parameter": (
        renamed(CANCEL, "parameters", "dry_run", to="dryrun"),
        "parameters.dryrun: the flow has no such parameter; did you mean dry_run?",
    ),
    "unknown field": (
        renamed(CANCEL, "parameters", "policy", "max_cancellations", to="max_cancelations"),
        "parameters.policy.max_cancelations: Extra inputs are not permitted",
    ),
    "wrong value": (
        changed(CANCEL, "parameters", "policy", "max_cancellations", to=0),
        "parameters.policy.max_cancellations: Input should be greater than or equal to 1",
    ),
    "wrong domain": (
        changed(CANCEL, "parameters", "policy", "blocked_domains", to=["@spam"]),
        "parameters.policy.blocked_domains[0]: Value error, must be a domain such as example.com",
    ),
    "missing parameter": (without(CANCEL, "parameters", "policy"), "parameters.policy: is missing"),
    "wrong parameter of a schedule": (
        changed(CANCEL, "schedules", 0, "parameters", to={"policy": {"blocked_domains": []}}),
        "schedules[0].parameters.policy.blocked_domains: List should have at least 1 item",
    ),
    "key in clear": (
        changed(CANCEL, "parameters", "credentials", to={"api_key": "very-secret"}),
        "parameters.credentials: must be a saved block, {$ref:",
    ),
    "reference": (
        changed(CANCEL, "parameters", "credentials", to={"$ref": {"block_document_slug": "main"}}),
        "parameters.credentials: refer to a saved block by {$ref:",
    ),
    "block type": (
        changed(CANCEL, "parameters", "credentials", to={"$ref": {"block_document_slug": "calendly/main"}}),
        "parameters.credentials: no block type 'calendly' is installed here",
    ),
    "other block": (
        changed(CANCEL, "parameters", "credentials", to={"$ref": {"block_document_slug": "secret/main"}}),
        "parameters.credentials: Input should be",
    ),
    # Secrets that would be stored in clear
    "block in a parameter": (
        changed(WEBHOOK, "parameters", "subscription", "callback_url", to=BLOCK),
        f"parameters.subscription.callback_url: {BLOCK} would be stored in clear; use {{$ref:",
    ),
    "block in a job variable": (
        changed(CANCEL, "work_pool", "job_variables", "env", "MATON_API_KEY", to=BLOCK),
        f"work_pool.job_variables.env.MATON_API_KEY: {BLOCK} would be stored in clear; use a variable in the worker's",
    ),
    "variable": (
        changed(CANCEL, "parameters", "policy", "blocked_domains", to=["{{ prefect.variables.maton_key }}"]),
        "parameters.policy.blocked_domains[0]: {{ prefect.variables.maton_key }} would be stored in clear",
    ),
    "environment": (
        changed(CANCEL, "parameters", "policy", "reason", to="{{ $MATON_API_KEY }}"),
        "parameters.policy.reason: {{ $MATON_API_KEY }} would be stored in clear",
    ),
    # Deployments that write
    "tag": (changed(CANCEL, "tags", to=["calendly"]), "tags: dry_run is false here; add the tag writes"),
    "description": (without(CANCEL, "description"), "description: dry_run is false here; say what it WRITES"),
    "silently writing": (changed(DRY_RUN, "parameters", "dry_run", to=False), "tags: dry_run is false here"),
    "writing by default": (
        lambda file: [of(file, WEBHOOK)["parameters"].pop("dry_run"), of(file, WEBHOOK).pop("tags")],
        "ensure-webhook-subscription: tags: dry_run is false here",
    ),
}


@pytest.mark.parametrize(("change", "said"), MUTATIONS.values(), ids=MUTATIONS)
def test_a_mistake_is_told_in_one_line_each(
    change: Callable[[dict[str, Any]], None], said: str, tmp_path: Path
) -> None:
    file = fresh()
    change(file)
    found = problems_of(file, tmp_path)
    assert [problem for problem in found if said in problem], found
    assert all("\n" not in problem for problem in found)
    assert "very-secret" not in "".join(found)


def test_a_folder_that_only_the_worker_knows_is_not_looked_into(tmp_path: Path) -> None:
    file = fresh()
    file["pull"] = [{STEP: {"directory": "{{ prefect.variables.project }}/x"}}]
    assert problems_of(file, tmp_path) == []


def test_what_is_left_to_the_form_need_not_be_there(tmp_path: Path) -> None:
    file = fresh()
    del of(file, DRY_RUN)["parameters"]["policy"]
    assert problems_of(file, tmp_path) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("deployments: [", "prefect.yaml: cannot be read: while parsing"),
        ("- name: x", "prefect.yaml: must be a mapping"),
        ("", "prefect.yaml: must be a mapping"),
        (None, "prefect.yaml: cannot be read: [Errno 2]"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_problem(text: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "prefect.yaml"
    if text is not None:
        path.write_text(text)
    (problem,) = prefect_yaml.problems(path)
    assert problem.startswith(said)
    assert "\n" not in problem
    assert len(automations.problems(path)) == 1


def test_mistakes_in_the_automations_are_found_too(tmp_path: Path) -> None:
    file = json.loads(json.dumps(yaml.safe_load(AUTOMATIONS.read_text())))
    file["automations"][0]["trigger"]["expects"] = file["automations"][0]["trigger"].pop("expect")
    file["automations"][1]["actions"][0]["state"] = "DEAD"
    file["version"] = 1
    path = tmp_path / "automations.yaml"
    path.write_text(yaml.safe_dump(file))
    found = automations.problems(path)
    assert "version: Prefect does not read this" in found
    assert [problem for problem in found if "automations[0].trigger.expects: Prefect does not read this" in problem]
    (wrong_state,) = [problem for problem in found if problem.startswith("automations[1]")]
    assert wrong_state.startswith("automations[1].actions[0].state: Input should be 'SCHEDULED'")
    file["automations"][1]["actions"][0]["type"] = "change-state"
    path.write_text(yaml.safe_dump(file))
    (wrong_type,) = [problem for problem in automations.problems(path) if problem.startswith("automations[1]")]
    assert wrong_type.startswith("automations[1].actions[0].type: must be one of ")


def test_the_command_prints_problems_and_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prefect.yaml"
    file.write_text(yaml.safe_dump(with_values(tmp_path, callback_url="https://hooks.acme-corp.com/calendly")))
    monkeypatch.setattr(sys, "argv", ["check", str(file)])
    assert command.main() == 0
    assert capsys.readouterr().out == "prefect.yaml: 10 deployments, no problems\n"
    monkeypatch.setattr(sys, "argv", ["check", str(tmp_path / "none.yaml")])
    assert command.main() == 1
    assert "none.yaml: cannot be read" in capsys.readouterr().err


# Values of one's own


@pytest.mark.parametrize(
    "host", ["hooks.example.com", "example.net:8443", "my.example", "HOOKS.EXAMPLE.ORG.", "a.test"]
)
def test_a_placeholder_is_a_problem_before_anything_is_deployed(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prefect.yaml"
    file.write_text(yaml.safe_dump(with_values(tmp_path, callback_url=f"https://{host}/secret-path")))
    monkeypatch.setattr(sys, "argv", ["check", str(file)])
    assert command.main() == 1
    said = capsys.readouterr().err
    assert "ensure-webhook-subscription: parameters.subscription.callback_url: " in said
    assert "is a placeholder; write your own into deployments/values.yaml" in said
    assert "secret-path" not in said


def test_an_account_without_webhooks_says_so_and_has_no_placeholder(tmp_path: Path) -> None:
    file = tmp_path / "prefect.yaml"
    file.write_text(
        yaml.safe_dump(with_values(tmp_path, callback_url="https://none.invalid/", notify="slack-webhook/ops"))
    )
    assert prefect_yaml.problems(file) == []
    assert list(values.placeholders(deployments_of(file))) == []
    by_name = {each["name"]: each.get("parameters", {}) for each in deployments_of(file)}
    assert by_name["cancel-blocked-domains"]["policy"]["notify"] == "slack-webhook/ops"


def test_a_value_that_is_empty_is_left_out_and_one_that_nothing_takes_is_named(tmp_path: Path) -> None:
    file = tmp_path / "prefect.yaml"
    file.write_text(yaml.safe_dump(with_values(tmp_path, max_cancellations=None, blocked_domain=["x.example"])))
    assert prefect_yaml.problems(file) == [
        f"{tmp_path}/values.yaml: blocked_domain: no deployment takes this; did you mean blocked_domains?"
    ]
    assert "max_cancellations" not in deployments_of(file)[CANCEL]["parameters"]["policy"]
    assert deployments_of(file)[EXPIRED]["triggers"][0]["parameters"] == {"flow_run_id": "{{ flow_run.id | string }}"}


def test_values_that_cannot_be_read_are_one_problem(tmp_path: Path) -> None:
    file = with_values(tmp_path)
    (tmp_path / "values.yaml").write_text("[")
    (problem,) = problems_of(file, tmp_path)
    assert problem.startswith("build: while parsing")


# With a server


@pytest.mark.parametrize(
    ("url", "said"),
    [(None, "PREFECT_API_URL is not set"), ("http://127.0.0.1:9/api", "no Prefect server answers")],
)
def test_without_a_server_the_check_says_so_in_one_line(
    url: str | None, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["check", "--server"])
    with changed_settings("api.url", url):
        assert command.main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("", 1), ("no", 1)])
def test_somebody_at_a_terminal_is_asked_before_a_deploy_changes_what_is_there(
    answer: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prefect.yaml"
    file.write_text(yaml.safe_dump(fresh()))
    line = "poll-bookings: tags: is another one on the server"

    async def problems(path: Path) -> list[str]:
        return []

    async def changes(path: Path) -> list[str]:
        return [line]

    monkeypatch.setattr(command.server, "problems", problems)
    monkeypatch.setattr(command, "changes", changes)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: answer)
    monkeypatch.setattr(sys, "argv", ["check", "--server", "--ask", str(file)])
    assert command.main() == status
    assert line in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["check", "--server", str(file)])
    assert command.main() == 0


@pytest.mark.stack
async def test_pools_and_blocks_that_are_not_there_are_named(stack: Stack, tmp_path: Path) -> None:
    file = fresh()
    of(file)["work_pool"]["name"] = "nowhere"
    of(file)["parameters"]["policy"]["notify"] = "slack-webhook/ops"
    of(file, DIGEST)["parameters"]["credentials"]["$ref"]["block_document_slug"] = "calendly-credentials/other"
    path = tmp_path / "prefect.yaml"
    path.write_text(yaml.safe_dump(file))
    with temporary_settings(stack.settings):
        assert await server.problems() == []
        found = await server.problems(path)
        assert [problem.partition(": does not exist")[0] for problem in found] == [
            "work pool nowhere",
            "block calendly-credentials/other",
            "block slack-webhook/ops",
        ]
        assert "prefect work-pool create nowhere --type process" in found[0]
        assert len(await server.problems(path, pools=False)) == 2
