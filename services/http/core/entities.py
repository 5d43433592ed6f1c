"""The resources that commands leave: tasks, activities, and entries of the directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from projections import activities, directory
from projections.task import table as tasks
from services.http.core.service import Service
from services.http.core.submit import Entity

Row = Sequence[Any]

# A task and an activity are shown with their people, and each shows something of the other.
_MODELS = (activities.NAME, tasks.NAME, directory.NAME)


async def _task_row(service: Service, tenant: str, task_id: str) -> Row | None:
    return await service.loaders[tasks.NAME].row(tenant, task_id)


async def _activity_row(service: Service, tenant: str, activity_id: str) -> Row | None:
    return await service.loaders[activities.NAME].row(tenant, activity_id)


def _streams_of_activity(activity_id: str, activity: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    children = () if activity is None else activity["children"]
    return [("activity", activity_id), *(("task", child["id"]) for child in children)]


TASK = Entity(
    "task", "task.create", "task.created", _MODELS, _task_row, tasks.resource, tasks.render_from_events,
    lambda task_id, _: [("task", task_id)], folds=tasks.NAME,
)  # fmt: skip
ACTIVITY = Entity(
    "activity", "activity.create", "activity.created", _MODELS, _activity_row, activities.resource,
    activities.render_from_events, _streams_of_activity, folds=activities.NAME,
)  # fmt: skip


def entry(kind: str, creates: str = "directory.register", created: str = "directory.entry-registered") -> Entity:
    """Return the entity for entries of a kind."""

    async def row(service: Service, tenant: str, entry_id: str) -> Row | None:
        rows = await service.pool.fetch(*directory.get(tenant, kind, entry_id))
        return rows[0] if rows else None

    return Entity(
        noun=kind,
        creates=creates,
        created=created,
        models=(directory.NAME,),
        row=row,
        resource=lambda row, now: directory.resource(row),
        from_events=lambda events, entry_id, now, base: directory.render_from_events(events, kind, entry_id, base),
        streams=lambda entry_id, _: [(kind, entry_id)],
    )


WORKFLOW = entry(directory.WORKFLOW, "workflow.define", "workflow.defined")
