"""How far a bulk is, for everyone who looks: over real sockets, by one reader in the process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import psycopg
import pytest

from services.http.core import bulk_watch
from services.http.native import bulk as native
from services.store.pool import Pool
from tests.eventually import PATIENCE, eventually_async
from tests.services.http.bulk_scene import BULK, act, operator, previewed, until, with_tasks
from tests.services.http.streaming import Streaming

CANCEL: dict[str, Any] = {"command": "task.cancel", "filter": {"status": "open"}}


@asynccontextmanager
async def watching(live: Streaming, bulk_id: str, token: str | None = None) -> AsyncIterator[AsyncIterator[Any]]:
    """Follow a bulk; a comment is given as None."""
    headers = live.api.by(token or operator(live.api))
    async with live.client.stream("GET", f"{BULK}/{bulk_id}/events", headers=headers) as response:
        assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream")

        async def blocks() -> AsyncIterator[Any]:
            async for line in response.aiter_lines():
                if line:
                    yield None if line == ":" else json.loads(line.removeprefix("data: "))

        yield blocks()


async def test_everyone_sees_it_go_on_to_its_end(live: Streaming, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_watch, "LOOK", 0.05)
    api = live.api
    with_tasks(api, 40)
    bulk = await previewed(api, CANCEL)

    async def whole(token: str) -> list[Any]:
        async with watching(live, bulk["id"], token) as blocks:
            return [block async for block in blocks]

    readers = [asyncio.create_task(whole(operator(api))), asyncio.create_task(whole(api.key("acme", "system", "read")))]
    async with watching(live, bulk["id"]) as blocks:
        first = await anext(blocks)
        assert (first["state"], first["counts"]["ready"]) == ("previewed", 40)
        await act(api, bulk["id"], "run", {"rate": 50})
        seen = [block async for block in blocks]
    assert (seen[-1]["state"], seen[-1]["counts"]["accepted"]) == ("finished", 40)
    done = [each["counts"]["accepted"] for each in seen]
    assert done == sorted(done)
    assert len(set(done)) > 3
    for found in await asyncio.wait_for(asyncio.gather(*readers), PATIENCE):
        assert found[-1] == seen[-1] == (await api.get(f"{BULK}/{bulk['id']}")).json()


async def test_a_bulk_is_read_once_for_all_who_look(live: Streaming, monkeypatch: pytest.MonkeyPatch) -> None:
    api = live.api
    with_tasks(api, 1)
    bulk = await previewed(api, CANCEL)
    fetch, looks = Pool.fetch, []

    async def counted(self: Pool, sql: str, *rest: Any, **more: Any) -> Any:
        if "FROM bulk_actions AS b WHERE" in sql:
            looks.append(sql)
        return await fetch(self, sql, *rest, **more)

    async with (
        watching(live, bulk["id"]) as one,
        watching(live, bulk["id"]) as two,
        watching(live, bulk["id"]) as three,
    ):
        for blocks in (one, two, three):
            await anext(blocks)
        monkeypatch.setattr(Pool, "fetch", counted)
        monkeypatch.setattr(bulk_watch, "LOOK", 0.2)
        await asyncio.sleep(2.0)
        assert 3 <= len(looks) <= 12
    await eventually_async(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "bulk-watch"])


async def test_one_that_has_ended_is_shown_once(live: Streaming) -> None:
    with_tasks(live.api, 1)
    bulk = await previewed(live.api, CANCEL)
    await act(live.api, bulk["id"], "abort")
    await until(live.api, bulk["id"])
    async with watching(live, bulk["id"]) as blocks:
        assert [block["state"] async for block in blocks] == ["aborted"]


async def test_nobody_watches_longer_than_the_key_lasts(live: Streaming, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "CHECK", 0.05)
    monkeypatch.setattr("services.http.core.authenticator.CACHE_SECONDS", 0.05)
    monkeypatch.setattr(native, "HEARTBEAT", 0.1)
    with_tasks(live.api, 1)
    bulk = await previewed(live.api, CANCEL)
    token = live.api.key("acme", "system", "read")
    async with watching(live, bulk["id"], token) as blocks:
        assert (await anext(blocks))["state"] == "previewed"
        assert await anext(blocks) is None
        with psycopg.connect(live.api.url) as conn:
            conn.execute("UPDATE api_keys SET revoked_at = now() WHERE permissions = '{read}'")
        assert {block async for block in blocks} <= {None}


async def test_a_stop_of_the_process_ends_it(live: Streaming) -> None:
    with_tasks(live.api, 1)
    bulk = await previewed(live.api, CANCEL)
    async with watching(live, bulk["id"]) as blocks:
        await anext(blocks)
        live.api.app.end_streams()
        assert [block async for block in blocks] == []


async def test_a_bulk_that_is_deleted_meanwhile_ends_it(live: Streaming, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_watch, "LOOK", 0.05)
    with_tasks(live.api, 1)
    bulk = await previewed(live.api, CANCEL)
    async with watching(live, bulk["id"]) as blocks:
        await anext(blocks)
        with psycopg.connect(live.api.url) as conn:
            conn.execute("DELETE FROM bulk_actions")
        assert [block async for block in blocks] == []
    gone = await live.api.get(f"{BULK}/{bulk['id']}/events", operator(live.api))
    assert isinstance(gone, httpx.Response)
    assert gone.status_code == 404
