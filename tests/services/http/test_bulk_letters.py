"""Bulks of dead letters: chosen once, previewed, then sent again or discarded, in the order of their keys."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from services.broker.sender import Outgoing
from services.dead_letters import Rules
from services.http.core import bulk_acts, bulk_runner
from services.http.core.bulk_runner import BulkRunner
from services.http.core.shares import Turns
from services.processors.dead_letters import Resender
from services.store.pool import Pool
from tests.eventually import PATIENCE, eventually_async
from tests.services.http.api import Api, opened, problem
from tests.services.http.bulk_scene import BULK, act, items_of, operator, previewed, recorded, until
from tests.services.http.many import Hanging
from tests.services.http.test_bulk_cli import foldwork, shown
from tests.services.http.test_dead_letters import LETTERS, letter, put
from tests.services.parking import parked

RULES = Rules(lambda _user, _tenant: True, 1 << 20)
RETRY: dict[str, Any] = {
    "command": "dead-letter.retry",
    "dead_letters": {"reason": "wrong-shape"},
    "data": {"merge": {"title": "Water the plants"}},
}
DISCARD: dict[str, Any] = {**RETRY, "command": "dead-letter.discard", "data": {"reason": "sent by a test"}}


def with_letters(api: Api, count: int, prefix: str = "t", key: str | None = None, **rest: Any) -> list[str]:
    """Store letters that would each create a task if its title were a text, and return their ids."""
    names = [f"{prefix}{number:05}" for number in range(1, count + 1)]
    return put(api, *(letter(b'{"id":"%b","title":7}' % n.encode(), f"c-{n}", key or n, **rest) for n in names))


@contextmanager
def resending(api: Api, send: Callable[[Sequence[Outgoing]], object] | None = None) -> Iterator[None]:
    """Send letters again as the policies role does; `send` has the commands decided."""
    resender = Resender(send or (lambda commands: api.sender.work(list(commands))), RULES, days=30, poll=0.05)
    thread = threading.Thread(target=resender.run, args=(api.url,))
    thread.start()
    try:
        yield
    finally:
        resender.stop()
        thread.join(PATIENCE)


def states(api: Api) -> list[str]:
    """Return the states of all letters, in the order in which they came."""
    return [state for (state,) in parked(api.url, "state")]


async def test_a_preview_says_what_each_letter_would_do_and_does_nothing(api: Api) -> None:
    ids = with_letters(api, 2)
    put(api, letter(code="poison", message_id="d1"))
    with_letters(api, 1, tenant="other")
    (stuck,) = put(api, letter(b'{"id":"t9","title":7,"nonsense":1}', "c9", "t9"))
    (behind,) = with_letters(api, 1, "b", key="t9")
    api.command("task.create", {"id": "t00002"})
    bulk = await previewed(api, RETRY)
    assert (bulk["command"], bulk["total"], bulk["data"]) == ("dead-letter.retry", 4, RETRY["data"])
    first, second, third, fourth = await items_of(api, bulk["id"])
    assert [item["id"] for item in (first, second, third, fourth)] == [*ids, stuck, behind]
    assert (first["state"], first["would_record"], first["version"]) == ("ready", ["task.created"], 1)
    for item, code in ((second, "taken"), (third, "unknown-field"), (fourth, "older-letter")):
        assert (item["state"], item["reason"], item["error"]["code"]) == ("skipped", "refused-in-preview", code)
    assert third["error"]["pointer"] == "/nonsense"
    assert stuck in fourth["error"]["detail"]
    assert set(states(api)) == {"parked"}
    assert recorded(api, "task.created") == ["t00002"]
    # What is parked and not among the letters of the bulk is an obstacle, too.
    put(api, letter(code="poison", message_id="e0", key="k"), letter(message_id="e1", key="k"))
    bulk = await previewed(api, {**RETRY, "dead_letters": {"reason": "wrong-shape", "key": "k"}})
    assert [item["error"]["code"] for item in await items_of(api, bulk["id"])] == ["older-letter"]


async def test_what_was_previewed_is_sent_again_under_its_own_ids_and_nothing_else(api: Api) -> None:
    api.command("directory.register", {"kind": "member", "id": "ann", "fields": {"tenant_admin": True}})
    ids = with_letters(api, 5, actor="ann")
    bulk = await previewed(api, RETRY)
    late = with_letters(api, 2, "z")
    with resending(api):
        await act(api, bulk["id"], "run", {"rate": "all"})
        bulk = await until(api, bulk["id"])
    assert (bulk["state"], bulk["counts"]["accepted"]) == ("finished", 5)
    assert sorted(recorded(api, "task.created")) == [f"t{number:05}" for number in range(1, 6)]
    for number, item in enumerate(await items_of(api, bulk["id"]), 1):
        receipt = (await api.get(item["receipt"])).json()
        assert (item["command_id"], receipt["outcome"]) == (f"c-t{number:05}", "accepted")
        assert item["first_position"] == receipt["events"][0]["position"]
    assert states(api) == [*["retried"] * 5, *["parked"] * 2]
    assert [each["id"] for each in (await api.get(f"{LETTERS}?state=parked")).json()["data"]] == late
    shown = (await api.get(f"{LETTERS}/{ids[0]}", operator(api))).json()
    assert (shown["note"], shown["acted_by"], shown["actor"]) == (f"bulk/{bulk['id']}", "system", "ann")
    audit = await api.get(f"/v1/audit?target=bulk/{bulk['id']}", api.key("acme", "system", "audit"))
    assert [each["act"] for each in audit.json()["data"]] == ["bulk.finish", "bulk.run", "bulk.preview"]


@pytest.mark.parametrize("body", [RETRY, DISCARD])
async def test_a_letter_that_changed_since_is_skipped_and_explained(api: Api, body: dict[str, Any]) -> None:
    ids, token = with_letters(api, 4), operator(api)
    bulk = await previewed(api, body)
    assert bulk["counts"]["ready"] == 4
    await api.post(f"{LETTERS}/{ids[0]}/discard", {"reason": "by hand"}, token)
    await api.post(f"{LETTERS}/{ids[1]}/retry", {"merge": {"title": "By hand"}}, token)
    with_letters(api, 3)  # the same ones again, of which the third is parked
    with psycopg.connect(api.url) as conn:
        conn.execute("UPDATE dead_letters SET state = 'discarded' WHERE id = %s", (ids[0],))
        conn.execute("UPDATE dead_letters SET state = 'retrying' WHERE id = %s", (ids[1],))
    with resending(api):
        await act(api, bulk["id"], "run", {"rate": "all"})
        bulk = await until(api, bulk["id"])
    assert (bulk["counts"]["accepted"], bulk["skipped"]) == (1, {"changed": 3})
    found = [(item.get("error") or {}).get("code") for item in await items_of(api, bulk["id"])]
    assert found == ["not-parked", "not-parked", "version-conflict", None]
    assert not any("command_id" in item for item in await items_of(api, bulk["id"], "&state=skipped"))


async def test_a_letter_that_came_again_is_sent_where_that_is_wanted(api: Api) -> None:
    with_letters(api, 1)
    bulk = await previewed(api, {**RETRY, "on_change": "run"})
    with_letters(api, 1)
    with resending(api):
        await act(api, bulk["id"], "run", {"rate": 100})
        assert (await until(api, bulk["id"]))["counts"]["accepted"] == 1


@pytest.mark.parametrize("rate", ["all", 50, 1])
async def test_a_key_stops_at_its_first_failure_and_others_go_on(api: Api, rate: Any) -> None:
    with_letters(api, 3, "k", key="k")
    with_letters(api, 1, "x")
    bulk = await previewed(api, RETRY)
    assert bulk["counts"]["ready"] == 4
    api.command("task.create", {"id": "k00002"})
    with resending(api):
        await act(api, bulk["id"], "run", {"rate": rate})
        bulk = await until(api, bulk["id"])
    items = await items_of(api, bulk["id"])
    assert [item["state"] for item in items] == ["accepted", "refused", "skipped", "accepted"]
    assert (items[1]["error"]["code"], items[2]["reason"]) == ("taken", "key-stopped")
    assert states(api) == ["retried", "retried", "parked", "retried"]
    assert recorded(api, "task.created", ["k00001", "k00003", "x00001"]) == ["k00001", "x00001"]


async def test_a_letter_that_dies_again_is_refused_with_its_reason_and_a_ramp_pauses(api: Api) -> None:
    ids = with_letters(api, 2, key="k")
    bulk = await previewed(api, RETRY)

    def dies(commands: Sequence[Outgoing]) -> None:
        put(api, *(letter(each.body, each.command_id, "k", "poison", "") for each in commands))

    with resending(api, dies):
        await act(api, bulk["id"], "run")
        bulk = await until(api, bulk["id"], None, "paused")
    assert bulk["reason"] == "new-failure"
    with resending(api):
        await act(api, bulk["id"], "resume", {"rate": "all"})
        bulk = await until(api, bulk["id"])
    first, second = await items_of(api, bulk["id"])
    assert (first["id"], first["state"], first["error"]["code"]) == (ids[0], "refused", "poison")
    assert (second["state"], second["reason"], second["error"]["code"]) == ("skipped", "key-stopped", "older-letter")
    assert (states(api), recorded(api, "task.created")) == (["parked"] * 2, [])


async def test_a_process_that_is_killed_half_way_loses_and_repeats_nothing(migrated_url: str) -> None:
    async with opened(migrated_url) as api:
        with_letters(api, 150)
        token = operator(api)
        bulk = await previewed(api, RETRY)
    with psycopg.connect(migrated_url, autocommit=True) as conn:
        assert bulk_acts.run(conn, "acme", bulk["id"], "system", "all")
    database = Pool(migrated_url, 30.0, 1)
    killed = BulkRunner(database, Hanging(), at_work=Turns(200), rules=RULES)  # type: ignore[arg-type]
    others = asyncio.all_tasks()
    database.start()
    killed.start()
    await eventually_async(lambda: states(api).count("retrying") == 100)
    for task in asyncio.all_tasks() - others:
        task.cancel()
    await database.close()
    async with opened(migrated_url) as api:
        api.tokens["operator acme system"] = token
        with resending(api):
            # Some of what was handed over is decided before another process goes on, and some after.
            await eventually_async(lambda: states(api).count("retried") >= 50)
            with psycopg.connect(migrated_url) as conn:
                conn.execute("UPDATE bulk_actions SET due_at = now()")
            bulk = await until(api, bulk["id"])
        assert (bulk["state"], bulk["counts"]["accepted"]) == ("finished", 150)
        assert sorted(recorded(api, "task.created")) == [f"t{number:05}" for number in range(1, 151)]
        assert parked(migrated_url, "state, retries, count") == [("retried", 1, 1)] * 150


async def test_an_abort_skips_what_was_not_handed_over(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    with_letters(api, 120)
    bulk = await previewed(api, RETRY)
    monkeypatch.setattr(bulk_runner, "DECIDED", 0.1)
    monkeypatch.setattr(bulk_runner, "PAUSE", 0.05)
    await act(api, bulk["id"], "run", {"rate": "all"})
    await eventually_async(lambda: states(api).count("retrying") == 100)
    assert (await act(api, bulk["id"], "abort"))["state"] == "aborting"
    with resending(api):
        bulk = await until(api, bulk["id"])
    assert (bulk["state"], bulk["counts"]["accepted"], bulk["skipped"]) == ("aborted", 100, {"aborted": 20})
    assert states(api) == [*["retried"] * 100, *["parked"] * 20]


async def test_letters_are_discarded_with_the_reason(api: Api) -> None:
    with_letters(api, 3, key="k")
    bulk = await previewed(api, DISCARD)
    assert bulk["counts"]["ready"] == 3
    await act(api, bulk["id"], "run", {"rate": "all"})
    bulk = await until(api, bulk["id"])
    assert (bulk["state"], bulk["counts"]["accepted"]) == ("finished", 3)
    assert parked(api.url, "state, note, acted_by") == [("discarded", "sent by a test", "system")] * 3
    for item in await items_of(api, bulk["id"]):
        assert not {"would_record", "command_id", "receipt", "first_position"} & item.keys()


async def test_bulks_and_letters_of_other_tenants_are_not_there(api: Api) -> None:
    with_letters(api, 2)
    bulk, other = await previewed(api, RETRY), operator(api, "other")
    for suffix in ("", "/items"):
        problem(await api.get(f"{BULK}/{bulk['id']}{suffix}", other), 404, "not-found")
    theirs = await previewed(api, RETRY, other)
    assert theirs["total"] == 0
    for permissions in (("read", "write"), ("read", "operate")):
        problem(await api.post(BULK, RETRY, api.key("acme", "system", *permissions)), 403, "forbidden")


@pytest.mark.parametrize(
    ("change", "status", "code", "pointer"),
    [
        ({"dead_letters": {}}, 422, "invalid", "/dead_letters"),
        ({"dead_letters": {"key": None}}, 422, "invalid", "/dead_letters"),
        ({"dead_letters": {"state": "parked"}}, 422, "unknown-field", "/dead_letters/state"),
        ({"dead_letters": {"since": "soon"}}, 400, "bad-filter", "/dead_letters/since"),
        ({"dead_letters": {"key": ["a"]}}, 422, "wrong-shape", "/dead_letters/key"),
        ({"dead_letters": None}, 422, "wrong-shape", ""),
        ({"ids": ["a"]}, 422, "wrong-shape", ""),
        ({"filter": {"status": "open"}}, 422, "wrong-shape", ""),
        ({"command": "task.cancel", "data": {}}, 422, "wrong-shape", "/dead_letters"),
        ({"command": "dead-letter.drop"}, 422, "unknown-type", "/command"),
        ({"command": "dead-letter.discard"}, 422, "unknown-field", "/data/merge"),
        ({"command": "dead-letter.discard", "data": {}}, 422, "wrong-shape", "/data/reason"),
        ({"command": "dead-letter.discard", "data": {"reason": " "}}, 422, "invalid", "/data/reason"),
        ({"data": {"merge": []}}, 422, "wrong-shape", "/data/merge"),
        ({"data": {"reason": "x"}}, 422, "unknown-field", "/data/reason"),
        ({"data": {"merge": {"fields": {"credentials": {"a": "b"}}}}}, 422, "invalid",
         "/data/merge/fields/credentials"),
    ],
)  # fmt: skip
async def test_what_is_no_bulk_of_letters_is_refused_with_its_place(
    api: Api, change: Any, status: int, code: str, pointer: str
) -> None:
    with_letters(api, 1)
    refused = await api.post(BULK, {**RETRY, **change}, operator(api))
    problem(refused, status, code)
    assert refused.json().get("pointer", "") == pointer
    assert states(api) == ["parked"]


async def test_more_letters_than_a_bulk_may_have_are_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.http.core.bulk_selection.MAX_LETTERS", 2)
    with_letters(api, 3)
    problem(await api.post(BULK, RETRY, operator(api)), 422, "invalid", pointer="/dead_letters")


async def test_letters_are_chosen_on_the_command_line(api: Api) -> None:
    with_letters(api, 2)
    merge = ("--data", '{"merge": {"title": "x"}}')
    bulk = await shown(api, "preview", "dead-letter.retry", "--filter", "reason=wrong-shape", *merge)
    assert (bulk["state"], bulk["counts"]["ready"]) == ("previewed", 2)
    with resending(api):
        done = await foldwork(api, "run", bulk["id"], "--rate", "all", "--wait")
    assert done.stdout.splitlines()[-1].endswith("2/2 finished accepted 2")
    item = await shown(api, "items", bulk["id"], "--state", "accepted")
    assert item["command_id"] == "c-t00002"
    empty = await foldwork(api, "preview", "dead-letter.discard", "--data", '{"reason": "x"}')
    assert "has `dead_letters`" in str(empty.exception)
