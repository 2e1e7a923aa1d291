"""The table artifact: all of a digest, one row per host and day. The next digest is compared with it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from prefect_calendly.digest.model import BUSY_KINDS, Digest
from prefect_calendly.runs.markdown import escape


def table_rows(digest: Digest) -> list[dict[str, Any]]:
    """Return the rows of the table artifact; times are in hours, and None is what could not be read."""
    titles = {uuid: escape(each.name) for uuid, each in digest.event_types.items()}
    rows = []
    for entry in digest.hosts:
        host = escape(entry.host.name)
        for day in entry.days:
            other = [length for kind, length in (day.busy or {}).items() if kind not in BUSY_KINDS]
            rows.append(
                {
                    "host": host,
                    "date": day.date.isoformat(),
                    "open_slots": day.open_slots if entry.is_complete or day.slots else None,
                    "working_hours": None if day.working is None else hours(day.working),
                    **{f"busy_{kind}": None if day.busy is None else hours(day.busy[kind]) for kind in BUSY_KINDS},
                    "busy_other": None if day.busy is None else hours(sum(other, timedelta())),
                    "by_event_type": ", ".join(
                        f"{titles[uuid]}: {count}" for uuid, count in day.slots.items() if count
                    ),
                    "complete": entry.is_complete,
                    "host_uuid": entry.host.uuid,
                }
            )
    return rows


def open_slots_of_table(data: Any) -> dict[str, dict[str, int]]:
    """Read a table artifact back.

    Args:
        data: Data of the artifact: rows, or JSON of them. Rows that are incomplete or malformed are left out.

    Returns:
        Open slots by host (uuid) and date (ISO 8601).
    """
    try:
        rows = json.loads(data) if isinstance(data, str) else data
    except ValueError:
        rows = []
    result: dict[str, dict[str, int]] = {}
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and row.get("complete") is True and isinstance(row.get("open_slots"), int):
            result.setdefault(str(row.get("host_uuid")), {})[str(row.get("date"))] = row["open_slots"]
    return result


def hours(length: timedelta) -> float:
    """Return a duration in hours, rounded to two decimals."""
    return round(length / timedelta(hours=1), 2)
