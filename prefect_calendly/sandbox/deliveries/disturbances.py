"""What can go wrong with deliveries on request, and with which of them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

DISTURBANCES = ("duplicate", "reorder", "drop", "bad_signature", "stale")


@dataclass(slots=True)
class Disturbance:
    """Which deliveries are disturbed: the next `count`, or a `share` of all."""

    count: int = 0
    share: float = 0.0

    @classmethod
    def parse(cls, name: str, value: Any) -> Disturbance:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return cls(count=value)
        if isinstance(value, float) and 0 <= value <= 1:
            return cls(share=value)
        raise ValueError(
            f"{name} must be an integer (the number of deliveries, from the next on)"
            " or a fraction from 0.0 to 1.0 (a share of all)"
        )

    def hits(self, random_: random.Random) -> bool:
        """Whether it hits the delivery at hand; uses up one of `count`."""
        if self.count:
            self.count -= 1
            return True
        return self.share > 0 and random_.random() < self.share

    @property
    def value(self) -> int | float:
        return self.count or self.share
