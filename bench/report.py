"""The figures of a run as one table, with each first goal and whether it is met, or as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

HEADER = ("measure", "unit", "figure", "against", "its figure", "ratio", "goal", "met")


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound of the ratio, or of the figure itself when there is nothing to compare with."""

    bound: float
    at_least: bool
    unit: str = "×"  # noqa: RUF001

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g} {self.unit}".rstrip()

    def met(self, value: float) -> bool:
        """Tell whether a value keeps the bound."""
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass
class Row:
    """One measure: a value for each round, those of what it is compared with, and the ratios inside each round."""

    measure: str
    unit: str
    values: list[float] = field(default_factory=list)
    against: str = ""
    others: list[float] = field(default_factory=list)
    goal: Goal | None = None
    # How a value and the other make a ratio; their quotient, unless it is the cost that is compared.
    ratio: Callable[[float, float], float] = lambda value, other: value / other
    note: str = ""

    @property
    def ratios(self) -> list[float]:
        """Return the ratio of each round that has both figures."""
        return [self.ratio(value, other) for value, other in zip(self.values, self.others, strict=False) if other]

    @property
    def met(self) -> bool | None:
        """Tell whether the goal is met; None without a goal or without a figure."""
        found = self.ratios if self.against else self.values
        return self.goal.met(statistics.median(found)) if self.goal is not None and found else None


class Report:
    """Rows in the order in which they were begun, and the runs that failed their check."""

    def __init__(self, about: Mapping[str, str]) -> None:
        self.about = dict(about)
        self.rows: dict[str, Row] = {}
        self.failures: list[str] = []

    def row(self, measure: str, unit: str, against: str = "", goal: Goal | None = None, **rest: Any) -> Row:
        """Return the row of a measure, begun when it is named first."""
        return self.rows.setdefault(measure, Row(measure, unit, against=against, goal=goal, **rest))

    def as_json(self) -> dict[str, Any]:
        """Return everything, every round's value included."""
        return {
            "about": self.about,
            "measures": [
                {
                    "measure": row.measure,
                    "unit": row.unit,
                    "median": _median(row.values),
                    "values": row.values,
                    "against": row.against or None,
                    "other_values": row.others,
                    "ratios": row.ratios,
                    "ratio": _median(row.ratios),
                    "goal": str(row.goal) if row.goal else None,
                    "met": row.met,
                    "note": row.note or None,
                }
                for row in self.rows.values()
            ],
            "failures": self.failures,
        }

    def as_table(self) -> str:
        """Return a Markdown table, and below it what it was measured on."""
        lines = [_line(HEADER), _line(["---"] * len(HEADER))]
        lines += [_line(_cells(row)) for row in self.rows.values()]
        lines += ["", *(f"{name}: {value}  " for name, value in self.about.items())]
        lines += [f"{row.measure}: {row.note}  " for row in self.rows.values() if row.note]
        lines += [f"no figure: {failure}  " for failure in self.failures]
        return "\n".join(lines)


def _cells(row: Row) -> Iterable[str]:
    met = row.met
    yield row.measure
    yield row.unit
    yield spread(row.values)
    yield row.against
    yield spread(row.others) if row.against else ""
    yield spread(row.ratios) if row.against else ""
    yield str(row.goal) if row.goal else ""
    yield "" if row.goal is None else "?" if met is None else "yes" if met else "no"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def spread(values: Sequence[float]) -> str:
    """Return the median with the least and the most."""
    if not values:
        return "-"
    middle = shown(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({shown(min(values))} to {shown(max(values))})"


def shown(value: float) -> str:
    """Return a number with three digits that mean something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
