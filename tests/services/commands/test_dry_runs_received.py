"""Dry runs over AMQP: each is answered once, and leaves nothing behind, whatever happens to it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prometheus_client import REGISTRY

from domain import DECIDER_OF_COMMAND
from services.broker.names import COMMAND_QUEUE
from services.broker.sender import CommandSender, Outgoing
from services.commands import wire
from services.commands.wire import Reply
from tests.acceptance.test_command_line_errors import run
from tests.eventually import PATIENCE
from tests.services.commands.shared import TASK, plain
from tests.services.commands.test_dry_runs import FORBID
from tests.services.harness import Client, created, dead_letters, declare, rows, waiting, working

DRY = f"{wire.DRY_RUN}{TASK}"
# Every session of the roles writes nothing.
NO_WRITES = FORBID.replace("IF current_setting('test.dry', true) = 'on' THEN", "IF true THEN")


def forbid(database_url: str) -> None:
    with psycopg.connect(database_url) as conn:
        conn.execute(NO_WRITES)


def counted() -> float:
    return REGISTRY.get_sample_value("foldwork_commands_total", {"outcome": "dry-run"}) or 0


def code(reply: Reply) -> str | None:
    assert reply.tried
    assert reply.position is None
    return None if reply.error is None else reply.error.code


async def test_nothing_is_written_and_every_dry_run_is_answered(migrated_url: str, amqp_url: str) -> None:
    async with Client(amqp_url) as client, working(migrated_url, amqp_url):
        await client.ask(TASK, {"id": "t"})
        forbid(migrated_url)
        before = counted()
        accepted, taken = [await client.ask(DRY, {"id": task}) for task in ("new", "t")]
        assert (code(accepted), code(taken)) == (None, "taken")
        assert accepted.would_record
        assert [(each.type, each.data["id"]) for each in accepted.would_record] == [("task.created", "new")]  # type: ignore[index]
        assert (await client.ask(DRY, {"id": "new"}, idempotency_key="k", expected_version=0)).accepted
        assert code(await client.ask(DRY, {"id": "new"}, expected_version=1)) == "version-conflict"
        assert counted() == before + 4


@pytest.mark.parametrize(
    ("body", "headers", "properties", "reason"),
    [
        (b"{", {}, {}, "not-json"),
        (b'{"id": 7}', {}, {}, "wrong-shape"),
        (b'{"nonsense": 1}', {}, {}, "unknown-field"),
        (b"{}", {"actor": "no one"}, {}, "bad-header"),
        (b"{}", {"tenant": "A B"}, {}, "bad-tenant"),
        (b"{}", {}, {"message_type": "dry-run.nonsense"}, "unknown-type"),
        (b'{"id": "' + b"x" * (1 << 20) + b'"}', {}, {}, "too-large"),
    ],
)
async def test_what_is_no_command_is_answered_and_no_dead_letter(
    migrated_url: str, amqp_url: str, body: bytes, headers: Any, properties: Any, reason: str
) -> None:
    async with Client(amqp_url) as client, working(migrated_url, amqp_url):
        forbid(migrated_url)
        assert code(await client.ask(DRY, body, properties=properties, **headers)) == reason
        # The same as a command is a dead letter, which is noted.
        with psycopg.connect(migrated_url) as conn:
            conn.execute("DROP TRIGGER forbid ON dead_letter_burials")
        other = {"message_type": "nonsense"} if properties else {}
        reply = await client.ask(TASK, body, properties=other, **headers)
        assert (reply.tried, reply.error and reply.error.code) == (False, reason)
    assert len(await dead_letters(amqp_url)) == 1
    assert await waiting(amqp_url) == 0


async def test_a_dry_run_that_fails_is_answered_and_not_tried_again(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = 0

    def decide(*_: Any) -> Any:
        nonlocal tried
        tried += 1
        raise ZeroDivisionError("unexpected")

    monkeypatch.setitem(DECIDER_OF_COMMAND, TASK, replace(DECIDER_OF_COMMAND[TASK], decide=decide))
    async with Client(amqp_url) as client, working(migrated_url, amqp_url):
        forbid(migrated_url)
        assert code(await client.ask(DRY, {"id": "a"})) == "poison"
    assert tried == 1
    assert await waiting(amqp_url) == 0
    assert await dead_letters(amqp_url) == []


async def test_one_that_was_delivered_before_is_not_decided(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        dry = await client.send(DRY, {"id": "a"})
        real = await client.send(TASK, {"id": "b"})
        async with plain(amqp_url) as channel:
            # As by a worker that ends.
            got: asyncio.Queue[Any] = asyncio.Queue()
            await channel.basic_consume(COMMAND_QUEUE, got.put)
            for _ in range(2):
                assert (await got.get()).body
        async with working(migrated_url, amqp_url):
            assert code(await client.answer(dry)) == "unavailable"
            assert (await client.answer(real)).accepted
            assert code(await client.ask(DRY, {"id": "a"})) is None
    assert created(migrated_url) == ["b"]
    assert rows(migrated_url, "SELECT * FROM attempts") == []


async def test_the_sender_marks_a_dry_run(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url):
        sender = CommandSender(amqp_url)
        await sender.start()
        try:
            reply = await sender.send(Outgoing(TASK, b'{"id": "a"}', "acme", dry_run=True), PATIENCE)
        finally:
            await sender.close()
    assert reply is not None
    assert code(reply) is None
    assert created(migrated_url) == []


async def test_the_command_line_sends_dry_runs(migrated_url: str, amqp_url: str, tmp_path: Path) -> None:
    async def send(*arguments: str) -> Any:
        line = ("send", TASK, "--tenant", "acme", "--dry-run", *arguments)
        return await asyncio.to_thread(run, tmp_path, *line, amqp_url=amqp_url)

    async with Client(amqp_url) as client, working(migrated_url, amqp_url):
        await client.ask(TASK, {"id": "t"})
        done = await send("--data", '{"id": "new", "title": "Water"}', "--id", "c-1")
        assert done.returncode == 0, done.stderr
        first, second = done.stdout.splitlines()
        assert first == "dry run: accepted c-1"
        assert second.startswith('  task.created task-new version 1 {"id": "new", "title": "Water"')
        refused = await send("--data", '{"id": "t"}')
        assert refused.returncode == 1
        assert "  taken: " in refused.stdout
        malformed = await send("--data", '{"id": 7}', "--json")
        assert (malformed.returncode, wire.decode_reply(malformed.stdout.encode()).tried) == (1, True)
    silent = await send("--timeout", "0.3")
    assert (silent.returncode, "no answer yet" in silent.stdout) == (3, True)
    assert created(migrated_url) == ["t"]
