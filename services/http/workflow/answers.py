"""The dialect's documents: resources with the people, projects, work units and nodes that they name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from domain.recorded import Recorded
from projections import activities, directory
from services.http.core.command import Answered
from services.http.core.service import Service
from services.http.workflow.errors import JSON_API
from services.http.workflow.shapes import Fields, Json, activity, node, node_id, people_of, project, work_unit


def document(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON:API document."""
    return Response(msgspec.json.encode(body), status, headers, JSON_API)


def accepted(answered: Answered) -> Response:
    """Return what is known of a command that is still on its way: where its receipt lies."""
    meta = {"command_id": answered.command_id, "receipt": answered.receipt}
    return document({"meta": meta}, 202, {"Location": answered.receipt})


async def whole(service: Service, tenant: str, task: Mapping[str, Any], events: Iterable[Recorded] = ()) -> Json:
    """Return one activity with all its attributes; `events` are ones that the directory may not show yet."""
    people = await service.members.by_id(tenant, people_of(task), events)
    return activity(task, people, {})


async def resources(
    service: Service, tenant: str, found: Sequence[Mapping[str, Any]], included: set[str], fields: Fields
) -> tuple[list[Json], list[Json]]:
    """Return tasks as activities, and what is included beside them, each once."""
    people = await service.members.by_id(tenant, {member for task in found for member in people_of(task)})
    shown = [activity(task, people, fields) for task in found]
    beside: list[Json] = []
    if "project" in included:
        entries = await _entries(service, tenant, "project", {task["project"] for task in found})
        beside += [project(entry, fields) for entry in entries.values()]
    if "work_unit" in included:
        ids = sorted({task["activity_id"] for task in found} - {None})
        rows = await service.pool.fetch(*activities.get_many(tenant, ids)) if ids else []
        beside += [work_unit(activities.resource(row, service.clock()), fields) for row in rows]
    if "node" in included:
        nodes = {node_id(task): task for task in found if node_id(task) is not None}
        workflows = await _entries(
            service, tenant, directory.WORKFLOW, {task["workflow_id"] for task in nodes.values()}
        )
        beside += [node(task, workflows.get(task["workflow_id"]), fields) for task in nodes.values()]
    return shown, beside


async def _entries(service: Service, tenant: str, kind: str, ids: Iterable[str | None]) -> dict[str, dict[str, Any]]:
    wanted = sorted(entry_id for entry_id in ids if entry_id is not None)
    rows = await service.pool.fetch(*directory.get_many(tenant, kind, wanted)) if wanted else []
    return {row[1]: directory.resource(row) for row in rows}
