"""What a check of credentials finds out: whether they work, whose they are, and which flows they can run."""

import inspect
from pathlib import Path

import httpx
import pytest
from prefect import Flow
from prefect.flows import load_flow_from_entrypoint

from prefect_calendly import CalendlyClient, CalendlyCredentials
from prefect_calendly.check import FLOWS, AccountCheck, acheck_account, acheck_credentials, check_credentials
from prefect_calendly.check import check_account as check_account_sync
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.sandbox.seed import ALICE, CONNECTION, PENDING_CONNECTION, SECOND_CONNECTION, SECOND_USER
from tests.fixtures import credentials_for
from tests.support import ROOT, Server

KEY = "very-secret-key"


# Whether they work


async def test_fine_credentials_say_who_they_are(sandbox: Sandbox) -> None:
    found = await acheck_credentials(credentials_for(sandbox))
    assert (found.ok, found.problem, found.hint) == (True, None, None)
    assert found.connection_id == CONNECTION
    assert found.user_uri == f"https://api.calendly.com/users/{ALICE}"
    assert found.user_name == "Alice Johnson"
    assert found.organization_uri is not None
    assert sandbox.stats()["writes"] == {}


def test_another_connection_is_another_user_and_code_without_a_loop_may_ask_too(sandbox: Sandbox) -> None:
    found = check_credentials(credentials_for(sandbox, connection_id=SECOND_CONNECTION))
    assert found.ok
    assert found.connection_id == SECOND_CONNECTION
    assert found.user_uri == f"https://api.calendly.com/users/{SECOND_USER}"


async def test_check_credentials_inside_a_loop_names_its_async_twin(credentials: CalendlyCredentials) -> None:
    with pytest.raises(RuntimeError, match="await acheck_credentials"):
        check_credentials(credentials)


@pytest.mark.parametrize(
    ("overrides", "problem", "hint"),
    [
        ({"api_key": "wrong"}, "Invalid or missing API key", "MATON_API_KEY"),
        ({"connection_id": "00000000-0000-0000-0000-000000000000"}, "No calendly connection", "connection_id"),
        ({"connection_id": PENDING_CONNECTION}, "not active", "connection_id"),
    ],
)
async def test_what_is_wrong_is_said_with_what_to_do(
    overrides: dict[str, str], problem: str, hint: str, sandbox: Sandbox
) -> None:
    sandbox.set_login(activate_after_gets=None)
    found = await acheck_credentials(credentials_for(sandbox, **overrides))
    assert not found.ok
    assert problem in (found.problem or "")
    assert hint in (found.hint or "")
    assert found.user_uri is None


async def test_a_bad_calendly_token_is_told_from_a_bad_key(sandbox: Sandbox) -> None:
    sandbox.fault("unauthorized_calendly", path="/users/me")
    found = await acheck_credentials(credentials_for(sandbox))
    assert not found.ok
    assert found.connection_id == CONNECTION
    assert "access token" in (found.problem or "")
    assert "make a new connection" in (found.hint or "")


async def test_no_connection_at_all_is_said(sandbox: Sandbox) -> None:
    found = await acheck_credentials(credentials_for(sandbox, api_key=sandbox.second_key))
    assert not found.ok
    assert found.connection_id is None
    assert "No active calendly connection" in (found.problem or "")
    assert "create_connection" in (found.hint or "")


async def test_a_connections_host_that_is_down_does_not_hide_that_calls_work(sandbox: Sandbox) -> None:
    found = await acheck_credentials(credentials_for(sandbox, connections_url=f"{sandbox.url}/nowhere"))
    assert found.ok
    assert found.user_uri == f"https://api.calendly.com/users/{ALICE}"
    assert found.connection_id is None
    assert found.problem is not None


@pytest.mark.usefixtures("impatient")
def test_a_gateway_that_is_down_is_said() -> None:
    nowhere = "http://127.0.0.1:9"
    block = CalendlyCredentials(api_key=KEY, gateway_url=nowhere, connections_url=nowhere, requests_per_second=1000)
    found = check_credentials(block)
    assert not found.ok
    assert "No connection to 127.0.0.1:9" in (found.problem or "")
    assert "network" in (found.hint or "")
    assert KEY not in repr(found)


async def test_with_calendly_itself_check_asks_for_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    user = {
        "uri": "https://api.calendly.com/users/A",
        "name": "A",
        "email": "a@example.com",
        "scheduling_url": "https://calendly.com/a",
        "timezone": "UTC",
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "current_organization": "https://api.calendly.com/organizations/B",
    }
    server = Server(httpx.Response(200, json={"resource": user}))
    block = CalendlyCredentials(api_key=KEY, gateway_url="https://api.calendly.com", connection_id="c-1")
    monkeypatch.setattr(
        CalendlyCredentials,
        "get_client",
        lambda self: CalendlyClient(KEY, gateway_url=self.gateway_url, connection_id="c-1", transport=server),
    )
    found = await acheck_credentials(block)
    assert found.ok
    assert found.connection_id is None
    assert [str(request.url) for request in server.requests] == ["https://api.calendly.com/users/me"]
    assert "Maton-Connection" not in server.requests[0].headers


# What they can do


async def test_an_admin_on_a_paid_plan_can_run_every_flow(credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    account = await acheck_account(credentials)
    assert account.complete
    assert (account.role, account.organization_name, account.plan, account.stage) == ("admin", "Acme", "teams", "paid")
    assert account.webhooks is True
    assert [flow.flow for flow in account.flows] == sorted(FLOWS)
    assert all(flow.user_scope and flow.organization_scope for flow in account.flows)
    assert sandbox.stats()["writes"] == {}
    assert sandbox.stats()["unknown_parameters"] == []
    assert sandbox.stats()["requests"] <= 11


async def test_it_says_how_much_of_calendlys_limit_is_left(credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    account = await acheck_account(credentials)
    asked_of_calendly = sandbox.stats()["requests"] - 1  # the connections have no limit of Calendly's
    assert (account.request_limit, account.requests_left) == (500, 500 - asked_of_calendly)


def lacks(account: AccountCheck, flow: str) -> list[str]:
    (found,) = [each.lacks for each in account.flows if each.flow == flow]
    return found


async def test_a_user_without_a_role_can_run_flows_for_themselves_only(sandbox: Sandbox) -> None:
    user = sandbox.add_user("Uma User", email="uma@example.com", role="user")
    sandbox.set_connection(CONNECTION, user=user["uri"])
    account = await acheck_account(credentials_for(sandbox))
    assert account.ok
    assert not account.complete
    assert account.role == "user"
    assert all(flow.user_scope and flow.organization_scope is False for flow in account.flows)
    assert lacks(account, "poll_bookings") == [
        "cannot read the organization's scheduled events: that takes an owner or admin, and this user's role is user"
    ]


async def test_on_the_free_plan_it_does_not_promise_webhooks(sandbox: Sandbox) -> None:
    sandbox.reset(plan="free")
    account = await acheck_account(credentials_for(sandbox))
    assert (account.plan, account.stage, account.webhooks) == ("basic", "free", None)
    (flow,) = [flow for flow in account.flows if flow.lacks]
    assert (flow.flow, flow.user_scope, flow.organization_scope) == ("ensure_webhook_subscription", None, None)
    assert "use poll_bookings instead" in flow.lacks[0]


async def test_a_user_without_a_role_is_promised_no_webhooks_on_the_free_plan_either(sandbox: Sandbox) -> None:
    sandbox.reset(plan="free")
    user = sandbox.add_user("Uma User", email="uma@example.com", role="user")
    sandbox.set_connection(CONNECTION, user=user["uri"])
    account = await acheck_account(credentials_for(sandbox), ["ensure_webhook_subscription"])
    (flow,) = account.flows
    assert (flow.user_scope, flow.organization_scope) == (None, False)
    assert len(flow.lacks) == 3


async def test_a_plan_that_refuses_webhooks_is_told(credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    sandbox.fault("plan", path="/webhook_subscriptions", times=None)
    account = await acheck_account(credentials)
    assert account.webhooks is False
    (flow,) = [flow for flow in account.flows if flow.lacks]
    assert (flow.flow, flow.user_scope, flow.organization_scope) == ("ensure_webhook_subscription", False, False)
    assert "Please upgrade" in flow.lacks[0]


async def test_a_missing_scope_concerns_the_flows_that_need_it_and_is_named(
    credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    sandbox.fault(
        "insufficient_scope",
        path="/user_availability_schedules",
        required_scopes=["availability:read"],
        times=None,
    )
    account = await acheck_account(credentials)
    (flow,) = [flow for flow in account.flows if flow.lacks]
    assert (flow.flow, flow.user_scope, flow.organization_scope) == ("availability_digest", False, False)
    assert "availability:read" in flow.lacks[0]


async def test_what_role_and_plan_are_may_stay_unknown(credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    sandbox.fault("insufficient_scope", route="/organizations/{uuid}", times=None)
    sandbox.fault("missing_member", path="/organization_memberships", member="role", item=0, times=None)
    account = await acheck_account(credentials)
    assert (account.role, account.plan, account.webhooks) == (None, None, None)
    assert [flow.flow for flow in account.flows if flow.lacks] == ["ensure_webhook_subscription"]
    assert "the plan could not be read" in lacks(account, "ensure_webhook_subscription")[0]


async def test_only_the_chosen_flows_are_looked_at(credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    account = await acheck_account(credentials, ["poll_bookings"])
    assert [flow.flow for flow in account.flows] == ["poll_bookings"]
    assert "GET /event_types" not in sandbox.stats()["by_route"]
    with pytest.raises(ValueError, match=r"no flow pol: there are availability_digest, "):
        await acheck_account(credentials, ["pol"])


def test_credentials_that_do_not_work_have_no_flows(sandbox: Sandbox) -> None:
    account = check_account_sync(credentials_for(sandbox, api_key="wrong-secret-key"))
    assert not account.ok
    assert not account.complete
    assert account.flows == []
    assert "Invalid or missing API key" in (account.problem or "")
    assert "wrong-secret-key" not in account.model_dump_json()


def takes_credentials(path: Path) -> bool:
    flow: Flow[..., object] = load_flow_from_entrypoint(f"{path}:{path.stem}", use_placeholder_flow=False)
    return "credentials" in inspect.signature(flow.fn).parameters


def test_every_flow_that_takes_credentials_is_checked() -> None:
    flows = [path for path in sorted((ROOT / "flows").glob("*.py")) if f"async def {path.stem}(" in path.read_text()]
    assert len(flows) == 8
    assert list(FLOWS) == [path.stem for path in flows if takes_credentials(path)]
