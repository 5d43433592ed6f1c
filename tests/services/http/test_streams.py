"""Live events over HTTP: what a stream has, from where, for whom, and for how long."""

from __future__ import annotations

from contextlib import AsyncExitStack

import psycopg
import pytest

from services import keys
from services.cloud_events import cloud_event
from services.http.native import streams
from services.store import log
from tests.eventually import eventually_async
from tests.services.harness import rows
from tests.services.http.api import problem, with_activity, with_workflow
from tests.services.http.streaming import PATH, Streaming

READERS = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'foldwork-streams' AND datname = current_database()"
)


async def test_a_stream_has_the_bytes_that_are_published_of_its_tenant_alone(live: Streaming) -> None:
    api = live.api
    with_workflow(api)
    with_workflow(api, "acme-2")
    async with live.read() as reader:
        assert reader.response.headers["content-type"] == "text/event-stream"
        assert reader.response.headers["cache-control"] == "no-store"
        assert await reader.begin() == 2
        with_activity(api, "b1", "acme-2")
        with_activity(api, "a1")
        with psycopg.connect(api.url) as conn:
            expected = [row for row in log.read(conn, 2, 100) if row.stream.startswith("acme/")]
        assert expected
        for row in expected:
            block = await reader.block()
            assert block is not None
            assert (block.id, block.data) == (row.position, cloud_event(row))


async def test_a_reader_that_comes_again_misses_nothing_and_gets_nothing_twice(live: Streaming) -> None:
    api = live.api
    with_workflow(api)
    async with live.read() as reader:
        first = await reader.begin()
        # Gone before an event came: the position is known all the same.
    with_activity(api, "a1")
    async with live.read(last=first) as reader:
        seen = [(await reader.event())["position"] for _ in range(2)]
    with_activity(api, "a2")
    # Where a browser connects again, the address is the one from before, and the header is newer.
    async with live.read(f"after={first}", last=seen[-1]) as reader:
        with_activity(api, "a3")
        head = rows(api.url, log.HEAD)[0][0]
        while seen[-1] < head:
            seen.append((await reader.event())["position"])
    assert seen == list(range(first + 1, head + 1))
    async with live.read("after=0") as reader:
        assert [event["position"] for event in await reader.events(head)] == list(range(1, head + 1))


QUERIES = {
    "": {*range(1, 17)},
    "type=task.assigned&type=workflow.defined": {3, 6, 11, 14},
    "activity=a1": {4, 5, 6, 7, 8},
    "activity=a1&activity=a2": {*range(4, 16)},
    "task=a2-t2&task=alone": {12, 14, 15, 16},
    "member=bob@example.com": {2, 14, 15},
    "member=m1": {1, 6, 11},
    "member=m1&activity=a2": {11},
    "member=m1&member=m2&type=task.started&type=task.assigned": {6, 11, 14, 15},
    "task=none": set(),
}


async def test_the_filters_of_a_stream(live: Streaming, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT", 0.2)
    api = live.api
    for member, email in (("m1", "ann@example.com"), ("m2", "bob@example.com")):
        api.command("directory.register", {"kind": "member", "id": member, "fields": {"email": email}})
    async with AsyncExitStack() as stack:
        # Some begin before most is recorded, and get it as it comes; others read it from the log.
        readers = {query: await stack.enter_async_context(live.read(f"{query}&after=0")) for query in QUERIES}
        with_workflow(api)
        with_activity(api, "a1")
        with_activity(api, "a2")
        api.command("task.assign", {"id": "a2-t2", "assignees": ["m2"]})
        api.command("task.process", {"id": "a2-t2"}, actor="m2")
        api.command("task.create", {"id": "alone"})
        head = rows(api.url, log.HEAD)[0][0]
        for query, reader in readers.items():
            assert {event["position"] for event in await reader.until(head)} == QUERIES[query], query
    for query, expected in QUERIES.items():
        async with live.read(f"{query}&after=0") as reader:
            assert {event["position"] for event in await reader.until(head)} == expected, query


@pytest.mark.parametrize(
    ("query", "code", "parameter"),
    [
        ("after=1", "position-beyond-head", "after"),
        ("after=-1", "bad-position", "after"),
        ("after=", "bad-position", "after"),
        ("type=task.exploded", "bad-filter", "type"),
        ("type=", "bad-filter", "type"),
        ("activity=", "bad-filter", "activity"),
        ("activity=a%2Fb", "bad-filter", "activity"),
        ("task=%00", "bad-filter", "task"),
        ("task=a&task=", "bad-filter", "task"),
        ("member=", "bad-filter", "member"),
        ("member=nobody@example.com", "bad-filter", "member"),
        ("member=account:x", "bad-filter", "member"),
        ("&".join(f"task=t{number}" for number in range(51)), "bad-filter", "task"),
        ("limit=3", "unknown-parameter", "limit"),
    ],
)
async def test_a_stream_that_cannot_be_asked_for(live: Streaming, query: str, code: str, parameter: str) -> None:
    problem(await live.client.get(f"{PATH}?{query}", headers=live.api.by()), 400, code, parameter=parameter)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("", "bad-header"),
        ("x", "bad-header"),
        ("-1", "bad-header"),
        ("9" * 30, "bad-header"),
        ("7", "position-beyond-head"),
    ],
)
async def test_an_id_that_no_stream_has_given(live: Streaming, sent: str, code: str) -> None:
    headers = {**live.api.by(), "Last-Event-ID": sent}
    problem(await live.client.get(f"{PATH}?after=0", headers=headers), 400, code, parameter="Last-Event-ID")
    both = [*live.api.by().items(), ("Last-Event-ID", "0"), ("Last-Event-ID", "1")]
    problem(await live.client.get(PATH, headers=both), 400, "bad-header", parameter="Last-Event-ID")


async def test_a_stream_needs_the_right_to_read(live: Streaming) -> None:
    problem(await live.client.get(PATH), 401, "unauthorized")
    writer = live.api.key("acme", "system", "write")
    problem(await live.client.get(PATH, headers=live.api.by(writer)), 403, "forbidden")


async def test_the_stream_of_a_key_that_is_revoked_ends(live: Streaming, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CHECK", 0.05)
    monkeypatch.setattr("services.http.core.authenticator.CACHE_SECONDS", 0.0)
    token, other = live.api.key(), live.api.key()
    async with live.read(token=token) as reader, live.read(token=other) as stays:
        await reader.begin()
        await stays.begin()
        with psycopg.connect(live.api.url) as conn:
            keys.revoke(conn, keys.id_of(token))
        assert await reader.ended()
        with_workflow(live.api)
        assert (await stays.event())["type"] == "workflow.defined"
    problem(await live.client.get(PATH, headers=live.api.by(token)), 401, "unauthorized")


async def test_a_quiet_stream_has_comments_and_says_how_far_the_log_was_read(
    live: Streaming, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT", 0.1)
    async with live.read("task=none") as reader:
        assert await reader.begin() == 0
        block = await reader.block()
        assert block is not None
        assert block.comment
        with_workflow(live.api)
        await eventually_async(lambda: rows(live.api.url, READERS)[0][0] == 1)
        while (block := await reader.block()) is not None and block.id is None:
            assert block.comment
        assert block is not None
        assert (block.id, block.data) == (1, None)


async def test_a_head_request_does_not_last(live: Streaming) -> None:
    response = await live.client.head(PATH, headers=live.api.by())
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream"
    assert response.content == b""


async def test_streams_have_one_reader_of_the_log_while_there_are_any(live: Streaming) -> None:
    other = live.api.key("other")
    async with live.read() as first, live.read("type=activity.created") as second, live.read(token=other):
        await first.begin()
        await second.begin()
        with_workflow(live.api)
        with_activity(live.api)
        assert (await first.event())["type"] == "workflow.defined"
        assert (await second.event())["type"] == "activity.created"
        assert rows(live.api.url, READERS) == [(1,)]
    await eventually_async(lambda: rows(live.api.url, READERS) == [(0,)])
    async with live.read("type=activity.created") as again:
        await again.begin()
        with_activity(live.api, "a2")
        assert (await again.event())["type"] == "activity.created"
