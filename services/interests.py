"""Which events of a tenant a reader wants, and what an event is about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import msgspec

from domain.activity import STATUS_CATEGORY
from domain.streams import split_stream
from services.store import codec
from services.store.log import LogRow

# What events are filtered by, the most selective first.
Dimension = Literal["task", "activity", "member", "type"]
DIMENSIONS: tuple[Dimension, ...] = ("task", "activity", "member", "type")
Key = tuple[Dimension, str] | None


class _Named(msgspec.Struct):
    """What the data of an event says of the activity that it belongs to, and of members."""

    activity_id: Any = None
    assignees: Any = None
    old: Any = None
    runner: Any = None
    targets: Any = None


_decode = msgspec.json.Decoder(_Named).decode


class Subject:
    """What an event is about; it is read when something asks for it."""

    def __init__(self, row: LogRow) -> None:
        self._row = row
        self._category, self._id = split_stream(row.stream)[1:]

    def values(self, dimension: Dimension) -> frozenset[str]:
        """Return what an event is about in one respect."""
        match dimension:
            case "type":
                return frozenset((self._row.name,))
            case "task":
                return frozenset((self._id,)) if self._category == "task" else frozenset()
            case "activity":
                return self._activities
            case "member":
                return self._members

    @cached_property
    def _stored(self) -> codec.StoredState:
        return codec.raw(self._row.state, self._row.name)

    @cached_property
    def _named(self) -> _Named:
        return _decode(self._stored.data)

    @cached_property
    def _activities(self) -> frozenset[str]:
        if self._category in ("activity", STATUS_CATEGORY):
            return frozenset((self._id,))
        return frozenset(_texts(self._named.activity_id)) if self._category == "task" else frozenset()

    @cached_property
    def _members(self) -> frozenset[str]:
        """Return the member that acted, the one that is changed, and those that the event of a task names."""
        found = {self._stored.meta.actor}
        if self._category == "member":
            found.add(self._id)
        if self._category == "task":
            named = self._named
            for value in (named.assignees, named.old, named.runner):
                found.update(_texts(value))
            for target in named.targets if isinstance(named.targets, list) else ():
                found.update(_texts(target.get("user")) if isinstance(target, dict) else ())
        return frozenset(found)


def _texts(value: Any) -> Iterator[str]:
    for each in value if isinstance(value, list) else (value,):
        if isinstance(each, str):
            yield each


@dataclass(frozen=True, slots=True)
class Interest:
    """The events that a reader wants: of each respect that is given one of the values; without any, all."""

    wanted: tuple[tuple[Dimension, frozenset[str]], ...] = ()

    @property
    def keys(self) -> tuple[Key, ...]:
        """Return the keys that it is found by: an event that it admits has at least one of them."""
        for dimension in DIMENSIONS:
            for each, values in self.wanted:
                if each == dimension:
                    return tuple((dimension, value) for value in values)
        return (None,)

    @property
    def types(self) -> list[str] | None:
        """Return the types of the events that it admits, None for all."""
        return next((sorted(values) for dimension, values in self.wanted if dimension == "type"), None)

    def admits(self, subject: Subject) -> bool:
        """Tell whether an event is wanted."""
        return all(not values.isdisjoint(subject.values(dimension)) for dimension, values in self.wanted)
