"""What came of a command: its events, deliveries, dispatches, and the commands that these caused, and for whom."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec
import psycopg
import pytest

from services.broker.sender import Outgoing
from services.commands.wire import InvalidMessage, Reply
from services.http.core.shares import Lists
from services.http.native.effects import Effects
from services.processors.scheduler import REST, Scheduler
from services.store import effects
from tests.eventually import eventually
from tests.services.answering import Answering
from tests.services.dispatchers import dispatching, reported
from tests.services.http.api import Api, problem
from tests.services.http.contract import COMPONENTS, validator
from tests.services.test_dispatcher import Answers
from tests.services.webhook_scene import Scene

PAST = "2025-10-31T08:55:00+07:00"
HOSTILE = "../a/effects?b=c#d%2Fe'\"<i>"


def token(api: Api, *permissions: str, tenant: str = "acme") -> str:
    """Return a token that may read, and what is given."""
    return api.key(tenant, "system", "read", *permissions)


async def of(api: Api, command_id: str, key: str, **query: Any) -> dict[str, Any]:
    """Return what came of a command."""
    answer = await api.get(f"/v1/effects/{quote(command_id, safe='')}", key, params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    COMPONENTS.ref(Effects)
    validator({"$ref": "#/components/schemas/Effects"}).validate(found)
    return found


def give(api: Api, command_id: str, name: str, tenant: str = "acme", **data: Any) -> Reply:
    """Run a command under an id; what is given with an underscore in front stands around its data."""
    around = {key[1:]: data.pop(key) for key in list(data) if key.startswith("_")}
    sent = Outgoing(name, msgspec.json.encode(data), tenant, command_id=command_id, **around)
    (reply,) = api.sender.work([sent])
    return reply


def timed(api: Api) -> None:
    """Send what is due by the scheduler."""
    with psycopg.connect(api.url, autocommit=True) as conn:
        assert Scheduler(lambda sent: api.sender.work(list(sent))).turn(conn) == REST


def types(found: dict[str, Any]) -> list[str]:
    return [event["type"] for event in found["events"]]


async def test_a_command_leads_to_deliveries_dispatches_and_further_commands(
    api: Api, hooks: Scene, provider: Answering
) -> None:
    key = token(api, "webhooks")
    hooks.hook("h1", provider.url)
    api.command("directory.register", {"kind": "dispatch", "id": "SMS", "fields": {"provider": "console"}})
    give(api, "first", "task.create", id="a", plan={"channel": "SMS", "reason": "call", "scheduled_at": PAST})
    before = await of(api, "first", key)
    assert types(before) == ["task.created", "task.wake-set"]
    assert [event["commands"] for event in before["events"]] == [[], []]
    assert before["caused_by"] is None

    # The scheduler wakes the task, which asks for a dispatch.
    timed(api)
    first = await of(api, "first", key)
    (wake,) = first["events"][1]["commands"]
    assert first["events"][0]["commands"] == []
    assert [event["type"] for event in wake["events"]] == ["task.dispatch-requested"]
    second = await of(api, wake["command_id"], key)
    assert second["caused_by"] == {
        "position": first["events"][1]["position"], "type": "task.wake-set", "stream": "task-a", "command_id": "first"
    }  # fmt: skip
    assert second["actor"] == "system"
    (asked,) = second["events"]
    assert (asked["dispatch"]["state"], asked["dispatch"]["attempt"], asked["commands"]) == ("pending", 1, [])

    # The dispatcher makes the attempt, and the scheduler reports it.
    with psycopg.connect(api.url, autocommit=True) as conn, dispatching(api.url, Answers()):
        eventually(lambda: reported(conn))
    timed(api)
    (asked,) = (await of(api, wake["command_id"], key))["events"]
    assert asked["dispatch"]["state"] == "succeeded"
    assert asked["dispatch"]["reference"] == "r-1"
    (report,) = asked["commands"]
    assert [event["type"] for event in report["events"]] == ["task.dispatch-succeeded"]
    third = await of(api, report["command_id"], key)
    assert third["caused_by"]["command_id"] == wake["command_id"]

    # Every event was delivered to the webhook, which a key without the permission is not told.
    with hooks.working():
        eventually(lambda: len(hooks.deliveries("h1", "delivered")) == 5)
    (event,) = (await of(api, report["command_id"], key))["events"]
    (delivery,) = event["deliveries"]
    assert (delivery["webhook"], delivery["state"], delivery["attempts"], delivery["status"]) == (
        "h1", "delivered", 1, 200
    )  # fmt: skip
    (event,) = (await of(api, report["command_id"], token(api)))["events"]
    assert event["deliveries"] is None


async def test_an_outcome_is_found_behind_any_other_commands(api: Api) -> None:
    api.command("directory.register", {"kind": "dispatch", "id": "SMS", "fields": {"provider": "console"}})
    give(api, "c1", "task.create", id="a", plan={"channel": "SMS", "reason": "call"})
    (event,) = give(api, "c2", "task.dispatch", id="a").events
    # Whoever is told of the event may answer it.
    for number in range(effects.MAX_COMMANDS + 1):
        give(api, f"answer-{number}", "task.process", id="nobody", _caused_by=event.position)
    with psycopg.connect(api.url, autocommit=True) as conn, dispatching(api.url, Answers()):
        eventually(lambda: reported(conn))
    timed(api)
    (asked,) = (await of(api, "c2", token(api)))["events"]
    assert (asked["dispatch"]["state"], asked["dispatch"]["reference"]) == ("succeeded", "r-1")
    assert {command["outcome"] for command in asked["commands"]} == {"rejected"}


async def test_a_command_says_what_it_answers(api: Api) -> None:
    created = give(api, "c1", "task.create", id="a")
    (event,) = created.events
    body = {"type": "task.cancel", "data": {"id": "a"}, "id": HOSTILE, "caused_by": event.position}
    assert (await api.post("/v1/commands", body)).status_code == 200
    (caused,) = (await of(api, "c1", token(api)))["events"][0]["commands"]
    assert caused["command_id"] == HOSTILE
    assert (await of(api, HOSTILE, token(api)))["caused_by"]["command_id"] == "c1"
    for wrong in (0, -1, "1", 1.5, True):
        problem(await api.post("/v1/commands", {**body, "id": "c3", "caused_by": wrong}), 422, "wrong-shape")
    with pytest.raises(InvalidMessage, match="caused-by"):
        give(api, "c3", "task.create", _caused_by=2**63)


async def test_tenants_do_not_see_each_other(api: Api) -> None:
    (event,) = give(api, "c1", "task.create", id="a").events
    # Another tenant may say that it answers the event, and learns nothing of it, nor is it shown there.
    give(api, "c1", "task.create", "globex", id="a", _caused_by=event.position)
    theirs = await of(api, "c1", token(api, tenant="globex"))
    assert theirs["caused_by"] is None
    assert [each["position"] for each in theirs["events"]] == [event.position + 1]
    assert (await of(api, "c1", token(api)))["events"][0]["commands"] == []
    give(api, "c2", "task.create", id="b")
    problem(await api.get("/v1/effects/c2", token(api, tenant="globex")), 404, "unknown-or-undecided")


async def test_refused_repeated_parked_unknown_and_purged(api: Api) -> None:
    key = token(api)
    give(api, "no", "task.process", id="nobody")
    refused = await of(api, "no", key)
    assert (refused["outcome"], refused["error"]["code"], refused["events"]) == ("rejected", "not-found", [])
    give(api, "c1", "task.create", id="a", _idempotency_key="k")
    give(api, "c2", "task.create", id="a", _idempotency_key="k")
    repeated = await of(api, "c2", key)
    assert repeated["repeats"] == "c1"
    assert (await of(api, "c1", key))["repeats"] is None
    with psycopg.connect(api.url) as conn:
        conn.execute(
            "INSERT INTO dead_letters (id, tenant, arrived, key, message_id, headers, body, bytes, sha256, code,"
            " detail, pointer, fingerprint)"
            " VALUES ('l', 'acme', '1', 'k', 'dead', '{}', '', 0, '', 'poison', 'it died', '', '')"
        )
        conn.execute("DELETE FROM ledger WHERE command_id = 'c1'")
    assert (await of(api, "dead", key))["outcome"] == "parked"
    for gone in ("c1", "never", "a\0b", "%00", "\ufffd"):
        problem(await api.get(f"/v1/effects/{quote(gone)}", key), 404, "unknown-or-undecided")


async def test_many_events_are_paged(api: Api) -> None:
    tasks = [{"id": f"a{number}"} for number in range(7)]
    steps = [{"name": f"Step {number}"} for number in range(7)]
    api.command("workflow.define", {"id": "w1", "name": "Long", "steps": steps})
    reply = give(api, HOSTILE, "activity.create", id="a", workflow_id="w1", tasks=tasks)
    key, found = token(api), list[int]()
    page = await of(api, HOSTILE, key, limit=3)
    while True:
        found += [event["position"] for event in page["events"]]
        if page["next"] is None:
            break
        page = (await api.get(page["next"], key)).json()
    assert found == [event.position for event in reply.events]
    for behind in (found[-1], found[-1] + 1, 2**63 - 1):
        past = await of(api, HOSTILE, key, cursor=behind)
        assert (past["events"], past["next"]) == ([], None)
    problem(await api.get("/v1/effects/x?limit=101", key), 400, "bad-limit")


@pytest.mark.parametrize("caused", [0, 3, effects.MAX_COMMANDS + 5])
async def test_the_statements_do_not_grow_with_what_was_caused(
    api: Api, monkeypatch: pytest.MonkeyPatch, caused: int
) -> None:
    (event,) = give(api, "c1", "task.create", id="a").events
    for number in range(caused):
        give(api, f"d{number}", "task.create", id=f"b{number}", _caused_by=event.position)
    asked = list[str]()
    fetch = Lists.fetch

    async def counted(lists: Lists, tenant: str, sql: str, params: Any = ()) -> Any:
        asked.append(sql)
        return await fetch(lists, tenant, sql, params)

    monkeypatch.setattr(Lists, "fetch", counted)
    (shown,) = (await of(api, "c1", token(api, "webhooks")))["events"]
    assert len(shown["commands"]) == min(caused, effects.MAX_COMMANDS)
    assert len(asked) == 4 + (caused > 0)
