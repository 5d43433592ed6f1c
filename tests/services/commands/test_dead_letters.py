"""A message that is no command is a dead letter with its reason, whatever it holds, and touches nobody else."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import Callable
from typing import Any

import aiormq
import pika
import pytest
from structlog.testing import capture_logs

from services.broker import dead_letters as letters
from services.broker import names
from services.broker.connection import connect_robust
from services.broker.dead_letters import kept_headers
from services.broker.frames.reader import Frames
from services.broker.names import COMMAND_QUEUE, DEAD_EXCHANGE, DEAD_QUEUE
from services.commands import wire
from services.commands.consumer import CommandConsumer
from services.settings import Settings
from tests.eventually import eventually_async
from tests.services.commands.shared import TASK, code, plain
from tests.services.harness import TENANT, Client, created, dead_letters, declare, rows, settings, waiting, working


def test_headers_that_no_client_can_write_are_kept_as_text() -> None:
    odd = {"tenant": b"acm\xe9", "list": [b"\xff", 1], "table": {"deep": b"\xfe"}}
    assert kept_headers(odd) == {"tenant": "acm\\xe9", "list": ["\\xff", 1], "table": {"deep": "\\xfe"}}
    assert kept_headers({"tenant": "acme", "object": object()}) == {"tenant": "acme"}
    assert kept_headers({"tenant": "acme", "long": "x" * 70_000}) == {"tenant": "acme"}


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
    channel.basic_publish(names.COMMAND_EXCHANGE, "k", body, properties)
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
        # Each is buried by itself, and those of different keys in any order.
        assert sorted(codes) == sorted(code for _, code in ENVELOPES)
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


@pytest.mark.parametrize("error", [ZeroDivisionError("why"), RecursionError(), type("Panic", (BaseException,), {})()])
async def test_whatever_reading_a_message_raises_it_is_a_dead_letter(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    parse_data = wire.parse_data

    def failing(name: str, body: bytes, *rest: Any) -> Any:
        if b"boom" in body:
            raise error
        return parse_data(name, body, *rest)

    monkeypatch.setattr(wire, "parse_data", failing)
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        with capture_logs() as logs:
            refused = await client.ask(TASK, {"id": "boom"})
        assert refused.error is not None
        assert refused.error.code == "unreadable"
        assert "cannot parse a message" in [line["event"] for line in logs]
        assert (await client.ask(TASK, {"id": "good"})).accepted
        (letter,) = await dead_letters(amqp_url)
        assert (code(letter), json.loads(letter.body)) == ("unreadable", {"id": "boom"})


async def test_what_somebody_may_not_send_is_never_parsed(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[bytes] = []
    monkeypatch.setattr(wire, "parse_data", lambda name, body, *rest: parsed.append(body))
    monkeypatch.setattr(Settings, "may_send", lambda self, user, tenant: False)
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        refused = await client.ask(TASK, b'{"fields": {"a": 1e999, "a": 1}}')
        assert refused.error is not None
        assert refused.error.code == "forbidden"
    assert parsed == []


def _change_letters(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], None]) -> None:
    whole = letters.whole_letter

    def changed(*arguments: Any) -> Any:
        letter = whole(*arguments)
        change(letter)
        return letter

    monkeypatch.setattr(letters, "whole_letter", changed)


async def test_a_letter_that_the_broker_refuses_is_cut_and_its_neighbours_are_whole(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(letter: Any) -> None:
        if b"odd" in letter.body:
            letter.user_id = "somebody"  # for which any broker closes the channel

    _change_letters(monkeypatch, refused)
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        sent = [await client.send(TASK, b"{" + what) for what in (b"a", b"odd", b"b", b"odd", b"c")]
        assert [reply.error and reply.error.code for reply in await client.answers(sent)] == ["not-json"] * 5
        assert (await client.ask(TASK, {"id": "good"})).accepted
        found = await dead_letters(amqp_url)
        # One whose confirm the closing of the channel overtook is published again.
        assert sorted({letter.body for letter in found}) == [b"", b"{a", b"{b", b"{c"]
        bare = next(letter for letter in found if not letter.body).header.properties.headers
        bare.pop("x-delivery-count", None)  # RabbitMQ's own
        assert bare.pop("x-foldwork-letter")
        assert bare == {
            "tenant": TENANT,
            "x-foldwork-code": "not-json",
            "x-foldwork-routing-key": "k",
            "x-foldwork-sha256": hashlib.sha256(b"{odd").hexdigest(),
            "x-foldwork-bytes": 4,
        }
    assert await waiting(amqp_url) == 0


async def test_a_letter_that_ends_the_connection_is_cut_in_the_end(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In one frame, which is too large.
    _change_letters(monkeypatch, lambda letter: letter.headers.update(x="y" * 200_000))
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        await client.send(TASK, b"{")
        (letter,) = await eventually_async(lambda: dead_letters(amqp_url))
        assert (code(letter), letter.body) == ("not-json", b"")
        assert (await client.ask(TASK, {"id": "good"})).accepted


async def test_ids_that_grow_when_they_are_read_are_cut_to_what_can_be_sent(amqp_url: str) -> None:
    message: Any = letters.Message(1, False, "é" * 300)
    message.body = b"{"
    for name in ("message_id", "message_type", "correlation_id", "content_type"):
        setattr(message.properties, name, "\\xff" * 255 + "é")
    message.properties.headers = {"tenant": "é" * 100, "bad": object(), "long": "x" * 70_000, "few": [b"\xff"]}
    await declare(amqp_url)
    frames = Frames()
    connection = await connect_robust(amqp_url, "test", frames)
    try:
        dead = letters.DeadLetters(connection, frames, "guest")
        await dead.open()
        reason = wire.InvalidMessage("bad", "é" * 2000, "/" + "é" * 2000)
        assert await dead.bury([(message, reason, str(uuid.uuid4()))] * 3) == [True] * 3
    finally:
        await connection.close()
    letter = (await dead_letters(amqp_url))[0].header.properties
    for text in (letter.message_id, letter.message_type, letter.correlation_id, letter.content_type):
        assert 250 < len(text.encode()) <= 255
    assert (letter.headers["tenant"], letter.headers["few"]) == ("é" * 100, ["\\xff"])
    assert {"bad", "long"}.isdisjoint(letter.headers)


async def test_what_is_deleted_is_declared_again_and_no_letter_is_lost(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        async with plain(amqp_url) as channel:
            await channel.queue_delete(DEAD_QUEUE)
        sent = await client.send(TASK, b"{")
        assert (await client.answer(sent)).error is not None
        assert [code(letter) for letter in await dead_letters(amqp_url)] == ["not-json"]
        async with plain(amqp_url) as channel:
            await channel.exchange_delete(DEAD_EXCHANGE)
        sent = await client.send(TASK, b"{")
        assert (await client.answer(sent)).error is not None
        assert [code(letter) for letter in await dead_letters(amqp_url)] == ["not-json"]


async def test_many_bad_messages_are_put_aside_together(migrated_url: str, amqp_url: str) -> None:
    """Their confirms are awaited together, also of those that were delivered before; a good one need not wait long."""
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        for _ in range(200):
            await client.send(TASK, b"{")
        async with plain(amqp_url) as channel:
            queue = await channel.queue_declare(COMMAND_QUEUE, passive=True)
            assert queue.message_count == 200
        consumer = CommandConsumer(settings(migrated_url, amqp_url))
        waves: list[int] = []
        bury = consumer.outbox.bury

        async def watched(dead: Any) -> list[bool]:
            waves.append(len(dead))
            return await bury(dead)

        consumer.outbox.bury = watched  # type: ignore[method-assign]
        task = asyncio.create_task(consumer.run())
        assert (await client.ask(TASK, {"id": "good"})).accepted
        await consumer.stop()
        await task
    assert sum(waves) == 200
    assert len(waves) < 20
    assert len(await dead_letters(amqp_url)) == 200


async def test_a_flood_of_bad_messages_delays_no_other_tenant(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All under one id, by which a library that matches returned messages could send them only one by one."""
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        bad = await asyncio.gather(*(client.send(TASK, b"{", "same") for _ in range(1000)))
        good = await client.send(TASK, {"id": "good"}, tenant="other")
        consumer = CommandConsumer(settings(migrated_url, amqp_url))
        bury, waves, held = consumer.outbox.bury, list[int](), asyncio.Event()

        async def watched(dead: Any) -> list[bool]:
            waves.append(len(dead))
            await held.wait()
            return await bury(dead)

        monkeypatch.setattr(consumer.outbox, "bury", watched)
        task = asyncio.create_task(consumer.run())
        # The good command is answered although no letter is confirmed.
        assert (await client.answer(good)).accepted
        held.set()
        await eventually_async(lambda: len(client.replies.get("same", ())) == len(bad))
        await eventually_async(lambda: consumer.buffer.held == 0)
        await consumer.stop()
        await task
    assert sum(waves) == 1000
    assert len(waves) < 20
    assert len(await dead_letters(amqp_url)) == 1000


async def test_a_dead_letter_names_the_broker_user_that_sent_it(migrated_url: str, amqp_url: str) -> None:
    user = aiormq.abc.URL(amqp_url).user or "guest"
    forged = {"tenant": TENANT, "x-foldwork-user": "forged"}
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        for number, given in enumerate(({"user_id": user}, {})):
            sent = {"message_type": TASK, "reply_to": client.reply_to, "correlation_id": f"c{number}"}
            await client.publish(b"{", message_id="m", headers=forged, **sent, **given)
        await client.answers(["c0", "c1"])
    named, unnamed = (letter.header.properties.headers for letter in await dead_letters(amqp_url))
    assert named["x-foldwork-user"] == user
    assert "x-foldwork-user" not in unnamed


async def test_large_headers_are_a_dead_letter_of_their_tenant(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        await client.send(TASK, {"id": "a"}, x="x" * 17_000)
        assert (await client.ask(TASK, {"id": "b"}, x="x" * 15_000)).accepted
        (letter,) = await eventually_async(lambda: dead_letters(amqp_url))
        assert code(letter) == "unreadable"
        assert letter.header.properties.headers["tenant"] == TENANT
