"""Requests that are refused: why, and how they are logged."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger(__name__)


class Rejection(Exception):
    """A request that is refused.

    Args:
        status: HTTP status.
        reason: One word, for counting.
        text: What the sender is told.
        headers: Further headers of the answer.
    """

    def __init__(self, status: int, reason: str, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})


class RefusalLog:
    """Logs refusals, at most one a second for each reason: many bad requests must not fill the disk."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def refused(self, reason: str, status: int, text: str) -> None:
        """Log a refusal, or count it for the next line of its reason."""
        now = time.monotonic()
        if now < self._next.get(reason, 0.0):
            self._left_out[reason] = self._left_out.get(reason, 0) + 1
            return
        self._next[reason] = now + 1
        fields: dict[str, Any] = {"reason": reason, "status": status}
        if left_out := self._left_out.pop(reason, 0):
            fields["more_before"] = left_out
        logger.warning("refused: %s", text, extra={"fields": fields})
