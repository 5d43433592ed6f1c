"""Rows that follow from an entity's document: any number of them, under any keys, in a table beside the documents'.

An event names what it changes, and seldom all that a row shows: `task.completed` does not name the task's people. So an
entity's events are folded into its document, and its rows are a function of that. A row belongs to one entity, whose id
is a part of its key; what several entities contribute to is summed up by the query. So an event that is read again
changes nothing, and an entity whose events come late keeps no other entity's rows waiting, nor changes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import psycopg

from projections.support.table import Key, Table, array

D = TypeVar("D")


class Rows(Generic[D]):
    """Keeps the rows of documents as the documents change; what stays the same is not written.

    `of(key, document)` gives the rows of a document, each with the values of all columns, those of the table's key
    first. When a row is new or changed, `channel` is notified.
    """

    def __init__(
        self, table: Table, suffix: str, of: Callable[[Key, D], Iterable[Sequence[Any]]], channel: str = ""
    ) -> None:
        if tuple(table.columns)[: len(table.key)] != table.key or set(table.key) == set(table.columns):
            raise ValueError(f"the columns of {table.stem} begin with its key, and others follow")
        self._table = table
        self._upsert = table.upsert(suffix)
        self._delete = table.delete(suffix)
        self._of = of
        self._channel = channel
        self._gone: list[Key] = []
        self._new: list[Sequence[Any]] = []

    def forget(self) -> None:
        """Drop the changes that were not written."""
        self._gone, self._new = [], []

    def by_key(self, key: Key, document: D) -> Mapping[Key, Sequence[Any]]:
        """Return the rows of a document by their keys."""
        size = len(self._table.key)
        return {tuple(row[:size]): row for row in self._of(key, document)}

    def change(self, before: Mapping[Key, Sequence[Any]], after: Mapping[Key, Sequence[Any]]) -> None:
        """Note how the rows of one document changed."""
        self._gone += [key for key in before if key not in after]
        self._new += [row for key, row in after.items() if before.get(key) != row]

    def write(self, conn: psycopg.Connection[Any]) -> None:
        """Write the changes that were noted."""
        gone, new = self._gone, self._new
        self.forget()
        if gone:
            conn.execute(self._delete, [array(part) for part in zip(*gone, strict=True)], prepare=True)
        if new:
            conn.execute(self._upsert, self._table.arrays(new), prepare=True)
            if self._channel:
                conn.execute(f"NOTIFY {self._channel}")
