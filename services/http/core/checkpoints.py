"""What was folded from the log before, from which folding goes on: the past of the same streams does not change.

So who moves through the past of an activity with ten thousand events reads and folds them once. Only long pasts are
kept, and of them as many as have their place; what is not kept is folded anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from projections.support.table import Key
from services.store.log import LogRow

# Events between two checkpoints, checkpoints of the same streams, the bytes of all of them, and those of one.
LEAST_EVENTS, MOST_OF_STREAMS, MOST_BYTES, MOST_OF_ONE = 200, 16, 32 << 20, 16 << 20
# What a row has in memory, as a multiple of its document.
_WEIGHT = 2

Rows = Mapping[Key, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Rows by read model as an event has left them, and their bytes."""

    event: LogRow
    rows: Mapping[str, Rows]
    size: int

    @property
    def position(self) -> int:
        """Return the position of the event."""
        return self.event.position

    def is_of(self, found: LogRow) -> bool:
        """Tell whether the log still has the event there; it has another one if it was restored from a backup."""
        same = (found.position, found.stream, found.version, found.recorded_at, found.state)
        own = self.event
        return same == (own.position, own.stream, own.version, own.recorded_at, own.state)


@dataclass(slots=True)
class Checkpoints:
    """Those of a process, by what they are of; what was used longest ago goes first."""

    _kept: OrderedDict[str, list[Checkpoint]] = field(default_factory=OrderedDict)
    size: int = 0

    def before(self, of: str, position: int, model: str) -> Checkpoint | None:
        """Return the last one up to a position that has the rows of a read model."""
        found = [each for each in self._kept.get(of, ()) if each.position <= position and model in each.rows]
        if not found:
            return None
        self._kept.move_to_end(of)
        return max(found, key=lambda each: each.position)

    def keep(self, of: str, event: LogRow, rows: Mapping[str, Rows], documents: int) -> None:
        """Keep what an event has left, whose documents have so many bytes; nothing may change it any more.

        What would take the place of most others is not kept.
        """
        size = _WEIGHT * documents + len(event.state)
        if size > MOST_OF_ONE:
            return
        made = Checkpoint(event, {name: dict(each) for name, each in rows.items()}, size)
        own = self._kept.setdefault(of, [])
        own.append(made)
        self.size += made.size
        if len(own) > MOST_OF_STREAMS:
            self.size -= own.pop(0).size
        self._kept.move_to_end(of)
        while self.size > MOST_BYTES:
            self.forget(next(iter(self._kept)))

    def forget(self, of: str) -> None:
        """Drop what is kept of something."""
        self.size -= sum(each.size for each in self._kept.pop(of, ()))
