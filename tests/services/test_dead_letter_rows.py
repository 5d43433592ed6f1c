"""The queue of dead letters is emptied into the database: each message once, whatever it holds and whatever fails."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import psycopg
import pytest

from services.broker import names
from tests.eventually import eventually_async
from tests.services.commands.test_dead_letters import BAD
from tests.services.harness import TENANT, Client, declare, rows, waiting, working
from tests.services.parking import TASK, WRONG, eventually_parked, parked, policing
from tests.services.processes import nursery


async def test_every_message_that_is_no_command_is_a_row_with_its_reason_and_its_bytes(
    migrated_url: str, amqp_url: str
) -> None:
    async with working(migrated_url, amqp_url), policing(migrated_url, amqp_url), Client(amqp_url) as client:
        sent = {await client.send(TASK, body): what for what, (body, _, _) in BAD.items()}
        await eventually_parked(migrated_url, len(BAD))
        await eventually_async(lambda: emptied(amqp_url))
    found = {row[0]: row[1:] for row in parked(migrated_url, "message_id, code, pointer, body, bytes, tenant, key")}
    for message_id, what in sent.items():
        body, code, pointer = BAD[what]
        kept = body[:4096] if code == "too-large" else body
        assert found[message_id] == (code, pointer, kept, len(body), TENANT, "k"), what


async def emptied(amqp_url: str) -> bool:
    return await left(amqp_url, 0)


async def left(amqp_url: str, count: int) -> bool:
    return await waiting(amqp_url, names.DEAD_QUEUE) == count


async def test_the_same_message_again_is_counted_and_another_is_a_row_of_its_own(
    migrated_url: str, amqp_url: str
) -> None:
    async with working(migrated_url, amqp_url), policing(migrated_url, amqp_url), Client(amqp_url) as client:
        for _ in range(3):
            await client.ask(TASK, WRONG, "same")
        await client.ask(TASK, {**WRONG, "title": 8}, "same")
        await eventually_parked(migrated_url, 2)
        await eventually_async(lambda: [row[2] for row in parked(migrated_url)] == [3, 1])
    fingerprints = {row[0] for row in parked(migrated_url, "fingerprint")}
    assert len(fingerprints) == 1


async def test_what_names_no_tenant_or_a_foreign_one_belongs_to_nobody(migrated_url: str, amqp_url: str) -> None:
    senders = {"somebody": ("other",)}
    given: dict[str, Any] = {"amqp_senders": senders}
    async with (
        working(migrated_url, amqp_url, **given),
        policing(migrated_url, amqp_url, **given),
        Client(amqp_url) as client,
    ):
        await client.publish(b"{}", headers={"tenant": "ACME"}, message_id="bad", message_type=TASK)
        await client.publish(b"{}", headers={"tenant": TENANT}, message_id="forged", message_type=TASK)
        # The broker itself makes a letter of it, and nobody has looked at who sent it.
        forged = {"tenant": TENANT, "x-foldwork-code": "poison", "x-foldwork-user": "guest"}
        await client.publish(b"{}", names.DEAD_EXCHANGE, headers=forged, message_id="expired", message_type=TASK)
        await eventually_parked(migrated_url, 3)
    found = {row[0]: row[1:] for row in parked(migrated_url, "message_id, tenant, code, broker_user")}
    assert found == {
        "bad": (None, "bad-tenant", None),
        "forged": (None, "forbidden", None),
        "expired": (None, "poison", None),
    }


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"tenant": TENANT, "x-death": [{"reason": "delivery_limit", "queue": "foldwork.commands"}]},
        {"tenant": TENANT, "x-foldwork-code": "x" * 5000, "x-foldwork-letter": "no uuid", "x-foldwork-bytes": -1},
        {
            "tenant": TENANT,
            "deep": {"bytes": bytearray(b"\xff\x00"), "list": [bytearray(b"\xfe")]},
            "x-foldwork-sha256": "zz",
        },
        {"tenant": TENANT, "large": "x" * 60_000, "x-foldwork-code": "poison"},
    ],
)
async def test_whatever_lies_in_the_queue_is_stored(migrated_url: str, amqp_url: str, headers: dict[str, Any]) -> None:
    await declare(amqp_url)
    body = b"\x00\xff" * (600 << 10)
    async with Client(amqp_url) as client:
        await client.publish(body, names.DEAD_EXCHANGE, headers=headers, message_id="a\x00b", message_type="t\x00")
        async with policing(migrated_url, amqp_url, command_limit=2 << 20):
            await eventually_parked(migrated_url, 1)
            await eventually_async(lambda: emptied(amqp_url))
    ((message_id, kind, stored),) = parked(migrated_url, "message_id, type, body")
    assert (message_id, kind, stored) == ("a\\x00b", "t\\x00", body)
    json.loads(parked(migrated_url, "headers")[0][0])


async def test_a_process_that_dies_before_the_acknowledgement_loses_and_doubles_nothing(
    migrated_url: str, amqp_url: str
) -> None:
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        for number in range(20):
            await client.ask(TASK, {**WRONG, "id": f"t{number}"}, f"c{number}")
    env = {"database_url": migrated_url, "amqp_url": amqp_url, "test_build": "1", "crash_at": "after-stored-letters"}
    with nursery().start("policies", env=env) as process:
        assert await process.ended() == -9
    stored = parked(migrated_url)
    assert stored
    # The broker has all of them again.
    await eventually_async(lambda: left(amqp_url, 20))
    async with policing(migrated_url, amqp_url):
        await eventually_parked(migrated_url, 20)
        await eventually_async(lambda: emptied(amqp_url))
    assert [row[:3] for row in parked(migrated_url)] == [(f"c{number}", "wrong-shape", 1) for number in range(20)]


async def test_letters_wait_in_the_broker_while_the_database_is_away(migrated_url: str, amqp_url: str) -> None:
    blocked = (
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'foldwork-dead-letters'"
        " AND datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with (
        working(migrated_url, amqp_url),
        policing(migrated_url, amqp_url) as role,
        Client(amqp_url) as client,
    ):
        with psycopg.connect(migrated_url) as session:
            # Nobody can write to the table, and whoever tries is ended.
            session.execute("LOCK TABLE dead_letters IN EXCLUSIVE MODE")
            await client.ask(TASK, WRONG, "c1")
            ended = await eventually_async(lambda: rows(migrated_url, blocked))
            rows(migrated_url, "SELECT pg_terminate_backend(%s)", ended[0][0])
        await eventually_async(lambda: len(parked(migrated_url)) == 1)
        await eventually_async(lambda: emptied(amqp_url))
        await eventually_async(lambda: not role.unready)
    assert parked(migrated_url) == [("c1", "wrong-shape", 1, "parked")]


async def test_two_processes_share_the_queue(migrated_url: str, amqp_url: str) -> None:
    async with (
        working(migrated_url, amqp_url),
        policing(migrated_url, amqp_url),
        policing(migrated_url, amqp_url),
        Client(amqp_url) as client,
    ):
        await asyncio.gather(*(client.ask(TASK, {**WRONG, "id": f"t{each}"}, f"c{each}") for each in range(100)))
        await eventually_parked(migrated_url, 100)
        await eventually_async(lambda: emptied(amqp_url))
    assert {row[1:] for row in parked(migrated_url)} == {("wrong-shape", 1, "parked")}
