"""A read model's table: the statements that read and write its rows, and values in the form that a column holds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from domain.compare import name_key, text_key
from projections.statement import Query
from projections.support.time import stamp

# Of a text in an index. No text that a command may hold has more in the form that it is compared by.
MAX_INDEXED_BYTES = 2400
Key = tuple[str, ...]
# The column that holds a row's whole document, as JSON.
DOCUMENT = "doc"
_PLAIN = frozenset({"bigint", "boolean", "float", "integer"})
# When something was completed that is not, so that what was completed last is last.
NOT_DONE = "-infinity"
# Documents travel as one text, and no JSON holds this; to quote all their quotes, as an array has it, costs both sides.
_BETWEEN = "\x1e"


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
        taken = ", ".join(f"{name}::{kind}" if kind.endswith("[]") else name for name, kind in self.columns.items())
        changed = ", ".join(f"{name} = EXCLUDED.{name}" for name in self.columns if name not in self.key)
        names = ", ".join(self.columns)
        only = " WHERE t.position < EXCLUDED.position" if self.ordered else ""
        return (
            f"INSERT INTO {self.stem}_{suffix} AS t ({names}) SELECT {taken} FROM {self._unnested()}"  # noqa: S608
            f" ON CONFLICT ({', '.join(self.key)}) DO UPDATE SET {changed}{only}"
        )

    def shadow(self, rows: Sequence[Sequence[Any]]) -> Query:
        """Return the part of a WITH clause that puts these rows in the place of those of the table's view."""
        # As in the tables, whose texts are compared byte by byte.
        taken = ", ".join(
            f'{name}::{kind} COLLATE "C" AS {name}'
            if kind.startswith("text") and name != DOCUMENT
            else f"{name}::{kind} AS {name}"
            for name, kind in self.columns.items()
        )
        # Without any row there is nothing to make arrays of.
        source = f"SELECT {taken} FROM {self._unnested()}" if rows else f"SELECT * FROM {self.stem} WHERE FALSE"  # noqa: S608
        values = self.arrays(rows) if rows else ()
        return Query(f"{self.stem} AS ({source})", tuple(values))

    def _unnested(self) -> str:
        # An array of arrays must be rectangular, so lists travel as text.
        carried = {name: "text" if kind.endswith("[]") else kind for name, kind in self.columns.items()}
        arrays = ", ".join(
            f"string_to_array(%s, chr({ord(_BETWEEN)}))" if name == DOCUMENT else f"%s::{kind}[]"
            for name, kind in carried.items()
        )
        return f"unnest({arrays}) AS n ({', '.join(self.columns)})"

    def delete(self, suffix: str) -> str:
        """Return the statement that deletes rows by key, one array a column of the key."""
        names = ", ".join(self.key)
        match = " AND ".join(f"t.{name} = k.{name}" for name in self.key)
        arrays = ", ".join(["%s::text[]"] * len(self.key))
        return f"DELETE FROM {self.stem}_{suffix} AS t USING unnest({arrays}) AS k ({names}) WHERE {match}"  # noqa: S608

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
    parts = {name: f"(tenant, {name}_at, id)" for name in ("created", "updated", "start", "end", "done")}
    parts["title"] = "(tenant, title_key, id)"
    parts |= {name: f"(tenant, {name}, created_at, id)" for name in ("status", *own)}
    parts |= {name: f"(tenant, {name}, created_at, id) WHERE {name} IS NOT NULL" for name in optional}
    parts |= {name.lower().replace(" ", "_"): f"(tenant, created_at, id) WHERE {name}" for name in marked}
    parts["assignees"] = "USING gin (assignees)"
    parts["grams"] = "USING gin (grams) WHERE grams IS NOT NULL"
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
