"""Times on the wire: always aware, always UTC."""

from __future__ import annotations

from datetime import UTC, datetime


def utc(value: datetime, argument: str) -> datetime:
    """Check that a time is aware, and return it in UTC.

    Args:
        value: An aware datetime, in any zone.
        argument: The caller's argument, for the error text.

    Returns:
        The same instant in UTC.

    Raises:
        ValueError: It is naive, or no datetime.
    """
    if not isinstance(value, datetime):
        raise ValueError(f"{argument} must be an aware datetime, not {type(value).__name__}")
    if value.tzinfo is None or value.utcoffset() is None:
        raise ValueError(f"{argument} must be an aware datetime: give it a time zone, such as tzinfo=UTC")
    return value.astimezone(UTC)


def wire_time(value: datetime | None, argument: str) -> str | None:
    """Return an aware time as Calendly wants it (`2026-01-02T03:04:05.678000Z`); None stays None."""
    return None if value is None else utc(value, argument).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
