"""The intake on a real broker: batches in, answers out, bad input aside, and nothing acknowledged that was not done."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from typing import Any

import aiormq
import pika
import psycopg
import pytest

from services import messages
from services.intake import settling, topology
from services.intake import worker as workers
from services.intake.consumer import CommandConsumer
from services.intake.dead_letters import kept_headers
from services.intake.sender import CommandSender
from services.intake.watchdog import NotConsuming
from services.messages import Incoming
from services.store.append import APPEND_LOCK, Append
from services.store.event_store import EventStore
from services.store.unavailable import SessionLost, StatementFailed, StoreUnavailable
from tests.eventually import PATIENCE, eventually_async
from tests.services.harness import (
    TENANT,
    Client,
    broker_proxy,
    created,
    dead_letters,
    declare,
    rows,
    settings,
    stored,
    waiting,
    working,
)

TASK = "task.create"


def tasks(count: int, prefix: str = "t") -> list[tuple[str, Any]]:
    return [(TASK, {"id": f"{prefix}{number}"}) for number in range(count)]


def batches_of(consumer: CommandConsumer) -> list[int]:
    """Watch the sizes of the batches that reach the store."""
    sizes: list[int] = []
    run = consumer._store.run

    async def watched(commands: list[Incoming], attempted: bool = False) -> Any:
        sizes.append(len(commands))
        return await run(commands, attempted)

    consumer._store.run = watched  # type: ignore[method-assign]
    return sizes


async def test_an_answer_says_what_became_of_the_command(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        first = await client.ask(TASK, {"id": "a", "title": "A"}, "c1")
        assert (first.command_id, first.outcome, first.duplicate, first.position, first.error) == (
            "c1",
            "accepted",
            False,
            1,
            None,
        )
        assert [(e.position, e.type, e.stream, e.version) for e in first.events] == [(1, "task.created", "task-a", 1)]
        again = await client.ask(TASK, {"title": "A", "id": "a"}, "c1")
        assert (again.outcome, again.duplicate, again.position, again.events) == ("accepted", True, 1, first.events)
        other = await client.ask(TASK, {"id": "b"}, "c1")
        assert (other.outcome, other.error and other.error.code) == ("rejected", "command-id-conflict")
        refused = await client.ask("task.complete", {"id": "nothing"}, "c2")
        assert refused.error is not None
        assert (refused.outcome, refused.position, refused.events) == ("rejected", 1, ())
        assert (refused.error.code, refused.error.pointer) == ("not-found", "/id")
        repeated = await client.ask("task.complete", {"id": "nothing"}, "c2")
        assert (repeated.duplicate, repeated.error) == (True, refused.error)
        assert stored(migrated_url) == [("acme/task-a", 1, "task.created")]


async def test_a_lone_command_does_not_wait_for_a_batch(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url, batch_wait_ms=1000.0), Client(amqp_url) as client:
        await client.ask(TASK, {"id": "warm"})
        started = time.monotonic()
        for number in range(30):
            assert (await client.ask(TASK, {"id": f"t{number}"})).accepted
        assert time.monotonic() - started < 20.0


async def test_what_waits_is_one_batch_up_to_the_size_that_is_set(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        sent = await client.send_all(tasks(100))
        consumer = CommandConsumer(settings(migrated_url, amqp_url, batch_size=30, batch_wait_ms=200.0))
        sizes = batches_of(consumer)
        task = asyncio.create_task(consumer.run())
        assert all(reply.accepted for reply in await client.answers(sent))
        await consumer.stop()
        await task
    assert max(sizes) == 30
    assert len(sizes) <= 6
    assert created(migrated_url) == [f"t{number}" for number in range(100)]


async def test_what_was_at_hand_is_done_and_the_rest_stays_when_it_stops(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        await client.send_all(tasks(300))
        async with working(migrated_url, amqp_url, prefetch=50, batch_size=10):
            await eventually_async(lambda: bool(rows(migrated_url, "SELECT 1 FROM ledger LIMIT 1")))
        done = len(created(migrated_url))
        assert done > 0
        assert await waiting(amqp_url) == 300 - done
        async with working(migrated_url, amqp_url):
            await eventually_async(lambda: len(created(migrated_url)) == 300)
        assert await waiting(amqp_url) == 0


async def test_a_connection_that_closes_while_idle_comes_back(migrated_url: str, amqp_url: str) -> None:
    with broker_proxy(amqp_url) as (proxy, through):
        async with working(migrated_url, through) as consumer, Client(amqp_url) as client:
            assert (await client.ask(TASK, {"id": "a"})).accepted
            proxy.cut()
            sent = await client.send(TASK, {"id": "b"})
            assert (await client.answer(sent)).accepted
            assert consumer.unready == []
    assert created(migrated_url) == ["a", "b"]


async def test_a_broker_that_was_late_at_the_start_may_go_and_come_back(migrated_url: str, amqp_url: str) -> None:
    with broker_proxy(amqp_url) as (proxy, through):
        proxy.down()
        consumer = CommandConsumer(settings(migrated_url, through))
        task = asyncio.create_task(consumer.run())
        await eventually_async(lambda: consumer._subscriber._stopping or None)  # an attempt has failed
        proxy.up()
        async with Client(amqp_url) as client:
            await eventually_async(lambda: consumer.unready == [] or None)
            assert (await client.ask(TASK, {"id": "a"})).accepted
            proxy.cut()
            assert (await client.answer(await client.send(TASK, {"id": "b"}))).accepted
        await consumer.stop()
        await task


def test_headers_that_no_client_can_write_are_kept_as_text() -> None:
    odd = {"tenant": b"acm\xe9", "list": [b"\xff", 1], "table": {"deep": b"\xfe"}}
    assert kept_headers(odd) == {"tenant": "acm\\xe9", "list": ["\\xff", 1], "table": {"deep": "\\xfe"}}
    assert kept_headers({"tenant": "acme", "object": object()}) == {"tenant": "acme"}
    assert kept_headers({"tenant": "acme", "long": "x" * 70_000}) == {"tenant": "acme"}


async def test_a_connection_that_closes_between_commit_and_ack_repeats_nothing(
    migrated_url: str, amqp_url: str
) -> None:
    await declare(amqp_url)
    with broker_proxy(amqp_url) as (proxy, through):
        async with Client(amqp_url) as client:
            sent = await client.send_all(tasks(400))
            consumer = CommandConsumer(settings(migrated_url, through, batch_size=200))
            cuts = 0

            class Cut:
                def reach(self, point: str) -> None:
                    nonlocal cuts
                    if point == "before-ack" and cuts < 3:
                        cuts += 1
                        proxy.cut()

            consumer._crash = Cut()  # type: ignore[assignment]
            task = asyncio.create_task(consumer.run())
            assert all(reply.accepted for reply in await client.answers(sent))
            await eventually_async(lambda: cuts == 3)
            await eventually_async(lambda: not consumer.unready)
            await eventually_async(lambda: not consumer._buffer)
            await consumer.stop()
            await task
    assert sorted(created(migrated_url)) == sorted(f"t{number}" for number in range(400))
    assert len(rows(migrated_url, "SELECT 1 FROM ledger")) == 400
    assert await waiting(amqp_url) == 0
    assert await dead_letters(amqp_url) == []


async def test_answers_do_not_hold_up_a_batch_whose_connection_is_gone(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    with broker_proxy(amqp_url) as (proxy, through):
        async with Client(amqp_url) as client:
            sent = await client.send_all(tasks(60))
            consumer = CommandConsumer(settings(migrated_url, through))
            cut, passed = threading.Event(), threading.Event()
            acknowledge = consumer._acknowledge

            class Down:
                def reach(self, point: str) -> None:
                    if point == "after-commit" and not cut.is_set():
                        proxy.down()
                        cut.set()

            async def acknowledged(*arguments: Any) -> None:
                await acknowledge(*arguments)
                passed.set()

            consumer._crash, consumer._acknowledge = Down(), acknowledged  # type: ignore[assignment, method-assign]
            task = asyncio.create_task(consumer.run())
            await eventually_async(cut.is_set)
            await eventually_async(passed.is_set)
            proxy.up()
            assert all(reply.accepted for reply in await client.answers(sent))
            await consumer.stop()
            await task
    assert len(created(migrated_url)) == 60


async def test_six_dropped_connections_under_prefetch_bury_nobody(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    with broker_proxy(amqp_url) as (proxy, through):
        async with Client(amqp_url) as client:
            with psycopg.connect(migrated_url) as blocking:
                # Nothing can be recorded meanwhile, so all hundred are handed out, and come back, six times.
                blocking.execute("SELECT pg_advisory_xact_lock(%s)", (APPEND_LOCK,))
                async with working(migrated_url, through, prefetch=100, batch_size=1) as consumer:
                    sent = await client.send_all(tasks(100))
                    for _ in range(6):
                        await eventually_async(lambda: len(consumer._buffer) >= 99 and not consumer.unready)
                        proxy.cut()
                        await eventually_async(lambda: bool(consumer.unready))
                    blocking.rollback()
                    assert all(reply.accepted for reply in await client.answers(sent))
    assert sorted(created(migrated_url)) == sorted(f"t{number}" for number in range(100))
    assert await dead_letters(amqp_url) == []


async def test_a_slow_statement_leaves_the_loop_to_answer(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url) as consumer, Client(amqp_url) as client:
        await client.ask(TASK, {"id": "warm"})
        loop = asyncio.get_running_loop()
        slow = loop.run_in_executor(consumer._store._thread, consumer._store._store._fetch, "SELECT pg_sleep(3)", ())
        sent = await client.send(TASK, {"id": "a"})
        worst = 0.0
        while not slow.done():
            started = loop.time()
            tick = loop.create_future()
            loop.call_later(0.02, tick.set_result, None)
            await tick
            worst = max(worst, loop.time() - started - 0.02)
        await slow
        assert worst < 1.5  # the statement takes twice as long
        assert (await client.answer(sent)).accepted


async def test_a_deleted_queue_is_declared_again_and_consumed(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url) as consumer, Client(amqp_url) as client:
        assert (await client.ask(TASK, {"id": "a"})).accepted
        connection = await aiormq.connect(amqp_url)
        await (await connection.channel()).queue_delete(messages.COMMAND_QUEUE)
        await connection.close()
        await eventually_async(lambda: consumer.unready == ["broker"])
        await eventually_async(lambda: not consumer.unready)
        assert (await client.ask(TASK, {"id": "b"})).accepted
        sent = await client.send_all(tasks(50))
        assert all(reply.accepted for reply in await client.answers(sent))


async def test_what_was_taken_before_the_queue_was_deleted_is_still_done(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url, batch_size=1) as consumer, Client(amqp_url) as client:
        with psycopg.connect(migrated_url) as blocking:
            blocking.execute("SELECT pg_advisory_xact_lock(%s)", (APPEND_LOCK,))
            sent = await client.send_all(tasks(20))
            await eventually_async(lambda: len(consumer._buffer) == 19)
            connection = await aiormq.connect(amqp_url)
            await (await connection.channel()).queue_delete(messages.COMMAND_QUEUE)
            await connection.close()
            await eventually_async(lambda: consumer.unready == ["broker"])
            await eventually_async(lambda: not consumer.unready)
            blocking.rollback()
        assert all(reply.accepted for reply in await client.answers(sent))
        assert (await client.ask(TASK, {"id": "b"})).accepted


async def test_answers_go_to_reply_queues_only_and_never_hold_up(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        for number, queue in enumerate(("foldwork.commands", "foldwork.dead", "reply.nobody", "amq.gen-nobody", "x")):
            await client.send(TASK, {"id": f"t{number}"}, properties={"reply_to": queue})
        await client.send(TASK, b"{", properties={"reply_to": "foldwork.commands"})
        assert (await client.ask(TASK, {"id": "last"})).accepted
        assert len(created(migrated_url)) == 6
        assert len(await dead_letters(amqp_url)) == 1
        assert await waiting(amqp_url) == 0


DEEP = b'{"id": "x", "fields": {"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}}"
BAD: dict[str, tuple[bytes, str, str]] = {
    "no JSON": (b"{", "not-json", ""),
    "nothing": (b"", "not-json", ""),
    "no UTF-8": (b'{"id": "\xff"}', "not-utf-8", ""),
    "deep": (DEEP, "too-deep", ""),
    "large": (b'{"id": "' + b"a" * (1 << 20) + b'"}', "too-large", ""),
    "unknown field": (b'{"id": "x", "nonsense": 1}', "unknown-field", "/nonsense"),
    "wrong shape": (b'{"id": 7}', "wrong-shape", "/id"),
    "no object": (b"[1]", "wrong-shape", ""),
    "NUL": (b'{"id": "x", "title": "a\\u0000b"}', "nul", "/title"),
    "half a pair": (b'{"id": "x", "fields": {"a/b": ["\\ud800"]}}', "lone-surrogate", "/fields/a~1b/0"),
    "a key twice": (b'{"id": "x", "id": "y"}', "duplicate-key", "/id"),
    "half a pair as a key, twice": (b'{"id": "x", "\\ud800": 1, "\\ud800": 2}', "duplicate-key", "/\\ud800"),
    "NaN": (b'{"id": "x", "fields": {"n": NaN}}', "not-json", ""),
    "infinite": (b'{"id": "x", "fields": {"n": 1e999}}', "number-out-of-range", "/fields/n"),
    "huge": (b'{"id": "x", "fields": {"n": 1' + b"0" * 5000 + b"}}", "number-out-of-range", "/fields/n"),
    "infinite, then the key again": (b'{"fields": {"a": 1e999, "a": 1}}', "duplicate-key", "/a"),
    "the key, then infinite": (b'{"fields": {"a": 1, "b": {"a": 1e999}}}', "number-out-of-range", "/fields/b/a"),
    "20 digits beside 5,000": (
        b'{"fields": {"a": ' + b"9" * 20 + b', "b": ' + b"9" * 5000 + b"}}",
        "number-out-of-range",
        "/fields/a",
    ),
    "infinite, then no JSON": (b'{"fields": [1e999, ', "not-json", ""),
    "over 64 bits": (b'{"id": "x", "fields": {"n": 18446744073709551616}}', "number-out-of-range", "/fields/n"),
}


async def test_bad_input_is_kept_with_its_reason_and_answered_and_touches_nobody(
    migrated_url: str, amqp_url: str
) -> None:
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        sent: dict[str, str] = {}
        good = []
        for number, (what, (body, _, _)) in enumerate(BAD.items()):
            sent[what] = await client.send(TASK, body)
            good.append(await client.send(TASK, {"id": f"good{number}"}))
        async with working(migrated_url, amqp_url):
            assert all(reply.accepted for reply in await client.answers(good))
            replies = dict(zip(BAD, await client.answers(list(sent.values())), strict=True))
        letters = {letter.header.properties.message_id: letter for letter in await dead_letters(amqp_url)}
        assert len(letters) == len(BAD)
        for what, (body, code, pointer) in BAD.items():
            letter = letters[sent[what]]
            headers = letter.header.properties.headers
            assert (headers["x-foldwork-code"], headers["x-foldwork-pointer"]) == (code, pointer), what
            assert headers["x-foldwork-detail"]
            assert (headers["tenant"], headers["x-foldwork-routing-key"]) == (TENANT, "k")
            if code == "too-large":
                assert letter.body == body[:4096]
                assert headers["x-foldwork-sha256"] == hashlib.sha256(body).hexdigest()
                assert headers["x-foldwork-bytes"] == len(body)
            else:
                assert letter.body == body
            error = replies[what].error
            assert error is not None
            assert (replies[what].outcome, error.code, error.pointer) == ("rejected", code, pointer), what
    assert created(migrated_url) == [f"good{number}" for number in range(len(BAD))]
    assert len(rows(migrated_url, "SELECT 1 FROM ledger")) == len(BAD)


ENVELOPES: list[tuple[dict[str, Any], str]] = [
    ({"message_id": None}, "missing-message-id"),
    ({"message_id": "with space"}, "bad-message-id"),
    ({"message_id": "x" * 129}, "bad-message-id"),
    ({"headers": None}, "missing-tenant"),
    ({"headers": {"tenant": "ACME"}}, "bad-tenant"),
    ({"headers": {"tenant": "../x"}}, "bad-tenant"),
    ({"headers": {"tenant": 7}}, "bad-tenant"),
    ({"message_type": "task.explode"}, "unknown-type"),
    ({"message_type": None}, "unknown-type"),
    ({"headers": {"tenant": TENANT, "actor": "a b"}}, "bad-header"),
    ({"headers": {"tenant": TENANT, "idempotency-key": ""}}, "bad-header"),
    ({"headers": {"tenant": TENANT, "expected-version": "1"}}, "bad-header"),
    ({"headers": {"tenant": TENANT, "expected-version": -1}}, "bad-header"),
]


def publish_without_id(amqp_url: str, body: bytes, given: dict[str, Any]) -> None:
    """Publish by a client that, unlike ours, makes no id up."""
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    properties = pika.BasicProperties(
        type=given["message_type"],
        headers=given["headers"],
        correlation_id=given["correlation_id"],
        reply_to=given["reply_to"],
    )
    channel = connection.channel()
    channel.confirm_delivery()
    channel.basic_publish(messages.COMMAND_EXCHANGE, "k", body, properties)
    connection.close()


async def test_a_bad_envelope_is_a_dead_letter_too(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        for number, (changed, _) in enumerate(ENVELOPES):
            given = {"message_id": f"c{number}", "message_type": TASK, "headers": {"tenant": TENANT}} | changed
            given |= {"correlation_id": f"k{number}", "reply_to": client.reply_to}
            if given["message_id"] is None:
                await asyncio.to_thread(publish_without_id, amqp_url, b'{"id": "x"}', given)
            else:
                await client.publish(b'{"id": "x"}', **given)
        replies = await client.answers([f"k{number}" for number in range(len(ENVELOPES))])
        assert [reply.error and reply.error.code for reply in replies] == [code for _, code in ENVELOPES]
        assert (await client.ask(TASK, {"id": "good"})).accepted
        letters = await dead_letters(amqp_url)
        codes = [letter.header.properties.headers["x-foldwork-code"] for letter in letters]
        assert codes == [code for _, code in ENVELOPES]
    assert created(migrated_url) == ["good"]


async def test_headers_that_fill_a_frame_still_leave_room_for_the_reason(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        stuffed = {"tenant": TENANT, "stuffing": "x" * 130_950}
        await client.publish(b"{", message_id="c", message_type=TASK, headers=stuffed)
        assert (await client.ask(TASK, {"id": "good"})).accepted
        (letter,) = await eventually_async(lambda: dead_letters(amqp_url))
        headers = letter.header.properties.headers
        assert (headers["x-foldwork-code"], headers["tenant"]) == ("unreadable", TENANT)
        stuffed["stuffing"] = "x" * 16_000
        await client.publish(b"{", message_id="d", message_type=TASK, headers=stuffed)
        (letter,) = await eventually_async(lambda: dead_letters(amqp_url))
        headers = letter.header.properties.headers
        assert (headers["x-foldwork-code"], headers["stuffing"]) == ("not-json", stuffed["stuffing"])


async def test_a_sender_speaks_for_the_tenants_of_its_user(migrated_url: str, amqp_url: str) -> None:
    # The test's own user stands for a foreign one: Foldwork connects as somebody else as far as the settings know.
    own = aiormq.abc.URL(amqp_url).user or "guest"
    async with working(migrated_url, amqp_url, amqp_senders={own: ("acme",)}) as consumer, Client(amqp_url) as client:
        consumer._buffer._settings = _Foreign(consumer._settings)  # type: ignore[assignment]
        assert (await client.ask(TASK, {"id": "a"}, properties={"user_id": own})).accepted
        other = await client.ask(TASK, {"id": "b"}, properties={"user_id": own}, tenant="other")
        assert other.error is not None
        assert other.error.code == "forbidden"
        unnamed = await client.ask(TASK, {"id": "c"})
        assert unnamed.error is not None
        assert unnamed.error.code == "forbidden"
        with pytest.raises(aiormq.exceptions.ChannelPreconditionFailed):
            await client.send(TASK, {"id": "d"}, properties={"user_id": "somebody"})
        letters = await dead_letters(amqp_url)
        codes = [letter.header.properties.headers["x-foldwork-code"] for letter in letters]
        assert codes == ["forbidden", "forbidden"]
    assert created(migrated_url) == ["a"]


class _Foreign:
    """The settings of a Foldwork whose own broker user is another one."""

    def __init__(self, own: Any) -> None:
        self._own = own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def may_send(self, user: str | None, tenant: str) -> bool:
        tenants = self._own.amqp_senders.get(user or "", ())
        return tenant in tenants or "*" in tenants


async def test_an_unexpected_failure_hurts_only_its_own_command(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail_on(monkeypatch, "boom")
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        sent = await client.send_all([*tasks(20, "a"), (TASK, {"id": "boom"}), *tasks(20, "b")])
        async with working(migrated_url, amqp_url):
            good = await client.answers([*sent[:20], *sent[21:]])
            assert all(reply.accepted for reply in good)
            reply = await client.answer(sent[20])
            assert reply.error is not None
            assert reply.error.code == "poison"
        (letter,) = await dead_letters(amqp_url)
        assert json.loads(letter.body) == {"id": "boom"}
        assert letter.header.properties.headers["x-foldwork-code"] == "poison"
        assert "5 times" in letter.header.properties.headers["x-foldwork-detail"]
    assert sorted(created(migrated_url)) == sorted(f"{prefix}{number}" for prefix in "ab" for number in range(20))
    assert rows(migrated_url, "SELECT * FROM attempts") == []


def _fail_on(monkeypatch: pytest.MonkeyPatch, task_id: str) -> None:
    from dataclasses import replace

    from domain import DECIDER_OF_COMMAND

    decider = DECIDER_OF_COMMAND[TASK]

    def decide(command: Any, context: Any) -> Any:
        if command.id == task_id:
            raise ZeroDivisionError("unexpected")
        return decider.decide(command, context)

    monkeypatch.setitem(DECIDER_OF_COMMAND, TASK, replace(decider, decide=decide))


async def test_old_receipts_go_and_idempotency_keys_stay(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        first = await client.ask(TASK, {"id": "a"}, idempotency_key="k")
        assert first.accepted
    with psycopg.connect(migrated_url) as conn:
        conn.execute("UPDATE ledger SET recorded_at = now() - interval '31 days'")
        conn.execute(
            "INSERT INTO ledger (tenant, command_id, fingerprint, recorded_at)"
            " SELECT 'acme', 'old-' || n, '', now() - interval '31 days' FROM generate_series(1, 6000) AS n"
        )
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        await eventually_async(lambda: rows(migrated_url, "SELECT count(*) FROM ledger") == [(0,)])
        again = await client.ask(TASK, {"id": "a"}, idempotency_key="k")
        assert (again.outcome, again.duplicate, again.events) == ("accepted", True, first.events)
        conflict = await client.ask(TASK, {"id": "b"}, idempotency_key="k")
        assert conflict.error is not None
        assert conflict.error.code == "idempotency-conflict"
    assert created(migrated_url) == ["a"]


async def test_a_sender_is_ready_only_when_it_can_send(amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the connection and the exchange nothing can be sent, so nobody may be told that it can."""
    seen: list[bool] = []
    sender = CommandSender(amqp_url)
    declare = topology.declare

    async def declared(channel: Any) -> None:
        seen.append(sender.ready)
        await declare(channel)

    monkeypatch.setattr(topology, "declare", declared)
    try:
        await sender.start()
        assert (seen, sender.ready) == ([False], True)
    finally:
        await sender.close()
    assert not sender.ready


async def test_small_commands_that_record_much_stop_nobody(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of these asks for an attribute of its commerce in all of its tasks."""
    most, each, count = 200_000, 60_000, 40
    monkeypatch.setattr(workers, "MAX_BATCH_BYTES", most)
    appended: list[int] = []
    append = EventStore.append

    def watched(self: EventStore, recorded: Append) -> Any:
        appended.append(sum(len(event.state) for event in recorded.events))
        return append(self, recorded)

    monkeypatch.setattr(EventStore, "append", watched)
    scene = [
        ("directory.register", {"kind": "commerce", "id": "c", "fields": {"note": "x" * each}}),
        (
            "directory.register",
            {"kind": "attribute", "id": "big", "fields": {"strategy": "UPFRONT", "source": "commerce"}},
        ),
        ("directory.register", {"kind": "dispatch", "id": "EMAIL", "fields": {"provider": "console"}}),
        (
            "workflow.define",
            {"id": "w", "name": "Visit", "steps": [{"name": f"Step {n}", "flow": "f"} for n in range(2)]},
        ),
    ]
    task = {"commerce": "c", "plan": {"channel": "EMAIL", "attribute_keys": ["big"]}}
    attack = [("activity.create", {"workflow_id": "w", "tasks": [task, task]}) for _ in range(count)]
    async with Client(amqp_url) as client:
        async with working(migrated_url, amqp_url):
            assert [(await client.ask(*command)).error for command in scene] == [None] * len(scene)
        appended.clear()
        sent = await client.send_all(attack)
        sent.append(await client.send(TASK, {"id": "theirs"}, tenant="other"))
        async with working(migrated_url, amqp_url):
            answers = await client.answers(sent)
    assert [(answer.outcome, answer.duplicate) for answer in answers] == [("accepted", False)] * (count + 1)
    positions = [event.position for answer in answers for event in answer.events]
    assert positions == sorted(positions)
    assert sum(appended) > count * 2 * each
    assert max(appended) < most + 3 * each
    assert await dead_letters(amqp_url) == []


@pytest.mark.parametrize("failure", [StatementFailed, SessionLost])
async def test_a_batch_that_the_database_does_not_take_is_halved_until_one_command_is_left(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch, failure: type[Exception]
) -> None:
    monkeypatch.setattr(settling, "LOST_PAUSE", 0.0)
    append, tried = EventStore.append, []

    def failing(self: EventStore, recorded: Append) -> Any:
        ids = [row.command_id for row in recorded.ledger]
        tried.append(len(ids))
        if "bad" in ids:
            raise failure("not taken")
        return append(self, recorded)

    monkeypatch.setattr(EventStore, "append", failing)
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        sent = await client.send_all(tasks(9))
        await client.send(TASK, {"id": "bad"}, "bad")
        sent += await client.send_all(tasks(6, "later"))
        async with working(migrated_url, amqp_url, poison_attempts=3) as consumer:
            answers = await client.answers(sent)
            (letter,) = await eventually_async(lambda: dead_letters(amqp_url))
            assert consumer.unready == []
    assert [(answer.outcome, answer.duplicate) for answer in answers] == [("accepted", False)] * 15
    assert letter.header.properties.headers["x-foldwork-code"] == "poison"
    assert created(migrated_url) == [f"t{number}" for number in range(9)] + [f"later{number}" for number in range(6)]
    assert len(tried) < 40


async def test_a_canceled_batch_is_no_outage(migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server itself ends the statement of several commands at once, and takes them in smaller batches."""
    append = EventStore.append

    def slow(self: EventStore, recorded: Append) -> Any:
        if len(recorded.ledger) > 2:
            self._fetch("SELECT pg_sleep(30)", ())
        return append(self, recorded)

    monkeypatch.setattr(EventStore, "append", slow)
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        sent = await client.send_all(tasks(8))
        async with working(migrated_url, amqp_url, statement_timeout=0.5):
            answers = await client.answers(sent)
    assert [(answer.outcome, answer.duplicate) for answer in answers] == [("accepted", False)] * 8
    assert created(migrated_url) == [f"t{number}" for number in range(8)]


async def test_what_was_recorded_before_the_database_went_away_is_answered_as_first(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "MAX_BATCH_BYTES", 1)
    append, calls = EventStore.append, []

    def away(self: EventStore, recorded: Append) -> Any:
        calls.append(len(recorded.events))
        if len(calls) in (3, 4):
            raise StoreUnavailable("away")
        return append(self, recorded)

    monkeypatch.setattr(EventStore, "append", away)
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        sent = await client.send_all(tasks(5))
        async with working(migrated_url, amqp_url):
            answers = await client.answers(sent)
    assert [(answer.outcome, answer.duplicate) for answer in answers] == [("accepted", False)] * 5
    assert calls == [1] * 7


@pytest.mark.parametrize("answering", [True, False])
async def test_commands_that_are_not_recorded_though_the_database_answers_end_the_role(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch, answering: bool
) -> None:
    def failing(self: EventStore, recorded: Append) -> Any:
        raise StoreUnavailable("of no known kind")

    append = EventStore.append
    monkeypatch.setattr(EventStore, "append", failing)
    consumer = CommandConsumer(settings(migrated_url, amqp_url, consumer_timeout=1.0))
    task = asyncio.create_task(consumer.run())
    async with Client(amqp_url) as client:
        await eventually_async(lambda: not consumer.unready)
        if not answering:

            async def reached() -> bool:
                return False

            consumer._store.reached = reached  # type: ignore[method-assign]
        sent = await client.send(TASK, {"id": "a"})
        if answering:
            with pytest.raises(NotConsuming, match=r"the database is there.*of no known kind"):
                await asyncio.wait_for(task, PATIENCE)
        else:
            failures = 6  # with growing pauses: longer than the time-out
            await eventually_async(lambda: consumer._backoff._failures >= failures or task.done())
            assert not task.done()
            monkeypatch.setattr(EventStore, "append", append)
            assert (await client.answer(sent)).accepted
            await consumer.stop()
            await task
