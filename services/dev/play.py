"""The demonstration: commands over AMQP with their events and the status, then one task through three APIs."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import httpx
import typer

from services.broker.sender import CommandSender, Outgoing
from services.broker.tail import subscription
from services.commands.wire import Reply
from services.dev import seed

ANSWER_SECONDS = 60.0
_RETRY_SECONDS = 0.2


class Play:
    def __init__(self, sender: CommandSender, http: httpx.AsyncClient, events: asyncio.Queue[dict[str, Any]]) -> None:
        self._sender = sender
        self._http = http
        self._events = events

    async def command(self, name: str, data: Mapping[str, Any], activity: str) -> Reply:
        typer.secho(f"\n→ {name}  {_short(data)}", bold=True)
        body = json.dumps(data).encode()
        reply = await self._sender.send(Outgoing(name, body, seed.TENANT, activity), ANSWER_SECONDS)
        if reply is None:
            raise RuntimeError(f"{name} was not answered")
        if reply.error is not None:
            raise RuntimeError(f"{name} was refused: {reply.error.code} {reply.error.detail}")
        seen = 0
        async with asyncio.timeout(ANSWER_SECONDS):
            while seen < len(reply.events):
                event = await self._event()
                seen += event["commandid"] == reply.command_id
        return reply

    async def _event(self) -> dict[str, Any]:
        """Print the next event."""
        event = await self._events.get()
        typer.echo(f"  event  {event['position']:>3}  {event['type']:<24} {_short(event['data'])}")
        return event

    async def until(self, name: str, task: str | None = None) -> dict[str, Any]:
        """Print events until one has this name, and this task if one is given; return it."""
        async with asyncio.timeout(ANSWER_SECONDS):
            while True:
                event = await self._event()
                if event["type"] == name and task in (None, event["data"]["id"]):
                    return event

    async def _read(self, path: str, position: int) -> Any:
        """Read a resource once the read models have reached the position."""
        async with asyncio.timeout(ANSWER_SECONDS):
            while True:
                answer = await self._http.get(path, params={"min_position": position})
                if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    return answer.raise_for_status().json()
                await asyncio.sleep(_RETRY_SECONDS)

    async def status(self, activity: str, position: int) -> str:
        why = await self._read(f"/v1/activities/{activity}/explain", position)
        done = (await self._read(f"/v1/activities/{activity}", position))["progress"]
        field = (await self._read(f"/api/v3/task/{activity}", position))["task"]["status"]
        reached = f"{done['completed']} of {done['total']} done"
        typer.secho(f"  master {field:<10} by rule {why['rule']} ({why['rule_text']}); {reached}", fg="green")
        return str(field)

    async def call(self, method: str, path: str, body: Mapping[str, Any] | None, records: str) -> dict[str, Any]:
        """Send a request, and return the event of the type `records`."""
        typer.secho(f"\n→ {method} {path}  {_short(body or {})}", bold=True)
        (await self._http.request(method, path, json=body)).raise_for_status()
        return await self.until(records)

    async def one_task(self, event: Mapping[str, Any]) -> tuple[str, str, str]:
        """Print the status of an event's task in the three APIs."""
        task, position = event["data"]["id"], event["position"]
        field = (await self._read(f"/api/v3/task/{task}", position))["task"]["status"]
        dispatch = (await self._read(f"/api/activities/{task}", position))["status"]
        found = await self._read(f"/api/v3/workflow/activities/{task}", position)
        workflow = found["data"]["attributes"]["status"]
        typer.secho(f"  field {field:<9} dispatch {dispatch:<11} workflow {workflow}", fg="green")
        return field, dispatch, workflow


def _short(data: Mapping[str, Any]) -> str:
    shown = {
        key: value for key, value in data.items() if value not in (None, [], {}) and key not in ("steps", "fields")
    }
    text = json.dumps(shown, ensure_ascii=False)
    return text if len(text) <= 110 else text[:109] + "…"


async def play(amqp_url: str, http_url: str, token: str) -> bool:
    """Run both parts, and return whether each ends as expected."""
    events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    sender = CommandSender(amqp_url, "demo")
    await sender.start()
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with (
            httpx.AsyncClient(base_url=http_url, headers=headers, timeout=ANSWER_SECONDS) as http,
            subscription(amqp_url, f"{seed.TENANT}.#") as published,
        ):

            async def listen() -> None:
                async for _, body in published:
                    events.put_nowait(json.loads(body))

            listening = asyncio.create_task(listen())
            try:
                play = Play(sender, http, events)
                return await _job(play) and await _across(play)
            finally:
                listening.cancel()
                with suppress(asyncio.CancelledError):
                    await listening
    finally:
        await sender.close()


async def _job(play: Play) -> bool:
    activity, workflow = f"demo-{uuid.uuid4().hex[:8]}", f"demo-{uuid.uuid4().hex[:8]}"
    pickup, delivery = f"{activity}-pickup", f"{activity}-delivery"
    steps = [
        {"name": "Pickup", "flow": "Pickup", "flow_id": "pickup", "status_mapping": {"DONE": "Picked up"}},
        {"name": "Delivery", "flow": "Delivery", "flow_id": "delivery", "status_mapping": {"DONE": "Delivered"}},
    ]
    await play.command(
        "workflow.define", {"id": workflow, "name": f"Pickup to Delivery {workflow}", "steps": steps}, workflow
    )
    times = {"start": "2025-10-31T08:55:00.000+07:00", "end": "2025-11-01T08:55:00.000+07:00", "hub": seed.HUB}
    first = {"customerName": "John Doe", "customerAddress": "Jl. Sudirman No. 1, Jakarta", "createdFrom": "WEB"}
    second = {"recipientName": "Jane Smith", "recipientAddress": "Jl. Pajajaran No. 10, Bogor", "createdFrom": "WEB"}
    steps_taken: tuple[tuple[str, dict[str, Any]], ...] = (
        (
            "activity.create",
            {
                "id": activity,
                "workflow_id": workflow,
                "hub": seed.HUB,
                "tasks": [
                    {"id": pickup, "fields": first, "assignees": ["driver@example.com"], **times},
                    {"id": delivery, "fields": second, "assignees": [], **times},
                ],
            },
        ),
        ("task.process", {"id": pickup}),
        ("task.complete", {"id": pickup, "data": {"signature": "JD"}}),
        ("task.assign", {"id": delivery, "assignees": ["driver@example.com"]}),
        ("task.process", {"id": delivery}),
        ("task.complete", {"id": delivery, "data": {"signature": "JS"}}),
    )
    status = ""
    for name, data in steps_taken:
        reply = await play.command(name, data, activity)
        status = await play.status(activity, reply.position or 0)
    typer.secho(f"\n{status}", bold=True, fg="green")
    return status == "DONE"


async def _across(play: Play) -> bool:
    """Create a task by the dispatch API, wait until it is dispatched, and complete it by the other two APIs."""
    typer.secho("\nOne task through all three APIs", bold=True)
    made = await play.call(
        "POST",
        "/api/activities/tasks",
        {
            "reason": "Monthly visit",
            "channel": "SALESMAN",
            "commerce_id": seed.COMMERCE,
            "idempotency_key": f"demo-{uuid.uuid4().hex[:8]}",
            "assigned_route_id": seed.ROUTE,
            "assigned_operator_id": seed.OPERATOR,
            "scheduled_at": "2025-01-16T09:00:00.000Z",
            "attribute_keys": ["commerce_info", "promotions"],
        },
        "task.wake-set",
    )
    task = made["data"]["id"]
    await play.one_task(made)
    await play.one_task(await play.until("task.dispatch-succeeded", task))
    await play.call("PATCH", f"/api/v3/workflow/activities/{task}/reassign", {"account_id": 1}, "task.reassigned")
    await play.one_task(await play.call("PATCH", f"/api/v3/workflow/activities/{task}/process", None, "task.started"))
    done = {"status": "DONE", "signature": "JS"}
    statuses = await play.one_task(await play.call("PUT", f"/api/v3/task/{task}", done, "task.completed"))
    typer.secho(f"\n{statuses[0]}", bold=True, fg="green")
    return statuses == ("DONE", "COMPLETED", "completed")
