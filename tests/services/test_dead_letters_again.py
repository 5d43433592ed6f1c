"""Letters that are sent again: through the queue, as the commands that they were, and in the order of their keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from domain import DECIDER_OF_COMMAND
from services import dead_letters
from services.dead_letters import Edit, NotDone, Rules
from services.store.dead_letters import Filter
from tests.eventually import eventually_async
from tests.services.harness import TENANT, Client, created, rows, working
from tests.services.parking import TASK, WRONG, eventually_parked, parked, policing

RULES = Rules(lambda _user, _tenant: True, 1 << 20)


def retry(url: str, *message_ids: str, merge: Any = None, **how: Any) -> None:
    """Have letters sent again in one transaction."""
    with psycopg.connect(url) as conn:
        for letter_id in ids(conn, message_ids):
            dead_letters.retry(conn, TENANT, letter_id, "ops", RULES, edit=Edit(merge=merge), **how)


def ids(conn: psycopg.Connection[Any], message_ids: Sequence[str]) -> list[str]:
    found = dead_letters.select(conn, Filter(TENANT))
    by_message = {dead_letters.read(conn, TENANT, each)["message_id"]: each for each in found}
    return [by_message[each] for each in message_ids]


def outcomes(url: str) -> dict[str, tuple[Any, ...]]:
    """Return (state, outcome, code of the outcome, count) of each letter by the id of its message."""
    found = parked(url, "message_id, state, outcome, outcome_code, count")
    return {row[0]: row[1:] for row in found}


async def park(client: Client, url: str, *message_ids: str, actor: str = "system") -> None:
    """Send messages that are no commands, each about a task of its own, under one key."""
    for each in message_ids:
        await client.ask(TASK, {**WRONG, "id": each}, each, actor=actor)
    await eventually_async(lambda: set(message_ids) <= {row[0] for row in parked(url)})


async def test_an_edited_letter_is_decided_under_its_own_id_and_actor(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url), policing(migrated_url, amqp_url), Client(amqp_url) as client:
        await client.ask("directory.register", {"kind": "member", "id": "ann"})
        await park(client, migrated_url, "c1", actor="ann")
        retry(migrated_url, "c1", merge={"title": "Water the plants"})
        await eventually_async(lambda: outcomes(migrated_url)["c1"] == ("retried", "accepted", None, 1))
    assert created(migrated_url) == ["c1"]
    assert parked(migrated_url, "acted_by, retries, note") == [("ops", 1, None)]
    assert rows(migrated_url, "SELECT code FROM ledger WHERE command_id = 'c1'") == [(None,)]
    metadata = rows(migrated_url, "SELECT state FROM stored_events ORDER BY notification_id DESC LIMIT 1")[0][0]
    assert b'"ann"' in bytes(metadata)


async def test_the_rights_of_the_actor_are_those_at_the_time_and_a_refusal_is_kept(
    migrated_url: str, amqp_url: str
) -> None:
    async with working(migrated_url, amqp_url), policing(migrated_url, amqp_url), Client(amqp_url) as client:
        await client.ask("directory.register", {"kind": "member", "id": "ann"})
        await park(client, migrated_url, "c1", actor="ann")
        await client.ask("directory.retire", {"kind": "member", "id": "ann"})
        retry(migrated_url, "c1", merge={"title": "x"})
        await eventually_async(lambda: outcomes(migrated_url)["c1"][:3] == ("retried", "rejected", "forbidden"))
    assert created(migrated_url) == []


async def test_one_that_dies_again_is_the_same_letter_parked_again(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = True
    decider = DECIDER_OF_COMMAND[TASK]

    def decide(command: Any, context: Any) -> Any:
        if broken:
            raise RuntimeError("broken")
        return decider.decide(command, context)

    monkeypatch.setitem(DECIDER_OF_COMMAND, TASK, replace(decider, decide=decide))
    async with working(migrated_url, amqp_url), policing(migrated_url, amqp_url), Client(amqp_url) as client:
        await park(client, migrated_url, "c1")
        for count in (2, 3):
            retry(migrated_url, "c1", merge={"title": "x"})
            await eventually_async(lambda count=count: outcomes(migrated_url)["c1"] == ("parked", None, None, count))
            assert parked(migrated_url, "code, pointer") == [("poison", "")]
        broken = False
        retry(migrated_url, "c1")
        await eventually_async(lambda: outcomes(migrated_url)["c1"] == ("retried", "accepted", None, 3))
    assert created(migrated_url) == ["c1"]


async def test_letters_of_one_key_are_sent_one_after_the_other_until_one_fails(
    migrated_url: str, amqp_url: str
) -> None:
    names = [f"c{number}" for number in range(5)]
    async with working(migrated_url, amqp_url), policing(migrated_url, amqp_url), Client(amqp_url) as client:
        await park(client, migrated_url, *names)
        with pytest.raises(NotDone, match="older-letter"):
            retry(migrated_url, "c1", merge={"title": "x"})
        # What the third is about is there already.
        assert (await client.ask(TASK, {"id": "c2"})).accepted
        retry(migrated_url, *names, merge={"title": "x"})
        wanted = ["retried"] * 3 + ["parked"] * 2
        await eventually_async(lambda: [row[3] for row in parked(migrated_url)] == wanted)
        assert outcomes(migrated_url)["c2"][1:3] == ("rejected", "taken")
        assert created(migrated_url) == ["c2", "c0", "c1"]
        retry(migrated_url, "c4", merge={"title": "x"}, out_of_order=True)
        await eventually_async(lambda: outcomes(migrated_url)["c4"][:2] == ("retried", "accepted"))
    assert parked(migrated_url, "message_id, state")[3] == ("c3", "parked")


async def test_a_letter_is_sent_once_there_is_a_broker_and_decided_once_there_is_a_worker(
    migrated_url: str, amqp_url: str
) -> None:
    async with working(migrated_url, amqp_url), policing(migrated_url, amqp_url), Client(amqp_url) as client:
        await park(client, migrated_url, "c1")
    retry(migrated_url, "c1", merge={"title": "x"})
    async with policing(migrated_url, "amqp://127.0.0.1:1/none", ready=False):
        await eventually_async(lambda: parked(migrated_url, "state, sends > 0") == [("retrying", True)])
    async with policing(migrated_url, amqp_url):
        await eventually_async(lambda: parked(migrated_url, "due_at > now() + interval '20 s'") == [(True,)])
        assert outcomes(migrated_url)["c1"][0] == "retrying"
        async with working(migrated_url, amqp_url):
            await eventually_async(lambda: outcomes(migrated_url)["c1"][:2] == ("retried", "accepted"))


async def test_an_id_that_another_command_took_meanwhile_is_said(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url), policing(migrated_url, amqp_url), Client(amqp_url) as client:
        await park(client, migrated_url, "c1")
        await client.ask(TASK, {"id": "other"}, "c1")
        retry(migrated_url, "c1", merge={"title": "x"})
        wanted = ("retried", "rejected", "command-id-conflict", 1)
        await eventually_async(lambda: outcomes(migrated_url)["c1"] == wanted)
    assert created(migrated_url) == ["other"]


async def test_old_letters_go_and_parked_ones_stay(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url), policing(migrated_url, amqp_url), Client(amqp_url) as client:
        await park(client, migrated_url, "c1", "c2", "c3")
        with psycopg.connect(migrated_url) as conn:
            first, second, _ = ids(conn, ("c1", "c2", "c3"))
            for each in (first, second):
                dead_letters.discard(conn, TENANT, each, "ops", "a test")
    old = "UPDATE dead_letters SET acted_at = now() - interval '40 days', first_at = now() - interval '40 days'"
    with psycopg.connect(migrated_url, autocommit=True) as conn:
        conn.execute(f"{old} WHERE message_id <> 'c2'")
    async with policing(migrated_url, amqp_url):
        await eventually_async(lambda: sorted(outcomes(migrated_url)) == ["c2", "c3"])
    await eventually_parked(migrated_url, 1)


async def test_nobody_gains_rights_by_naming_another_sender(migrated_url: str, amqp_url: str) -> None:
    given: dict[str, Any] = {"amqp_senders": {"app": ("other",)}}
    async with working(migrated_url, amqp_url, **given), Client(amqp_url) as client:
        own = {"user_id": "guest"}
        assert (await client.ask(TASK, {"id": "t1"}, properties=own)).accepted
        for sender in ("app", "", 7):
            reply = await client.ask(TASK, {"id": "t2"}, properties=own, **{"sent-by": sender})
            assert reply.error is not None
            assert reply.error.code == "forbidden"
        reply = await client.ask(TASK, {"id": "t2"}, **{"sent-by": "guest"})
        assert reply.error is not None
        assert reply.error.code == "forbidden"
    assert created(migrated_url) == ["t1"]
