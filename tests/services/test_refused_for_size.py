"""What is too long or too large is refused as an answer: recorded, repeated alike, and no dead letter."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime

import pytest

from domain.limits import MAX_FIELDS_BYTES
from services.commands import worker as deciding_worker
from services.commands.worker import Worker
from services.store.append import NewEvent
from services.store.event_store import EventStore
from tests.builders import task
from tests.services.commands.deciding import ACCEPTED, a_worker, incoming, replies, told
from tests.services.harness import Client, created, dead_letters, rows, stored, working


async def test_a_value_beyond_its_limit_is_an_answer_and_no_dead_letter(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        for command_id, data, code, pointer in (
            ("c1", {"id": "t", "title": "x" * 301}, "invalid", "/title"),
            ("c2", {"id": "t", "whitelist": ["a", "x" * 1001]}, "invalid", "/whitelist/1"),
            ("c3", {"id": "t", "end": f"2025-10-31T08:55:00.{'1' * 5000}Z"}, "invalid", "/end"),
            ("c4", {"id": "t", "fields": {"a": "x" * MAX_FIELDS_BYTES}}, "too-large", "/fields"),
            ("c5", {"id": "t", "fields": {"a": {"k" * 201: 1}}}, "invalid", "/fields"),
            ("c6", {"id": "x" * 100_000}, "invalid", "/id"),
        ):
            answers = [await client.ask("task.create", data, command_id) for _ in range(2)]
            assert [(answer.outcome, answer.duplicate) for answer in answers] == [
                ("rejected", False),
                ("rejected", True),
            ]
            for error in (answer.error for answer in answers):
                assert error is not None
                assert (error.code, error.pointer) == (code, pointer)
        assert (await client.ask("task.create", {"id": "t"})).accepted
        assert await dead_letters(amqp_url) == []
    assert created(migrated_url) == ["t"]
    assert rows(migrated_url, "SELECT count(*) FROM ledger WHERE code IS NOT NULL") == [(6,)]


async def test_drafts_that_add_up_are_refused_before_they_make_an_event_that_no_broker_takes(
    migrated_url: str, amqp_url: str
) -> None:
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        assert (await client.ask("task.create", {"id": "t", "assignees": ["ann@x.vn"]})).accepted
        large = await client.ask("task.save", {"id": "t", "data": {"a": "x" * 960_000}})
        assert large.error is not None
        assert (large.error.code, large.error.pointer) == ("too-large", "/data")
        saved = [await client.ask("task.save", {"id": "t", "data": {f"a{n}": "x" * 60_000}}) for n in range(18)]
        assert [answer.accepted for answer in saved] == [True] * 4 + [False] * 14
        assert {answer.error.code for answer in saved if answer.error is not None} == {"too-large"}
        assert (await client.ask("task.complete", {"id": "t"})).accepted
    sizes = rows(migrated_url, "SELECT topic, octet_length(state) FROM stored_events ORDER BY notification_id")
    assert sizes[-1][0] == "task.completed"
    assert max(size for _, size in sizes) < MAX_FIELDS_BYTES + 1000


def test_an_event_beyond_the_limit_is_refused_when_it_is_decided_and_its_neighbours_are_not(migrated_url: str) -> None:
    store, ids = EventStore(migrated_url), (f"id-{number}" for number in itertools.count())
    try:
        worker = Worker(store, lambda: datetime.now(UTC), ids.__next__, lambda: 1, event_limit=2000)
        batch = [incoming(task("a")), incoming(task("b", fields={"x": "y" * 2000})), incoming(task("c"))]
        outcomes = replies(worker.run(batch))
    finally:
        store.close()
    assert [told(reply) for reply in outcomes] == [ACCEPTED, ("rejected", False, "too-large"), ACCEPTED]
    error = outcomes[1].error
    assert error is not None
    assert "task.created" in error.detail
    assert "2000" in error.detail
    assert [stream for stream, _, _ in stored(migrated_url)] == ["acme/task-a", "acme/task-c"]


def test_more_events_than_a_command_may_record_are_refused(migrated_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding_worker, "MAX_EVENTS", 3)
    names = tuple(f"p{number}@example.com" for number in range(3))
    with a_worker(migrated_url) as worker:
        outcomes = replies(worker.run([incoming(task("a", assignees=names)), incoming(task("b"))]))
    assert [told(reply) for reply in outcomes] == [("rejected", False, "too-large"), ACCEPTED]
    error = outcomes[0].error
    assert error is not None
    assert "5 events" in error.detail
    assert [stream for stream, _, _ in stored(migrated_url)] == ["acme/task-b"]


def test_an_event_is_encoded_once_and_measured_as_it_is_stored(migrated_url: str) -> None:
    store, ids = EventStore(migrated_url), (f"id-{number}" for number in itertools.count())
    try:
        worker = Worker(store, lambda: datetime.now(UTC), ids.__next__, lambda: 1)
        (outcome,) = worker.run([incoming(task("a", title="\u00e4"))])
    finally:
        store.close()
    (event,) = outcome.events
    assert isinstance(event, NewEvent)
    assert rows(migrated_url, "SELECT state FROM stored_events") == [(event.state,)]
    assert json.loads(event.state)["data"]["title"] == "\u00e4"
