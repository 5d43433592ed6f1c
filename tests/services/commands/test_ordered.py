"""An ordered command does not overtake a dead letter of its routing key: it waits as one itself, and goes then."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from domain import DECIDER_OF_COMMAND
from services import dead_letters
from services.broker.sender import CommandSender, Outgoing
from services.commands.wire import Reply
from services.dead_letters import Edit, Rules
from services.store import dead_letter_order
from services.store.dead_letters import Filter
from services.store.unavailable import StoreUnavailable
from tests.eventually import eventually_async
from tests.services.harness import TENANT, Client, created, declare, rows, waiting, working
from tests.services.parking import TASK, WRONG, eventually_parked, parked, policing

RULES = Rules(lambda _user, _tenant: True, 1 << 20)


def letter_of(url: str, message_id: str) -> str:
    return str(rows(url, "SELECT id FROM dead_letters WHERE message_id = %s", message_id)[0][0])


def retry(url: str, message_id: str, **how: Any) -> None:
    with psycopg.connect(url) as conn:
        dead_letters.retry(conn, TENANT, letter_of(url, message_id), "ops", RULES, **how)


def repaired(url: str, message_id: str, **data: Any) -> None:
    """Have a letter sent again with a title that is one."""
    retry(url, message_id, edit=Edit(merge={"title": "x", **data}))


def discard(url: str, message_id: str) -> None:
    with psycopg.connect(url) as conn:
        dead_letters.discard(conn, TENANT, letter_of(url, message_id), "ops", "not needed")


async def task(client: Client, name: str, *, ordered: bool = True, **headers: Any) -> Reply:
    """Create a task under the id of its command, and return the answer."""
    return await client.ask(TASK, {"id": name}, name, **({"ordered": True} if ordered else {}), **headers)


async def wrong(client: Client, name: str) -> None:
    """Send what is no command."""
    assert (await client.ask(TASK, {**WRONG, "id": name}, name)).outcome == "rejected"


def states(url: str) -> dict[str, str]:
    return dict(parked(url, "message_id, state || coalesce(' ' || outcome, '')"))


async def eventually_created(url: str, *names: str) -> None:
    await eventually_async(lambda: len(created(url)) >= len(names))
    assert created(url) == list(names)


async def test_it_waits_behind_a_letter_and_goes_in_its_order_once_that_is_accepted(
    migrated_url: str, amqp_url: str
) -> None:
    async with working(migrated_url, amqp_url), policing(migrated_url, amqp_url), Client(amqp_url) as client:
        await wrong(client, "m")
        answers = [await task(client, name) for name in ("w1", "w2", "w3")]
        await eventually_parked(migrated_url, 4)
        letters = [letter_of(migrated_url, name) for name in ("m", "w1", "w2")]
        for number, answer in enumerate(answers, 1):
            assert (answer.outcome, answer.accepted, answer.position) == ("parked", False, None)
            assert answer.error is not None
            assert answer.error.code == "waits"
            # The first one, or a later one that its worker has not put aside yet.
            assert any(letter in answer.error.detail for letter in letters[:number])
        # Others flow.
        assert (await task(client, "plain", ordered=False)).accepted
        assert (await task(client, "other", tenant="other")).accepted
        sender = CommandSender(amqp_url)
        await sender.start()
        elsewhere = Outgoing(TASK, b'{"id": "elsewhere"}', TENANT, routing_key="other key", ordered=True)
        reply = await sender.send(elsewhere, 10)
        assert reply is not None
        assert reply.accepted
        await sender.close()
        repaired(migrated_url, "m")
        await eventually_created(migrated_url, "plain", "other", "elsewhere", "m", "w1", "w2", "w3")
        await eventually_async(lambda: set(states(migrated_url).values()) == {"retried accepted"})
        # Nothing is left that anything would wait for.
        assert (await task(client, "w4")).accepted
        # A command that took effect is answered as before, whatever is parked now.
        await wrong(client, "m2")
        assert (await task(client, "w4")).duplicate


async def test_it_goes_once_what_is_before_it_is_discarded_and_stays_behind_the_next_letter(
    migrated_url: str, amqp_url: str
) -> None:
    async with working(migrated_url, amqp_url), policing(migrated_url, amqp_url), Client(amqp_url) as client:
        await wrong(client, "m1")
        await task(client, "w1")
        await wrong(client, "m2")
        await task(client, "w2")
        await eventually_parked(migrated_url, 4)
        discard(migrated_url, "m1")
        await eventually_created(migrated_url, "w1")
        await eventually_async(lambda: states(migrated_url)["w1"] == "retried accepted")
        assert states(migrated_url)["w2"] == "parked"
        discard(migrated_url, "m2")
        await eventually_created(migrated_url, "w1", "w2")


async def test_behind_a_refusal_the_next_one_waits_for_a_decision_and_the_others_for_it(
    migrated_url: str, amqp_url: str
) -> None:
    async with working(migrated_url, amqp_url), policing(migrated_url, amqp_url), Client(amqp_url) as client:
        await wrong(client, "m")
        await task(client, "w1")
        await task(client, "w2")
        assert (await task(client, "taken", ordered=False)).accepted
        await eventually_parked(migrated_url, 3)
        repaired(migrated_url, "m", id="taken")
        await eventually_async(lambda: states(migrated_url)["m"] == "retried rejected")
        assert parked(migrated_url, "message_id, state, waits")[1:] == [("w1", "parked", False), ("w2", "parked", True)]
        assert (await task(client, "w3")).outcome == "parked"
        retry(migrated_url, "w1")
        await eventually_created(migrated_url, "taken", "w1", "w2", "w3")


async def test_one_that_is_dead_again_holds_up_those_behind_it(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url), policing(migrated_url, amqp_url), Client(amqp_url) as client:
        await wrong(client, "m")
        await task(client, "w1")
        await eventually_parked(migrated_url, 2)
        with psycopg.connect(migrated_url) as conn:
            # As if the version that sends it again knew no such field any more.
            conn.execute("UPDATE dead_letters SET body = '{\"nonsense\": 1}' WHERE message_id = 'w1'")
        await task(client, "w2")
        discard(migrated_url, "m")
        await eventually_async(lambda: parked(migrated_url, "waits") == [(False,), (False,), (True,)])
        assert created(migrated_url) == []
        discard(migrated_url, "w1")
        await eventually_created(migrated_url, "w2")


async def test_an_operator_may_send_it_out_of_order(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url), policing(migrated_url, amqp_url), Client(amqp_url) as client:
        await wrong(client, "m")
        await task(client, "w1")
        await task(client, "w2")
        await eventually_parked(migrated_url, 3)
        with pytest.raises(dead_letters.NotDone, match="older-letter"):
            retry(migrated_url, "w2")
        retry(migrated_url, "w2", out_of_order=True)
        await eventually_created(migrated_url, "w2")
        assert states(migrated_url)["w1"] == "parked"


async def test_many_go_in_order_while_more_come(migrated_url: str, amqp_url: str) -> None:
    names = [f"w{number:03}" for number in range(120)]
    async with working(migrated_url, amqp_url), policing(migrated_url, amqp_url), Client(amqp_url) as client:
        await wrong(client, "m")
        for name in names[:80]:
            await client.send(TASK, {"id": name}, name, ordered=True)
        await eventually_parked(migrated_url, 81)
        discard(migrated_url, "m")
        for name in names[80:]:
            await client.send(TASK, {"id": name}, name, ordered=True)
        await eventually_async(lambda: len(created(migrated_url)) == len(names))
        assert created(migrated_url) == names


@pytest.mark.parametrize("batch", [1, 200])
async def test_it_knows_of_a_letter_that_has_no_row_yet(migrated_url: str, amqp_url: str, batch: int) -> None:
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        await task_sent(client, "first")
        await client.send(TASK, {**WRONG, "id": "m"}, "m")
        await task_sent(client, "w1")
        await client.send(TASK, {"id": "plain"}, "plain")
        async with working(migrated_url, amqp_url, batch_size=batch):
            answers = await client.answers(["first", "m", "w1", "plain"])
            assert [each.outcome for each in answers] == ["accepted", "rejected", "parked", "accepted"]
            assert (await task(client, "w2")).outcome == "parked"
        # Another worker, and still nobody who stores letters.
        async with working(migrated_url, amqp_url, batch_size=batch):
            assert (await task(client, "w3")).outcome == "parked"
            assert parked(migrated_url) == []
            async with policing(migrated_url, amqp_url):
                await eventually_parked(migrated_url, 4)
                assert [row[0] for row in parked(migrated_url)] == ["m", "w1", "w2", "w3"]
                assert (await task(client, "w4")).outcome == "parked"
                repaired(migrated_url, "m")
                await eventually_created(migrated_url, "first", "plain", "m", "w1", "w2", "w3", "w4")


async def task_sent(client: Client, name: str) -> None:
    await client.send(TASK, {"id": name}, name, ordered=True)


@pytest.mark.parametrize("headers", [{"actor": "no id!"}, {"expected_version": "1"}])
async def test_it_knows_of_a_message_whose_headers_are_wrong_but_not_of_one_that_came_later(
    migrated_url: str, amqp_url: str, headers: dict[str, Any]
) -> None:
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        await task_sent(client, "before")
        await client.send(TASK, {"id": "m"}, "m", **headers)
        await task_sent(client, "after")
        async with working(migrated_url, amqp_url):
            answers = await client.answers(["before", "m", "after"])
            assert [each.outcome for each in answers] == ["accepted", "rejected", "parked"]


async def test_what_nobody_may_send_holds_up_nothing(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url, amqp_senders={"somebody": [TENANT]}), Client(amqp_url) as client:
        guest = {"user_id": "guest"}
        forged = await client.ask(TASK, {**WRONG, "id": "m"}, "m", sent_by="nobody", properties=guest)
        assert forged.error is not None
        assert forged.error.code == "forbidden"
        tried = await client.ask(TASK, WRONG, "dry", properties={**guest, "message_type": f"dry-run.{TASK}"})
        assert (tried.tried, tried.outcome) == (True, "rejected")
        assert (await task(client, "w", properties=guest)).accepted


async def test_a_command_that_is_tried_again_is_not_overtaken_whatever_becomes_of_it(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = {"poison": 100, "shaky": 2}
    decider = DECIDER_OF_COMMAND[TASK]

    def decide(command: Any, context: Any) -> Any:
        if failures.get(command.id, 0) > 0:
            failures[command.id] -= 1
            raise RuntimeError("broken")
        return decider.decide(command, context)

    monkeypatch.setitem(DECIDER_OF_COMMAND, TASK, replace(decider, decide=decide))
    await declare(amqp_url)
    async with Client(amqp_url) as client, policing(migrated_url, amqp_url):
        for name in ("shaky", "w1"):
            await task_sent(client, name)
        async with working(migrated_url, amqp_url):
            await eventually_created(migrated_url, "shaky", "w1")
            await eventually_async(lambda: "parked" not in states(migrated_url).values())
            await task_sent(client, "poison")
            await task_sent(client, "w2")
            await eventually_async(lambda: ("poison", "poison") in parked(migrated_url, "message_id, code"))
            assert created(migrated_url) == ["shaky", "w1"]
            discard(migrated_url, "poison")
            await eventually_created(migrated_url, "shaky", "w1", "w2")


async def test_a_dry_run_says_that_it_would_wait_and_leaves_nothing(migrated_url: str, amqp_url: str) -> None:
    async with working(migrated_url, amqp_url), policing(migrated_url, amqp_url), Client(amqp_url) as client:
        await wrong(client, "m")
        tried = await client.ask(TASK, {"id": "t"}, ordered=True, properties={"message_type": f"dry-run.{TASK}"})
        assert (tried.outcome, tried.tried) == ("parked", True)
        assert tried.error is not None
        assert tried.error.code == "waits"
        await eventually_parked(migrated_url, 1)


@pytest.mark.parametrize("value", ["true", 1, None, ["true"]])
async def test_a_value_that_is_no_boolean_is_refused(migrated_url: str, amqp_url: str, value: Any) -> None:
    async with working(migrated_url, amqp_url), Client(amqp_url) as client:
        answer = await client.ask(TASK, {"id": "t"}, ordered=value)
        assert answer.error is not None
        assert (answer.error.code, answer.error.detail) == ("bad-header", "ordered is true or false")
        assert (await client.ask(TASK, {"id": "t"}, ordered=False)).accepted
    assert created(migrated_url) == ["t"]


async def test_workers_that_take_over_from_each_other_keep_the_order(migrated_url: str, amqp_url: str) -> None:
    names = [f"w{number}" for number in range(6)]
    async with Client(amqp_url) as client, AsyncExitStack() as second:
        async with working(migrated_url, amqp_url):
            await second.enter_async_context(working(migrated_url, amqp_url))
            await wrong(client, "m")
            for name in names[:3]:
                assert (await task(client, name)).outcome == "parked"
        for name in names[3:]:
            assert (await task(client, name)).outcome == "parked"
        assert created(migrated_url) == []
        async with policing(migrated_url, amqp_url), policing(migrated_url, amqp_url):
            await eventually_parked(migrated_url, 7)
            repaired(migrated_url, "m")
            await eventually_created(migrated_url, "m", *names)


async def test_letters_that_arrive_in_another_order_keep_theirs(migrated_url: str, amqp_url: str) -> None:
    async with Client(amqp_url) as client:
        async with working(migrated_url, amqp_url), policing(migrated_url, amqp_url):
            await wrong(client, "m")
            for name in ("w1", "w2"):
                assert (await task(client, name)).outcome == "parked"
            await eventually_parked(migrated_url, 3)
        # As two processes may send them again at the same time.
        discard(migrated_url, "m")
        with psycopg.connect(migrated_url) as conn:
            conn.execute("UPDATE dead_letters SET state = 'retrying' WHERE message_id IN ('w1', 'w2')")
        asked = []
        for number, name in enumerate(("w2", "w1"), 1):
            asked.append(asyncio.create_task(task(client, name)))
            while await waiting(amqp_url) < number:
                await asyncio.sleep(0)
        async with working(migrated_url, amqp_url):
            assert [(await answer).outcome for answer in asked] == ["parked", "accepted"]
        assert created(migrated_url) == ["w1"]


async def test_a_message_is_acknowledged_after_its_letter_is_noted(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, bury = True, dead_letter_order.bury

    def noted(*given: Any) -> None:
        if away:
            raise StoreUnavailable("the database is away")
        bury(*given)

    monkeypatch.setattr(dead_letter_order, "bury", noted)
    async with Client(amqp_url) as client:
        async with working(migrated_url, amqp_url, shutdown_grace=1):
            await wrong(client, "m")
            assert (await task(client, "w1")).outcome == "parked"
        # What was not acknowledged comes again, in its order.
        assert await waiting(amqp_url) == 2
        away = False
        async with working(migrated_url, amqp_url), policing(migrated_url, amqp_url):
            assert (await task(client, "w2")).outcome == "parked"
            await eventually_async(lambda: len(parked(migrated_url)) == 3)
            assert [row[0] for row in parked(migrated_url)] == ["m", "w1", "w2"]
    assert await waiting(amqp_url) == 0
    with psycopg.connect(migrated_url) as conn:
        assert len(dead_letters.select(conn, Filter(TENANT, state="parked"))) == 3
