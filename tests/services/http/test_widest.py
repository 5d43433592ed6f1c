"""The widest value of every field of every command goes through the whole system: nothing that is accepted is stuck."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import aiormq
import msgspec
import psycopg

import projections
from domain.streams import ENTRY_KINDS
from services import cloud_events
from services.broker.names import EVENT_EXCHANGE
from services.broker.publisher import Publisher
from services.broker.sender import Outgoing
from services.processors import rebuild
from services.processors.relay import relay_handle
from services.settings import EVENT_LIMIT
from services.store import log
from tests.services.harness import declare
from tests.services.http.api import Api
from tests.services.http.widest_scene import ENTRIES, Command, cases

WORKFLOW, FIELD, DISPATCH = "/api/v3/workflow/activities", "/api/v3/task", "/api/activities"
CONFIGURED = ("/api/attribute-policies", "/api/target-resolution-policies", "/api/dispatch-configurations")
CASES = cases()


# Of the process that the fixture `api` runs.
SETTINGS = {"http_body_limit": 4 << 20, "statement_timeout": 60, "view_timeout": 30}


async def give(api: Api, commands: list[tuple[str, Command]]) -> None:
    """Run commands in batches, each by a worker that has to read its states first."""
    for batch in _batches(commands, 60):
        sent = [Outgoing(name, msgspec.json.encode(data), "acme") for _, (name, data) in batch]
        replies = await asyncio.to_thread(api.sender.work, sent)
        for (what, _), reply in zip(batch, replies, strict=True):
            assert reply.accepted, (what, reply.error)


def _batches(commands: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(commands), size):
        yield commands[start : start + size]


async def read(api: Api, path: str) -> Any:
    response = await api.get(path)
    assert response.status_code == 200, (path, response.text[:1000])
    return json.loads(response.content)


async def followed(api: Api, path: str) -> list[Any]:
    """Return all rows of a list of the native API."""
    found: list[Any] = []
    following: str | None = path
    while following is not None:
        page = await read(api, following)
        found += page["data"]
        following = page["next"]
    return found


def content(url: str) -> dict[str, list[Any]]:
    with psycopg.connect(url) as conn:
        return {
            view: conn.execute(f"SELECT v::text FROM {view} AS v ORDER BY 1").fetchall()
            for model in projections.READ_MODELS
            for view in model.VIEWS
        }


async def test_the_widest_value_of_every_field_goes_through_the_whole_system(api: Api, amqp_url: str) -> None:
    await give(api, [("the scene", command) for command in ENTRIES])
    steps = max(len(setup) for _, setup, _ in CASES)
    for turn in range(steps):
        await give(api, [(what, setup[turn]) for what, setup, _ in CASES if len(setup) > turn])
    await give(api, [(what, command) for what, _, command in CASES])
    await all_is_shown(api)
    await fields_are_shown_as_they_were_given(api)
    await all_is_published(api.url, amqp_url)
    before = content(api.url)
    for model in projections.READ_MODELS:
        assert await asyncio.to_thread(rebuild.rebuild, api.url, model.NAME)
    after = content(api.url)
    assert {view: len(rows) for view, rows in after.items()} == {view: len(rows) for view, rows in before.items()}
    assert after == before


async def all_is_shown(api: Api) -> None:
    """Read every list and every resource of each dialect."""
    tasks, activities = await followed(api, "/v1/tasks?limit=500"), await followed(api, "/v1/activities?limit=500")
    assert len(tasks) > 100
    assert len(activities) > 20
    everything = f"{WORKFLOW}?page[size]=1000&included=project,work_unit,node"
    assert len((await read(api, everything))["data"]) == len(tasks)
    shown = await read(api, "/api/v3/tasks?taskType=task&limit=500")
    children = await read(api, "/api/v3/tasks?taskType=activityChild&limit=500")
    masters = await read(api, "/api/v3/tasks?taskType=activityMaster&limit=500")
    assert shown["tasks"]["total"] + children["tasks"]["total"] == len(tasks)
    assert masters["tasks"]["total"] == len(activities)
    listed = await read(api, f"{DISPATCH}?limit=100")
    for page in range(2, listed["meta"]["totalPages"] + 1):
        listed["data"] += (await read(api, f"{DISPATCH}?limit=100&page={page}"))["data"]
    assert len(listed["data"]) == len(tasks)
    for task in tasks:
        own = task["id"]
        for path in (f"/v1/tasks/{own}", f"/v1/tasks/{own}/history", f"{FIELD}/{own}", f"{WORKFLOW}/{own}"):
            await read(api, path)
        for part in ("", "/attributes", "/target-users", "/status-events"):
            await read(api, f"{DISPATCH}/{own}{part}")
        await is_found(api, task)
    for activity in activities:
        own = activity["id"]
        for path in (f"/v1/activities/{own}", f"/v1/activities/{own}/explain", f"/v1/activities/{own}/history"):
            await read(api, path)
        await read(api, f"{FIELD}/{own}")
    await the_directory_is_shown(api)


async def fields_are_shown_as_they_were_given(api: Api) -> None:
    """Compare as JSON, to which 1 and 1.0 are not the same, and neither are 0.0 and -0.0."""
    given = {what: data for what, _, (_, data) in CASES}["task.create/fields"]
    wanted = json.dumps(given["fields"], sort_keys=True)
    task = await read(api, f"/v1/tasks/{given['id']}")
    activity = await read(api, f"{WORKFLOW}/{given['id']}")
    for fields in (task["fields"], activity["data"]["attributes"]["data"]):
        assert json.dumps(fields, sort_keys=True) == wanted
    field = (await read(api, f"{FIELD}/{given['id']}"))["task"]
    assert json.dumps({name: field[name] for name in given["fields"]}, sort_keys=True) == wanted


async def is_found(api: Api, task: dict[str, Any]) -> None:
    """Ask for a task by each of its wide values."""
    wanted = {
        "flow_id": ("/api/v3/tasks", "flowId", task["flow_id"]),
        "title": (WORKFLOW, "filter[name]", task["title"]),
        "project": (WORKFLOW, "filter[project_id]", task["project"]),
        "roles": (WORKFLOW, "filter[actor_roles__contains][]", task["roles"][0] if task["roles"] else None),
        "commerce": (DISPATCH, "commerce_id", task["commerce"]),
    }
    for path, parameter, value in wanted.values():
        if value:
            response = await api.get(path, params={parameter: value})
            assert response.status_code == 200, response.text[:500]
            assert task["id"] in response.text, (path, parameter, value)


async def the_directory_is_shown(api: Api) -> None:
    for kind in ENTRY_KINDS:
        for entry in await followed(api, f"/v1/directory/{kind}?limit=500&retired=true"):
            await read(api, f"/v1/directory/{kind}/{entry['id']}?retired=true")
    for path in CONFIGURED:
        await read(api, f"{path}?limit=100")
    found = (await read(api, "/api/v3/internal/workflows?limit=500"))["workflows"]["data"]
    assert len(found) > 20
    for workflow in found:
        await read(api, f"/api/v3/workflow/{workflow['_id']}")
    after, head = 0, 1
    while after < head:
        page = await read(api, f"/v1/events?after={after}&limit=200")
        after, head = page["next"], page["head"]


async def all_is_published(url: str, amqp_url: str) -> None:
    """Publish the whole log, and compare what arrives with what the events' own API shows."""
    with psycopg.connect(url) as conn:
        rows = log.read(conn, 0, 100_000)
    assert max(len(row.state) for row in rows) < EVENT_LIMIT
    await declare(amqp_url)
    connection = await aiormq.connect(amqp_url)
    channel = await connection.channel()
    queue = (await channel.queue_declare(exclusive=True)).queue or ""
    publisher = Publisher(amqp_url, "widest")
    await publisher.start()
    try:
        await channel.queue_bind(queue, EVENT_EXCHANGE, "#")
        handle: Any = relay_handle(publisher)
        for batch in _batches(rows, 100):
            await asyncio.to_thread(handle, None, batch)
        for row in rows:
            message = await channel.basic_get(queue, no_ack=True)
            assert message.body == cloud_events.published(row)[0]
    finally:
        await publisher.close()
        await connection.close()


def test_no_field_of_a_command_is_left_out() -> None:
    assert len({what for what, _, _ in CASES}) > 150
