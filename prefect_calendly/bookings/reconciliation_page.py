"""The artifacts of a reconciliation: a table of all findings, and a summary."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact

from prefect_calendly.bookings.reading import Reading
from prefect_calendly.bookings.reconciliation import BookingsToReconcile, Comparison, Finding, ReconcileReport
from prefect_calendly.client import RequestMeter
from prefect_calendly.runs.logger import run_logger
from prefect_calendly.runs.markdown import cost, escape, markdown_table, pluralize, sections

SUMMARY_KEY: Final = "reconcile-bookings"
PROBLEMS_KEY: Final = "reconcile-bookings-problems"

_MOST_IN_SUMMARY: Final = 50
_MOST_IN_TABLE: Final = 1_000


async def show_reconciliation(
    report: ReconcileReport,
    window: BookingsToReconcile,
    comparison: Comparison,
    reading: Reading,
    meter: RequestMeter,
) -> None:
    """Log how a reconciliation ended, and write its artifacts.

    Args:
        report: How it ended.
        window: What was asked for.
        comparison: What was found.
        reading: What was read, for the problems.
        meter: Has counted the requests of the run.
    """
    run_logger().info("%s; %s", headline(report), pluralize(report.requests, "request"))
    rows = [_row(finding) for finding in comparison.findings[:_MOST_IN_TABLE]]
    await acreate_table_artifact(rows, key=PROBLEMS_KEY, description=headline(report))
    page = f"{_summary(report, window, reading, meter)}{_findings(comparison)}"
    await acreate_markdown_artifact(page, key=SUMMARY_KEY, description=headline(report))


def headline(report: ReconcileReport) -> str:
    """Return one line on how a reconciliation ended."""
    problems = {
        "missed": report.missed,
        "late": report.late,
        "unexpected": report.unexpected,
        "not by webhook": report.not_by_webhook,
    }
    result = ", ".join(f"{number} {what}" for what, number in problems.items() if number)
    emitted = f"; {report.emitted} emitted now" if report.emitted else ""
    hours = pluralize(round((report.until - report.since).total_seconds() / 3600), "hour")
    return f"{pluralize(report.found, 'event')} in {hours}: {result or 'all came by webhook in time'}{emitted}"


def _summary(report: ReconcileReport, window: BookingsToReconcile, reading: Reading, meter: RequestMeter) -> str:
    whose = "the organization" if window.scope == "organization" else "the current user"
    slowest = "" if report.slowest_seconds is None else f", the slowest after {report.slowest_seconds:.0f} s"
    not_emitted = " (emit_missing is off)" if report.missed and not window.emit_missing else ""
    return sections(
        headline(report),
        {
            "Scope": [
                f"bookings of {whose}, from {_time(report.since)} to {_time(report.until)} UTC",
                f"{pluralize(report.found, 'event')} that follow from what Calendly shows",
            ],
            "Result": [
                f"{report.by_webhook} came by webhook{slowest}",
                f"{report.late} of them late: after more than {window.late_after_seconds} s",
                f"{report.not_by_webhook} came only by polling or a backfill",
                f"{report.missed} missed: Prefect did not have them",
                f"{report.emitted} of these emitted now{not_emitted}",
                f"{report.unexpected} unexpected: Calendly does not show them",
            ],
            "Receivers": [
                f"{report.accepted} deliveries accepted",
                f"{report.duplicates} duplicates",
                f"{report.rejected} rejected",
            ],
            "Problems": reading.problems,
            "Cost": cost(meter, report.seconds),
        },
    )


def _findings(comparison: Comparison) -> str:
    """Return the findings as a narrow table."""
    shown = comparison.findings[:_MOST_IN_SUMMARY]
    if not shown:
        return ""
    rows = []
    for row in map(_row, shown):
        cells = (row[name] for name in ("problem", "event", "occurred (UTC)", "seconds", "source"))
        rows.append((*cells, f"{row['invitee'][:6]}…"))
    header = ("Problem", "Event", "Occurred (UTC)", "Seconds", "Source", "Invitee")
    lines = ["\n\n## Findings\n", markdown_table(header, rows)]
    more = len(comparison.findings) - len(shown)
    limit = "" if len(comparison.findings) <= _MOST_IN_TABLE else f", the first {_MOST_IN_TABLE:,}"
    lines.append(f"\n{f'And {more} more. ' if more else ''}All are in the table `{PROBLEMS_KEY}`{limit}.")
    return "\n".join(lines)


def _row(finding: Finding) -> dict[str, str]:
    *_, scheduled_event, _, invitee = ["", "", *finding.uri.split("/")]
    row = {
        "problem": finding.problem,
        "event": finding.event,
        "occurred (UTC)": _time(finding.occurred),
        "received (UTC)": _time(finding.received) if finding.received else "",
        "seconds": "" if finding.seconds is None else f"{finding.seconds:.0f}",
        "source": finding.source,
        "invitee": invitee,
        "scheduled event": scheduled_event,
    }
    return {name: escape(text) for name, text in row.items()}


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
