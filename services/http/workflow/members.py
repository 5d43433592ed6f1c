"""The members of projects as JSON:API resources, listed and read; the directory is where they are changed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from pydantic import Field
from starlette.responses import Response

from domain.streams import ID
from projections import directory, memberships
from projections.statement import Query
from projections.support.conditions import Where
from projections.task.pages import Order
from services.http.core import tags
from services.http.core.call import Call, as_json
from services.http.core.errors import ApiError
from services.http.core.models import From, Json, View
from services.http.core.operation import Link, Operation
from services.http.core.parameters import MinPosition, nothing_else, settled
from services.http.workflow import beside, lists
from services.http.workflow.collection import Collection, Rows
from services.http.workflow.dialect import MEMBERS, WORKFLOW
from services.http.workflow.errors import JSON_API
from services.http.workflow.lists import Links, Meta, Wanted
from services.http.workflow.parameters import of_list, of_one
from services.http.workflow.related import Member, Project

_MEMBER = "workflow/project/members"
_FILTERS = {name: name for name in memberships.FILTERS}
_SORTS = {name: name for name in memberships.SORTS}
_RELATED = ("project",)
_Included = Annotated[list[Project], Field(description="What `included` asks for, each once")]


class MemberFound(View):
    """The member"""

    data: Annotated[Member, From("")]
    included: _Included = Field([])


class MemberPage(View):
    """A page"""

    data: list[Member]
    included: _Included = Field([])
    meta: Meta
    links: Links


async def _shown(call: Call, rows: Rows, wanted: Wanted) -> tuple[list[Json], Json]:
    found = await call.worked(lambda: [memberships.resource(row) for row in rows])
    included = await beside.projects(call, (one["project"] for one in found)) if wanted.included else []
    return beside.narrowed(wanted, await call.worked(lambda: [Member.show(one) for one in found]), included)


def _page(tenant: str, where: Sequence[Where], order: Order, limit: int, offset: int) -> Query:
    return memberships.page(tenant, where, order.by, limit, offset)


_COLLECTION = Collection(
    models=(directory.NAME,), filters=_FILTERS, sorts=_SORTS, where=memberships.where, page=_page,
    count=memberships.count, shown=_shown, related=_RELATED,
)  # fmt: skip


async def _get(call: Call) -> Response:
    parameters = call.parameters()
    query, wanted = MinPosition.take(parameters), Wanted.take(parameters, _RELATED)
    nothing_else(parameters, lists.OF_ONE)
    await settled(call, query, directory.NAME)
    rows: list[Any] = []
    # An invalid id need not be queried.
    if all(map(ID.match, call.id.split(":", 1))):
        rows = await call.service.pool.fetch(*memberships.get(call.caller.tenant, call.id))
    if not rows:
        raise ApiError("not-found", "there is no member of this id")
    (found,), included = await _shown(call, rows, wanted)
    tag = tags.tag_of(memberships.resource(rows[0]), included)
    return tags.unchanged(tag) or as_json({"data": found, **included}, headers=tags.headers(tag), media=JSON_API)


_operation = partial(Operation, WORKFLOW)
OPERATIONS = (
    _operation(
        "GET", MEMBERS, "read", "workflow_list_members", "List the members of projects",
        parameters=of_list(_MEMBER, _FILTERS, _SORTS, _RELATED), query=MinPosition, handler=_COLLECTION.answer,
        view=MemberPage, refusals=(400, 422), links={"first": Link("workflow_get_member", "/data/0/id")},
    ),
    _operation(
        "GET", f"{MEMBERS}/{{id}}", "read", "workflow_get_member", "Read a member of a project",
        parameters=of_one(_MEMBER, _RELATED), query=MinPosition, handler=_get, view=MemberFound,
        refusals=(400, 404, 422), tagged=True,
    ),
)  # fmt: skip
