"""The README says what is there, and what it shows runs."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
from prefect import Task

import prefect_calendly
from prefect_calendly.bookings.polling import BookingsToPoll
from prefect_calendly.bookings.reconciliation import BookingsToReconcile
from prefect_calendly.client import errors
from prefect_calendly.credentials import CalendlyCredentials
from prefect_calendly.digest.request import DigestRequest
from prefect_calendly.runs.forms import Parameters
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.screening.policy import CancelPolicy
from prefect_calendly.subscription.spec import SubscriptionSpec

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def tasks() -> dict[str, tuple[str, str]]:
    """Module and endpoint of every task of the package, by name."""
    found = {}
    for info in pkgutil.iter_modules(prefect_calendly.__path__):
        module = importlib.import_module(f"prefect_calendly.{info.name}")
        for name, value in vars(module).items():
            if isinstance(value, Task) and value.fn.__module__ == module.__name__:
                source = re.search(r"Source: (.*?)\.?\n\n", inspect.getdoc(value.fn) or "", flags=re.DOTALL)
                assert source, f"{name} does not say its endpoint"
                found[name] = (info.name, " ".join(source[1].split()))
    return found


def test_the_catalogue_lists_every_task_under_its_module_with_its_endpoint() -> None:
    table = README[README.index("## Tasks") : README.index("## Flows")]
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.*?) \|$", table, flags=re.MULTILINE)
    listed = {task: (module, endpoint) for module, task, endpoint in rows}
    existing = tasks()
    plain = {name for name in existing if f"a{name}" in existing}
    assert listed.keys() == plain
    assert {f"a{name}" for name in plain} == existing.keys() - plain
    for name, (module, endpoint) in listed.items():
        assert module == existing[name][0]
        documented = re.match(r"`\w+ (/[^`]*)`", endpoint)
        if documented:
            assert documented[0] in existing[name][1]


def test_the_error_table_names_every_error() -> None:
    table = README[README.index("## Errors") : README.index("## Limits")]
    for name, value in vars(errors).items():
        if inspect.isclass(value) and issubclass(value, errors.CalendlyError):
            abstract = name in ("CalendlyError", "AuthenticationError")
            assert abstract or f"`{name}`" in table, name


def test_the_credentials_table_has_every_field() -> None:
    table = README[README.index("## Credentials") : README.index("## Tasks")]
    assert re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE) == list(CalendlyCredentials.model_fields)


@pytest.mark.parametrize(
    ("flow", "model"),
    [
        ("cancel_blocked_domains", CancelPolicy),
        ("availability_digest", DigestRequest),
        ("ensure_webhook_subscription", SubscriptionSpec),
        ("poll_bookings", BookingsToPoll),
        ("reconcile_bookings", BookingsToReconcile),
    ],
)
def test_the_parameter_table_of_a_flow_has_every_field_and_no_other(flow: str, model: type[Parameters]) -> None:
    flows = README[README.index("## Flows") : README.index("## Webhooks")]
    (section,) = [part for part in flows.split("\n### ") if part.startswith(f"`{flow}(")]
    listed = re.findall(r"^\| (`.*?`) \|", section, flags=re.MULTILINE)[1:]
    assert sorted(re.findall(r"`(\w+)`", " ".join(listed))) == sorted(model.model_fields)


def environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATON_API_KEY", sandbox.api_key)
    monkeypatch.setenv("MATON_GATEWAY_URL", sandbox.gateway_url)
    monkeypatch.setenv("MATON_CONNECTIONS_URL", sandbox.connections_url)


# The other flows also need Prefect's API: their own tests run them.
PROGRAMS = [
    block
    for block in BLOCKS
    if re.search(r"^(next_meetings\(\)|(print\()?asyncio\.run)", block, re.MULTILINE)
    and not re.search(r"^from (prefect_calendly\.)?flows\.(?!availability_digest)", block, re.MULTILINE)
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: re.findall(r"(\w+)\(", program)[-1])
@pytest.mark.usefixtures("inline", "capsys")
def test_the_programs_in_the_readme_run(program: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    environment(sandbox, monkeypatch)
    exec(compile(program, "README.md", "exec"), {"__name__": "__main__"})
    statuses = sandbox.stats()["by_status"]
    assert statuses["200"] > 1
    assert set(statuses) <= {"200", "201"}


@pytest.mark.usefixtures("inline")
def test_the_credentials_program_runs(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(sandbox, monkeypatch)
    (program,) = [block for block in BLOCKS if ".save(" in block]
    exec(program.replace('api_key="…"', f'api_key="{sandbox.api_key}"'), {})
    assert "ok=True" in capsys.readouterr().out


def test_the_fixture_for_the_readers_own_tests_works_as_shown(pytester: pytest.Pytester) -> None:
    (conftest,) = [block for block in BLOCKS if block.startswith("# conftest.py")]
    (test,) = [block for block in BLOCKS if block.startswith("# test_my_flow.py")]
    pytester.makeconftest(conftest)
    pytester.makepyfile(test_my_flow=test)
    pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:asyncio").assert_outcomes(passed=1)
