"""Why a good delivery cannot be taken now, so that Calendly has to deliver it again."""

from __future__ import annotations

from typing import ClassVar


class NotTakenError(Exception):
    """A delivery that cannot be taken now; the text shows nothing of the delivery."""

    reason: ClassVar[str] = "not_taken"
    """One word, for counting."""


class NoKeyError(NotTakenError):
    """There is no signing key yet."""

    reason = "no_key"


class BusyError(NotTakenError):
    """Too many deliveries are waiting already."""

    reason = "busy"


class StoreUnavailableError(NotTakenError):
    """The store does not answer."""

    reason = "store_unavailable"


class PrefectUnavailableError(NotTakenError):
    """Prefect does not answer."""

    reason = "prefect_unavailable"


class PrefectRefusedError(NotTakenError):
    """Prefect does not take this event."""

    reason = "prefect_refused"
