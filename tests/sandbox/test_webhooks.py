"""Webhook subscriptions: who may, where, once per URL; and their states."""

from __future__ import annotations

import json

import pytest

SCOPE = {"organization": "https://api.calendly.com/organizations/BBBBBBBBBBBBBBBB", "scope": "organization"}
OTHER = "https://api.calendly.com/organizations/SSSSSSSSSSSSSSSS"


@pytest.fixture
def subscribe(api):
    def request(connection=None, **changes):
        body = {
            "url": "https://example.com/new",
            "events": ["invitee.created"],
            "organization": api.organization,
            "scope": "organization",
            "signing_key": "a-secret",
        }
        body = {name: value for name, value in {**body, **changes}.items() if value is not None}
        return api.post("/webhook_subscriptions", body, connection=connection)

    return request


def test_a_subscription_comes_goes_and_never_shows_its_key(api, subscribe):
    answer = subscribe()
    assert answer.status_code == 201
    item = answer.json()["resource"]
    assert "a-secret" not in answer.text
    assert (item["callback_url"], item["state"], item["creator"]) == (
        "https://example.com/new",
        "active",
        api.alice,
    )
    listing = {"organization": api.organization, "scope": "organization"}
    assert item in api.everything("/webhook_subscriptions", **listing)
    newest_first = api.everything("/webhook_subscriptions", sort="created_at:desc", **listing)
    assert newest_first[0] == item
    gone = api.request("DELETE", item["uri"])
    assert (gone.status_code, gone.content) == (204, b"")
    assert api.get(item["uri"]).status_code == 404
    assert api.request("DELETE", item["uri"]).status_code == 404
    assert item not in api.everything("/webhook_subscriptions", **listing)


def test_each_scope_has_its_own_list(api, subscribe):
    mine = subscribe(scope="user", user=api.alice).json()["resource"]
    ours = subscribe(scope="group", group=api.group, url="https://example.com/g").json()["resource"]
    assert (mine["user"], mine["group"]) == (api.alice, None)
    assert (ours["user"], ours["group"]) == (None, api.group)
    common = {"organization": api.organization}
    assert api.everything("/webhook_subscriptions", scope="user", user=api.alice, **common) == [mine]
    assert api.everything("/webhook_subscriptions", scope="group", group=api.group, **common) == [ours]


def test_one_subscription_per_url(subscribe, error):
    assert subscribe().status_code == 201
    assert error(subscribe(events=["invitee.canceled"])) == (
        409,
        "Already Exists",
        "Hook with this url already exists",
    )
    assert error(subscribe(url="https://example.com/webhook"))[0] == 409


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"url": None}, [("url", "is missing")]),
        ({"events": []}, [("events", "is missing")]),
        ({"organization": None}, [("organization", "is missing")]),
        ({"scope": None}, [("scope", "is missing")]),
        ({"scope": "user"}, [("user", "is missing")]),
        ({"scope": "group"}, [("group", "is missing")]),
        ({"scope": "all"}, [("scope", "invalid")]),
        ({"url": "http://example.com/x"}, [("url", "invalid")]),
        ({"url": "http://127.0.0.1.example.com/x"}, [("url", "invalid")]),
        ({"url": "http://10.0.0.1/x"}, [("url", "invalid")]),
        ({"url": "ftp://127.0.0.1/x"}, [("url", "invalid")]),
        ({"url": "https://"}, [("url", "invalid")]),
        ({"url": 5}, [("url", "invalid")]),
        ({"organization": "BBBBBBBBBBBBBBBB"}, [("organization", "invalid")]),
        ({"events": ["invitee.rescheduled"]}, [("events", "invalid")]),
        ({"events": ["meeting_recap.created"]}, [("events", "invalid")]),
        ({"events": "invitee.created"}, [("events", "invalid")]),
        ({"signing_key": 5}, [("signing_key", "invalid")]),
    ],
)
def test_a_bad_subscription_is_refused(api, subscribe, details, changes, expected):
    assert details(subscribe(**changes)) == expected
    assert api.sandbox.state()["webhook_subscriptions"] == 1


@pytest.mark.parametrize("name", ["url", "signing_key"])
def test_half_a_character_is_refused(api, details, name):
    body = {"url": "https://example.com/", "events": ["invitee.created"], "signing_key": "k", **SCOPE}
    content = json.dumps({**body, name: body[name] + "\ud83d"})
    assert details(api.request("POST", "/webhook_subscriptions", content=content)) == [(name, "invalid")]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x", "http://localhost/x", "http://[::1]:9/x", "https://x.example"])
def test_http_is_fine_for_this_machine_only(subscribe, url):
    answer = subscribe(url=url)
    assert (answer.status_code, answer.json()["resource"]["callback_url"]) == (201, url)


def test_some_events_belong_to_one_scope_only(api, subscribe, details):
    recaps = {"events": ["meeting_recap.created"], "scope": "user", "user": api.alice}
    assert subscribe(**recaps).status_code == 201
    forms = {"events": ["routing_form_submission.created"], "url": "https://example.com/f"}
    assert subscribe(**forms).status_code == 201
    assert details(subscribe(**forms, scope="user", user=api.alice)) == [("events", "invalid")]


def test_rights(api, subscribe, error):
    access = (403, "Permission Denied", "You do not have permission to access this resource.")
    role = (403, "Permission Denied", "You do not have permission")
    assert error(subscribe(organization=OTHER)) == access
    assert error(subscribe(scope="user", user=api.zoe)) == access
    zoe = {"connection": api.second_connection, "organization": OTHER}
    assert error(subscribe(**zoe)) == role
    assert subscribe(**zoe, scope="user", user=api.zoe).status_code == 201
    assert error(api.get("/webhook_subscriptions/GGGGGGGGGGGGGGGG", connection=zoe["connection"])) == access


def test_the_free_plan_has_no_webhooks(api, subscribe, error):
    api.sandbox.reset(plan="free")
    assert error(subscribe()) == (
        403,
        "Permission Denied",
        "Please upgrade your Calendly account to Standard",
    )
    api.sandbox.reset(plan="standard")
    assert subscribe().status_code == 201


def test_a_subscription_that_fails_for_long_is_disabled(api):
    api.sandbox.set_webhook("GGGGGGGGGGGGGGGG", retry_started_at="2025-03-13T00:00:00Z")
    item = api.resource("/webhook_subscriptions/GGGGGGGGGGGGGGGG")
    assert (item["state"], item["retry_started_at"]) == ("active", "2025-03-13T00:00:00.000000Z")
    api.sandbox.set_webhook("GGGGGGGGGGGGGGGG", state="disabled")
    assert api.resource("/webhook_subscriptions/GGGGGGGGGGGGGGGG")["state"] == "disabled"
    with pytest.raises(ValueError, match="state must be active or disabled"):
        api.sandbox.set_webhook("GGGGGGGGGGGGGGGG", state="tired")
