"""`prefect-calendly` as a person calls it: what it prints, and its exit status."""

import json
import tomllib
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from prefect_calendly import __version__
from prefect_calendly.cli import main
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.sandbox.seed import ALICE, CONNECTION, PENDING_CONNECTION
from tests.fixtures import credentials_for
from tests.support import ROOT

KEY = "very-secret-key"


@pytest.fixture
def environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """The environment names the sandbox, as it names the gateway elsewhere."""
    monkeypatch.setenv("MATON_API_KEY", sandbox.api_key)
    monkeypatch.setenv("MATON_GATEWAY_URL", sandbox.gateway_url)
    monkeypatch.setenv("MATON_CONNECTIONS_URL", sandbox.connections_url)
    return sandbox


# check


def test_check_of_the_environment_says_who_it_is_and_what_can_run(
    environment: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check"]) == 0
    text = capsys.readouterr().out
    lines = {line[:13].strip(): line[13:].strip() for line in text.splitlines()}
    assert lines["Gateway"] == environment.gateway_url
    assert lines["Connection"] == CONNECTION
    assert lines["User"] == f"Alice Johnson (https://api.calendly.com/users/{ALICE})"
    assert lines["Organization"].startswith("Acme (")
    assert lines["Role"] == "admin"
    assert lines["Plan"] == "teams (paid), with webhooks"
    assert lines["Rate limit"].endswith("of 500 requests left this minute")
    assert "cancel_blocked_domains      yes           yes" in text
    assert environment.api_key not in text


def test_check_as_json_says_the_same(environment: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json", "--flows", "poll-bookings,screen_booking"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["ok"], answer["role"], answer["plan"]) == (True, "admin", "teams")
    assert [flow["flow"] for flow in answer["flows"]] == ["poll_bookings", "screen_booking"]
    assert 0 < answer["requests_left"] < answer["request_limit"]


def test_what_is_missing_is_said_once_with_the_flows_that_need_it_and_the_status_is_1(
    environment: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    user = environment.add_user("Uma User", email="uma@example.com", role="user")
    environment.set_connection(CONNECTION, user=user["uri"])
    assert main(["check"]) == 1
    text = capsys.readouterr().out
    assert "poll_bookings               yes           no" in text
    missing = "These credentials cannot list the organization's members: that takes an owner or admin"
    assert text.count(missing) == 1
    after = text[text.index(missing) :].splitlines()
    assert after[1] == "  needed by availability_digest, cancel_blocked_domains, screen_booking"
    assert main(["check", "--flows", "nonsense"]) == 2
    assert "no flow nonsense: there are availability_digest," in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("MATON_API_KEY", KEY, "Invalid or missing API key"),
        ("MATON_API_KEY", "", "set the environment variable MATON_API_KEY"),
        ("MATON_API_KEY", f"{KEY} {KEY}", "characters that no key has"),
        ("MATON_GATEWAY_URL", "http://gateway.example.com", "gateway_url must begin with https://"),
    ],
)
def test_credentials_that_cannot_be_used_are_status_2_and_no_key_is_shown(
    variable: str,
    value: str,
    said: str,
    environment: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, value)
    assert main(["check"]) == 2
    printed = capsys.readouterr()
    assert said in printed.out + printed.err
    assert KEY not in printed.out + printed.err
    assert "Traceback" not in printed.err


def test_check_of_a_saved_block(prefect_server: None, sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    credentials_for(sandbox).save("checked", overwrite=True)
    assert main(["check", "--block", "calendly-credentials/checked"]) == 0
    assert "Alice Johnson" in capsys.readouterr().out
    credentials_for(sandbox, connection_id=PENDING_CONNECTION).save("pending", overwrite=True)
    sandbox.set_login(activate_after_gets=None)
    assert main(["check", "--block", "pending"]) == 2
    assert "do not work" in capsys.readouterr().out
    assert main(["check", "--block", "nowhere"]) == 2
    assert "has no block calendly-credentials/nowhere" in capsys.readouterr().err


def test_a_server_of_prefect_that_does_not_answer_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert main(["check", "--block", "main"]) == 2
    assert "the Prefect server does not answer" in capsys.readouterr().err


# init


def test_init_without_a_terminal_asks_nothing_and_takes_every_flow(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path / "mine")]) == 0
    assert str(tmp_path / "mine" / "README.md") in capsys.readouterr().out
    flows = {path.stem for path in (tmp_path / "mine" / "flows").glob("*.py")} - {"__init__"}
    assert len(flows) == 8


def test_init_overwrites_nothing_and_says_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_text("mine")
    assert main(["init", str(tmp_path), "--flows", "poll_bookings"]) == 1
    assert str(tmp_path / "README.md") in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "mine"


def test_init_refuses_a_flow_that_does_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path / "mine"), "--flows", "poll"]) == 2
    assert "no flow poll: there are cancel_blocked_domains," in capsys.readouterr().err
    assert not (tmp_path / "mine").exists()


# sandbox, receiver, and the rest


def test_sandbox_and_receiver_pass_their_arguments_on(sandbox: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sandbox", "book", "jane@shop.example", "--url", sandbox.url]) == 0
    assert sandbox.state()["bookings"] is not None
    for command, said in ((["sandbox", "--events", "-3"], "events must not"), (["receiver", "--port", "x"], "no port")):
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 2
        assert said in capsys.readouterr().err
    for module in ("sandbox", "receiver"):
        with pytest.raises(SystemExit) as ended:
            main([module, "--help"])
        assert ended.value.code == 0
        assert "--port" in capsys.readouterr().out


def test_the_command_is_installed_and_a_mistake_in_it_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__
    for mistake in (["nonsense"], ["check", "--nonsense"], ["init"]):
        assert main(mistake) == 2
        assert capsys.readouterr().err
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"prefect-calendly": f"{main.__module__}:{main.__name__}"}
