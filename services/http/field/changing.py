"""Tasks and activities that are to be changed, by their ids: which of both it is, and what a document changes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from domain.streams import ID, stream_of
from domain.task import TaskCreated
from services.http.core.call import Call
from services.http.core.entities import ACTIVITY, TASK
from services.http.core.errors import ApiError
from services.http.core.models import Request
from services.http.core.submit import Entity
from services.http.field import models, requests
from services.http.field.dialect import beside
from services.store import log
from services.store.log import LogRow


class Found(NamedTuple):
    """What an id names, and the activity that a task is a part of."""

    entity: Entity
    master: str | None

    def demand_no_child(self) -> None:
        """Refuse a task of an activity."""
        if self.master is not None:
            raise ApiError("child", f"the task is a part of activity {self.master}; delete that")


async def found(call: Call, ids: Sequence[str]) -> dict[str, Found]:
    """Return what ids name, a task before an activity; an id that nobody has is left out."""
    tenant, made = call.caller.tenant, dict[str, Found]()
    streams = {
        stream_of(tenant, entity.noun, own): (own, entity)
        for own in ids
        if ID.match(own)
        for entity in (ACTIVITY, TASK)
    }
    # From the log, so that what was created a moment ago is found however late the views are.
    rows = [LogRow(*row) for row in await call.service.pool.fetch(*log.first_events(list(streams)))]
    events = {row.stream: row.recorded().data for row in rows}
    for stream, (own, entity) in streams.items():
        if stream in events:
            event = events[stream]
            made[own] = Found(entity, event.activity_id if isinstance(event, TaskCreated) else None)
    return made


async def found_one(call: Call) -> Found:
    """Return what the id in the path names."""
    one = (await found(call, [call.id])).get(call.id)
    if one is None:
        raise TASK.unknown()
    return one


async def change_of(call: Call, entity: Entity, entity_id: str, body: Any, *, replaces: bool) -> Request:
    """Return what a document says otherwise than it is; one with a `flow` that `replaces` is the whole of a task."""
    kind = requests.TaskChange if entity is TASK else requests.ActivityChange
    # To complete, nothing need be compared.
    own = (requests.own_keys(kind) | {*models.OURS}) & body.keys() if isinstance(body, dict) else set()
    if own and not (own == {"status"} and body["status"] == models.DONE):
        resource = await entity.find(call, entity_id)
        if resource is not None:
            shown = models.task_or_master(resource, await beside(call, [resource]))
            whole = entity is TASK and replaces and "flow" in body
            body = requests.changed_from(body, kind, resource, shown, whole=whole)
    return kind.read(body)
