"""What is shown beside resources under `included`, each looked up once for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from projections import activities as work_units
from projections import directory, memberships
from projections.statement import Query
from projections.task import table as tasks
from services.http.core import past
from services.http.core.call import Call
from services.http.core.errors import ApiError
from services.http.workflow.lists import Wanted
from services.http.workflow.models import Activity, node_id, people_of
from services.http.workflow.related import Member, Node, Project, WorkUnit
from services.store.pool import Rows

Json = dict[str, Any]
Ids = Iterable[str | None]
# Of all projects of an answer together.
MAX_MEMBERS = 5000
_OF_STEP = ("name", "flow", "flow_id")


async def shown(call: Call, found: Sequence[Mapping[str, Any]], wanted: Wanted) -> tuple[list[Json], Json]:
    """Return tasks as activities, and what is wanted beside them."""
    beside: list[Json] = []
    if "project" in wanted.included:
        beside += await projects(call, (task["project"] for task in found))
    if "work_unit" in wanted.included:
        beside += await units(call, (task["activity_id"] for task in found))
    if "node" in wanted.included:
        of = {node_id(task): task for task in found if node_id(task) is not None}
        workflows = await entries(call, directory.WORKFLOW, (task["workflow_id"] for task in of.values()))
        beside += [Node.show(_node(task, workflows.get(task["workflow_id"]))) for task in of.values()]
    return narrowed(wanted, await activities(call, found), beside)


def narrowed(wanted: Wanted, data: list[Json], beside: list[Json]) -> tuple[list[Json], Json]:
    """Return resources and what stands beside them with just the attributes that are wanted."""
    wanted.narrow(*data, *beside)
    return data, {"included": beside} if wanted.included else {}


async def projects(call: Call, ids: Ids) -> list[Json]:
    """Return projects of the directory."""
    return [Project.show(entry) for entry in (await entries(call, "project", ids)).values()]


async def units(call: Call, ids: Ids) -> list[Json]:
    """Return activities as work units."""
    service, tenant, wanted = call.service, call.caller.tenant, _distinct(ids)
    await past.take(call, work_units.NAME, wanted)
    rows, now = await _documents(call, work_units.get_many(tenant, wanted), wanted), call.now
    found = await call.worked(lambda: [work_units.resource(row, now) for row in rows])
    people = await service.members.by_id(tenant, [unit["created_by"] for unit in found])
    return await call.worked(lambda: [WorkUnit.show(unit, people) for unit in found])


async def nodes(call: Call, units: Sequence[Json]) -> list[Json]:
    """Return the steps of work units, as their workflows have them now."""
    found = await entries(call, directory.WORKFLOW, (unit["workflow"]["id"] for unit in units))
    return [
        Node.show({"id": f"{workflow}:{step}", "step": step, **{name: its.get(name) for name in _OF_STEP}})
        for workflow, entry in found.items()
        for step, its in enumerate(entry["fields"]["steps"])
    ]


async def members(call: Call, projects: Sequence[str]) -> dict[str, list[Json]]:
    """Return the members of projects; refuses more than can be shown at once."""
    query = memberships.of_projects(call.caller.tenant, projects, MAX_MEMBERS + 1)
    rows = await _documents(call, query, projects)
    if len(rows) > MAX_MEMBERS:
        detail = f"these projects have more than {MAX_MEMBERS} members: list them by themselves"
        raise ApiError("bad-filter", detail, parameter="included")
    found: dict[str, list[Json]] = {project: [] for project in projects}
    for row in rows:
        found[row[1]].append(Member.show(memberships.resource(row)))
    return found


async def tasks_of(call: Call, ids: Ids) -> list[Json]:
    """Return tasks, which `shown` makes activities of."""
    wanted, now = _distinct(ids), call.service.clock()
    rows = await _documents(call, tasks.LISTING.get_many(call.caller.tenant, wanted), wanted)
    return await call.worked(lambda: [tasks.resource(row, now) for row in rows])


async def entries(call: Call, kind: str, ids: Ids) -> dict[str, Json]:
    """Return entries of the directory by their ids."""
    wanted = _distinct(ids)
    rows = await _documents(call, directory.get_many(call.caller.tenant, kind, wanted), wanted)
    return await call.worked(lambda: {row[1]: directory.resource(row) for row in rows})


async def activities(call: Call, found: Sequence[Mapping[str, Any]]) -> list[Json]:
    """Return tasks as activities."""
    members = {member for task in found for member in people_of(task)}
    people = await call.service.members.by_id(call.caller.tenant, members)
    return await call.worked(lambda: [Activity.show(task, people) for task in found])


async def _documents(call: Call, asked: Query, wanted: Sequence[str]) -> Rows:
    """Return the rows of what is wanted, in order of id; refuses more bytes than can be shown at once."""
    rows = (await call.all_documents(asked, "included")).rows if wanted else []
    return sorted(rows, key=itemgetter(1))


def _distinct(ids: Ids) -> list[str]:
    return sorted({entity_id for entity_id in ids if entity_id is not None})


def _node(task: Mapping[str, Any], workflow: Mapping[str, Any] | None) -> Json:
    """Return the step of a task; its name is the workflow's own word for it, as it is now."""
    steps = workflow["fields"]["steps"] if workflow is not None else []
    name = steps[task["step"]]["name"] if task["step"] < len(steps) else task["title"]
    return {**task, "id": node_id(task), "name": name}
