"""Many tasks by one request of the field dialect: each is a command of its own, so some may fail and others not.

The commands go out side by side, so the workers take them together; the views are waited for once.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from services import messages
from services.http.actions import MODELS
from services.http.endpoints import Call, Endpoint, nothing_else, refusal
from services.http.field import examples
from services.http.field.answers import answer
from services.http.field.errors import failed, said
from services.http.field.requests import MOST_REF, MOST_TASKS, new_task
from services.http.problems import Refused, unavailable
from services.http.service import Service
from services.http.writes import idempotency_key, new_id, outgoing, receipt_path
from services.intake.sender import NotSent, Outgoing, Unconfirmed
from services.messages import Malformed, Reply

# As many commands as a worker takes into one transaction by default.
_BATCH = 500
# Tasks that are read or sent before other requests get a turn.
_STRETCH = 50
_UNSURE = "the command may have been taken: see its receipt, or repeat it under the same Idempotency-Key"


@dataclass(slots=True)
class _Item:
    """One task of the request, and what became of it so far."""

    ref: str | None
    id: str
    command: Outgoing | None = None
    refused: Refused | None = None
    unsure: bool = False
    reply: Reply | None = None

    @property
    def undecided(self) -> bool:
        """Tell whether the command was taken, and has no answer yet."""
        return self.refused is None and self.reply is None

    def shown(self) -> dict[str, Any]:
        """Return the task's part of the answer."""
        receipt = {} if self.command is None else {"receipt": receipt_path(self.command.command_id)}
        if self.refused is not None:
            message, code = said(self.refused)
            own = {"status": False, "message": message, "_id": self.id if self.unsure else None, "refId": self.ref}
            return {**own, "failedCode": code, **(receipt if self.unsure else {})}
        message = "Task accepted, its outcome is not known yet" if self.undecided else "Task created successfully"
        own = {"status": True, "message": message, "_id": self.id, "refId": self.ref}
        return {**own, **(receipt if self.undecided else {})}


def endpoints(service: Service) -> list[Endpoint]:
    """Return the endpoint of bulk requests."""

    async def post(call: Call) -> Response:
        nothing_else(call.parameters(), ())
        background, tasks = _request(await call.json())
        if not service.sender.ready:
            raise unavailable("no command was taken; the request may be sent again")
        loop = asyncio.get_running_loop()
        # What one command is given, for each of the transactions that these need.
        deadline = loop.time() + service.settings.reply_timeout * (1 + (len(tasks) - 1) // _BATCH)
        items = await _prepared(service, call, tasks)
        await _send(service, items, deadline, wait=not background)
        positions = [item.reply.position or 0 for item in items if item.reply is not None and item.reply.accepted]
        if positions:
            # The tasks are there; that the database went away since makes no failure of them.
            with suppress(Refused):
                await service.positions.reached(MODELS, max(positions), deadline - loop.time())
        lost = sum(item.refused is not None for item in items)
        body = {"success": len(items) - lost, "failed": lost, "tasks": [item.shown() for item in items]}
        return answer(body, 202 if any(item.undecided for item in items) else 200)

    return [Endpoint("POST", "/api/v3/tasks/bulk", "write", post, examples.BULK_TASKS, failed)]


def _request(body: Any) -> tuple[bool, list[Any]]:
    if not isinstance(body, dict):
        raise Refused("wrong-shape", "the body is an object")
    for key in body:
        if key not in ("background", "tasks"):
            raise Refused("unknown-field", "a bulk request has background and tasks", messages.pointer_of((key,)))
    background, tasks = body.get("background", False), body.get("tasks")
    if not isinstance(background, bool):
        raise Refused("wrong-shape", "background is true or false", "/background")
    if not isinstance(tasks, list):
        raise Refused("wrong-shape", "tasks is a list", "/tasks")
    if not 1 <= len(tasks) <= MOST_TASKS:
        raise Refused("bulk-size", f"a bulk request has from 1 to {MOST_TASKS} tasks", "/tasks")
    return background, tasks


async def _prepared(service: Service, call: Call, tasks: list[Any]) -> list[_Item]:
    """Return the tasks in the request's order, each with its command, or with why it cannot be one."""
    counted = Counter(ref for ref in map(_ref, tasks) if ref is not None)
    key = idempotency_key()
    items = []
    for index, task in enumerate(tasks):
        item = _Item(_ref(task), "")
        try:
            if not isinstance(task, dict):
                raise Refused("wrong-shape", "a task is an object")
            if item.ref is None:
                raise Refused("wrong-shape", f"refId is a text of 1 to {MOST_REF} characters", "/refId")
            if counted[item.ref] > 1:
                # Nobody could tell from the answer which of them was created, nor repeat just one.
                raise Refused("ref-twice", f"{counted[item.ref]} tasks have this refId", "/refId")
            _prepare(service, call, item, task, key)
        except (Refused, Malformed) as error:
            item.refused = refusal(error)
        items.append(item)
        if index % _STRETCH == _STRETCH - 1:
            await asyncio.sleep(0)
    return items


def _ref(task: Any) -> str | None:
    ref = task.get("refId") if isinstance(task, dict) else None
    return ref if isinstance(ref, str) and 1 <= len(ref) <= MOST_REF else None


def _prepare(service: Service, call: Call, item: _Item, task: dict[str, Any], key: str | None) -> None:
    rest: dict[str, Any] = {}
    if key is None:
        item.id = new_id()
    else:
        # The id follows from the key, so a repetition is the same command, and its answer knows the id at once.
        mark = hashlib.sha256(f"{call.caller.tenant}\0{key}\0{item.ref}".encode()).hexdigest()
        item.id = mark[:32]
        rest["idempotency_key"] = f"bulk-{mark}"
    data = {"id": item.id, **new_task(task)}
    item.command = outgoing(service, call.caller, "task.create", data, item.id, **rest)


async def _send(service: Service, items: list[_Item], deadline: float, *, wait: bool) -> None:
    """Send all that is to be sent, in order and without waiting for one before the next, and take the answers."""
    loop = asyncio.get_running_loop()

    async def one(item: _Item, command: Outgoing) -> None:
        try:
            item.reply = await service.sender.send(command, deadline - loop.time(), wait=wait)
        except Unconfirmed:
            item.unsure, item.refused = True, unavailable(_UNSURE)
        except NotSent:
            item.refused = unavailable("the command was not taken; it may be sent again")
        else:
            if item.reply is not None and item.reply.error is not None:
                error = item.reply.error
                item.refused = Refused(error.code, error.detail, error.pointer)

    async with asyncio.TaskGroup() as group:
        for index, item in enumerate(items):
            if item.command is not None:
                group.create_task(one(item, item.command))
            if index % _STRETCH == _STRETCH - 1:
                await asyncio.sleep(0)
