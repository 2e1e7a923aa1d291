"""A person decides about a plan; what Prefect does about such a run is in tests/flows/test_approval.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

import flows.cancel_blocked_domains as flow_page
from flows.cancel_blocked_domains import cancel_blocked_domains
from prefect_calendly import CalendlyCredentials
from prefect_calendly.runs.human_input import MOST_PROPOSALS, Answer, Proposal
from prefect_calendly.runs.notifications import FAILED_KEY
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.screening import approval
from prefect_calendly.screening.decision import Decision
from prefect_calendly.screening.page import DECISIONS_KEY, SUMMARY_KEY
from prefect_calendly.screening.plan import Plan
from prefect_calendly.screening.report import CancelReport, TooManyCancellationsError
from tests.inline import Inline
from tests.notifiers import RECORDER
from tests.screening.conftest import API, BAD, NOON, add_booking, canceled_by_api, policy_of
from tests.support import no_request
from tests.world import uuid_of

pytestmark = pytest.mark.usefixtures("inline")


class EndsUntilAnswered(BaseException):
    """The process of the run ends; another one goes on when somebody has decided."""


@dataclass
class FlowRun:
    """What Prefect keeps of a flow run that asks."""

    kept: dict[str, str] = field(default_factory=dict)
    asked: list[Sequence[Proposal]] = field(default_factory=list)
    approved: set[int] | None = None
    """Which of the proposals somebody has approved, by number from 0; None: nobody has decided."""

    async def recall(self, key: str, flow_run_id: UUID | None = None) -> str | None:
        return self.kept.get(key)

    async def remember(self, key: str, text: str) -> None:
        assert key not in self.kept
        self.kept[key] = text

    async def forget(self, *keys: str) -> None:
        for key in keys:
            self.kept.pop(key, None)

    async def is_answered(self, key: str) -> bool:
        return self.approved is not None

    async def ask(
        self, key: str, proposals: Sequence[Proposal], introduction: str, reason: str, until: datetime
    ) -> Answer:
        self.asked.append(proposals)
        if self.approved is None:
            raise EndsUntilAnswered
        approved = frozenset(proposals[number].id for number in self.approved)
        return Answer(approved, not approved, reason, "Ann Lee", datetime.now(UTC))


@pytest.fixture
def flow_run(monkeypatch: pytest.MonkeyPatch) -> FlowRun:
    flow_run = FlowRun()
    for name in ("recall", "remember", "forget", "is_answered", "ask"):
        monkeypatch.setattr(approval, name, getattr(flow_run, name))

    async def can_wait(instead: str) -> None:
        pass

    monkeypatch.setattr(flow_page, "check_can_wait", can_wait)
    return flow_run


async def start(credentials: CalendlyCredentials, *, hours: float = 24, **policy: Any) -> CancelReport:
    return await cancel_blocked_domains(
        credentials,
        policy_of(**{"scope": "organization", "notify": RECORDER, **policy}),
        dry_run=False,
        require_approval=True,
        approval_hours=hours,
    )


async def test_a_rejected_plan_changes_nothing_and_asks_calendly_nothing(
    sandbox: Sandbox,
    credentials: CalendlyCredentials,
    flow_run: FlowRun,
    recorder: list[tuple[str | None, str]],
    inline: Inline,
) -> None:
    add_booking(sandbox, "eve@rejected.example")
    with pytest.raises(EndsUntilAnswered):
        await start(credentials, blocked_domains=["rejected.example"])
    flow_run.approved = set()
    with no_request(sandbox):
        report = await start(credentials, blocked_domains=["rejected.example"])
    assert (report.canceled, report.not_approved, report.to_cancel) == (0, 1, 1)
    assert report.requests > 0  # of the process before
    assert not canceled_by_api(sandbox)
    (row,) = json.loads(inline.artifact(DECISIONS_KEY))
    assert row["status"] == "not canceled: rejected"
    assert row["decided by"].startswith("Ann Lee, ")
    assert inline.artifact(SUMMARY_KEY).startswith("# REJECTED: 1 event to cancel, nothing was changed")
    assert recorder[-1][0] == "Blocked domains: REJECTED: 1 event to cancel, nothing was changed"
    ((proposal,), _) = flow_run.asked
    assert "e…@rejected.example (invitee of rejected.example)" in proposal.label


async def test_what_waits_for_a_person_is_kept_without_addresses_and_read_again_by_the_next_scan(
    sandbox: Sandbox, credentials: CalendlyCredentials, flow_run: FlowRun, recorder: Any
) -> None:
    add_booking(sandbox, "eve.secret@waits.example")
    with pytest.raises(EndsUntilAnswered):
        await start(credentials, blocked_domains=["waits.example"], allowed_emails=["jane.secret@waits.example"])
    assert "secret" not in str(flow_run.kept)
    report = await cancel_blocked_domains(
        credentials,
        policy_of("waits.example", scope="organization", allowed_emails=["jane.secret@waits.example"]),
    )
    assert report.to_cancel == 1
    assert report.events_read < report.events_checked


async def test_a_run_that_starts_again_after_nobody_decided_plans_and_asks_anew(
    sandbox: Sandbox,
    credentials: CalendlyCredentials,
    flow_run: FlowRun,
    recorder: list[tuple[str | None, str]],
    inline: Inline,
) -> None:
    add_booking(sandbox, "eve@anew.example")
    for expected in (1, 2):
        with pytest.raises(EndsUntilAnswered):
            await start(credentials, hours=1e-9, blocked_domains=["anew.example"])
        assert len(flow_run.asked[-1]) == expected
        rows = json.loads(inline.artifact(DECISIONS_KEY))
        assert [row["status"] for row in rows] == ["waits for approval"] * expected
        add_booking(sandbox, "eva@anew.example")
    assert len(recorder) == 2


async def test_a_notification_block_that_is_gone_meanwhile_keeps_no_approval_from_being_done(
    sandbox: Sandbox, credentials: CalendlyCredentials, flow_run: FlowRun, recorder: Any, inline: Inline
) -> None:
    event = add_booking(sandbox, BAD)
    with pytest.raises(EndsUntilAnswered):
        await start(credentials, horizon_days=4)
    del inline.blocks[RECORDER]
    flow_run.approved = {[event == proposal.id for proposal in flow_run.asked[-1]].index(True)}
    await start(credentials, horizon_days=4)
    assert canceled_by_api(sandbox).keys() == {uuid_of(event)}
    assert "Blocked domains: 1 event canceled" in inline.artifact(FAILED_KEY)


async def test_more_than_a_person_can_look_at_is_refused(
    sandbox: Sandbox, credentials: CalendlyCredentials, flow_run: FlowRun, recorder: Any
) -> None:
    plan = Plan(
        policy_of(max_cancellations=500), (Decision(f"{API}/scheduled_events/E", NOON, None, "cancel", ""),) * 101
    )
    flow_run.kept["plan"] = plan.to_json()
    with (
        no_request(sandbox),
        pytest.raises(TooManyCancellationsError, match=f"decide about {MOST_PROPOSALS} at once: none was canceled"),
    ):
        await start(credentials, max_cancellations=500)
    assert not flow_run.asked


async def test_a_plan_of_another_release_is_refused_without_its_text(flow_run: FlowRun) -> None:
    text = Plan(policy_of(), ()).to_json()
    flow_run.kept["plan"] = text.replace('"decisions":[]', '"decisions":["eve@secret.example"]')
    with pytest.raises(ValueError, match="of another release; start a new run") as caught:
        await approval.recall_plan(policy_of(), 24)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_plan_survives_being_kept_with_its_addresses_hidden() -> None:
    policy = policy_of(allowed_emails=["jane@blocked.example"])
    plan = Plan(policy, (), own_domains=frozenset({"own.example"}), since=NOON, until=NOON + timedelta(days=1))
    assert "jane" not in plan.to_json()
    assert Plan.from_json(plan.to_json(), policy) == plan
    assert replace(plan, policy=policy_of()).masked().policy == policy_of()


async def test_without_a_deployment_nobody_can_be_asked_and_nothing_is_done(
    sandbox: Sandbox, credentials: CalendlyCredentials
) -> None:
    with no_request(sandbox), pytest.raises(ValueError, match="only a run of a deployment can wait for a person"):
        await start(credentials)


async def test_a_dry_run_asks_nobody(credentials: CalendlyCredentials) -> None:
    assert (await cancel_blocked_domains(credentials, policy_of(), require_approval=True)).dry_run
