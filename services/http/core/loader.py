"""Rows by id, for all who ask at the same time by one question; what comes while one is on its way is the next.

A row is read after it was asked for, never before, so waiting for a position first is still enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from projections.listing import Listing
from projections.support.query import within
from services.store.pool import Pool

# Bytes of the rows that are read at once.
BYTES = 4 << 20
Row = tuple[Any, ...]
_Waiting = dict[str, list[asyncio.Future[Row | None]]]


@dataclass(slots=True)
class Loader:
    """Asks one read model; a tenant's ids are only ever asked for together with the same tenant's."""

    pool: Pool
    listing: Listing
    _waiting: dict[str, _Waiting] = field(default_factory=dict)
    _busy: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def row(self, tenant: str, entity_id: str) -> Row | None:
        """Return the row of an id, or None; raises `StoreUnavailable` as the pool does."""
        answer: asyncio.Future[Row | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, {}).setdefault(entity_id, []).append(answer)
        if tenant not in self._busy:
            self._busy[tenant] = asyncio.create_task(self._work(tenant), name="loader")
        return await answer

    async def _work(self, tenant: str) -> None:
        try:
            while wanted := self._waiting.pop(tenant, None):
                while wanted:
                    try:
                        rows, whole = await self._rows(tenant, wanted)
                    except Exception as error:
                        _settle(wanted, None, error)
                        break
                    # Those that did not fit are asked for again, once these rows are on their way.
                    settled = wanted if whole else {entity_id: wanted[entity_id] for entity_id in rows}
                    _settle(settled, rows, None)
                    wanted = {} if whole else {each: found for each, found in wanted.items() if each not in rows}
        finally:
            del self._busy[tenant]

    async def _rows(self, tenant: str, wanted: _Waiting) -> tuple[dict[str, Row], bool]:
        """Return rows by their ids, and whether these are all that there are."""
        if len(wanted) == 1:
            return _by_id(await self.pool.fetch(*self.listing.get(tenant, next(iter(wanted))))), True
        rows = await self.pool.fetch(*within(self.listing.get_many(tenant, wanted), BYTES))
        return _by_id(rows), not rows or rows[-1][-1] == len(rows)


def _by_id(rows: Iterable[Row]) -> dict[str, Row]:
    return {row[1]: row for row in rows}


def _settle(wanted: _Waiting, rows: dict[str, Row] | None, error: Exception | None) -> None:
    for entity_id, answers in wanted.items():
        for answer in answers:
            # Who has left waits no more.
            if answer.done():
                continue
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(rows.get(entity_id) if rows is not None else None)
