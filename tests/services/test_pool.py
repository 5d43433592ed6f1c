"""The connections for the statements of asyncio tasks."""

from __future__ import annotations

import pytest

from services.store.pool import Pool
from tests.eventually import PATIENCE


async def test_a_text_that_is_no_unicode_costs_no_connection(migrated_url: str) -> None:
    pool = Pool(migrated_url, PATIENCE, size=1)
    pool.start()
    try:
        # psycopg does not make an error of its own of it.
        with pytest.raises(UnicodeEncodeError):
            await pool.fetch("SELECT %s", ("\ud800",))
        assert await pool.fetch("SELECT 1") == [(1,)]
    finally:
        await pool.close()
