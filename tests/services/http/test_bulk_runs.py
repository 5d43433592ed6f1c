"""Running a bulk: what was previewed and nothing else, at a rate, with pauses, and through the loss of a process."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import psycopg
import pytest

from services.broker.sender import Outgoing
from services.commands.wire import Reply
from services.dead_letters import Rules
from services.http.core import bulk_runner
from services.http.core.bulk_runner import BulkRunner
from services.http.core.shares import Turns
from services.store.event_store import EventStore
from services.store.pool import Pool
from tests.eventually import eventually_async
from tests.services.http.api import Api, opened, problem
from tests.services.http.bulk_scene import BULK, act, items_of, operator, previewed, recorded, until, with_tasks
from tests.services.http.many import Hanging, Holding

RULES = Rules(lambda _user, _tenant: True, 1 << 20)
CANCEL: dict[str, Any] = {"command": "task.cancel", "filter": {"status": "open"}}


async def test_each_item_has_a_receipt(api: Api) -> None:
    ids = with_tasks(api, 3)
    bulk = await previewed(api, {**CANCEL, "data": {"reason": "storm"}})
    shown = await act(api, bulk["id"], "run", {"rate": "all"})
    assert (shown["state"], shown["rate"]) in (("running", "all"), ("finished", "all"))
    bulk = await until(api, bulk["id"])
    assert (bulk["state"], bulk["counts"]["accepted"]) == ("finished", 3)
    assert sorted(recorded(api, "task.canceled")) == ids
    for item in await items_of(api, bulk["id"], "&state=accepted"):
        receipt = (await api.get(item["receipt"])).json()
        assert (receipt["command_id"], receipt["outcome"]) == (item["command_id"], "accepted")
        positions = [event["position"] for event in receipt["events"]]
        assert (item["first_position"], item["last_position"]) == (positions[0], positions[-1])
        assert [event["type"] for event in receipt["events"]] == item["would_record"] == ["task.canceled"]
    # There is nothing left to do.
    assert (await act(api, bulk["id"], "run"))["state"] == "finished"
    problem(await api.post(f"{BULK}/{bulk['id']}/pause", None, operator(api)), 409, "not-ready")
    problem(await api.post(f"{BULK}/{bulk['id']}/abort", None, operator(api)), 409, "not-ready")
    assert len(recorded(api, "task.canceled")) == 3


async def test_what_has_changed_is_not_executed_and_what_is_new_is_not_touched(api: Api) -> None:
    """Half of 500 items change between the preview and their turn, and others come to fit the filter."""
    ids = with_tasks(api, 500)
    bulk = await previewed(api, CANCEL)
    assert bulk["counts"]["ready"] == 500
    changed, new = set(ids[::4]), with_tasks(api, 50, "new")
    for each in ids[::4]:
        api.command("task.change", {"id": each, "title": "Changed"})
    await act(api, bulk["id"], "run", {"rate": "all"})
    late = set()
    for each in ids[1::4]:
        # Whichever comes first: the bulk, or this.
        (reply,) = await asyncio.to_thread(
            api.sender.work, [Outgoing("task.change", msgspec.json.encode({"id": each, "title": "Late"}), "acme")]
        )
        if reply.accepted:
            late.add(each)
    bulk = await until(api, bulk["id"])
    done = recorded(api, "task.canceled")
    items = await items_of(api, bulk["id"])
    by_state = {state: {item["id"] for item in items if item["state"] == state} for state in ("accepted", "skipped")}
    assert len(done) == len(set(done))
    assert set(done) == by_state["accepted"]
    assert set(done).isdisjoint(new)
    assert by_state["accepted"] | by_state["skipped"] == set(ids)
    assert by_state["skipped"] == changed | late
    for item in items:
        if item["state"] == "skipped":
            assert (item["reason"], item["error"]["code"]) == ("changed", "version-conflict")
    assert bulk["skipped"] == {"changed": len(changed | late)}


async def test_what_has_changed_is_executed_where_that_is_wanted(api: Api) -> None:
    (only,) = with_tasks(api, 1)
    bulk = await previewed(api, {**CANCEL, "on_change": "run"})
    api.command("task.change", {"id": only, "title": "Changed"})
    await act(api, bulk["id"], "run", {"rate": 100})
    assert (await until(api, bulk["id"]))["counts"]["accepted"] == 1


async def test_what_the_preview_refused_is_not_executed_later(api: Api) -> None:
    """Neither if it has become possible, nor if changes do not matter."""
    (only,) = with_tasks(api, 1)
    bulk = await previewed(api, {"command": "task.retry", "ids": [only], "on_change": "run"})
    assert bulk["skipped"] == {"refused-in-preview": 1}
    api.command("task.error", {"id": only})
    await act(api, bulk["id"], "run", {"rate": "all"})
    assert (await until(api, bulk["id"]))["counts"]["skipped"] == 1
    assert recorded(api, "task.retried") == []


async def test_a_ramp_stops_at_the_first_failure_that_is_new(api: Api) -> None:
    ids = with_tasks(api, 8)
    bulk = await previewed(api, {**CANCEL, "on_change": "run"})
    api.command("task.cancel", {"id": ids[3]})
    began = time.monotonic()
    await act(api, bulk["id"], "run")
    bulk = await until(api, bulk["id"], None, "paused")
    assert (bulk["rate"], bulk["reason"]) == ("ramp", "new-failure")
    # One in the first second, and two in the second one.
    assert time.monotonic() - began > 1.9
    assert bulk["counts"] == {"pending": 0, "ready": 4, "accepted": 3, "refused": 1, "skipped": 0, "unknown": 0}
    (item,) = await items_of(api, bulk["id"], "&state=refused")
    assert (item["id"], item["error"]["code"]) == (ids[3], "terminal")
    assert "reason" not in await act(api, bulk["id"], "resume", {"rate": "all"})
    assert (await until(api, bulk["id"]))["counts"]["accepted"] == 7


async def test_other_rates_go_on_after_a_failure(api: Api) -> None:
    ids = with_tasks(api, 5)
    for number, rate in enumerate(("all", 1000)):
        bulk = await previewed(api, {**CANCEL, "on_change": "run"})
        api.command("task.cancel", {"id": ids[number]})
        await act(api, bulk["id"], "run", {"rate": rate})
        bulk = await until(api, bulk["id"])
        assert bulk["counts"]["refused"] == 1
        ids = with_tasks(api, 5, f"again{number}")


@pytest.mark.parametrize("rate", [0, -1, 1001, 1.5, "1", "fast", True, {}, "", "10"])
async def test_other_words_are_no_rate(api: Api, rate: Any) -> None:
    with_tasks(api, 1)
    bulk = await previewed(api, CANCEL)
    problem(await api.post(f"{BULK}/{bulk['id']}/run", {"rate": rate}, operator(api)), 422, "wrong-shape",
            pointer="/rate")  # fmt: skip
    problem(await api.post(f"{BULK}/{bulk['id']}/run", {"speed": 1}, operator(api)), 422, "unknown-field")
    assert (await until(api, bulk["id"], None, "previewed"))["counts"]["ready"] == 1


async def test_a_pause_a_resume_and_an_abort_take_effect_at_once(api: Api) -> None:
    with_tasks(api, 300)
    bulk = await previewed(api, CANCEL)
    await act(api, bulk["id"], "run", {"rate": 50})
    await eventually_async(lambda: len(recorded(api, "task.canceled")) > 5)
    assert (await act(api, bulk["id"], "pause"))["reason"] == "asked"
    await asyncio.sleep(0.3)
    paused = len(recorded(api, "task.canceled"))
    await asyncio.sleep(1.0)
    assert len(recorded(api, "task.canceled")) == paused
    bulk = await until(api, bulk["id"], None, "paused")
    assert bulk["counts"]["accepted"] == paused
    assert (await act(api, bulk["id"], "pause"))["state"] == "paused"
    await act(api, bulk["id"], "resume")
    resumed = time.monotonic()
    await eventually_async(lambda: len(recorded(api, "task.canceled")) > paused)
    assert time.monotonic() - resumed < 1.0
    await act(api, bulk["id"], "abort")
    aborted = time.monotonic()
    bulk = await until(api, bulk["id"])
    assert time.monotonic() - aborted < 1.0
    done = len(recorded(api, "task.canceled"))
    assert (bulk["state"], bulk["counts"]["accepted"], bulk["skipped"]) == ("aborted", done, {"aborted": 300 - done})
    assert (await act(api, bulk["id"], "abort"))["state"] == "aborted"
    problem(await api.post(f"{BULK}/{bulk['id']}/run", {}, operator(api)), 409, "not-ready")
    problem(await api.post(f"{BULK}/{bulk['id']}/resume", {}, operator(api)), 409, "not-ready")


async def test_an_abort_knows_what_was_sent(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was under way is decided, and its outcome is kept; nothing else is sent."""
    with_tasks(api, 250)
    bulk = await previewed(api, CANCEL)
    broker = Holding(api, monkeypatch, 0, refuses=False)
    await act(api, bulk["id"], "run", {"rate": "all"})
    await eventually_async(lambda: len(broker.asked) == 100)
    assert (await act(api, bulk["id"], "abort"))["state"] == "aborting"
    broker.free.set()
    bulk = await until(api, bulk["id"])
    assert (bulk["state"], bulk["counts"]["accepted"], bulk["skipped"]) == ("aborted", 100, {"aborted": 150})
    assert len(recorded(api, "task.canceled")) == len(broker.asked) == 100


async def test_an_abort_does_not_wait_for_ever(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_runner, "SETTLED", 0.1)
    monkeypatch.setattr(bulk_runner, "PAUSE", 0.05)
    with_tasks(api, 2)
    bulk = await previewed(api, CANCEL)
    api.sender.stopped = True
    await act(api, bulk["id"], "run", {"rate": "all"})
    await eventually_async(lambda: len(api.sender.waiting) >= 2)
    await act(api, bulk["id"], "abort")
    bulk = await until(api, bulk["id"])
    assert (bulk["state"], bulk["counts"]["unknown"]) == ("aborted", 2)
    await api.sender.catch_up()
    for item in await items_of(api, bulk["id"]):
        assert item["reason"] == "no-answer"
        assert (await api.get(item["receipt"])).json()["outcome"] == "accepted"


async def test_while_nothing_is_answered_nothing_more_is_sent(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_runner, "PAUSE", 0.01)
    ids = with_tasks(api, 250)
    bulk = await previewed(api, CANCEL)
    api.sender.sent.clear()
    api.sender.stopped = True
    await act(api, bulk["id"], "run", {"rate": "all"})
    await eventually_async(lambda: len(api.sender.sent) >= 1000)
    # Beside dry runs, which ask whether the workers are there.
    assert len({command.command_id for command in api.sender.sent if not command.dry_run}) == 100
    await api.sender.catch_up()
    assert (await until(api, bulk["id"]))["counts"]["accepted"] == 250
    assert sorted(recorded(api, "task.canceled")) == ids


async def test_workers_that_are_back_when_they_are_asked_for_are_waited_for(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, send = with_tasks(api, 20), api.sender.send
    bulk = await previewed(api, CANCEL)

    async def back(outgoing: Outgoing, timeout: float, *, wait: bool = True) -> Reply | None:
        if outgoing.dry_run:
            await api.sender.catch_up()
        return await send(outgoing, timeout, wait=wait)

    monkeypatch.setattr(api.sender, "send", back)
    monkeypatch.setattr(bulk_runner, "PAUSE", 0.01)
    api.sender.stopped = True
    await act(api, bulk["id"], "run", {"rate": "all"})
    assert (await until(api, bulk["id"]))["counts"]["accepted"] == 20
    assert sorted(recorded(api, "task.canceled")) == ids


async def test_a_command_that_is_never_answered_is_given_up_after_the_others(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, send = with_tasks(api, 150), api.sender.send
    asked: list[bool] = []

    async def partly(outgoing: Outgoing, timeout: float, *, wait: bool = True) -> Reply | None:
        if outgoing.dry_run or ids[1].encode() not in outgoing.body:
            return await send(outgoing, timeout, wait=wait)
        asked.append(True)
        return None

    bulk = await previewed(api, CANCEL)
    monkeypatch.setattr(api.sender, "send", partly)
    monkeypatch.setattr(bulk_runner, "PAUSE", 0.01)
    await act(api, bulk["id"], "run", {"rate": "all"})
    bulk = await until(api, bulk["id"])
    assert (bulk["state"], bulk["counts"]["accepted"], bulk["counts"]["unknown"]) == ("finished", 149, 1)
    (item,) = await items_of(api, bulk["id"], "&state=unknown")
    assert (item["id"], item["reason"]) == (ids[1], "no-answer")
    assert len(asked) > bulk_runner.MAX_ATTEMPTS
    assert sorted(recorded(api, "task.canceled")) == [ids[0], *ids[2:]]


async def test_a_process_that_is_killed_half_way_loses_and_repeats_nothing(migrated_url: str) -> None:
    database, hanging = Pool(migrated_url, 30.0, 1), Hanging()
    killed = BulkRunner(database, hanging, at_work=Turns(200), rules=RULES)  # type: ignore[arg-type]
    async with opened(migrated_url) as api:
        ids = with_tasks(api, 500)
        token = operator(api)
        bulk = await previewed(api, CANCEL)
        await act(api, bulk["id"], "run", {"rate": 200})
        await eventually_async(lambda: len(recorded(api, "task.canceled")) >= 40)
    before = len(recorded(api, "task.canceled"))
    others = asyncio.all_tasks()
    database.start()
    killed.start()
    await eventually_async(lambda: len(hanging.taken) >= 20)
    for task in asyncio.all_tasks() - others:
        task.cancel()
    await database.close()
    async with opened(migrated_url) as api:
        api.tokens["operator acme system"] = token
        # What the killed process had sent is decided, too.
        await asyncio.to_thread(api.sender.work, hanging.taken)
        assert len(recorded(api, "task.canceled")) == before + len(hanging.taken)
        with psycopg.connect(migrated_url) as conn:
            conn.execute("UPDATE bulk_actions SET due_at = now()")
        bulk = await until(api, bulk["id"])
        assert (bulk["state"], bulk["counts"]["accepted"]) == ("finished", 500)
        assert sorted(recorded(api, "task.canceled")) == ids
        for item in await items_of(api, bulk["id"]):
            assert item["first_position"] == item["last_position"] > 0


async def test_a_bulk_is_run_by_who_previewed_it(api: Api) -> None:
    ids = with_tasks(api, 2)
    for each in ("ann", "bob"):
        fields = {"tenant_admin": True}
        api.command("directory.register", {"kind": "member", "id": each, "fields": fields})
    bulk = await previewed(api, CANCEL, operator(api, actor="ann"))
    problem(await api.post(f"{BULK}/{bulk['id']}/run", {}, operator(api, actor="bob")), 403, "forbidden")
    problem(await api.post(f"{BULK}/{bulk['id']}/run", {}, api.key("acme", "ann", "read", "operate")), 403, "forbidden")
    problem(await api.post(f"{BULK}/{bulk['id']}/run", {}, api.key("acme", "ann", "read", "write")), 403, "forbidden")
    await act(api, bulk["id"], "run", {"rate": "all"}, operator(api))
    await until(api, bulk["id"])
    assert {command.actor for command in api.sender.sent} == {"ann"}
    assert sorted(recorded(api, "task.canceled")) == ids


async def test_a_bulk_that_is_not_run_expires(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_runner, "EXPIRE_EVERY", 1)
    with_tasks(api, 2)
    bulk = await previewed(api, CANCEL)
    with psycopg.connect(api.url) as conn:
        conn.execute("UPDATE bulk_actions SET created_at = created_at - interval '24 hours 1 second'")
    problem(await api.post(f"{BULK}/{bulk['id']}/run", {}, operator(api)), 409, "not-ready")
    bulk = await until(api, bulk["id"])
    assert (bulk["state"], bulk["skipped"]) == ("expired", {"expired": 2})


async def test_few_bulks_of_a_tenant_run_at_the_same_time(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.http.core.bulk_acts.MAX_RUNNING", 1)
    with_tasks(api, 50)
    first, second = [await previewed(api, CANCEL) for _ in range(2)]
    await act(api, first["id"], "run", {"rate": 10})
    problem(await api.post(f"{BULK}/{second['id']}/run", {}, operator(api)), 429, "too-many-requests")
    await act(api, first["id"], "abort")
    await until(api, first["id"])
    await act(api, second["id"], "run", {"rate": "all"})
    await until(api, second["id"])


async def test_anothers_command_is_answered_meanwhile(api: Api) -> None:
    with_tasks(api, 1000)
    bulk = await previewed(api, CANCEL)
    other = operator(api, "other")
    await act(api, bulk["id"], "run", {"rate": "all"})
    slowest = 0.0
    while (await until(api, bulk["id"], None, "running", "finished"))["state"] == "running":
        began = time.monotonic()
        answered = await api.post("/v1/commands", {"type": "task.create", "data": {}}, other)
        slowest = max(slowest, time.monotonic() - began)
        assert answered.status_code == 200
    assert 0 < slowest < 1.0


async def test_who_did_what_with_a_bulk_is_in_the_audit(api: Api) -> None:
    ids = with_tasks(api, 3)
    bulk = await previewed(api, {**CANCEL, "on_change": "run"})
    api.command("task.cancel", {"id": ids[0]})
    for verb in ("pause", "resume"):
        problem(await api.post(f"{BULK}/{bulk['id']}/{verb}", None, operator(api)), 409, "not-ready")
    await act(api, bulk["id"], "run")
    await until(api, bulk["id"], None, "paused")
    await act(api, bulk["id"], "pause")
    await act(api, bulk["id"], "resume", {"rate": 1})
    await act(api, bulk["id"], "pause")
    await act(api, bulk["id"], "abort")
    await until(api, bulk["id"])
    listed = await api.get(f"/v1/audit?target=bulk/{bulk['id']}", api.key("acme", "system", "audit"))
    made, *refused = [each for each in listed.json()["data"][::-1] if each["act"] == "bulk.preview" or each["reason"]]
    assert (made["act"], made["details"]["command"], made["details"]["total"]) == ("bulk.preview", "task.cancel", 3)
    assert [(each["act"], each["reason"].split(":")[0]) for each in refused] == [
        ("bulk.pause", "not-ready"), ("bulk.resume", "not-ready")
    ]  # fmt: skip
    acts = [each for each in listed.json()["data"][::-1] if each not in (made, *refused)]
    assert [each["act"] for each in acts] == [
        *("bulk.run", "bulk.pause", "bulk.resume", "bulk.pause", "bulk.abort", "bulk.finish")
    ]
    assert acts[0]["actor"] == "system"
    assert acts[0]["key_id"]
    assert acts[1]["details"]["reason"] == "new-failure"
    assert acts[2]["details"]["rate"] == "1"
    assert (acts[5]["details"]["state"], acts[5]["details"]["counts"]["refused"]) == ("aborted", 1)


async def test_bulks_are_deleted_with_the_receipts(api: Api) -> None:
    with_tasks(api, 2)
    bulks = [await previewed(api, CANCEL) for _ in range(3)]
    await act(api, bulks[0]["id"], "run", {"rate": 1})
    with psycopg.connect(api.url) as conn:
        old = "UPDATE bulk_actions SET created_at = created_at - interval '31 days' WHERE id = ANY(%s)"
        conn.execute(old, ([bulk["id"] for bulk in bulks[:2]],))
    store = EventStore(api.url)
    try:
        await asyncio.to_thread(store.prune, 30)
    finally:
        store.close()
    # One that runs is kept, and so is one that is not old.
    left = [(await api.get(f"{BULK}/{bulk['id']}")).status_code for bulk in bulks]
    assert left == [200, 404, 200]
    with psycopg.connect(api.url) as conn:
        assert conn.execute("SELECT count(*) FROM bulk_items").fetchone() == (4,)
