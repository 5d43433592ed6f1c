"""Documents that are sent back as they were read: what the service gives a value in them, and what changed since.

What the service gives is compared with what it showed when the document was read, which its `updatedTime` tells. What
the document changes is then decided for that version of the task or activity, and no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from domain.activity import ActivityCreated
from domain.compare import same_json
from domain.recorded import Recorded
from domain.streams import ID, stream_of
from domain.task import TaskCreated
from projections.support.time import stamp
from projections.task.document import shown_values
from services.http.core.call import Call
from services.http.core.entities import ACTIVITY, TASK
from services.http.core.models import Json, Request, names
from services.http.core.submit import Entity
from services.http.field import models
from services.http.field.dialect import beside
from services.http.field.requests import TaskChange
from services.store import log
from services.store.log import LogRow

_READ_AT = "updatedTime"
# What the directory has of a hub or a member: a document may have been shown before the directory had it.
_LOOKED_UP = ("hub", "assignedTo")
# Names of which no field of a flow is shown, so that a whole document cannot have one.
HIDDEN = sorted({*TaskChange.derived, *names(TaskChange)})


@dataclass(frozen=True, slots=True)
class Found:
    """What an id names: the event that made it, and the kind of resource that it is."""

    entity: Entity
    made: Recorded

    @property
    def is_task(self) -> bool:
        """Tell whether it is a task, and no activity."""
        return not isinstance(self.made.data, ActivityCreated)

    @property
    def master(self) -> str | None:
        """Return the activity that a task is a part of."""
        data = self.made.data
        return data.activity_id if isinstance(data, TaskCreated) else None


async def find(call: Call) -> Found:
    """Return what the id in the path names, a task before an activity; refuse what is neither."""
    if ID.match(call.id):
        streams = {stream_of(call.caller.tenant, entity.noun, call.id): entity for entity in (TASK, ACTIVITY)}
        # From the log, so that what was created a moment ago is found however late the views are.
        made = {event.category: event for event in await _events(call, log.first_events(list(streams)))}
        for entity in streams.values():
            if entity.noun in made:
                return Found(entity, made[entity.noun])
    raise TASK.unknown()


async def own_changes(call: Call, found: Found, body: Json, kind: type[Request]) -> tuple[Json, int | None]:
    """Return a body without what the service gives in it, and the version that it was read at, if it says when.

    What differs from what was shown then stays, for the request to refuse it by its name.
    """
    given = {key for key in _given(kind) & body.keys() if key != "status" or _is_compared(body[key], kind)}
    if not given:
        return body, None
    resource = await found.entity.find(call, call.id)
    held = None if resource is None else await _held_against(call, given, body, resource)
    if resource is None or held is None or held.differs:
        # The read model may be late, or ahead of the document.
        resource = await _as_read(call, found, body.get(_READ_AT))
        held = await _held_against(call, given, body, resource)
    version = resource["version"] if _READ_AT in held.repeated else None
    return {key: value for key, value in body.items() if key not in held.repeated}, version


@dataclass(frozen=True, slots=True)
class _Held:
    """What a document repeats as it is shown, and whether anything differs from that."""

    repeated: frozenset[str]
    differs: bool


def _given(kind: type[Request]) -> set[str]:
    """Return the keys that the service gives a value, or may if no field of the flow has their name."""
    return {*kind.derived, "status"} - ({*names(kind)} - {"status"}) | ({*models.OURS} if kind is TaskChange else set())


def _is_compared(status: Any, kind: type[Request]) -> bool:
    # To complete a task is a change, also of one that is done, which is refused.
    return kind is not TaskChange or status != models.DONE


async def _held_against(call: Call, given: Iterable[str], body: Json, resource: Json) -> _Held:
    shown = await _shown(call, resource)
    if "data" in resource:
        # A task's flow may have fields of these names.
        fields = shown_values(resource["fields"], resource["data"])
        given = [key for key in given if key not in models.OURS or key not in fields]
    repeated = frozenset(key for key in given if _is_same(key, body[key], shown))
    return _Held(repeated, repeated != {*given})


def _is_same(key: str, value: Any, shown: Json) -> bool:
    if key not in shown:
        # Nothing is shown where there is none.
        return value is None
    if key in _LOOKED_UP and isinstance(value, dict) and "_id" in value:
        return all(name in shown[key] and same_json(part, shown[key][name]) for name, part in value.items())
    return same_json(value, shown[key])


async def _shown(call: Call, resource: Mapping[str, Any]) -> Json:
    """Return a resource as it is shown, with people whom the directory does not show yet."""
    tenant, people = call.caller.tenant, models.people_of(resource)
    known = await call.service.members.by_id(tenant, people)
    unknown = [stream_of(tenant, "member", member) for member in people if member not in known and ID.match(member)]
    events = await _events(call, log.first_events(unknown)) if unknown else []
    return models.task_or_master(resource, await beside(call, [resource], events))


async def _as_read(call: Call, found: Found, read_at: Any) -> Json:
    """Return the resource as its last event of a time left it, from the log; as it is now if there is none."""
    events = await found.entity.events(call.service, call.caller.tenant, call.id)
    last = max((event.position for event in events if stamp(event.occurred_at) == read_at), default=None)
    read = events if last is None else [event for event in events if event.position <= last]
    resource = found.entity.from_events(read, call.id, call.service.clock(), None)
    assert resource is not None  # noqa: S101 - its first event is there
    return resource


async def _events(call: Call, asked: Any) -> list[Recorded]:
    return [LogRow(*row).recorded() for row in await call.service.pool.fetch(*asked)]
