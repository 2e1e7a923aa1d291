"""The artifacts of a screening run: a summary that is read on a phone, and a table of all decisions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any, ClassVar, Final

from prefect import runtime
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact

from prefect_calendly.runs.forms import zone_or_utc
from prefect_calendly.runs.markdown import cost, escape, markdown_table, pluralize, sections
from prefect_calendly.screening.decision import Decision
from prefect_calendly.screening.domains import mask_email
from prefect_calendly.screening.report import CancelReport
from prefect_calendly.screening.run import CancelRun, ScreenRun

SUMMARY_KEY: Final = "cancel-blocked-domains"
DECISIONS_KEY: Final = "cancel-blocked-domains-decisions"
SCREEN_SUMMARY_KEY: Final = "screen-booking"
SCREEN_DECISIONS_KEY: Final = "screen-booking-decisions"

WAITING: Final = "WAITING for approval"
"""How the headline of a run starts that waits for a person."""

_MOST_PROBLEMS: Final = 10
_MOST_EVENTS: Final = 50


class CancelPage:
    """What a run over many events shows: write it before anything is canceled, and again when it is done.

    Args:
        run: The run; the page shows it as it is when it is asked.

    Example:
        ```python
        policy = CancelPolicy(blocked_domains=["spam.example"])
        run = CancelRun(await scan_events(credentials, policy), dry_run=False)
        await CancelPage(run).write()
        run.outcomes = await cancel_events(credentials, run.plan)
        await CancelPage(run).write()
        ```
    """

    summary_key: ClassVar[str] = SUMMARY_KEY
    decisions_key: ClassVar[str] = DECISIONS_KEY

    def __init__(self, run: CancelRun) -> None:
        self.run = run

    async def write(self) -> None:
        """Write both artifacts; the same keys again are the next versions."""
        rows: list[dict[str, Any]] = [self.row(decision) for decision in self.run.plan.decisions]
        headline = escape(self.headline())
        await acreate_table_artifact(key=self.decisions_key, table=rows, description=headline)
        await acreate_markdown_artifact(key=self.summary_key, markdown=self.summary(), description=headline)

    def headline(self) -> str:
        """Return how the run stands, in one line."""
        run = self.run
        count = pluralize(len(run.plan.of("cancel")), "event")
        if run.dry_run:
            return f"DRY RUN: {count} would be canceled, nothing was changed"
        if run.over_cap:
            return f"REFUSED: {count} to cancel, over the cap of {run.cap}; nothing was changed"
        if run.abandoned == "expired":
            return f"NOT APPROVED: nobody decided in time about {count} to cancel; nothing was changed"
        if run.abandoned == "canceled":
            return f"STOPPED: the run was canceled while it waited, with {count} to cancel; nothing was changed"
        if run.waiting:
            return f"{WAITING}: {count} to cancel, nothing was changed yet"
        if run.answer is not None and run.answer.rejected:
            return f"REJECTED: {count} to cancel, nothing was changed"
        if run.outcomes is None:
            return f"About to cancel {pluralize(len(run.approved.of('cancel')), 'event')}"
        report = run.report()
        problems = report.failed + report.unreadable
        return f"{pluralize(report.canceled, 'event')} canceled" + (f", {problems} FAILED" if problems else "")

    def row(self, decision: Decision) -> dict[str, str]:
        """Return a decision as a row of the table; a phone shows the first columns."""
        run, zone = self.run, zone_or_utc(decision.host_zone)
        asked = run.waits_until is not None and decision.action == "cancel" and not run.over_cap
        # A run can be canceled after somebody has decided, and before it has gone on.
        asked = asked and run.abandoned != "canceled"
        row = {
            "who": self.who(decision),
            "why": decision.why,
            "status": run.status_of(decision),
            "start": f"{decision.start.astimezone(zone):%a %Y-%m-%d %H:%M}",
            "host": ", ".join(decision.hosts),
            "meeting": decision.name,
            "decided by": (str(run.answer) if run.answer else "nobody") if asked else "",
            "event": decision.uuid,
            "zone": zone.key,
        }
        return {name: escape(text) for name, text in row.items() if text or name != "decided by"}

    def who(self, decision: Decision) -> str:
        """Return the addresses that a decision is about, as the policy lets them be shown."""
        shown = mask_email if self.run.policy.mask_emails else str
        return ", ".join(dict.fromkeys(shown(match.email) for match in decision.matches))

    def describe(self, decision: Decision) -> str:
        """Return who has booked, why that is unwanted, and what, with whom and when (in the host's time zone)."""
        zone = zone_or_utc(decision.host_zone)
        when = f"{decision.start.astimezone(zone):%a %Y-%m-%d %H:%M} {zone.key}"
        return f"{self.who(decision)} ({decision.why}): {_meeting(decision)}, {when}"

    def summary(self) -> str:
        """Return the summary, in markdown."""
        run, report = self.run, self.run.report()
        text = sections(
            self.headline(),
            {
                "Scope": self._scope(),
                "Decision": [
                    f"{pluralize(report.events_matched, 'event')} with somebody of a blocked domain",
                    f"{report.to_cancel} to cancel (cap {run.cap})",
                    f"{report.reported} only to report: others have booked them too",
                    f"{report.undecided} undecided: an address cannot be read, look at them yourself",
                ],
                "Approval": self._approval(),
                "Result": self._result(report),
                "Warnings": self._warnings(),
                "Problems": self._problems(),
                "Cost": cost(run.meter, report.seconds, report.requests),
            },
        )
        return "\n".join([text, *self._events(), f"\nEvery decision is in the table `{self.decisions_key}`."])

    def _scope(self) -> list[str]:
        plan, policy, zone = self.run.plan, self.run.policy, zone_or_utc(self.run.plan.timezone)
        whose = "the organization" if policy.scope == "organization" else "the current user"
        lines = [
            f"{pluralize(plan.checked, 'event')} of {whose}"
            + (f", {plan.read} of them new or changed since the last run" if plan.read < plan.checked else "")
        ]
        if plan.since is not None and plan.until is not None:
            since, until = (f"{each.astimezone(zone):%Y-%m-%d %H:%M}" for each in (plan.since, plan.until))
            lines.append(f"from {since} to {until} ({zone.key})")
        within = ", with subdomains" if policy.include_subdomains else ""
        domains = f"{pluralize(len(policy.blocked_domains), 'blocked domain')}: {_some(policy.blocked_domains)}{within}"
        return [*lines, domains]

    def _approval(self) -> list[str]:
        run, planned = self.run, len(self.run.plan.of("cancel"))
        if run.waits_until is None or run.over_cap or not planned:
            return []
        if run.answer is not None:
            word = "rejected" if run.answer.rejected else f"{len(run.approved.of('cancel'))} of {planned} approved"
            return [f"{word} by {escape(run.answer)}"]
        until = f"{run.waits_until.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        if run.abandoned == "canceled":
            return ["the run was canceled while it waited for a person"]
        waits = "nobody had decided by then" if run.abandoned else "a person decides on the page of this flow run"
        return [f"until {until}: {waits}; without a decision nothing is canceled"]

    def _result(self, report: CancelReport) -> list[str]:
        run = self.run
        if run.dry_run or run.over_cap or run.abandoned or run.waiting or (run.answer and run.answer.rejected):
            return ["**Nothing: no event was changed.**"]
        if run.outcomes is None:
            return [
                "**This is the plan.** If it stays the last version of this page, the run was interrupted: its log "
                "names the events that were canceled until then. Run the flow again for the rest."
            ]
        lines = [
            f"{report.canceled} canceled",
            f"{report.already_canceled} already canceled by somebody else",
            f"{report.left_alone} left alone: begun, gone, moved or booked by others meanwhile",
            f"{report.failed} failed",
        ]
        if (runtime.flow_run.run_count or 0) > 1:
            lines[1] += ", or by this run before it was interrupted: see its log"
        return lines + ([f"{report.not_approved} not approved"] if report.not_approved else [])

    def _warnings(self) -> list[str]:
        run, to_cancel = self.run, len(self.run.plan.of("cancel"))
        warnings = [escape(warning) for warning in run.plan.warnings]
        if run.dry_run and run.over_cap:
            warnings.append(
                f"A real run would cancel nothing: {pluralize(to_cancel, 'event')} to cancel, and max_cancellations "
                f"is {run.cap}."
            )
        return warnings

    def _problems(self) -> list[str]:
        plan, outcomes = self.run.plan, self.run.outcomes or {}
        problems = [f"{each.uuid}: could not be checked: {escape(each.why)}" for each in plan.of("unknown")]
        problems += [f"{each.uuid}: undecided: {escape(each.why)}" for each in plan.of("undecided")]
        problems += [
            f"{each.uuid}: {escape(outcome.detail)}"
            for each in plan.of("cancel")
            if (outcome := outcomes.get(each.event)) and outcome.result == "failed"
        ]
        more = len(problems) - _MOST_PROBLEMS
        return problems[:_MOST_PROBLEMS] + ([f"and {more} more"] if more > 0 else [])

    def _events(self) -> list[str]:
        """Return the decisions as a narrow table, for a phone."""
        decisions = self.run.plan.decisions
        if not decisions:
            return []
        rows = []
        for each in decisions[:_MOST_EVENTS]:
            start = f"{each.start.astimezone(zone_or_utc(each.host_zone)):%a %d %b %H:%M}"
            rows.append((self.who(each), each.why, f"{_meeting(each)}, {start}", self.run.status_of(each)))
        table = markdown_table(("Who", "Why", "Meeting", "Status"), rows, longest_word=12)
        more = len(decisions) - _MOST_EVENTS
        note = f"\nTimes are in the hosts' time zones.{f' And {more} more.' if more > 0 else ''}"
        return ["\n## Events\n", table, note]


class ScreenPage(CancelPage):
    """What a run over one booking shows.

    Args:
        run: The run; the page shows it as it is when it is asked.
    """

    summary_key: ClassVar[str] = SCREEN_SUMMARY_KEY
    decisions_key: ClassVar[str] = SCREEN_DECISIONS_KEY
    run: ScreenRun

    def headline(self) -> str:
        """Return how the run stands, in one line."""
        if self.run.decision.action == "report":
            return "1 group event is only reported: others have booked it too"
        if self.run.decision.action == "undecided":
            return "1 event is undecided: an address cannot be read, look at it yourself"
        if self.run.outcome is not None and self.run.outcome.result in ("already canceled", "left alone"):
            return f"0 events canceled: {self.run.outcome}"
        return super().headline()

    def summary(self) -> str:
        """Return the summary, in markdown."""
        run, report = self.run, self.run.report()
        details = [f"why: {escape(run.decision.why)}"]
        if run.over_cap:
            details.append(f"`max_cancellations`: {pluralize(run.cap, 'event')} within an hour at most")
        elif run.decision.action == "cancel" and run.outcomes is None and not run.dry_run:
            details.append("this is the plan: if it stays the last version of this page, the run was interrupted")
        if run.outcome is not None and run.outcome.detail:
            details.append(escape(run.outcome.detail))
        details += [*self._warnings(), *cost(run.meter, report.seconds, report.requests)]
        return "\n".join([f"# {escape(self.headline())}", *self._events(), "", *(f"- {each}" for each in details)])


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(map(escape, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def _meeting(decision: Decision) -> str:
    hosts = ", ".join(decision.hosts)
    return f"{decision.name or 'Meeting'} with {hosts}" if hosts else decision.name or "Meeting"
