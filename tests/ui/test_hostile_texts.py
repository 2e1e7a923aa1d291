"""What strangers write stays text on every page of both of Prefect's UIs: no request, no link, no script."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from prefect_calendly.client import RequestMeter
from prefect_calendly.digest.artifacts import publish_page, publish_table, table_key
from prefect_calendly.digest.changes import Changes
from prefect_calendly.digest.model import Host, HostedEventType, Problem
from prefect_calendly.runs.notifications import FAILED_KEY, notify
from prefect_calendly.screening.page import DECISIONS_KEY, SUMMARY_KEY
from tests.digest.examples import NOW, digest_of, utc
from tests.support import until
from tests.ui.person import UIS, Person

pytestmark = pytest.mark.stack

EVIL = "evil.example"
# Without the characters that become others of the same look: what the page shows is compared.
TEXTS = [
    f"![x](//{EVIL}/p.png)",
    f'<img src="//{EVIL}/i.png" onerror="window.harmed = true"><script src="//{EVIL}/s.js"></script>',
    f"[free](https://{EVIL}) https://{EVIL} www.{EVIL} jane@{EVIL}",
    f"www&period;{EVIL} jane&commat;{EVIL} https&colon;//{EVIL} &rlm;&lt;i&gt;",
]
NAME = " ".join(TEXTS)
ADDRESS = f"jane@![x](//{EVIL}/p.png)."

# Runs in Chromium: what leads to another host, or was run.
_HARM = """evil => [
    ...[...document.querySelectorAll("[href], [src]")]
        .map(part => part.getAttribute("href") ?? part.getAttribute("src"))
        .filter(url => url.includes(evil)),
    ...(window.harmed ? ["a script was run"] : []),
]"""


def assert_harmless(person: Person, page: Page, shown: Locator) -> None:
    for text in TEXTS:
        expect(shown).to_contain_text(text)
    page.wait_for_load_state("networkidle")
    assert page.evaluate(_HARM, EVIL) == []
    assert [url for url in person.kept_from if EVIL in url] == []


def test_names_and_addresses_of_bookings_are_text_in_the_form_the_summary_and_the_table(person: Person) -> None:
    domain = f"spam-{secrets.token_hex(4)}.example"
    person.book(domain, 3, name=NAME)
    person.book(domain, 4, invitees=[{"email": f"{ADDRESS}{domain}", "name": NAME}])
    policy = {"blocked_domains": [domain], "horizon_days": 20, "mask_emails": False}
    run = person.start("cancel-blocked-domains-with-approval", policy=policy)
    until(lambda: person.state(run) == "Suspended")
    for ui in UIS:
        page = person.resume_form(run, ui=ui)
        assert_harmless(person, page, page.get_by_role("dialog"))
        person.picture(page, f"hostile-form-{ui}")
        for key in (SUMMARY_KEY, DECISIONS_KEY):
            page = person.artifact_page(run, key, ui=ui)
            assert_harmless(person, page, page.locator("body"))
            expect(page.locator("body")).to_contain_text(f"{ADDRESS}{domain}")
            person.picture(page, f"hostile-{key}-{ui}")


def test_names_of_hosts_and_event_types_and_messages_are_text_in_every_artifact(person: Person) -> None:
    key = f"availability-digest-{secrets.token_hex(6)}"
    hosts = (Host("A", NAME), Host("B", "Bo"))
    digest = digest_of(
        {"T": [utc(3, 9)]},
        hosts=hosts,
        event_types={"A": [HostedEventType("T", NAME, 30, owner=NAME)], "B": []},
        problems=(Problem(NAME, NAME),),
    )

    async def publish() -> None:
        await publish_page(digest, Changes(NOW, hosts, hosts, ((hosts[0], 1),)), key, RequestMeter(), 1)
        await publish_table(digest, key)
        await notify("slack-webhook/nowhere", NAME, NAME)  # what cannot be sent is kept in an artifact

    person.in_prefect(lambda: asyncio.run(publish()))
    for each in (key, table_key(key), FAILED_KEY):
        wanted: dict[str, Any] = {"artifacts": {"key": {"any_": [each]}}, "sort": "CREATED_DESC"}
        artifact = person.api("/artifacts/filter", wanted)[0]
        for ui in UIS:
            page = person.look(f"/artifacts/artifact/{artifact['id']}", ui=ui)
            assert_harmless(person, page, page.locator("body"))
            person.picture(page, f"hostile-{each.replace(key, 'digest')}-{ui}")
