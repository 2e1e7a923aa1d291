"""What a claim about speed is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """One figure and its bound."""

    name: str
    figure: float
    unit: str
    bound: float
    at_most: bool
    detail: str

    @property
    def met(self) -> bool:
        """Whether the figure is on the right side of its bound."""
        return self.figure <= self.bound if self.at_most else self.figure >= self.bound

    def __str__(self) -> str:
        sign = "at most" if self.at_most else "at least"
        verdict = "met" if self.met else "NOT MET"
        return f"{self.name:<42} {self.figure:8.3f} {self.unit:<8} {sign} {self.bound:g}: {verdict:<8} {self.detail}"
