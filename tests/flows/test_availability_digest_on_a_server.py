"""A digest in Prefect: its run has a name, its artifacts are kept, its progress is shown, its logs name nobody."""

import json
import re
from typing import Any

import pytest
from prefect import get_client
from prefect.blocks.system import Secret
from pydantic import SecretStr

from flows.availability_digest import availability_digest
from prefect_calendly import CalendlyCredentials
from prefect_calendly.client.errors import NotFoundError
from prefect_calendly.digest.artifacts import PROGRESS_KEY
from prefect_calendly.digest.request import DigestRequest
from prefect_calendly.sandbox import Sandbox
from tests.digest.calendar import ALICE, soon
from tests.fixtures import credentials_for
from tests.notifiers import Receiver
from tests.support import artifact

pytestmark = pytest.mark.usefixtures("prefect_server")


async def test_a_run_from_a_form_has_a_name_and_is_compared_with_the_run_before(
    credentials: CalendlyCredentials,
) -> None:
    form: Any = {"first_day": soon(5).isoformat(), "days": 2}
    first = await availability_digest(credentials, form)
    second = await availability_digest(credentials, form)
    assert (first.first_digest, second.first_digest) == (True, False)
    assert "No changes. Compared with" in await artifact(second.markdown_artifact)
    rows = json.loads(await artifact(second.table_artifact))
    assert [(row["host_uuid"], row["date"]) for row in rows] == [
        (ALICE, soon(5).isoformat()),
        (ALICE, soon(6).isoformat()),
    ]
    async with get_client() as client:
        runs = await client.read_flow_runs(limit=1, sort="START_TIME_DESC")  # type: ignore[arg-type]
    assert runs[0].name == f"availability digest {soon(5)} +2 days"
    descriptions = availability_digest.parameters.properties
    assert "Whose Calendly" in descriptions["credentials"]["description"]
    assert "Whose availability" in descriptions["request"]["description"]


async def test_a_run_shows_its_progress(sandbox: Sandbox, run_logs: list[str]) -> None:
    slow = credentials_for(sandbox, requests_per_second=10)
    report = await availability_digest(slow, DigestRequest(scope="organization", first_day=soon(), days=5))
    assert await artifact(PROGRESS_KEY) == 100
    lines = [line for line in run_logs if line.startswith("Reading availability: ")]
    assert 1 <= len(lines) <= 1 + report.seconds / 10
    shown = r"Reading availability: (\d+ %, \d+ of about \d+ requests|\d+ requests? so far), \d s"
    assert re.fullmatch(shown, lines[0])


async def test_its_logs_name_neither_hosts_nor_addresses(
    sandbox: Sandbox, credentials: CalendlyCredentials, run_logs: list[str]
) -> None:
    sandbox.add_user("Eve Example", email="eve.example@acme.example")
    request = DigestRequest(hosts=("eve.example@acme.example", "alice.johnson@acme.com"), first_day=soon())
    report = await availability_digest(credentials, request)
    assert report.hosts == 2
    with pytest.raises(ValueError, match=r"hosts\[1\]: no member of the organization has this email address"):
        await availability_digest(credentials, DigestRequest(hosts=(ALICE, "who.is.this@acme.example")))
    assert run_logs
    for private in ("@", "Eve", "Alice", "who.is.this", sandbox.api_key):
        assert private not in f"{run_logs} {report!r}"


async def test_a_short_message_goes_through_the_saved_notification_block_with_a_link_to_the_run(
    sandbox: Sandbox, credentials: CalendlyCredentials, receiver: Receiver
) -> None:
    request = DigestRequest(first_day=soon(), days=2, event_types=("NOSUCHTYPE",), notify=receiver.block)
    report = await availability_digest(credentials, request)
    assert report.notified
    sandbox.fault("not_found", route="/users/me")
    with pytest.raises(NotFoundError):
        await availability_digest(credentials, request)
    done, failed = receiver.messages
    assert (done["subject"], failed["subject"]) == ("Availability digest", "Availability digest failed")
    body, _, link = done["body"].partition("\n")
    assert body == (
        f"1 host, 2 days from {soon():%a} {soon().day} {soon():%b %Y} (UTC): 0 open slots, 1 host without open slots. "
        "This is the first digest, so there is nothing to compare it with. 1 item could not be read."
    )
    for page in (link, failed["body"].rpartition("\n")[2]):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v2/runs/flow-run/[0-9a-f-]{36}", page)
    assert done["key"] == receiver.secret


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [
        ("slack-webhook/nowhere", "there is no saved block 'slack-webhook/nowhere'"),
        ("no-such-type/ops", "there is no saved block 'no-such-type/ops'"),
        ("secret/no-notifier", "the block 'secret/no-notifier' is not for notifications"),
    ],
)
async def test_a_notifier_that_cannot_be_used_is_refused_before_anything_is_asked(
    sandbox: Sandbox, credentials: CalendlyCredentials, reference: str, complaint: str
) -> None:
    await Secret(value=SecretStr("hush")).asave("no-notifier", overwrite=True)
    with pytest.raises(ValueError, match=complaint) as refused:
        await availability_digest(credentials, DigestRequest(notify=reference))
    assert len(str(refused.value).splitlines()) == 1
    assert sandbox.stats()["requests"] == 0
