"""A worker's cache between batches, bounded by an estimate of its bytes in memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from projections.support.weight import weight

# What `weight` counts too much for a value that is shared by all states.
_NOTHING = 64
# Of an entry beside its value.
_OVERHEAD = 256
# A value that has grown by more than its own size and so many bytes is measured again, since events replace what was.
_SLACK = 4096

_encode = msgspec.json.Encoder().encode


def measured(value: Any) -> int:
    """Estimate the bytes of a value in memory; a state consists of nothing for the most part, which takes none."""
    try:
        text = _encode(value)
        # A text may say `null` too, so it is no less than its length.
        nothing = text.count(b"null") + text.count(b"[]") + text.count(b"false")
        return max(len(text), weight(text) - _NOTHING * nothing)
    except (TypeError, ValueError, msgspec.MsgspecError):
        return 4 * len(repr(value))


class Memory:
    """A cache in two generations: when the young one is full it replaces the old one, without bookkeeping per use.

    Each has half of `size` bytes; a value that is larger is not kept.
    """

    def __init__(self, size: int) -> None:
        self._most = size // 2
        # (value, its weight, its weight when it was measured).
        self._young: dict[Any, tuple[Any, int, int]] = {}
        self._old: dict[Any, tuple[Any, int, int]] = {}
        self._filled = 0

    def get(self, key: Any) -> Any:
        found = self._young.get(key)
        if found is None and self._old:
            found = self._old.get(key)
            if found is not None:
                self._keep(key, found)
        return found[0] if found is not None else None

    def put(self, key: Any, value: Any, grown: int | None = None) -> None:
        """Keep a value; `grown` is at most how much larger it is than the one before, if that is known."""
        known = self._young.get(key) or self._old.get(key)
        if grown is not None and known is not None and known[1] + grown <= 2 * known[2] + _SLACK:
            self._keep(key, (value, known[1] + grown, known[2]))
        else:
            size = _OVERHEAD + measured(value)
            self._keep(key, (value, size, size))

    def drop(self, keys: Iterable[Any]) -> None:
        for key in keys:
            self._take(key)
            self._old.pop(key, None)

    def clear(self) -> None:
        self._young, self._old, self._filled = {}, {}, 0

    def _keep(self, key: Any, entry: tuple[Any, int, int]) -> None:
        self._take(key)
        if entry[1] > self._most:
            self._old.pop(key, None)
            return
        if self._filled + entry[1] > self._most:
            self._old, self._young, self._filled = self._young, {}, 0
        self._young[key] = entry
        self._filled += entry[1]

    def _take(self, key: Any) -> None:
        found = self._young.pop(key, None)
        if found is not None:
            self._filled -= found[1]
