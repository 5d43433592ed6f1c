"""Live events when something is slow, away, stopped, replaced or too much."""

from __future__ import annotations

import asyncio
import random
import signal
from contextlib import AsyncExitStack

import httpx
import psycopg
import pytest

from services import keys, server
from services.http.core import live as live_module
from services.http.native import streams
from tests.eventually import PATIENCE, eventually, eventually_async
from tests.services.harness import rows
from tests.services.http.api import problem
from tests.services.http.recording import record
from tests.services.http.streaming import PATH, Reader, Streaming, streaming
from tests.services.processes import free_port, nursery
from tests.services.proxy import database_proxy

MINE = "application_name = 'foldwork-streams' AND datname = current_database()"


async def count(live: Streaming, wanted: int) -> None:
    """Wait until there are so many streams."""
    while f"foldwork_http_streams {wanted}.0" not in (await live.client.get("/metrics")).text:
        await asyncio.sleep(0.01)


async def test_readers_that_come_and_go_while_events_are_recorded_see_each_once_and_in_order(
    live: Streaming, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So little may wait that most batches are read from the log, beside those that are handed on.
    monkeypatch.setattr(live_module, "MAX_WAITING", 2000)
    rng, total = random.Random(7), 1500

    async def write() -> None:
        written = 0
        while written < total:
            count = min(rng.choice((1, 1, 3, 40)), total - written)
            await asyncio.to_thread(record, live.api.url, count, rng.choice((10, 500)))
            written += count

    async def follow() -> list[int]:
        seen: list[int] = []
        while not seen or seen[-1] < total:
            async with live.read("after=0", last=seen[-1] if seen else None) as reader:
                for _ in range(rng.randrange(1, 300)):
                    seen.append((await reader.event())["position"])
                    if seen[-1] == total:
                        break
        return seen

    *found, _ = await asyncio.gather(*(follow() for _ in range(5)), write())
    for seen in found:
        assert seen == list(range(1, total + 1))


async def test_a_reader_that_takes_nothing_is_closed_and_what_waits_for_it_is_bounded(
    live: Streaming, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SEND_TIMEOUT", 1.0)
    offered: list[int] = []
    offer = live_module.Stream.offer

    def counted(stream: live_module.Stream, batch: live_module.Batch) -> bool:
        taken = offer(stream, batch)
        offered.append(sum(each.size for each in stream.waiting))
        return taken

    monkeypatch.setattr(live_module.Stream, "offer", counted)
    reader, writer = await asyncio.open_connection("127.0.0.1", live.port, limit=1024)
    writer.write(
        f"GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {live.api.by()['Authorization']}\r\n\r\n".encode()
    )
    await reader.readuntil(b"id: 0\n\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    async with live.read("after=0") as beside:
        total = 0
        while (await live.client.get("/metrics")).text.count("foldwork_http_streams 2.0"):
            await asyncio.to_thread(record, live.api.url, 50, 20_000)
            total += 50
            seen = await beside.events(50)
            assert seen[-1]["position"] == total
            assert total < 5000
    assert offered
    assert max(offered) < live_module.MAX_WAITING + (2 << 20)
    writer.close()
    # It comes again, and has all.
    async with live.read(last=0) as again:
        assert [event["position"] for event in await again.events(total)] == list(range(1, total + 1))


async def test_an_event_larger_than_what_may_wait(live: Streaming, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "MAX_WAITING", 1000)
    async with live.read() as reader:
        await reader.begin()
        for number in (1, 2):
            record(live.api.url, 1, 3_000_000)
            assert (await reader.event())["position"] == number
    async with live.read("after=0") as reader:
        assert [len(event["data"]["title"]) for event in await reader.events(2)] == [3_000_000] * 2


async def test_streams_are_limited_by_key_and_in_all_and_take_no_place_of_requests(migrated_url: str) -> None:
    async with streaming(migrated_url, http_connections=8, http_in_flight=1) as live, AsyncExitStack() as stack:
        mine, second, other = live.api.key(), live.api.key(), live.api.key("other")
        first = await stack.enter_async_context(live.read(token=mine))
        await first.begin()
        async with live.read(token=second):
            for token in (mine, second):
                refused = await live.client.get(PATH, headers=live.api.by(token))
                problem(refused, 429, "too-many-requests")
                assert refused.headers["retry-after"]
            for _ in range(2):
                await stack.enter_async_context(live.read(token=other))
            refused = await live.client.get(PATH, headers=live.api.by(live.api.key("third")))
            problem(refused, 503, "overloaded")
            assert refused.headers["retry-after"]
            assert (await live.client.get("/v1/events", headers=live.api.by(mine))).status_code == 200
        await count(live, 3)
        async with live.read(token=second):
            pass


async def test_the_database_goes_away_and_nothing_is_lost(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT", 0.2)
    monkeypatch.setattr(streams, "AGAIN", 0.1)
    with database_proxy(migrated_url) as (proxy, url):
        async with streaming(url, check_timeout=1.0) as live:
            live.api.url = migrated_url
            async with live.read() as reader, live.read("task=none") as quiet:
                await reader.begin()
                await quiet.begin()
                record(live.api.url, 3)
                assert [event["position"] for event in await reader.events(3)] == [1, 2, 3]
                proxy.down()
                record(live.api.url, 4)
                # The streams stay open meanwhile.
                for _ in range(3):
                    assert await quiet.block() is not None
                proxy.up()
                record(live.api.url, 2)
                assert [event["position"] for event in await reader.events(6)] == [4, 5, 6, 7, 8, 9]
            await _sessions(migrated_url, 0)


async def test_the_session_of_the_reader_is_ended_and_nothing_is_lost(live: Streaming) -> None:
    async with live.read() as reader:
        await reader.begin()
        for number in range(1, 6):
            await _sessions(live.api.url, 1)
            rows(live.api.url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {MINE}")
            record(live.api.url, 1)
            assert (await reader.event())["position"] == number


async def _sessions(url: str, count: int) -> None:
    await eventually_async(lambda: rows(url, f"SELECT count(*) FROM pg_stat_activity WHERE {MINE}") == [(count,)])


async def test_streams_end_when_the_log_is_replaced(live: Streaming) -> None:
    record(live.api.url, 3)
    async with live.read() as reader:
        await reader.begin()
        record(live.api.url, 1)
        assert (await reader.event())["position"] == 4
        with psycopg.connect(live.api.url) as conn:
            conn.execute("DELETE FROM stored_events WHERE notification_id > 3")
        record(live.api.url, 1)
        rows(live.api.url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {MINE}")
        assert await reader.ended()
    async with live.read() as reader:
        assert await reader.begin() == 4
        record(live.api.url, 1)
        assert (await reader.event())["position"] == 5


async def test_an_event_that_cannot_be_shown_ends_the_streams_of_its_tenant_alone(live: Streaming) -> None:
    other = live.api.key("other")
    async with live.read() as mine, live.read(token=other) as theirs:
        await mine.begin()
        await theirs.begin()
        record(live.api.url, 1)
        record(live.api.url, 1, tenant="other")
        assert (await mine.event())["position"] == 1
        assert (await theirs.event())["position"] == 2
        with psycopg.connect(live.api.url) as conn:
            conn.execute(
                "INSERT INTO stored_events (originator_id, originator_version, topic, state, notification_id)"
                " VALUES ('acme/task-broken', 1, 'task.created', 'no JSON', 3)"
            )
        record(live.api.url, 1, tenant="other")
        assert await mine.ended()
        assert (await theirs.event())["position"] == 4


async def test_streams_end_when_the_process_is_told_to_stop(live: Streaming) -> None:
    async with live.read() as reader:
        await reader.begin()
        live.api.app.end_streams()
        assert await reader.ended()
    async with live.read() as late:
        # A client that is refused might not come again; one whose stream ends does.
        assert await late.ended()


def test_a_role_that_is_stopped_ends_its_streams_and_the_next_one_goes_on(migrated_url: str, amqp_url: str) -> None:
    port = free_port()
    with psycopg.connect(migrated_url) as conn:
        _, token = keys.create(conn, "acme")
    env = {"database_url": migrated_url, "amqp_url": amqp_url, "http_port": str(port)}
    headers = {"Authorization": f"Bearer {token}"}
    url = f"http://127.0.0.1:{port}{PATH}"

    async def follow(last: int | None, count: int) -> tuple[Reader, list[int]]:
        given = headers if last is None else {**headers, "Last-Event-ID": str(last)}
        async with httpx.AsyncClient(timeout=PATIENCE) as client, client.stream("GET", url, headers=given) as response:
            reader = Reader(response)
            await reader.begin()
            await asyncio.to_thread(record, migrated_url, count)
            seen = [(await reader.event())["position"] for _ in range(count)]
            process.signal(signal.SIGTERM)
            # The end of the answer is sent; a connection that is only closed would be an error of the client.
            assert await reader.ended()
            return reader, seen

    with nursery().start("http", env=env) as process:
        eventually(lambda: process.said('"started"') and _is_live(port))
        _, seen = asyncio.run(follow(None, 3))
        assert process.wait() == 0, process.output
    assert seen == [1, 2, 3]
    record(migrated_url, 2)
    with nursery().start("http", env=env) as process:
        eventually(lambda: process.said('"started"') and _is_live(port))
        _, seen = asyncio.run(follow(3, 3))
        assert process.wait() == 0, process.output
    assert seen == [4, 5, 6]


def _is_live(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/livez").status_code == 200
    except httpx.HTTPError:
        return False
