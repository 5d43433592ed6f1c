"""Tables of documents that are folded from the log: one load and one upsert for each batch, pure folding in between.

Documents stay in memory from batch to batch only while the batches follow one another without a gap; whoever feeds a
projection calls `forget` when they do not, since another process may have worked in between.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Generic, TypeVar

import psycopg

from domain.compare import name_key, text_key
from domain.recorded import Recorded
from projections.support.time import stamp

D = TypeVar("D")
Key = tuple[str, ...]


# Of a text in an index. No text that a command may hold has more in the form that it is compared by.
MAX_INDEXED_BYTES = 2400
# Of the documents that are read, and of those that are written, by one statement: it ends with the one beyond it.
MAX_STATEMENT_BYTES = 16 * 1024 * 1024
# Of the documents kept from batch to batch, for each of as many as may be kept.
_MAX_KEPT_BYTES = 8 * 1024
# The column that holds a row's whole document, as JSON.
DOCUMENT = "doc"
_PLAIN = frozenset({"bigint", "boolean"})
# Documents travel as one text, and no JSON holds this; to quote all their quotes, as an array has it, costs both sides.
_BETWEEN = "\x1e"


class MissingDocument(Exception):
    """An event changes a document that its first event never made, so the log is not the one that was read before."""


@dataclass(frozen=True, slots=True)
class Table:
    """A read model's table: its stem, the columns of its key (all text), and all columns with their types in order."""

    stem: str
    key: tuple[str, ...]
    columns: Mapping[str, str]

    @classmethod
    def of(cls, ddl: str, key: tuple[str, ...]) -> Table:
        """Return the table that a statement creates, a column a line."""
        stem = re.search(r"CREATE TABLE (\w+)_\{suffix\}", ddl)
        if stem is None:
            raise ValueError("a table's name ends with its suffix")
        return cls(stem[1], key, dict(re.findall(r"^ {4}([a-z_]+) +([a-z]+(?:\[\])?)", ddl, re.MULTILINE)))

    def upsert(self, suffix: str) -> str:
        """Return the statement that writes rows given as one array a column; a text[] travels as its literal."""
        # An array of arrays must be rectangular, so lists travel as text.
        carried = {name: "text" if kind.endswith("[]") else kind for name, kind in self.columns.items()}
        taken = ", ".join(f"{name}::{kind}" if kind.endswith("[]") else name for name, kind in self.columns.items())
        arrays = ", ".join(
            f"string_to_array(%s, chr({ord(_BETWEEN)}))" if name == DOCUMENT else f"%s::{kind}[]"
            for name, kind in carried.items()
        )
        changed = ", ".join(f"{name} = EXCLUDED.{name}" for name in self.columns if name not in self.key)
        names = ", ".join(self.columns)
        only = " WHERE t.position < EXCLUDED.position" if self.ordered else ""
        return (
            f"INSERT INTO {self.stem}_{suffix} AS t ({names}) SELECT {taken} FROM unnest({arrays}) AS n ({names})"  # noqa: S608
            f" ON CONFLICT ({', '.join(self.key)}) DO UPDATE SET {changed}{only}"
        )

    @property
    def ordered(self) -> bool:
        """Tell whether rows know how far they are folded, so that none is ever replaced by an older one."""
        return "position" in self.columns and "position" not in self.key

    def arrays(self, rows: Sequence[Sequence[Any]]) -> list[str | None]:
        """Return the statement's values: one array a column."""
        columns = zip(self.columns.items(), zip(*rows, strict=True), strict=True)
        return [_array_of(name, kind, values) for (name, kind), values in columns]

    def load(self, suffix: str) -> str:
        """Return the statement that reads documents by key, one array a column of the key."""
        names = ", ".join(self.key)
        match = " AND ".join(f"t.{name} = k.{name}" for name in self.key)
        keys = ", ".join(f"k.{name}" for name in self.key)
        # OFFSET keeps the planner from a hash of the whole table, which it may choose before the table is analysed.
        return (
            f"SELECT {keys}, d.doc FROM unnest({', '.join(['%s::text[]'] * len(self.key))}) AS k ({names})"  # noqa: S608
            f" CROSS JOIN LATERAL (SELECT t.doc FROM {self.stem}_{suffix} AS t WHERE {match} OFFSET 0) AS d"
        )

    def load_bounded(self, suffix: str) -> str:
        """Return `load` with one more value, bytes: beyond so many of them documents are null, to be read later."""
        names = ", ".join(self.key)
        # The size of a document is known without reading it.
        return (
            f"SELECT {names}, CASE WHEN size - octet_length(doc) < %s THEN doc END FROM ("  # noqa: S608
            f"SELECT *, sum(octet_length(doc)) OVER (ROWS UNBOUNDED PRECEDING) AS size FROM ({self.load(suffix)}) AS l"
            ") AS s"
        )


def listing_indexes(stem: str, *, own: Sequence[str], optional: Sequence[str], marked: Sequence[str]) -> str:
    """Return the indexes of a table of documents that are listed: each filter in the order of the default sort.

    `optional` columns may hold NULL and `marked` are conditions that few rows fulfil: rows beside them cost nothing.
    """
    table = f"{stem}_{{suffix}}"
    parts = {name: f"(tenant, {name}_at, id)" for name in ("created", "updated", "start", "end")}
    parts |= {name: f"(tenant, {name}, created_at, id)" for name in ("status", *own)}
    parts |= {name: f"(tenant, {name}, created_at, id) WHERE {name} IS NOT NULL" for name in optional}
    parts |= {name.lower().replace(" ", "_"): f"(tenant, created_at, id) WHERE {name}" for name in marked}
    parts["assignees"] = "USING gin (assignees)"
    return ";\n".join(f"CREATE INDEX IF NOT EXISTS {table}_{name}_idx ON {table} {on}" for name, on in parts.items())


def _array_of(name: str, kind: str, values: Sequence[Any]) -> str | None:
    if name == DOCUMENT:
        return _BETWEEN.join(values)
    if values[0] is None and values.count(None) == len(values):
        # What no row has travels as no array at all, which `unnest` fills up with nulls.
        return None
    return plain_array(values) if kind in _PLAIN else array(values)


def array(values: Iterable[str | None]) -> str:
    """Return the literal of a one-dimensional array of texts, which hold no NUL; None becomes a null."""
    # A NUL marks what stands between texts until quotes are escaped, all of it in a few passes over one string.
    marked = ["\0N" if value is None else value for value in values]
    if not marked:
        return "{}"
    escaped = "\0,".join(marked).replace("\\", "\\\\").replace('"', '\\"')
    quoted = '"' + escaped.replace("\0,", '","') + '"'
    return "{" + quoted.replace('"\0N"', "NULL") + "}"


def plain_array(values: Iterable[object]) -> str:
    """Return the literal of an array of numbers or flags; None becomes a null."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


@lru_cache(maxsize=4096)
def instant(text: str | None) -> str:
    """Return a caller's time as a sortable column holds it; what has none sorts last."""
    return "infinity" if text is None else stamp(datetime.fromisoformat(text).astimezone(UTC))


def indexed(text: str) -> str:
    """Return a text as an index can hold it: all of what commands may hold today, else its first bytes.

    An index row has at most 2,704 bytes; beside the text it holds a tenant, an id and a time.
    """
    if len(text) * 4 <= MAX_INDEXED_BYTES:
        return text
    encoded = text.encode()
    return text if len(encoded) <= MAX_INDEXED_BYTES else encoded[:MAX_INDEXED_BYTES].decode(errors="ignore")


def title_key(title: str | None) -> str:
    """Return what titles are sorted and searched by."""
    return indexed(name_key(title)) if title is not None else ""


def held(tenant: str, name: str) -> str:
    """Return a role or a member as the index over a list of them holds it."""
    return f"{tenant}/{indexed(text_key(name))}"


class Documents(Generic[D]):
    """Folds events into one table. `fold(document, event)` may change the document that it is given.

    `key_of(event)` names the document that an event belongs to; `row(key, document)` gives the columns' values.
    """

    def __init__(
        self,
        table: Table,
        suffix: str,
        *,
        key_of: Callable[[Recorded], Key | None],
        fold: Callable[[D | None, Recorded], D | None],
        decode: Callable[[str], D],
        row: Callable[[Key, D], Sequence[Any]],
        keep: int = 4096,
    ) -> None:
        self._table = table
        self._upsert = table.upsert(suffix)
        self._load = table.load_bounded(suffix)
        self._document = list(table.columns).index(DOCUMENT)
        self._key_of = key_of
        self._fold = fold
        self._decode = decode
        self._row = row
        self._keep = keep
        # Each with its size.
        self._kept: dict[Key, tuple[D, int]] = {}
        self._kept_bytes = 0

    def forget(self) -> None:
        """Drop what is kept in memory."""
        self._kept.clear()
        self._kept_bytes = 0

    def project(self, conn: psycopg.Connection[Any], batch: Sequence[Recorded]) -> None:
        """Fold a batch in the caller's transaction; repeating a batch changes nothing."""
        waiting: dict[Key, list[Recorded]] = {}
        for event in batch:
            key = self._key_of(event)
            if key is not None:
                waiting.setdefault(key, []).append(event)
        while waiting:
            waiting = self._part(conn, waiting)

    def _part(self, conn: psycopg.Connection[Any], waiting: dict[Key, list[Recorded]]) -> dict[Key, list[Recorded]]:
        """Fold as many documents as one statement may read; return the events of the others."""
        touched = {key: self._take(key) or self._begun(events[0]) for key, events in waiting.items()}
        left = self._read(conn, touched)
        fold = self._fold
        rows: list[Sequence[Any]] = []
        size = 0
        for key, events in waiting.items():
            if key in left:
                continue
            document = touched.pop(key)
            for event in events:
                document = fold(document, event)
            if document is None:
                continue
            rows.append(self._row(key, document))
            written = len(rows[-1][self._document])
            self._kept[key] = document, written
            self._kept_bytes += written
            size += written
            if size >= MAX_STATEMENT_BYTES:
                self._write(conn, rows)
                rows, size = [], 0
        self._write(conn, rows)
        return {key: events for key, events in waiting.items() if key in left}

    def _write(self, conn: psycopg.Connection[Any], rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            conn.execute(self._upsert, self._table.arrays(rows), prepare=True)
        self._evict()

    def _take(self, key: Key) -> D | None:
        document, size = self._kept.pop(key, (None, 0))
        self._kept_bytes -= size
        return document

    def _evict(self) -> None:
        count, size = len(self._kept), self._kept_bytes
        evicted: list[Key] = []
        for key, (_, each) in self._kept.items():
            if count <= self._keep and size <= self._keep * _MAX_KEPT_BYTES:
                break
            evicted.append(key)
            count, size = count - 1, size - each
        for key in evicted:
            del self._kept[key]
        self._kept_bytes = size

    def _begun(self, event: Recorded) -> D | None:
        """Return the document that begins with an event, so that nobody looks for it; None when it may be there."""
        if event.version != 1 or not self._table.ordered:
            return None
        try:
            return self._fold(None, event)
        except MissingDocument:
            return None

    def _read(self, conn: psycopg.Connection[Any], touched: dict[Key, D | None]) -> set[Key]:
        """Read the documents that are not there yet; return the keys of those that have to wait."""
        missing = [key for key, document in touched.items() if document is None]
        left: set[Key] = set()
        if not missing:
            return left
        # Not prepared: a plan made for a small table would be kept while the table grows.
        parameters = [MAX_STATEMENT_BYTES, *(array(part) for part in zip(*missing, strict=True))]
        for *key, doc in conn.execute(self._load, parameters, prepare=False):
            if doc is None:
                left.add(tuple(key))
            else:
                touched[tuple(key)] = self._decode(doc)
        return left
