"""The parts of a bulk in the background: what is lost on the way is sent again, and no other command stands for one."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import psycopg
import pytest

from services.broker.sender import Outgoing
from services.commands.wire import Reply
from services.http.core import bulk_sender
from tests.eventually import eventually_async
from tests.services.http.api import Api
from tests.services.http.many import KINDS, TASKS, Holding, Kind, done_of, made, of_each


def _due(api: Api, hours: int = 0) -> None:
    """Let what is undecided be sent again now, as if the broker had taken it so many hours ago."""
    with psycopg.connect(api.url) as conn:
        conn.execute(
            "UPDATE bulks SET due_at = now(), sent_at = sent_at - make_interval(hours => %s)"
            " WHERE commands IS NOT NULL",
            (hours,),
        )


def _kept(api: Api) -> list[tuple[Any, ...]]:
    """Return of each bulk whether its commands are kept, and in how many minutes it is due."""
    with psycopg.connect(api.url) as conn:
        return conn.execute(
            "SELECT commands IS NOT NULL, round(extract(epoch FROM due_at - now()) / 60)::int FROM bulks"
            " WHERE sent_at IS NOT NULL ORDER BY created_at"
        ).fetchall()


class Losing:
    """A broker in front of the API's own that takes these commands by their place, and loses them."""

    def __init__(self, api: Api, monkeypatch: pytest.MonkeyPatch, *places: int) -> None:
        self.places = set(places)
        self.asked: list[str] = []
        self._send = api.sender.send
        monkeypatch.setattr(api.sender, "send", self.send)

    async def send(self, outgoing: Outgoing, timeout: float, *, wait: bool = True) -> Reply | None:
        self.asked.append(outgoing.command_id)
        if len(self.asked) - 1 in self.places:
            return None
        return await self._send(outgoing, timeout, wait=wait)


@of_each
async def test_what_was_lost_on_the_way_is_sent_again_under_the_same_id(
    api: Api, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_sender.BulkSender, "poll", 0.05)
    broker = Losing(api, monkeypatch, 1, 3, 5, 6)
    receipt = (await kind.post(api, 5)).json()["receipt"]

    async def decided(count: int) -> bool:
        shown = (await api.get(receipt)).json()
        return bool(shown["accepted"] == count and shown["sent"] == 5)

    await eventually_async(lambda: decided(3))
    await eventually_async(lambda: _kept(api) == [(True, 1)])
    assert len(broker.asked) == 5
    # Both are lost again; the time until the next is as long as they have waited, but no more than an hour, or a day.
    _due(api)
    await eventually_async(lambda: len(broker.asked) == 7)
    await eventually_async(lambda: _kept(api) == [(True, 1)])
    broker.places = {7, 8, 9, 10}
    _due(api, 10)
    await eventually_async(lambda: _kept(api) == [(True, 60)])
    _due(api, 20)
    await eventually_async(lambda: _kept(api) == [(True, 24 * 60)])
    assert (await api.get(receipt)).json()["state"] == "running"
    _due(api)
    assert (await done_of(api, receipt))["accepted"] == 5
    lost = [broker.asked[1], broker.asked[3]]
    assert broker.asked[5:] == lost * 4
    assert made(api, kind) == 5
    # What is decided needs its commands no longer, and is not sent again.
    await eventually_async(lambda: _kept(api) == [(True, 24 * 60)])
    _due(api)
    await eventually_async(lambda: _kept(api)[0][0] is False)
    assert broker.asked[5:] == lost * 4


async def test_what_a_newer_stream_refuses_is_done_after_the_upgrade(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_sender.BulkSender, "poll", 0.05)
    api.command("directory.register", {"kind": "hub", "id": "h1", "fields": {}})
    with psycopg.connect(api.url) as conn:
        (stream,) = (
            conn.execute("SELECT originator_id FROM stored_events WHERE topic LIKE 'directory.%'").fetchone() or ()
        )
        (topic,) = conn.execute("SELECT topic FROM stored_events WHERE originator_id = %s", (stream,)).fetchone() or ()
        conn.execute("UPDATE stored_events SET topic = 'hub.invented-later' WHERE originator_id = %s", (stream,))
    tasks = [{"refId": "a", "flow": "Visit", "hubId": "h1"}, {"refId": "b", "flow": "Visit"}]
    receipt = (await api.post(TASKS, {"background": True, "tasks": tasks})).json()["receipt"]
    await eventually_async(lambda: _kept(api) == [(True, 1)])

    async def outcomes() -> list[str]:
        return [item["outcome"] for item in (await api.get(receipt)).json()["items"]]

    async def refused() -> bool:
        return await outcomes() == ["undecided", "accepted"]

    await eventually_async(refused)
    _due(api)
    await eventually_async(lambda: len(api.sender.sent) == 3)
    assert await outcomes() == ["undecided", "accepted"]
    with psycopg.connect(api.url) as conn:
        conn.execute("UPDATE stored_events SET topic = %s WHERE originator_id = %s", (topic, stream))
    await eventually_async(lambda: _kept(api) == [(True, 1)])
    _due(api)
    assert (await done_of(api, receipt))["accepted"] == 2
    assert len({command.command_id for command in api.sender.sent}) == 2


async def test_a_sender_that_ended_before_it_could_say_so_leaves_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_sender.BulkSender, "poll", 0.05)
    tasks, _ = KINDS
    await done_of(api, (await tasks.post(api, 2)).json()["receipt"])
    await eventually_async(lambda: _kept(api) == [(True, 1)])
    with psycopg.connect(api.url) as conn:
        conn.execute("UPDATE bulks SET sent_at = NULL, due_at = now()")
    await eventually_async(lambda: [kept for kept, _ in _kept(api)] == [False])
    assert len(api.sender.sent) == 2


async def test_what_is_sent_and_undecided_keeps_no_other_bulk_waiting(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_sender, "MAX_OF_TENANT", 1)
    Losing(api, monkeypatch, 0)
    tasks, _ = KINDS
    await tasks.post(api, 1)
    await eventually_async(lambda: _kept(api) == [(True, 1)])
    assert (await done_of(api, (await tasks.post(api, 1)).json()["receipt"]))["accepted"] == 1


def _stranger(api: Api, command_id: str) -> Reply:
    data = msgspec.json.encode({"kind": "hub", "id": f"hub-{command_id}", "fields": {}})
    (reply,) = api.sender.work([Outgoing("directory.register", data, "acme", command_id=command_id)])
    return reply


@of_each
async def test_who_knows_a_bulk_does_not_know_the_ids_of_its_parts(
    api: Api, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Holding(api, monkeypatch, 1)
    response = await kind.post(api, 3)
    receipt = response.json()["receipt"]
    bulk_id = receipt.rpartition("/")[2]

    async def first() -> bool:
        return bool((await api.get(receipt)).json()["accepted"] == 1)

    await eventually_async(first)
    shown = (await api.get(receipt)).json()
    assert ["receipt" in item for item in shown["items"]] == [True, False, False]
    assert bulk_id not in shown["items"][0]["receipt"]
    for index in range(3):
        await asyncio.to_thread(_stranger, api, f"{bulk_id}-{index}")
    outcomes = [item["outcome"] for item in (await api.get(receipt)).json()["items"]]
    assert outcomes == ["accepted", "undecided", "undecided"]
    broker.free.set()
    assert (await done_of(api, receipt))["accepted"] == 3
    ids = [part["receipt"] for part in response.json()[kind.parts]]
    assert len({one[: len(ids[0]) // 2] for one in ids}) == 3


@of_each
async def test_anothers_command_under_the_id_of_a_part_does_not_stand_for_it(api: Api, kind: Kind) -> None:
    """Only who asked knows the id before it is used; a command of another kind under it is still no part."""
    api.sender.unreachable = True
    response = (await kind.post(api, 2)).json()
    taken = response[kind.parts][1]["receipt"].rpartition("/")[2]
    reply = await asyncio.to_thread(_stranger, api, taken)
    assert reply.accepted
    before = made(api, kind)
    api.sender.unreachable = False
    shown = await done_of(api, response["receipt"])
    assert [item["outcome"] for item in shown["items"]] == ["accepted", "rejected"]
    assert shown["items"][1]["error"]["code"] == "command-id-conflict"
    assert "position" not in shown["items"][1]
    assert shown["position"] != reply.position
    assert made(api, kind) == before + 1
