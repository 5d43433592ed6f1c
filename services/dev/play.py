"""The demonstration: real commands over AMQP, each event as a subscriber gets it, the master's status and its rule."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import httpx
import typer

from services.dev import seed
from services.intake.sender import CommandSender, Outgoing
from services.intake.tail import subscription
from services.messages import Reply

ANSWER_SECONDS = 15.0


class _Play:
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
                event = await self._events.get()
                seen += event["commandid"] == reply.command_id
                typer.echo(f"  event  {event['position']:>3}  {event['type']:<24} {_short(event['data'])}")
        return reply

    async def status(self, activity: str, position: int) -> str:
        params = {"min_position": position}
        answer = await self._http.get(f"/v1/activities/{activity}/explain", params=params)
        answer.raise_for_status()
        why = answer.json()
        done = (await self._http.get(f"/v1/activities/{activity}")).json()["progress"]
        field = (await self._http.get(f"/api/v3/task/{activity}")).json()["task"]["status"]
        reached = f"{done['completed']} of {done['total']} done"
        typer.secho(f"  master {field:<10} by rule {why['rule']} ({why['rule_text']}); {reached}", fg="green")
        return str(field)


def _short(data: Mapping[str, Any]) -> str:
    shown = {
        key: value for key, value in data.items() if value not in (None, [], {}) and key not in ("steps", "fields")
    }
    said = json.dumps(shown, ensure_ascii=False)
    return said if len(said) <= 110 else said[:109] + "…"


async def play(amqp_url: str, http_url: str, token: str) -> bool:
    """Play the main job, print it, and return whether the activity is DONE at its end."""
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
                return await _job(_Play(sender, http, events))
            finally:
                listening.cancel()
                with suppress(asyncio.CancelledError):
                    await listening
    finally:
        await sender.close()


async def _job(play: _Play) -> bool:
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
