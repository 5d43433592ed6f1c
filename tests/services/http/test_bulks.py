"""Bulk requests, whatever they are of: the time that they have, and what is carried out in the background."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from services.broker.sender import NotSent, Outgoing
from services.commands.wire import Reply
from services.http.core import bulk_sender
from services.http.core.bulk_sender import BulkSender
from services.http.core.errors import unavailable
from services.store.pool import Pool
from tests.eventually import eventually_async
from tests.services.http.api import NOW, Api, field_failure, opened, problem
from tests.services.http.many import KINDS, TASKS, Hanging, Holding, Kind, done_of, made, of_each

# The time that a bulk has.


@of_each
async def test_the_time_for_answers_grows_with_the_bulk(migrated_url: str, kind: Kind) -> None:
    """Workers that need 10 ms for each command are no reason for answers that are not known."""
    count = 300
    async with opened(migrated_url, reply_timeout=0.4, bulk_item_ms=25.0) as api:
        send = api.sender.send
        timeouts: list[float] = []

        async def busy(outgoing: Outgoing, timeout: float, *, wait: bool = True) -> Reply | None:
            timeouts.append(timeout)
            return await send(outgoing, timeout, wait=wait) if timeout > len(timeouts) * 0.01 else None

        api.sender.send = busy  # type: ignore[method-assign]
        response = await kind.post(api, count, waited=True)
        assert (response.status_code, response.json()[kind.done]) == (kind.answer, count)
        assert max(timeouts) <= 0.4 + count * 0.025
        one = (await kind.post(api, 1, waited=True)).status_code
        assert one in (200, 202)
        assert timeouts[-1] <= 0.4 + 0.025


@of_each
async def test_what_is_not_answered_in_time_can_be_asked_for(api: Api, kind: Kind) -> None:
    api.sender.stopped = True
    response = await kind.post(api, 3, waited=True)
    assert response.status_code == 202
    await api.sender.catch_up()
    for part in response.json()[kind.parts]:
        assert (await api.get(part["receipt"])).json()["outcome"] == "accepted"


@of_each
async def test_without_a_broker_nothing_is_taken(api: Api, kind: Kind) -> None:
    api.sender.unreachable = True
    response = await kind.post(api, 3, waited=True)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


# In the background.


@of_each
async def test_in_the_background_the_answer_comes_before_anything_is_sent(
    api: Api, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Holding(api, monkeypatch, 0, refuses=False)
    response = await kind.post(api, 250)
    assert response.status_code == 202
    receipt = response.json()["receipt"]
    assert response.headers["location"] == receipt
    shown = (await api.get(receipt)).json()
    assert {name: shown[name] for name in ("state", "total", "sent", "accepted", "rejected", "undecided")} == {
        "state": "running",
        "total": 250,
        "sent": 0,
        "accepted": 0,
        "rejected": 0,
        "undecided": 250,
    }
    broker.free.set()
    shown = await done_of(api, receipt)
    assert (shown["accepted"], shown["undecided"]) == (250, 0)
    assert made(api, kind) == 250
    assert broker.most <= bulk_sender.UNDER_WAY
    # Each part of the answer and of the receipt is the same thing, and it is there.
    for part, item in zip(response.json()[kind.parts], shown["items"], strict=True):
        assert item["receipt"] == part["receipt"]
        assert item["id"] == part.get("_id", part.get("id"))


async def test_the_receipt_tells_what_became_of_each_part(api: Api) -> None:
    tasks = [
        {"refId": "a", "flow": "Visit"},
        {"refId": "b", "flow": "Visit", "status": "DONE"},
        {"refId": "c", "flow": "Visit", "assignee": ["account:7"]},
        {"refId": 7, "flow": "Visit"},
    ]
    response = await api.post(TASKS, {"background": True, "tasks": tasks})
    shown = await done_of(api, response.json()["receipt"])
    assert (shown["command"], shown["total"], shown["sent"]) == ("task.create", 4, 2)
    assert (shown["accepted"], shown["rejected"], shown["undecided"]) == (1, 3, 0)
    first, second, third, fourth = shown["items"]
    assert (first["ref"], first["outcome"], first["position"]) == ("a", "accepted", shown["position"])
    assert (await api.get(f"/api/v3/task/{first['id']}?min_position={first['position']}")).status_code == 200
    assert (second["ref"], second["id"], second["outcome"]) == ("b", None, "rejected")
    assert (second["error"]["code"], "receipt" in second) == ("derived", False)
    assert (third["ref"], third["outcome"], third["error"]["code"]) == ("c", "rejected", "not-found")
    assert (await api.get(third["receipt"])).json()["error"] == third["error"]
    assert (fourth["ref"], fourth["error"]["pointer"]) == (None, "/refId")


@of_each
async def test_what_was_answered_is_carried_out_when_the_broker_is_back(
    api: Api, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_sender, "PAUSE", 0.01)
    api.sender.unreachable = True
    response = await kind.post(api, 5)
    assert response.status_code == 202
    assert (await api.get(response.json()["receipt"])).json()["sent"] == 0
    api.sender.unreachable = False
    assert (await done_of(api, response.json()["receipt"]))["accepted"] == 5


@of_each
async def test_a_process_that_stops_leaves_the_rest_to_another(
    migrated_url: str, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(migrated_url) as api:
        broker = Holding(api, monkeypatch, 100)
        token = api.key()
        receipt = (await kind.post(api, 250, token)).json()["receipt"]
        # The first hundred are taken, and those after them refused.
        await eventually_async(lambda: len(broker.asked) >= 200)
        assert (await api.get(receipt, token)).json()["sent"] == 100
    async with opened(migrated_url) as api:
        api.tokens["acme"] = token
        shown = await done_of(api, receipt)
        assert (shown["accepted"], shown["sent"]) == (250, 250)
        assert len(api.sender.sent) == 150
        assert made(api, kind) == 250


@of_each
async def test_a_process_that_is_killed_loses_nothing(migrated_url: str, kind: Kind) -> None:
    """Its lease runs out, and another process goes on; what was sent before takes effect once."""
    database, hanging = Pool(migrated_url, 30.0, 1), Hanging()
    killed = BulkSender(database, hanging)
    async with opened(migrated_url) as api:
        token = api.key()
        api.sender.unreachable = True
        receipt = (await kind.post(api, 150, token)).json()["receipt"]
    database.start()
    killed.start()
    await eventually_async(lambda: len(hanging.taken) == 100)
    for task in (killed._task, *killed._running.values()):
        assert task is not None
        task.cancel()
    await database.close()
    async with opened(migrated_url) as api:
        api.tokens["acme"] = token
        # What the killed process had sent is decided, too.
        await asyncio.to_thread(api.sender.work, hanging.taken)
        shown = (await api.get(receipt)).json()
        assert (shown["state"], shown["sent"], shown["accepted"]) == ("running", 100, 100)
        assert api.sender.sent == []
    with psycopg.connect(migrated_url) as conn:
        conn.execute("UPDATE bulks SET due_at = now() WHERE commands IS NOT NULL")
    async with opened(migrated_url) as api:
        api.tokens["acme"] = token
        shown = await done_of(api, receipt)
        assert (shown["accepted"], shown["sent"]) == (150, 150)
        assert made(api, kind) == 150


@of_each
async def test_under_one_key_a_bulk_takes_effect_once_however_it_is_sent(api: Api, kind: Kind) -> None:
    headers = {"Idempotency-Key": "k1"}
    first, again = [(await kind.post(api, 20, headers=headers)).json() for _ in range(2)]
    waited = (await kind.post(api, 20, headers=headers, waited=True)).json()
    shown = [await done_of(api, answer["receipt"]) for answer in (first, again)]
    assert [one["accepted"] for one in shown] == [20, 20]
    ids = [[part.get("_id", part.get("id")) for part in answer[kind.parts]] for answer in (first, again, waited)]
    assert ids[0] == ids[1] == ids[2]
    assert made(api, kind) == 20
    other = await api.post(kind.path, kind.body(20), api.key("other"), headers=headers)
    assert other.json()[kind.done] == 20
    assert made(api, kind) == 40


@of_each
async def test_the_key_of_a_bulk_is_its_askers(api: Api, kind: Kind) -> None:
    """Another actor's parts under the same key are other commands, not repetitions that are answered."""
    headers = {"Idempotency-Key": "k1"}
    assert (await kind.post(api, 3, headers=headers, waited=True)).json()[kind.done] == 3
    fields = {"projects": {"p1": {"is_manager": True}}}
    api.command("directory.register", {"kind": "member", "id": "bob", "fields": fields})
    before = made(api, kind)
    theirs = await kind.post(api, 3, api.key("acme", "bob"), headers=headers, waited=True)
    assert theirs.json()[kind.done] == 0
    background = await kind.post(api, 3, api.key("acme", "bob"), headers=headers)
    shown = await done_of(api, background.json()["receipt"])
    assert [item["error"]["code"] for item in shown["items"]] == ["idempotency-conflict"] * 3
    assert made(api, kind) == before


async def test_too_many_that_wait_are_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_sender, "MAX_OF_TENANT", 2)
    api.sender.unreachable = True
    tasks, entries = KINDS
    assert (await tasks.post(api, 1)).status_code == (await entries.post(api, 1)).status_code == 202
    refused = await tasks.post(api, 1)
    field_failure(refused, 429, "request-006")
    assert refused.headers["retry-after"] == "1"
    refused = await entries.post(api, 1)
    problem(refused, 429, "too-many-requests")
    assert refused.headers["retry-after"] == "1"
    other = api.key("other")
    assert (await tasks.post(api, 1, other)).status_code == 202
    monkeypatch.setattr(bulk_sender, "MAX_WAITING", 3)
    field_failure(await tasks.post(api, 1, other), 429, "request-006")
    api.sender.unreachable = False

    async def room() -> bool:
        return (await tasks.post(api, 1)).status_code == 202

    await eventually_async(room)


async def test_one_tenants_bulks_do_not_hold_up_anothers(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    send = api.sender.send

    async def partly(outgoing: Outgoing, timeout: float, *, wait: bool = True) -> Reply | None:
        if outgoing.tenant == "acme":
            raise NotSent("full")
        return await send(outgoing, timeout, wait=wait)

    monkeypatch.setattr(api.sender, "send", partly)
    tasks, _ = KINDS
    for _ in range(bulk_sender.AT_ONCE + 1):
        assert (await tasks.post(api, 2)).status_code == 202
    other = api.key("other")
    receipt = (await tasks.post(api, 2, other)).json()["receipt"]
    api.tokens["acme"] = other
    assert (await done_of(api, receipt))["accepted"] == 2


@of_each
async def test_without_a_database_nothing_is_answered_as_taken(
    api: Api, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = api.key()
    assert (await api.get("/v1/events", token)).status_code == 200
    api.sender.stopped = True

    async def away(self: Pool, *_: object) -> Any:
        raise unavailable("the database cannot be reached")

    monkeypatch.setattr(Pool, "fetch", away)
    assert (await kind.post(api, 2, token)).status_code == 503
    assert api.sender.sent == []


# Who may read a receipt.


async def test_a_receipt_is_its_tenants_and_needs_permission_to_read(api: Api) -> None:
    tasks, _ = KINDS
    receipt = (await tasks.post(api, 1)).json()["receipt"]
    await done_of(api, receipt)
    assert (await api.get(receipt, api.key("acme", "ann", "read"))).status_code == 200
    problem(await api.get(receipt, api.key("other")), 404, "not-found")
    problem(await api.get(receipt, api.key("acme", "system", "write")), 403, "forbidden")
    problem(await api.client.get(receipt), 401, "unauthorized")
    for odd in ("nobodys", "%00", "x" * 65, "a.b", "%ff"):
        problem(await api.get(f"/v1/bulks/{odd}"), 404, "not-found")
    problem(await api.get(f"{receipt}?page=1"), 400, "unknown-parameter")


async def test_the_commands_are_the_askers_own(api: Api) -> None:
    """What is sent later has the rights of who asked, neither more nor less."""
    _, entries = KINDS
    receipt = (await entries.post(api, 2, api.key("acme", "ann"))).json()["receipt"]
    shown = await done_of(api, receipt)
    assert [item["error"]["code"] for item in shown["items"]] == ["forbidden", "forbidden"]
    assert {command.actor for command in api.sender.sent} == {"ann"}
    assert shown["created_at"] > NOW.isoformat()
