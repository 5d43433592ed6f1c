"""Many tasks by one request of the field dialect: each is a command of its own, so some may fail and others not."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

from starlette.responses import Response

from services.http.actions import MODELS
from services.http.core.bulks import Bulk, Item, decide, hand_over, prepared
from services.http.core.call import Call, as_json
from services.http.core.command import idempotency_key, new_id
from services.http.core.errors import ApiError
from services.http.core.parameters import nothing_else
from services.http.field import answers
from services.http.field.errors import said
from services.http.field.requests import MAX_REF, NewTask, NewTasks


async def create_tasks(call: Call) -> Response:
    """Create the tasks of a bulk request, in the caller's time or in the background."""
    nothing_else(call.parameters())
    request = NewTasks.read(await call.json())
    bulk = await _prepared(call, request.tasks)
    if not request.background:
        await decide(call.service, bulk, MODELS)
        return _answer(bulk)
    if not any(item.undecided for item in bulk.items):
        return _answer(bulk)
    await hand_over(call.service, call.caller, bulk)
    return _answer(bulk, bulk.receipt)


async def _prepared(call: Call, given: list[Any]) -> Bulk:
    """Return the tasks in the request's order, each with its command, or with why it cannot be one."""
    counted = Counter(ref for ref in map(_ref, given) if ref is not None)
    key, caller = idempotency_key(), call.caller

    def prepare(bulk: Bulk, item: Item, task: Any) -> None:
        if not isinstance(task, dict):
            raise ApiError("wrong-shape", "a task is an object")
        if item.ref is None:
            raise ApiError("wrong-shape", f"refId is a text of 1 to {MAX_REF} characters", "/refId")
        if counted[item.ref] > 1:
            # Nobody could tell from the answer which of them was created, nor repeat just one.
            raise ApiError("ref-twice", f"{counted[item.ref]} tasks have this refId", "/refId")
        task_id, own_key = new_id(), None
        if key is not None:
            # The id follows from the key, so a repetition is the same command, and its answer knows the id at once.
            mark = hashlib.sha256(f"{caller.tenant}\0{key}\0{item.ref}".encode()).hexdigest()
            task_id, own_key = mark[:32], f"bulk-{mark}"
        data = {"id": task_id, **NewTask.read(task).data()}
        bulk.give(call.service, caller, item, data, own_key, typed=True)

    return await prepared("task.create", given, _ref, prepare, NewTask.pointer)


def _ref(task: Any) -> str | None:
    ref = task.get("refId") if isinstance(task, dict) else None
    return ref if isinstance(ref, str) and 1 <= len(ref) <= MAX_REF else None


def _answer(bulk: Bulk, receipt: str | None = None) -> Response:
    failed_items = sum(item.refused is not None for item in bulk.items)
    found = {
        "success": len(bulk.items) - failed_items,
        "failed": failed_items,
        "receipt": receipt,
        "tasks": [_of_bulk(item) for item in bulk.items],
    }
    if not any(item.undecided for item in bulk.items):
        return as_json(answers.BulkDone.show(found))
    return as_json(answers.BulkAccepted.show(found), 202, {"Location": receipt} if receipt else None)


def _of_bulk(item: Item) -> dict[str, Any]:
    """Return what became of a task."""
    own: dict[str, Any] = {"id": item.id, "refId": item.ref, "failedCode": "", "receipt": None}
    if item.refused is not None:
        message, code = said(item.refused)
        lost = {"status": False, "message": message, "failedCode": code}
        return {**own, **lost, **({"receipt": item.receipt} if item.unsure else {"id": None})}
    if item.undecided:
        message = "Task accepted, its outcome is not known yet"
        return {**own, "status": True, "message": message, "receipt": item.receipt}
    return {**own, "status": True, "message": "Task created successfully"}
