"""A worker's cache between batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class Memory:
    """A cache in two generations: when the young one is full it replaces the old one, without bookkeeping per entry."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[Any, Any] = {}
        self._old: dict[Any, Any] = {}

    def get(self, key: Any) -> Any:
        found = self._young.get(key)
        if found is None and self._old:
            found = self._old.get(key)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: Any, value: Any) -> None:
        if len(self._young) >= self._size:
            self._old, self._young = self._young, {}
        self._young[key] = value

    def drop(self, keys: Iterable[Any]) -> None:
        for key in keys:
            self._young.pop(key, None)
            self._old.pop(key, None)

    def clear(self) -> None:
        self._young, self._old = {}, {}
