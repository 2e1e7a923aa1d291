"""Webhook subscriptions, over HTTP: never two where one was asked for."""

from typing import Any

import pytest
from pydantic import SecretStr

from prefect_calendly import CalendlyCredentials
from prefect_calendly.client import errors
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.sandbox.seed import ALICE, GROUP, ORGANIZATION, WEBHOOK
from prefect_calendly.webhook_subscriptions import (
    WebhookSubscription,
    acreate_webhook_subscription,
    adelete_webhook_subscription,
    aget_webhook_subscription,
    alist_webhook_subscriptions,
    checked_callback_url,
    checked_events,
)
from tests.fixtures import credentials_for
from tests.support import no_request, nothing_unknown, uri

URL = "https://hooks.example.com/calendly"
ROUTE = "/webhook_subscriptions"
ONE = "/webhook_subscriptions/{uuid}"
LOST = [
    "drop_before",
    "drop_after",
    "reset",
    "error_after",
    "server_error",
    "unavailable",
    "truncated_body",
    "html_502",
]


def asked(**changes: Any) -> dict[str, Any]:
    return {
        "url": URL,
        "events": ["invitee.created", "invitee.canceled"],
        "organization": ORGANIZATION,
        "scope": "organization",
        **changes,
    }


def hooks(sandbox: Sandbox) -> list[str]:
    """URIs of all subscriptions but the documented one."""
    return [i["uri"] for i in sandbox.state()["webhook_subscription_list"] if not i["uri"].endswith(WEBHOOK)]


async def test_a_subscription_has_every_documented_member(credentials: CalendlyCredentials) -> None:
    hook = await aget_webhook_subscription.fn(credentials, WEBHOOK)
    assert hook.uri == uri("webhook_subscriptions", WEBHOOK)
    assert (hook.callback_url, hook.state, hook.scope) == ("https://example.com/webhook", "active", "organization")
    assert hook.events == ("invitee.created", "invitee.canceled")
    assert hook.model_fields_set == set(WebhookSubscription.model_fields)
    assert hook.model_extra == {}
    assert await aget_webhook_subscription.fn(credentials, hook) == hook
    with pytest.raises(errors.NotFoundError):
        await aget_webhook_subscription.fn(credentials, "NONE")


@pytest.mark.parametrize(
    "owner",
    [
        {},
        {"scope": "user", "user": ALICE},
        {"scope": "group", "group": GROUP},
    ],
)
@pytest.mark.parametrize("key", [None, "whsec-1", SecretStr("whsec-1")])
async def test_made_listed_and_deleted_in_every_scope(
    owner: dict[str, Any], key: Any, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    values = asked(**owner)
    with nothing_unknown(sandbox):
        hook = await acreate_webhook_subscription.fn(credentials, **values, signing_key=key)
        filters = {name: value for name, value in values.items() if name not in ("url", "events")}
        listed = await alist_webhook_subscriptions.fn(credentials, **filters, sort="created_at:desc", count=1)
        assert listed[0] == hook
        assert (
            await alist_webhook_subscriptions.fn(credentials, **filters, sort="created_at:asc", limit=1) == listed[-1:]
        )
        await adelete_webhook_subscription.fn(credentials, hook)
    assert (hook.callback_url, hook.scope) == (URL, values["scope"])
    assert hook.user == (uri("users", ALICE) if "user" in owner else None)
    assert hook.group == (uri("groups", GROUP) if "group" in owner else None)
    assert "whsec-1" not in repr(hook)
    assert hooks(sandbox) == []


async def test_a_url_that_is_subscribed_already_is_a_conflict(
    credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    await acreate_webhook_subscription.fn(credentials, **asked())
    with pytest.raises(errors.ConflictError, match="Hook with this url already exists"):
        await acreate_webhook_subscription.fn(credentials, **asked())
    assert len(hooks(sandbox)) == 1
    assert sandbox.stats()["requests"] == 2


async def test_a_free_plan_is_told_so(sandbox: Sandbox) -> None:
    sandbox.reset(plan="free", rate_limit_per_minute=0)
    with pytest.raises(errors.PlanRequiredError, match="upgrade your Calendly account to Standard"):
        await acreate_webhook_subscription.fn(credentials_for(sandbox), **asked())


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", LOST)
async def test_however_the_answer_is_lost_there_is_one_subscription(
    kind: str, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    sandbox.fault(kind, method="POST", route=ROUTE)
    hook = await acreate_webhook_subscription.fn(credentials, **asked())
    assert hooks(sandbox) == [hook.uri]
    assert sandbox.stats()["writes"] == {"webhook_subscription": 1}


@pytest.mark.usefixtures("impatient")
async def test_a_subscription_of_other_events_is_not_taken_for_the_lost_one(
    credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    await acreate_webhook_subscription.fn(credentials, **asked(events=["invitee.created"]))
    sandbox.fault("drop_before", method="POST", route=ROUTE)
    with pytest.raises(errors.ConflictError):
        await acreate_webhook_subscription.fn(credentials, **asked())


@pytest.mark.usefixtures("impatient")
async def test_a_disabled_one_neither(credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    hook = await acreate_webhook_subscription.fn(credentials, **asked())
    sandbox.set_webhook(hook.uri.rpartition("/")[2], state="disabled")
    sandbox.fault("drop_before", method="POST", route=ROUTE)
    with pytest.raises(errors.ConflictError):
        await acreate_webhook_subscription.fn(credentials, **asked())


@pytest.mark.usefixtures("impatient")
async def test_when_it_cannot_be_looked_up_either_nobody_knows(
    credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    sandbox.fault("drop_after", method="POST", route=ROUTE)
    sandbox.fault("insufficient_scope", method="GET", route=ROUTE, times=None)
    with pytest.raises(errors.UnconfirmedWriteError):
        await acreate_webhook_subscription.fn(credentials, **asked())
    assert sandbox.stats()["by_route"][f"POST {ROUTE}"] == 1


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "reset", "error_after", "server_error", "html_502"])
async def test_however_the_answer_is_lost_a_deletion_happens_once(
    kind: str, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    sandbox.fault(kind, method="DELETE", route=ONE)
    await adelete_webhook_subscription.fn(credentials, WEBHOOK)
    assert sandbox.state()["webhook_subscription_list"] == []
    assert sandbox.stats()["writes"] == {"webhook_subscription_deleted": 1}
    with pytest.raises(errors.NotFoundError):
        await adelete_webhook_subscription.fn(credentials, WEBHOOK)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"url": "http://hooks.example.com"}, "url must be an https:// URL"),
        ({"url": "http://hooks.example.com"}, "http:// is for this machine only: 127.0.0.1, localhost or"),
        ({"url": "http://127.0.0.1.example.com"}, "url must be an https:// URL"),
        ({"url": "http://me:pw@127.0.0.1"}, "url must be an https:// URL"),
        ({"url": "http://"}, "url must be an https:// URL"),
        ({"url": "ftp://localhost"}, "url must be an https:// URL"),
        ({"url": "hooks.example.com"}, "url must be an https:// URL"),
        ({"url": "https://me:pw@hooks.example.com"}, "url must be an https:// URL"),
        ({"url": "https://hooks.example.com/#x"}, "url must be an https:// URL"),
        ({"url": "https://"}, "url must be an https:// URL"),
        ({"url": "https://hooks.example.com:99999"}, "url must be an https:// URL"),
        ({"url": "https://["}, "url must be an https:// URL"),
        ({"url": "https://hooks.example.com/a b"}, "url must be an https:// URL"),
        ({"url": "https://hooks.example.com/a\n"}, "url must be an https:// URL"),
        ({"events": []}, "events must name at least one event"),
        (
            {"events": ["invitee_created"]},
            r"invitee.created, .* 'invitee_created'; did you mean 'invitee.created'\?$",
        ),
        ({"events": ["Invitee.Cancelled"]}, r"did you mean 'invitee.canceled'\?$"),
        ({"events": ["party.started"]}, r"each of events must be one of invitee.created, .*, not 'party.started'$"),
        ({"events": [None]}, "each of events must be one of"),
        ({"events": ["meeting_recap.created"]}, "the event meeting_recap.created needs scope user"),
        (
            {"events": ["routing_form_submission.created"], "scope": "user", "user": ALICE},
            "routing_form_submission.created needs scope organization",
        ),
        ({"scope": "world"}, "scope must be one of organization, user, group"),
        ({"scope": "user"}, "`user` is needed with scope user, and only then"),
        ({"user": ALICE}, "`user` is needed with scope user, and only then"),
        ({"scope": "group"}, "`group` is needed with scope group, and only then"),
        ({"group": GROUP}, "`group` is needed with scope group, and only then"),
        ({"organization": ALICE + "/"}, "organization must be the URI .* of an organization"),
    ],
)
async def test_what_does_not_fit_costs_no_request(
    change: dict[str, Any], words: str, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    with no_request(sandbox), pytest.raises(ValueError, match=words):
        await acreate_webhook_subscription.fn(credentials, **asked(**change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scope": "user"}, "`user` is needed"),
        ({"sort": "url:asc"}, "sort must be a comma-separated list of created_at"),
        ({"count": 0}, "count must be"),
        ({"limit": 0}, "limit must be"),
    ],
)
async def test_bad_filters_cost_no_request(
    change: dict[str, Any], words: str, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    values = {"organization": ORGANIZATION, "scope": "organization", **change}
    with no_request(sandbox), pytest.raises(ValueError, match=words):
        await alist_webhook_subscriptions.fn(credentials, **values)
    with no_request(sandbox), pytest.raises(ValueError, match="subscription must be"):
        await adelete_webhook_subscription.fn(credentials, "")


def test_event_names_come_once_in_order() -> None:
    names = ["invitee.created", "event_type.updated", "invitee.created"]
    assert checked_events(names, "organization") == ["invitee.created", "event_type.updated"]
    assert checked_events("invitee.created", "user") == ["invitee.created"]
    assert checked_callback_url(URL) == URL


@pytest.mark.parametrize("url", ["http://127.0.0.1:4300/x", "http://localhost:4300/x?y=z", "http://[::1]:4300/x"])
async def test_on_this_machine_http_is_fine_for_trying_things_out(
    url: str, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    hook = await acreate_webhook_subscription.fn(credentials, **asked(url=url))
    assert (hook.callback_url, hooks(sandbox)) == (url, [hook.uri])


def test_a_key_that_a_server_returns_is_not_kept() -> None:
    members = dict.fromkeys(("uri", "callback_url", "state", "scope", "organization"), "x") | {"events": []}
    times = dict.fromkeys(("created_at", "updated_at"), "2026-01-01T00:00:00Z")
    hook = WebhookSubscription.model_validate(members | times | {"signing_key": "whsec-1", "unknown": "kept"})
    assert "whsec-1" not in repr(hook)
    assert hook.model_extra == {"unknown": "kept"}
