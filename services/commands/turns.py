"""Which delivery is next: tenants in turn, each by the bytes that its commands cost, and each in order of arrival."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

# So many tenants are remembered although nothing of theirs waits, and about twice as many until they are sorted out.
_MAX_IDLE = 1000


class Waiting(Protocol):
    """What waits for its turn. What was `redelivered` is not taken together with what was not."""

    @property
    def tenant(self) -> str: ...

    @property
    def weight(self) -> int: ...

    @property
    def redelivered(self) -> bool: ...


T = TypeVar("T", bound=Waiting)


@dataclass(slots=True, eq=False)
class _Line(Generic[T]):
    waiting: deque[T] = field(default_factory=deque)
    spent: float = 0.0
    # Of its entry in the heap, since older entries of it may still be there.
    ticket: int = 0


class Turns(Generic[T]):
    """Queues of tenants; the next one is that of the tenant that has spent the least.

    A tenant for which nothing waited begins with what the one served last has spent: time off is not saved up.
    """

    def __init__(self) -> None:
        self._lines: dict[str, _Line[T]] = {}
        self._heap: list[tuple[float, int, _Line[T]]] = []
        self._tickets = itertools.count(1)
        self._now = 0.0
        self._size = 0
        self._most = 2 * _MAX_IDLE

    @property
    def tenants(self) -> int:
        """How many tenants are remembered."""
        return len(self._lines)

    def __len__(self) -> int:
        return self._size

    def add(self, item: T) -> None:
        """Let an item wait behind the others of its tenant."""
        line = self._line(item.tenant)
        line.waiting.append(item)
        self._size += 1
        if len(line.waiting) == 1:
            line.spent = max(line.spent, self._now)
            self._enter(line)

    def put_back(self, items: Sequence[T]) -> None:
        """Let items that were taken wait before the others of their tenants, in their order."""
        for item in reversed(items):
            line = self._line(item.tenant)
            line.waiting.appendleft(item)
            line.spent -= item.weight
            self._size += 1
            self._enter(line)

    def charge(self, tenant: str, cost: int) -> None:
        """Let a tenant have spent more than its commands showed."""
        self._line(tenant).spent += cost

    def take(self, most: int, size: int) -> list[T]:
        """Return up to `most` items in turn, the last of which fills `size` bytes."""
        taken: list[T] = []
        others: list[_Line[T]] = []
        while len(taken) < most and size > 0 and (line := self._next()) is not None:
            item = line.waiting[0]
            if taken and item.redelivered != taken[0].redelivered:
                others.append(line)
                continue
            line.waiting.popleft()
            self._size -= 1
            self._now = max(self._now, line.spent)
            line.spent += item.weight
            size -= item.weight
            taken.append(item)
            if line.waiting:
                self._enter(line)
        for line in others:
            self._enter(line)
        return taken

    def first(self, most: int) -> Iterator[T]:
        """Return about as many items as are taken next, without taking them."""
        busy = [line for line in self._lines.values() if line.waiting]
        for line in busy[:most]:
            yield from itertools.islice(line.waiting, max(1, most // len(busy)))

    def clear(self) -> list[T]:
        """Take everything."""
        everything = [item for line in self._lines.values() for item in line.waiting]
        self._lines.clear()
        self._heap.clear()
        self._size = 0
        return everything

    def _line(self, tenant: str) -> _Line[T]:
        line = self._lines.get(tenant)
        if line is None:
            if len(self._lines) >= self._most:
                self._forget_idle()
                self._most = 2 * max(_MAX_IDLE, len(self._lines))
            line = self._lines[tenant] = _Line()
        return line

    def _forget_idle(self) -> None:
        """Forget those who would begin anew anyway, and of the others those who have spent the least."""
        idle = sorted((line.spent, tenant) for tenant, line in self._lines.items() if not line.waiting)
        for number, (spent, tenant) in enumerate(idle):
            if spent > self._now and number >= len(idle) - _MAX_IDLE:
                break
            del self._lines[tenant]

    def _enter(self, line: _Line[T]) -> None:
        line.ticket = next(self._tickets)
        heapq.heappush(self._heap, (line.spent, line.ticket, line))

    def _next(self) -> _Line[T] | None:
        """Take the line whose turn it is out of the heap."""
        while self._heap:
            spent, ticket, line = heapq.heappop(self._heap)
            if ticket != line.ticket or not line.waiting:
                continue
            if spent >= line.spent:
                return line
            # It was charged since it has entered.
            self._enter(line)
        return None
