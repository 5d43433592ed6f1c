"""Tables of documents that are folded from the log: one load and one upsert for each batch, pure folding in between.

Documents stay in memory from batch to batch only while the batches follow one another without a gap; whoever feeds a
projection calls `forget` when they do not, since another process may have worked in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import psycopg

from domain.recorded import Recorded
from projections.statement import Query
from projections.support.rows import Rows
from projections.support.table import DOCUMENT, Key, Table, array
from projections.support.weight import weight

D = TypeVar("D")

# Of the documents that are read, and of those that are written, by one statement: it ends with the one beyond it.
MAX_STATEMENT_BYTES = 16 * 1024 * 1024
# Of the documents kept from batch to batch, in memory, for each of as many as may be kept.
_MAX_KEPT_BYTES = 16 * 1024


class MissingDocument(Exception):
    """An event changes a document that its first event never made, so the log is not the one that was read before."""


class Documents(Generic[D]):
    """Folds events into one table. `fold(document, event)` may change the document that it is given.

    `key_of(event)` names the document that an event belongs to; `row(key, document)` gives the columns' values. `rows`
    is for a read model whose rows are not one an entity: they are made from the entity's document.
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
        rows: Rows[D] | None = None,
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
        self._rows = rows
        self._keep = keep
        # Each with its size in memory.
        self.kept: dict[Key, tuple[D, int]] = {}
        self._kept_bytes = 0

    def forget(self) -> None:
        """Drop what is kept in memory."""
        self.kept.clear()
        self._kept_bytes = 0
        if self._rows is not None:
            self._rows.forget()

    def project(self, conn: psycopg.Connection[Any], batch: Sequence[Recorded]) -> None:
        """Fold a batch in the caller's transaction; repeating a batch changes nothing."""
        waiting: dict[Key, list[Recorded]] = {}
        for event in batch:
            key = self._key_of(event)
            if key is not None:
                waiting.setdefault(key, []).append(event)
        while waiting:
            waiting = self._part(conn, waiting)

    def folded(self, events: Iterable[Recorded], before: Mapping[Key, str] | None = None) -> dict[Key, Sequence[Any]]:
        """Return the rows that events leave, by key; `before` are the documents that there were before them.

        Nothing is read or written.
        """
        documents: dict[Key, D | None] = {}
        for event in events:
            key = self._key_of(event)
            if key is None:
                continue
            if key not in documents:
                doc = (before or {}).get(key)
                documents[key] = None if doc is None else self._decode(doc)
            documents[key] = self._fold(documents[key], event)
        return {key: self._row(key, document) for key, document in documents.items() if document is not None}

    def document_of(self, row: Sequence[Any]) -> str:
        """Return the document in a row."""
        text: str = row[self._document]
        return text

    def shadow(self, rows: Sequence[Sequence[Any]]) -> Query:
        """Return the part of a WITH clause that puts rows of `folded` in the place of the read model's."""
        return self._table.shadow(rows)

    def _part(self, conn: psycopg.Connection[Any], waiting: dict[Key, list[Recorded]]) -> dict[Key, list[Recorded]]:
        """Fold as many documents as one statement may read; return the events of the others."""
        touched = {key: self._take(key) or self._begun(events[0]) for key, events in waiting.items()}
        left = self._read(conn, touched)
        fold, beside = self._fold, self._rows
        rows: list[Sequence[Any]] = []
        size = 0
        for key, events in waiting.items():
            if key in left:
                continue
            document = touched.pop(key)
            before = {} if beside is None or document is None else beside.by_key(key, document)
            for event in events:
                document = fold(document, event)
            if document is None:
                continue
            if beside is not None:
                beside.change(before, beside.by_key(key, document))
            rows.append(self._row(key, document))
            written = len(rows[-1][self._document])
            kept = weight(rows[-1][self._document])
            self.kept[key] = document, kept
            self._kept_bytes += kept
            size += written
            if size >= MAX_STATEMENT_BYTES:
                self._write(conn, rows)
                rows, size = [], 0
        self._write(conn, rows)
        return {key: events for key, events in waiting.items() if key in left}

    def _write(self, conn: psycopg.Connection[Any], rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            conn.execute(self._upsert, self._table.arrays(rows), prepare=True)
        if self._rows is not None:
            self._rows.write(conn)
        self._evict()

    def _take(self, key: Key) -> D | None:
        document, size = self.kept.pop(key, (None, 0))
        self._kept_bytes -= size
        return document

    def _evict(self) -> None:
        count, size = len(self.kept), self._kept_bytes
        evicted: list[Key] = []
        for key, (_, each) in self.kept.items():
            if count <= self._keep and size <= self._keep * _MAX_KEPT_BYTES:
                break
            evicted.append(key)
            count, size = count - 1, size - each
        for key in evicted:
            del self.kept[key]
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
