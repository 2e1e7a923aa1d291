"""The artifact about a subscription, and the one line that is logged and sent."""

from __future__ import annotations

from datetime import UTC, datetime

from prefect_calendly.runs.markdown import cost, escape, markdown_table, pluralize
from prefect_calendly.subscription.plan import hook_uuid
from prefect_calendly.subscription.report import SubscriptionReport, SubscriptionRun
from prefect_calendly.subscription.spec import SubscriptionSpec


def headline(report: SubscriptionReport, spec: SubscriptionSpec) -> str:
    """Return one line on what was done, and why."""
    what = f"the webhook subscription of {spec.masked_url}, scope {spec.scope}"
    reason = report.reason.rstrip(".")
    if report.outcome == "failed":
        return f"{'Dry run failed' if report.dry_run else 'Failed'}: {what}. {reason}."
    done = f"Dry run, nothing was changed. Would be {report.outcome}" if report.dry_run else report.outcome.capitalize()
    missed = ""
    if report.gap_since is not None and report.gap_emitted is not None:
        missed = f" {pluralize(report.gap_emitted, 'missed event')} since {_time(report.gap_since)} emitted."
    return f"{done}: {what}. {reason[:1].upper()}{reason[1:]}.{missed}"


def page(run: SubscriptionRun, report: SubscriptionReport, last_delivery: datetime | None) -> str:
    """Return the artifact.

    Args:
        run: What the run has done.
        report: Its report.
        last_delivery: When Prefect last got an event from a webhook; None if it remembers none.
    """
    spec, hook, now = run.spec, run.subscription, datetime.now(UTC)
    rows = [("Callback URL", spec.masked_url), ("Events", ", ".join(spec.events)), ("Scope", spec.scope)]
    if hook is not None:
        created = f"{_time(hook.created_at)} ({_age(hook.created_at, now)})"
        rows += [("Subscription", hook_uuid(hook)), ("State", hook.state), ("Created", created)]
        if hook.retry_started_at is not None:
            failing = f"{_time(hook.retry_started_at)}; Calendly disables it after 24 hours"
            rows.append(("Deliveries fail since", failing))
    if run.keys is not None:
        rows.append(("Signing key", _signing_key(run, now)))
    if run.receiver_answers:
        rows.append(("Receiver", "answers to a signed ping sent from here"))
    last = "none that Prefect remembers" if last_delivery is None else _time(last_delivery)
    rows += [
        ("Last delivery, of any subscription", last),
        ("Missed deliveries", _missed(run)),
        ("To be deleted" if report.dry_run else "Deleted", ", ".join(report.deleted) or "none"),
        ("Cost", "; ".join(cost(run.meter, report.seconds))),
    ]
    summary, table = escape(headline(report, spec), 30), markdown_table(("", ""), rows, 30)
    return f"# Webhook subscription: {report.outcome}\n\n{summary}\n\n{table}\n"


def _signing_key(run: SubscriptionRun, now: datetime) -> str:
    assert run.keys is not None  # noqa: S101
    made_at = run.keys.made_at
    text = "of unknown age" if made_at is None else f"made {_time(made_at)} ({_age(made_at, now)})"
    if run.key_change is not None:
        done = "a new one" if run.key_change == "made" else "replaced"
        text += ", would be made" if run.dry_run else f", {done}"
    old = len(run.keys.keys) - 1
    return f"{text}; {pluralize(old, 'old one')} accepted too" if old else text


def _missed(run: SubscriptionRun) -> str:
    if run.spec.backfill_scope is None:
        return "not looked for"
    if run.gap_since is None:
        return "none known"
    if run.backfilled is None:
        return f"since {_time(run.gap_since)}; not backfilled yet"
    since, backfill = run.backfilled
    cut = "; older ones cannot be backfilled" if since > run.gap_since else ""
    return f"since {_time(since)}: {pluralize(backfill.found, 'event')}, {backfill.emitted} emitted now{cut}"


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _age(since: datetime, now: datetime) -> str:
    days = max(0, (now - since).days)
    return "today" if days == 0 else f"{pluralize(days, 'day')} ago"
