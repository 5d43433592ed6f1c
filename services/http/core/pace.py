"""How fast the commands of a bulk are sent: all that may be under way, so many a second, or ever more of them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

ALL, RAMP = "all", "ramp"
# Commands per second of a ramp, each for a second; it stays at the last one.
STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
MAX_RATE = 1000
_NUMBER = re.compile(r"[1-9][0-9]{0,3}\Z")
# Parts of a second in which a number per second is sent.
_PARTS = 10


def is_rate(text: str) -> bool:
    """Tell whether a text is `all`, `ramp` or a whole number per second."""
    return text in (ALL, RAMP) or (_NUMBER.match(text) is not None and int(text) <= MAX_RATE)


@dataclass(slots=True)
class Pace:
    """The pace of one bulk from `at` on, by a clock of seconds; `most` commands may be under way."""

    steps: Sequence[float]
    most: int
    at: float
    _step: int = 0
    _sent: int = 0

    @classmethod
    def of(cls, rate: str, most: int, now: float) -> Pace:
        """Return the pace of a rate."""
        steps = {ALL: (math.inf,), RAMP: STEPS}.get(rate)
        return cls((float(rate),) if steps is None else steps, most, now)

    @property
    def count(self) -> int:
        """Return how many commands are sent at `at`."""
        rate = self.steps[self._step]
        if rate == math.inf:
            return self.most
        left = int(rate) - self._sent if self._step + 1 < len(self.steps) else self.most
        return min(self.most, max(1, int(rate) // _PARTS), left)

    def sent(self, count: int, now: float) -> None:
        """Count what was sent at `now`. What could not be sent in time is not made up for."""
        rate = self.steps[self._step]
        self.at = max(self.at, now) + count / rate
        self._sent += count
        if self._step + 1 < len(self.steps) and self._sent >= rate:
            self._step, self._sent = self._step + 1, 0
