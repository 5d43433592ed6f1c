"""Comparing the rows of two tables of a read model, in bounded memory and by ranges of the primary key.

The server compares a digest of each row. Rows with another digest are read, and their values are compared as JSON, so
that a document that is only written in another way is the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from psycopg import sql

from domain.compare import same_json
from projections.support.table import DOCUMENT

# Rows of a table that are compared by one statement, and rows that are read at once.
RANGE, READ = 10_000, 25
_COLUMNS = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
_KEY = (
    "SELECT a.attname FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)"
    " WHERE i.indrelid = %s::regclass AND i.indisprimary ORDER BY array_position(i.indkey::int2[], a.attnum)"
)
_ABSENT = "(absent)"
Key = tuple[Any, ...]
# Called with how many rows of the first table were compared.
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that two tables do not have alike: it is `missing` in the second, `extra` there, or `different`.

    `columns` has the two values of each column that differs; of a document, those of each of its keys, `doc.status`.
    `tenant` is whose row it is, None if its tenant is what differs.
    """

    table: str
    key: Mapping[str, Any]
    kind: Literal["missing", "extra", "different"]
    columns: Mapping[str, tuple[Any, Any]]
    tenant: str | None = None


def count(conn: psycopg.Connection[Any], stem: str, of: str) -> int:
    """Return how many rows a table has."""
    row = conn.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(f"{stem}_{of}"))).fetchone()
    return int(row[0]) if row is not None else 0


def differences(
    conn: psycopg.Connection[Any],
    stem: str,
    first: str,
    second: str,
    marks: Collection[str] = (),
    progress: Progress = lambda _: None,
) -> Iterator[Difference]:
    """Compare the tables of a stem with two suffixes, in the order of the key; the caller has a snapshot of both.

    Columns that are `marks` are left out.
    """
    pair = _Pair(conn, stem, first, second, marks)
    after: Key | None = None
    compared = 0
    while True:
        last = pair.end_of_range(after)
        yield from pair.differing(after, last)
        if last is None:
            return
        after = last
        compared += RANGE
        progress(compared)


class _Pair:
    """Two tables with the same columns."""

    def __init__(
        self, conn: psycopg.Connection[Any], stem: str, first: str, second: str, marks: Collection[str]
    ) -> None:
        self._conn = conn
        self._stem = stem
        self._tables = [sql.Identifier(f"{stem}_{suffix}") for suffix in (first, second)]
        other = f"{stem}_{second}"
        self._key = [name for (name,) in conn.execute(_KEY, (other,))]
        self._columns = [name for (name,) in conn.execute(_COLUMNS, (other,)) if name not in marks]
        self._names = _names(self._key)

    def end_of_range(self, after: Key | None) -> Key | None:
        """Return the key that ends a range: none of the tables has more rows in it. None when it is the last one."""
        ends = [
            sql.SQL("(SELECT {key} FROM {table}{where} ORDER BY {key} OFFSET {size} LIMIT 1)").format(
                key=self._names, table=table, where=self._within(after, None), size=sql.Literal(RANGE - 1)
            )
            for table in self._tables
        ]
        asked = sql.SQL("SELECT {key} FROM ({ends}) AS q ORDER BY {key} LIMIT 1").format(
            key=self._names, ends=sql.SQL(" UNION ALL ").join(ends)
        )
        row: Key | None = self._conn.execute(asked).fetchone()
        return row

    def differing(self, after: Key | None, last: Key | None) -> Iterator[Difference]:
        """Compare the rows of a range."""
        digests = [
            sql.SQL("(SELECT {key}, hash_record_extended(ROW({columns}), 0) AS digest FROM {table}{where})").format(
                key=self._names, columns=_names(self._columns), table=table, where=self._within(after, last)
            )
            for table in self._tables
        ]
        asked = sql.SQL(
            "SELECT {key} FROM {one} AS a FULL JOIN {other} AS b USING ({key})"
            " WHERE a.digest IS DISTINCT FROM b.digest ORDER BY {key}"
        ).format(key=self._names, one=digests[0], other=digests[1])
        keys: list[Key] = self._conn.execute(asked).fetchall()
        for start in range(0, len(keys), READ):
            part = keys[start : start + READ]
            one, other = (self._rows(table, part) for table in self._tables)
            for key in part:
                found = self._difference(key, one.get(key), other.get(key))
                if found is not None:
                    yield found

    def _rows(self, table: sql.Identifier, keys: Sequence[Key]) -> dict[Key, dict[str, Any]]:
        asked = sql.SQL("SELECT {key}, to_jsonb(t) FROM {table} AS t WHERE ({key}) IN ({keys})").format(
            key=self._names, table=table, keys=sql.SQL(", ").join(_row(key) for key in keys)
        )
        return {tuple(key): values for *key, values in self._conn.execute(asked)}

    def _difference(
        self, key: Key, one: Mapping[str, Any] | None, other: Mapping[str, Any] | None
    ) -> Difference | None:
        named = dict(zip(self._key, key, strict=True))
        (tenant, *others) = {row["tenant"] for row in (one, other) if row is not None}
        owner = None if others else tenant
        if one is None or other is None:
            return Difference(self._stem, named, "extra" if one is None else "missing", {}, owner)
        columns: dict[str, tuple[Any, Any]] = {}
        for name in self._columns:
            before, after = one[name], other[name]
            if name == DOCUMENT:
                columns |= _of_document(json.loads(before), json.loads(after))
            elif not same_json(before, after):
                columns[name] = before, after
        return Difference(self._stem, named, "different", columns, owner) if columns else None

    def _within(self, after: Key | None, last: Key | None) -> sql.Composed:
        bounds = [
            sql.SQL("({key}) {operator} {value}").format(key=self._names, operator=operator, value=_row(key))
            for operator, key in ((sql.SQL(">"), after), (sql.SQL("<="), last))
            if key is not None
        ]
        return (sql.SQL(" WHERE ") if bounds else sql.SQL("")) + sql.SQL(" AND ").join(bounds)


def _of_document(before: Any, after: Any) -> dict[str, tuple[Any, Any]]:
    if not isinstance(before, dict) or not isinstance(after, dict):
        return {} if same_json(before, after) else {DOCUMENT: (before, after)}
    return {
        f"{DOCUMENT}.{name}": (before.get(name, _ABSENT), after.get(name, _ABSENT))
        for name in dict.fromkeys((*before, *after))
        if (name in before) != (name in after) or not same_json(before.get(name), after.get(name))
    }


def _row(key: Key) -> sql.Composed:
    return sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Literal, key)))


def _names(columns: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))
