"""What a claim about speed is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """One figure and its bound."""

    name: str
    ours: str
    """What we take, such as `1.31 s`."""
    floor: str
    """What the least that can be done takes, measured beside it in this run."""
    figure: float
    unit: str
    bound: float
    at_most: bool
    detail: str = ""

    @property
    def met(self) -> bool:
        """Whether the figure is on the right side of its bound."""
        return self.figure <= self.bound if self.at_most else self.figure >= self.bound

    @property
    def cells(self) -> tuple[str, ...]:
        """Its row of the table."""
        sign = "at most" if self.at_most else "at least"
        figure, bound = f"{self.figure:.3g} {self.unit}", f"{sign} {self.bound:g}"
        return self.name, self.ours, self.floor, figure, bound, "yes" if self.met else "NO"

    def __str__(self) -> str:
        name, ours, floor, figure, bound, met = self.cells
        return f"{name}: {figure} ({bound}: {met}); ours {ours}, floor {floor}; {self.detail}"


def table(claims: Sequence[Claim]) -> str:
    """Return all claims as a markdown table, which reads well in a terminal too."""
    rows = [("claim", "ours", "floor", "figure", "bound", "met"), *(claim.cells for claim in claims)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)
