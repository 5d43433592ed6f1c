"""Tenants take turns: many commands of one, or dear ones, leave a single command of another its place."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from services.broker.acknowledging import Acknowledgements
from services.broker.names import COMMAND_QUEUE
from services.commands import worker as workers
from services.commands.turns import Turns
from tests.eventually import eventually_async
from tests.services.commands.shared import TASK, batches_of, plain, tasks
from tests.services.harness import Client, created, declare, stored, waiting, working


@dataclass(eq=False)
class Item:
    tenant: str
    number: int
    weight: int = 100
    redelivered: bool = False


def filled(**counts: int) -> Turns[Item]:
    turns: Turns[Item] = Turns()
    for tenant, count in counts.items():
        for number in range(count):
            turns.add(Item(tenant, number))
    return turns


def taken(turns: Turns[Item], most: int = 10**6, size: int = 10**9) -> list[str]:
    return [f"{item.tenant}{item.number}" for item in turns.take(most, size)]


def test_tenants_that_each_send_once_are_not_remembered_for_ever() -> None:
    turns = filled(busy=3, spender=1)
    turns.charge("spender", 10**6)
    for number in range(20_000):
        turns.add(Item(f"t{number}", 0))
        turns.take(1, 10**9)
    assert turns.tenants <= 2_001
    # Those who have spent the most are remembered first.
    turns.add(Item("spender", 1))
    turns.add(Item("new", 0))
    assert taken(turns)[-1] == "spender1"


def test_tenants_are_taken_in_turn_and_each_in_its_order() -> None:
    turns = filled(a=6, b=2, c=1)
    assert taken(turns, 4) == ["a0", "b0", "c0", "a1"]
    turns.add(Item("d", 0))
    assert taken(turns, 3) == ["b1", "d0", "a2"]
    assert taken(turns) == ["a3", "a4", "a5"]
    assert len(turns) == 0


def test_who_sends_large_commands_has_fewer_turns() -> None:
    turns: Turns[Item] = Turns()
    for number in range(20):
        turns.add(Item("large", number, 1000))
        turns.add(Item("small", number, 100))
    first = [item.tenant for item in turns.take(11, 10**9)]
    assert first.count("small") == 10
    # A batch ends with the command that fills its bytes.
    assert sum(item.weight for item in turns.take(100, 2500)) < 2500 + 1000


def test_what_commands_record_is_paid_for_and_nothing_is_saved_up() -> None:
    turns = filled(a=30, b=30)
    assert taken(turns, 2) == ["a0", "b0"]
    turns.charge("a", 1000)
    assert all(name.startswith("b") for name in taken(turns, 10))
    assert [name[0] for name in taken(turns, 4)] == ["a", "b"] * 2
    # A tenant that was idle meanwhile has no claim on all the turns that it has not had.
    for number in range(10):
        turns.add(Item("c", number))
    assert [name[0] for name in taken(turns, 9)].count("c") <= 4


def test_what_is_put_back_comes_first_again_and_a_tenant_pays_once() -> None:
    turns = filled(a=4, b=4)
    batch = turns.take(6, 10**9)
    turns.put_back([item for item in batch if item.number > 0])
    assert [sorted(taken(turns, 2)) for _ in range(3)] == [["a1", "b1"], ["a2", "b2"], ["a3", "b3"]]


def test_what_was_redelivered_is_taken_apart_and_in_its_order() -> None:
    turns: Turns[Item] = Turns()
    for number in range(4):
        turns.add(Item("a", number, redelivered=number < 2))
        turns.add(Item("b", number, redelivered=number == 2))
    batches = []
    while len(turns):
        batches.append(turns.take(100, 10**9))
    assert all(len({item.redelivered for item in batch}) == 1 for batch in batches)
    for tenant in "ab":
        assert [item.number for batch in batches for item in batch if item.tenant == tenant] == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(5))
def test_whatever_comes_and_goes_nothing_is_lost_and_each_tenant_keeps_its_order(seed: int) -> None:
    drawn, turns, sent, seen = random.Random(seed), Turns[Item](), dict[str, int](), dict[str, list[int]]()
    for _ in range(500):
        tenant = drawn.choice("abcdefg")
        what = drawn.random()
        if what < 0.6:
            sent[tenant] = sent.get(tenant, -1) + 1
            turns.add(Item(tenant, sent[tenant], drawn.randrange(1, 10**6), drawn.random() < 0.1))
        elif what < 0.7:
            turns.charge(tenant, drawn.randrange(10**6))
        else:
            batch = turns.take(drawn.randrange(1, 20), drawn.randrange(1, 10**7))
            kept = drawn.randrange(len(batch) + 1)
            turns.put_back(batch[kept:])
            for item in batch[:kept]:
                seen.setdefault(item.tenant, []).append(item.number)
    for item in turns.clear():
        seen.setdefault(item.tenant, []).append(item.number)
    assert seen == {tenant: list(range(last + 1)) for tenant, last in sent.items()}
    assert len(turns) == 0
    assert turns.take(1, 1) == []


async def test_a_command_behind_many_of_another_tenant_is_in_the_next_batch(migrated_url: str, amqp_url: str) -> None:
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        sent = await client.send_all(tasks(300))
        theirs = await client.send(TASK, {"id": "theirs"}, tenant="other")
        async with working(migrated_url, amqp_url, batch_size=20, batch_wait_ms=0.0) as consumer:
            sizes = batches_of(consumer)
            answers = await client.answers([*sent, theirs])
            assert all(answer.accepted for answer in answers)
            # The acknowledgements were in another order than the deliveries.
            await eventually_async(lambda: consumer.buffer.held == 0)
            assert consumer.unready == []
            assert len(sizes) >= 10
        assert await waiting(amqp_url) == 0
    streams = [stream for stream, _, _ in stored(migrated_url)]
    # What had not arrived before the first batches could not be in them.
    assert streams.index("other/task-theirs") < 200
    assert [each for each in created(migrated_url) if each != "other/task-theirs"][-1] in ("t299", "theirs")


async def test_commands_that_record_many_events_end_a_batch(
    migrated_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "MAX_BATCH_EVENTS", 10)
    await declare(amqp_url)
    async with Client(amqp_url) as client:
        flow = {"id": "w", "name": "Visit", "steps": [{"name": f"S{number}", "flow": "f"} for number in range(2)]}
        await client.send("workflow.define", flow)
        given = {"workflow_id": "w", "tasks": [{}, {}]}
        sent = await client.send_all([("activity.create", given | {"id": f"a{number}"}) for number in range(20)])
        theirs = await client.send(TASK, {"id": "theirs"}, tenant="other")
        async with working(migrated_url, amqp_url):
            answers = await client.answers([*sent, theirs])
    assert [answer.error for answer in answers] == [None] * 21
    positions = [event.position for answer in answers[:-1] for event in answer.events]
    assert positions == sorted(positions)
    assert answers[-1].events[0].position < positions[-10]


async def test_acknowledgements_in_any_order_settle_each_delivery_once(amqp_url: str) -> None:
    """For a tag that it does not know a broker closes the channel."""
    await declare(amqp_url)
    drawn = random.Random(7)
    async with Client(amqp_url) as client, plain(amqp_url) as channel:
        await client.send_all(tasks(120))
        tags: list[int] = []

        async def delivered(message: object) -> None:
            tags.append(message.delivery_tag)  # type: ignore[attr-defined]

        await channel.basic_consume(COMMAND_QUEUE, delivered)
        await eventually_async(lambda: len(tags) == 120)
        acknowledgements, open_tags = Acknowledgements(channel), list(tags)
        drawn.shuffle(open_tags)
        while open_tags:
            some, open_tags = open_tags[:7], open_tags[7:]
            await acknowledgements.settle(some[1:], some[:1])
        # The requeued ones come back under new tags, once each.
        await eventually_async(lambda: len(tags) == 138)
        await acknowledgements.settle(tags[120:])
        assert not channel.is_closed
    assert await waiting(amqp_url) == 0
