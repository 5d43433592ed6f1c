"""The connections for the statements of asyncio tasks."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from services.store.pool import Pool
from tests.eventually import PATIENCE, eventually_async


def sessions(url: str) -> int:
    """Return how many sessions of a pool there are."""
    with psycopg.connect(url) as conn:
        asked = conn.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name = 'foldwork-http' AND datname = current_database()"
        )
        return int(asked.fetchall()[0][0])


async def test_a_connection_is_opened_when_the_others_are_busy(migrated_url: str) -> None:
    pool = Pool(migrated_url, PATIENCE, size=3)
    pool.start()
    try:
        await asyncio.sleep(0)
        assert sessions(migrated_url) == 0
        for _ in range(5):
            assert await pool.fetch("SELECT 1") == [(1,)]
        assert sessions(migrated_url) == 1
        with psycopg.connect(migrated_url) as holder:
            holder.execute("SELECT pg_advisory_lock(7)")
            held = [asyncio.create_task(pool.fetch("SELECT pg_advisory_xact_lock(7)")) for _ in range(2)]
            assert await pool.fetch("SELECT 1") == [(1,)]
            await eventually_async(lambda: sessions(migrated_url) == 3)
        await asyncio.gather(*held)
    finally:
        await pool.close()


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
