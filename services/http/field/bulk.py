"""Many tasks by one request: each is a command of its own, so some may fail and others not. Here they are created."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field
from starlette.responses import Response

from domain.limits import Items
from services.http.core.bulks import Bulk, Item, prepared
from services.http.core.call import Call, as_json
from services.http.core.entities import TASK
from services.http.core.errors import ApiError
from services.http.core.models import LEFT_OUT, Json, refuse
from services.http.core.operation import Operation
from services.http.core.parameters import nothing_else
from services.http.core.shown import CamelRequest, CamelView, Count
from services.http.field.dialect import FIELD
from services.http.field.documents import stale
from services.http.field.errors import failed_code, message_of
from services.http.field.requests import NewTask

# The most tasks, and characters of a task's `refId`.
MAX_TASKS, MAX_REF = 2000, 255


def _of_a_size(tasks: list[Any]) -> list[Any]:
    if not 1 <= len(tasks) <= MAX_TASKS:
        refuse("bulk-size", f"a bulk request has from 1 to {MAX_TASKS} tasks")
    return tasks


class BulkRequest(CamelRequest):
    """Tasks, for each of which something is done by itself."""

    background: bool = Field(False, description="Answer at once, with a receipt that tells of the rest")
    # What is wrong with one task fails that task alone, so nothing is demanded of it here.
    tasks: Annotated[list[Any], AfterValidator(_of_a_size), Items(MAX_TASKS, 1)]


class NewTasks(BulkRequest):
    """Tasks that stand alone, each created by itself.

    Each is one as for POST /api/v3/task, and may have a `refId`: the request's own name for it, a text of 1 to 255
    characters, which stays a field of the task.
    """

    example: ClassVar[Json] = {"tasks": [{"refId": ref, **NewTask.example} for ref in ("order-1", "order-2")]}


class BulkTask(CamelView):
    """What became of one task of a bulk request."""

    status: bool = Field(examples=[True])
    message: str = Field(examples=["Task has been created"])
    id: str | None = Field(alias="_id", description="null of a new task that failed", examples=["019a3d5e-3c1f-7a64"])
    ref_id: str | None = Field(LEFT_OUT, description="Of a task that was sent with one", examples=["order-1"])
    failed_code: str = Field("", description="Of a task that failed")
    receipt: str = Field("", description="Of a task whose outcome is not known yet")


class BulkDone(CamelView):
    """All outcomes are known"""

    success: Count = Field(examples=[1])
    failed: Count
    tasks: list[BulkTask]


class BulkAccepted(CamelView):
    """Some outcomes are not known yet; these tasks have a receipt, and in the background so has the bulk"""

    success: Count = Field(examples=[1])
    failed: Count
    receipt: str = Field("", description="Of a bulk that is carried out in the background")
    tasks: list[BulkTask]


def counted(refs: Iterable[str | None]) -> Counter[str]:
    """Return how many tasks have each name."""
    return Counter(ref for ref in refs if ref is not None)


def demand_once(names: Counter[str], ref: str, key: str) -> None:
    """Refuse a task whose name others have, too: nobody could tell from the answer which of them was meant."""
    if names[ref] > 1:
        raise ApiError("ref-twice", f"{names[ref]} tasks have this {key}", f"/{key}")


async def _create_tasks(call: Call) -> Response:
    """Create the tasks of a bulk request, in the caller's time or in the background."""
    nothing_else(call.parameters())
    request = NewTasks.read(await call.json())
    names = counted(map(_ref, request.tasks))

    def read(_: int, task: Any) -> NewTask:
        ref = _ref(task)
        if not isinstance(task, dict):
            raise ApiError("wrong-shape", "a task is an object")
        if ref is None and task.get("refId") is not None:
            raise ApiError("wrong-shape", f"refId is a text of 1 to {MAX_REF} characters", "/refId")
        if ref is not None:
            demand_once(names, ref, "refId")
        return NewTask.read(task)

    bulk = await prepared(call, TASK.creates, request.tasks, read, _ref)
    await bulk.carry_out(TASK.models, request.background)

    def named(item: Item) -> Json:
        there = item.refused is None or item.unsure
        return {"id": item.id if there else None, "ref_id": item.ref}

    return answered(bulk, named, "Task has been created", 201)


def _ref(task: Any) -> str | None:
    ref = task.get("refId") if isinstance(task, dict) else None
    return ref if isinstance(ref, str) and 1 <= len(ref) <= MAX_REF else None


def answered(bulk: Bulk, named: Callable[[Item], Json], message: str, status: int) -> Response:
    """Answer with what became of each task: what it is `named`, and the `message` where it was done."""
    failed_items = sum(item.refused is not None for item in bulk.items)
    found = {
        "success": len(bulk.items) - failed_items,
        "failed": failed_items,
        "receipt": bulk.receipt,
        "tasks": [{**named(item), **_outcome(item, message)} for item in bulk.items],
    }
    if not any(item.undecided for item in bulk.items):
        return as_json(BulkDone.show(found), status)
    return as_json(BulkAccepted.show(found), 202, {"Location": bulk.receipt} if bulk.receipt else None)


def _outcome(item: Item, message: str) -> Json:
    """Return what became of a task."""
    if item.refused is not None:
        receipt = item.receipt if item.unsure else None
        refused = stale(item.refused)
        return {
            "status": False,
            "message": message_of(refused),
            "failed_code": failed_code(refused),
            "receipt": receipt,
        }
    if item.undecided:
        message = "Task accepted, its outcome is not known yet"
        return {"status": True, "message": message, "failed_code": "", "receipt": item.receipt}
    return {"status": True, "message": message, "failed_code": "", "receipt": None}


OPERATIONS = (
    Operation(
        FIELD, "POST", "/api/v3/tasks/bulk", "write", "field_bulk_tasks",
        "Create many tasks that stand alone, each by itself",
        description="The tasks of the answer stand in the request's order. One that fails does not stop the others."
        " With an `Idempotency-Key` each task takes effect once under its `refId`, or its place"
        " if it has none.",
        request=NewTasks,
        gives=("task.create",), handler=_create_tasks, status=201, view=BulkDone, also={202: BulkAccepted},
        refusals=(400, 408, 413, 415, 422), topic="bulk", bulk=True,
    ),
)  # fmt: skip
