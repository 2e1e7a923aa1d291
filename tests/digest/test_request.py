"""What a digest can be asked for: the form and the model refuse the same, and say what is wanted."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from prefect.utilities.schema_tools.validation import validate
from pydantic import ValidationError

from prefect_calendly.digest.artifacts import artifact_key
from prefect_calendly.digest.request import DigestRequest
from tests.digest.examples import API

HOST_WANTED = "'the URI, uuid or email address of a user' was expected"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timezone", "Mars/Base"),
        ("days", 0),
        ("days", 63),
        ("hosts", ["a", "../x"]),
        ("hosts", [""]),
        ("hosts", [f"{API}/event_types/AAAA"]),
        ("hosts", ["someone@nowhere"]),
        ("hosts", ["a@b.example, c@d.example"]),
        ("scope", "everybody"),
        ("event_types", [f"{API}/users/AAAA"]),
        ("first_day", "2020-01-01"),
        ("first_day", "9999-12-31"),
        ("notify", "no block"),
        ("time_zone", "UTC"),
    ],
)
def test_a_bad_field_is_refused_by_its_name_and_not_shown(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        DigestRequest.model_validate({field: value})
    assert refused.value.errors()[0]["loc"][0] == field
    assert "nowhere" not in str(refused.value)


def form_errors(entered: dict[str, Any]) -> list[str]:
    """What Prefect's form says: its server has only the schema, not our validators."""
    return [error.message for error in validate(entered, DigestRequest.model_json_schema())]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("timezone", "Mars/Base", "is not one of ['Africa/Abidjan', "),
        ("days", 63, "63 is greater than the maximum of 62"),
        ("hosts", ["a", "../x"], HOST_WANTED),
        ("hosts", [""], HOST_WANTED),
        ("hosts", [f"{API}/event_types/AAAA"], HOST_WANTED),
        ("hosts", ["someone@nowhere"], HOST_WANTED),
        ("hosts", ["a@b.example, c@d.example"], HOST_WANTED),
        ("scope", "everybody", "is not one of ['hosts', 'organization']"),
        ("event_types", [f"{API}/users/AAAA"], "'the URI or uuid of an event type' was expected"),
        ("notify", "no block", "'type/name of a saved block, such as slack-webhook/ops' was expected"),
    ],
)
def test_the_form_refuses_a_bad_entry_and_says_what_is_wanted(field: str, value: Any, message: str) -> None:
    [error] = form_errors({field: value})
    assert message in error


@pytest.mark.parametrize(
    "entered",
    [
        {},
        {"hosts": [" Eve@Acme.example ", f"{API}/users/AAAA", "AAAA-b_1"], "timezone": "Europe/Berlin", "days": 62},
        {"event_types": [f" {API}/event_types/AAAA", "BBBB"], "notify": "slack-webhook/ops"},
        {"notify": "", "first_day": f"{datetime.now(UTC).date() + timedelta(days=1)}"},
    ],
)
def test_the_form_accepts_what_the_flow_accepts(entered: dict[str, Any]) -> None:
    assert form_errors(entered) == []
    assert DigestRequest.model_validate(entered).notify in (None, "slack-webhook/ops")


def test_an_unknown_zone_is_the_only_error_about_a_first_day_in_it() -> None:
    with pytest.raises(ValidationError) as refused:
        DigestRequest.model_validate({"timezone": "Mars/Base", "first_day": "2020-01-01"})
    assert [error["loc"] for error in refused.value.errors()] == [("timezone",)]


def test_hosts_and_the_whole_organization_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="must be empty with scope organization"):
        DigestRequest(scope="organization", hosts=("AAAA",))


def test_today_is_the_date_in_the_time_zone() -> None:
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):  # 25 hours apart: never the same date
        before = datetime.now(ZoneInfo(zone)).date()
        request = DigestRequest(timezone=zone, first_day=before)
        assert request.first_day == before
        assert before <= DigestRequest(timezone=zone).start_day <= before + timedelta(days=1)


def test_every_field_of_the_form_has_its_help_and_its_place() -> None:
    fields = DigestRequest.model_json_schema()["properties"]
    assert all(field["description"].endswith(".") for field in fields.values())
    assert [field["position"] for field in fields.values()] == list(range(len(fields)))
    assert fields["hosts"]["type"] == "array"
    assert fields["scope"]["enum"] == ["hosts", "organization"]
    assert not any("anyOf" in field or field.get("default", "") is None for field in fields.values())


def test_the_key_of_the_artifacts_depends_on_the_request_not_on_today_or_its_spelling() -> None:
    base = DigestRequest(hosts=("B", "A"))
    key = artifact_key("u", base)
    assert key.startswith("availability-digest-")
    assert set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    assert artifact_key("u", DigestRequest(hosts=(f"{API}/users/A", "B"), notify="a/b")) == key
    others = [
        artifact_key("v", base),
        artifact_key("u", DigestRequest(hosts=("A",))),
        artifact_key("u", DigestRequest(scope="organization")),
        artifact_key("u", DigestRequest(hosts=("B", "A"), first_day=tomorrow)),
        artifact_key("u", DigestRequest(hosts=("B", "A"), days=6)),
        artifact_key("u", DigestRequest(hosts=("B", "A"), timezone="Europe/Berlin")),
        artifact_key("u", DigestRequest(hosts=("B", "A"), event_types=("T",))),
    ]
    assert len({key, *others}) == 8
