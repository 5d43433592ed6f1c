"""Many tasks by one request of the field dialect: each is a command of its own, so some may fail and others not."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

from starlette.responses import Response

from services.commands import wire
from services.http.actions import MODELS
from services.http.auth import Caller
from services.http.bulks import Bulk, Item, decide, hand_over, prepared
from services.http.endpoints import Call, Endpoint, nothing_else
from services.http.field import examples
from services.http.field.answers import answer
from services.http.field.errors import failed, said
from services.http.field.requests import MOST_REF, MOST_TASKS, new_task
from services.http.problems import Refused
from services.http.service import Service
from services.http.writes import idempotency_key, new_id


def endpoints(service: Service) -> list[Endpoint]:
    """Return the endpoint of bulk requests."""

    async def post(call: Call) -> Response:
        nothing_else(call.parameters(), ())
        background, tasks = _request(await call.json())
        bulk = await _prepared(service, call.caller, tasks)
        if not background:
            await decide(service, bulk, MODELS)
            return _answer(bulk)
        if not any(item.undecided for item in bulk.items):
            return _answer(bulk)
        await hand_over(service, call.caller, bulk)
        return _answer(bulk, {"receipt": bulk.receipt})

    return [Endpoint("POST", "/api/v3/tasks/bulk", "write", post, examples.BULK_TASKS, failed)]


def _answer(bulk: Bulk, more: dict[str, str] | None = None) -> Response:
    lost = sum(item.refused is not None for item in bulk.items)
    shown = [_shown(item) for item in bulk.items]
    body = {"success": len(shown) - lost, "failed": lost, **(more or {}), "tasks": shown}
    status = 202 if any(item.undecided for item in bulk.items) else 200
    return answer(body, status, {"Location": more["receipt"]} if more else None)


def _shown(item: Item) -> dict[str, Any]:
    """Return a task's part of the answer."""
    receipt = {} if item.receipt is None else {"receipt": item.receipt}
    if item.refused is not None:
        message, code = said(item.refused)
        own = {"status": False, "message": message, "_id": item.id if item.unsure else None, "refId": item.ref}
        return {**own, "failedCode": code, **(receipt if item.unsure else {})}
    message = "Task accepted, its outcome is not known yet" if item.undecided else "Task created successfully"
    own = {"status": True, "message": message, "_id": item.id, "refId": item.ref}
    return {**own, **(receipt if item.undecided else {})}


def _request(body: Any) -> tuple[bool, list[Any]]:
    if not isinstance(body, dict):
        raise Refused("wrong-shape", "the body is an object")
    for key in body:
        if key not in ("background", "tasks"):
            raise Refused("unknown-field", "a bulk request has background and tasks", wire.pointer_of((key,)))
    background, tasks = body.get("background", False), body.get("tasks")
    if not isinstance(background, bool):
        raise Refused("wrong-shape", "background is true or false", "/background")
    if not isinstance(tasks, list):
        raise Refused("wrong-shape", "tasks is a list", "/tasks")
    if not 1 <= len(tasks) <= MOST_TASKS:
        raise Refused("bulk-size", f"a bulk request has from 1 to {MOST_TASKS} tasks", "/tasks")
    return background, tasks


async def _prepared(service: Service, caller: Caller, tasks: list[Any]) -> Bulk:
    """Return the tasks in the request's order, each with its command, or with why it cannot be one."""
    counted = Counter(ref for ref in map(_ref, tasks) if ref is not None)
    key = idempotency_key()

    def prepare(bulk: Bulk, item: Item, task: Any) -> None:
        if not isinstance(task, dict):
            raise Refused("wrong-shape", "a task is an object")
        if item.ref is None:
            raise Refused("wrong-shape", f"refId is a text of 1 to {MOST_REF} characters", "/refId")
        if counted[item.ref] > 1:
            # Nobody could tell from the answer which of them was created, nor repeat just one.
            raise Refused("ref-twice", f"{counted[item.ref]} tasks have this refId", "/refId")
        if key is None:
            bulk.give(service, caller, item, {"id": new_id(), **new_task(task)}, None)
        else:
            # The id follows from the key, so a repetition is the same command, and its answer knows the id at once.
            mark = hashlib.sha256(f"{caller.tenant}\0{key}\0{item.ref}".encode()).hexdigest()
            bulk.give(service, caller, item, {"id": mark[:32], **new_task(task)}, f"bulk-{mark}")

    return await prepared("task.create", tasks, _ref, prepare)


def _ref(task: Any) -> str | None:
    ref = task.get("refId") if isinstance(task, dict) else None
    return ref if isinstance(ref, str) and 1 <= len(ref) <= MOST_REF else None
