"""How often and after which pauses a request is repeated."""

from __future__ import annotations

import random
from typing import Final

from prefect_calendly.client.errors import CalendlyError, NetworkError

ATTEMPTS: Final = 4
WRITE_ATTEMPTS: Final = 3
LATE_LOOKS: Final = 4
FIRST_BACKOFF_SECONDS: Final = 0.5
LONGEST_BACKOFF_SECONDS: Final = 20.0
# A limit that tells no time opens at some moment: it is looked for often enough to lose little of what it allows.
LONGEST_LIMITED_BACKOFF_SECONDS: Final = 5.0


def backoff(failures: int, longest: float = LONGEST_BACKOFF_SECONDS) -> float:
    """Seconds before the next attempt: doubling, with full jitter, so that many callers do not come back together."""
    longest = min(longest, FIRST_BACKOFF_SECONDS * 2 ** (failures - 1))
    return float(random.uniform(0.1, 1.0) * longest)  # noqa: S311


def never_sent(error: CalendlyError) -> bool:
    """Whether a request surely did not leave this machine."""
    return isinstance(error, NetworkError) and not error.maybe_sent


def is_redirect(error: CalendlyError) -> bool:
    """Whether an error is a refused redirect, which no repetition helps."""
    return error.status is not None and 300 <= error.status < 400
