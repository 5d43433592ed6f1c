"""Writing the members of projects: a person joins a project, becomes something else there, and leaves it.

Each is one change of the person in the directory, so only those may do it who may there.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from starlette.responses import Response

from domain.limits import MAX_ROLES, Items, Role
from projections import memberships
from services.http.core.call import Call
from services.http.core.entities import entry
from services.http.core.errors import ApiError
from services.http.core.models import LEFT_OUT, From, Json, Request, To, View
from services.http.core.operation import Operation
from services.http.core.parameters import nothing_else
from services.http.core.sending import CommandResult
from services.http.core.submit import submit
from services.http.workflow.dialect import MEMBERS, WORKFLOW
from services.http.workflow.documents import Document, ResourceId, ToProject
from services.http.workflow.models import Account
from services.http.workflow.projects import PROJECT
from services.http.workflow.related import Member

_MEMBER = entry("member")
_TYPE = "workflow/project/members"
_ACCOUNT, _PROJECT = "/data/attributes/account_id", "/data/relationships/project/data/id"


class MembershipGiven(Request):
    """What a person is in a project."""

    is_supervisor: Annotated[bool, To("is_manager")] = LEFT_OUT
    actor_roles: Annotated[list[Role], Items(MAX_ROLES)] = Field(LEFT_OUT, examples=[["driver"]])


class NewMembershipGiven(MembershipGiven):
    account_id: Annotated[Account, To(None)] = Field(examples=[42])


class MemberLinks(Request):
    project: ToProject


class MemberChangeGiven(Request):
    type: Literal["workflow/project/members"]
    id: ResourceId = None
    attributes: MembershipGiven


class NewMemberGiven(Request):
    type: Literal["workflow/project/members"]
    attributes: NewMembershipGiven
    relationships: MemberLinks


class NewMember(Document):
    """A person with an account, in a project."""

    attributes = NewMembershipGiven
    resource: NewMemberGiven = Field(alias="data")

    example: ClassVar[Json] = {
        "data": {
            "type": _TYPE,
            "attributes": {"account_id": 42, "is_supervisor": False, "actor_roles": ["driver"]},
            "relationships": {"project": {"data": {"type": "workflow/projects", "id": "north"}}},
        }
    }


class MemberChange(Document):
    """What is to be different; what is left out stays as it is."""

    attributes = MembershipGiven
    resource: MemberChangeGiven = Field(alias="data")

    example: ClassVar[Json] = {"data": {"type": _TYPE, "attributes": {"is_supervisor": True}}}


class MemberChanged(View):
    """As it is now"""

    data: Annotated[Member, From("")]


class MemberCreated(MemberChanged):
    """The member"""


def _unknown() -> ApiError:
    return ApiError("not-found", "there is no member of this id")


def _ids(call: Call) -> tuple[str, str]:
    """Return the project and the person of the id in the path."""
    project, _, member = call.id.partition(":")
    if not (_MEMBER.may_be(project) and _MEMBER.may_be(member)):
        raise _unknown()
    return project, member


async def _change(call: Call, member: str, project: str, wanted: Json | None, *, join: bool = False) -> CommandResult:
    """Change what a person is in a project; None leaves it. What is not there has no place in the refusal."""
    data = {"kind": "member", "fields": {}, "memberships": {project: wanted}, "join": join}
    try:
        return await submit(call, "directory.change", data, _MEMBER, entity_id=member)
    except ApiError as error:
        raise error.at(_place(error.pointer)) from None


def _place(pointer: str) -> str:
    """Return a place in the command's data as one in the request."""
    _, roles, rest = pointer.partition("/actor_roles")
    if roles:
        return f"/data/attributes{roles}{rest}"
    return "/data/attributes" if pointer.startswith(("/fields", "/memberships")) else ""


async def _answer(call: Call, result: CommandResult, project: str, view: type[View], status: int = 200) -> Response:
    if result.resource is not None:
        result = replace(result, resource=memberships.member_of(result.resource, project))
    return await WORKFLOW.answer(call, result, view, "member", status)


async def _create(call: Call) -> Response:
    nothing_else(call.parameters())
    request = NewMember.read(await call.json(), call.parts)
    project, account = request.resource.relationships.project.link.id, request.resource.attributes.account_id
    reference = f"account:{account}"
    named = (await call.service.members.named(call.caller.tenant, [reference], _ACCOUNT))[reference]
    if not named:
        raise ApiError("not-found", f"there is no account {account}", _ACCOUNT)
    found = await PROJECT.find(call, project)
    if found is None or found["retired"]:
        raise ApiError("not-found", f"there is no project {project}", _PROJECT)
    try:
        result = await _change(call, named[0], project, request.data(), join=True)
    except ApiError as error:
        raise (error.at(_ACCOUNT) if error.code == "not-found" else error) from None
    return await _answer(call, result, project, MemberCreated, 201)


async def _patch(call: Call) -> Response:
    nothing_else(call.parameters())
    request = MemberChange.read(await call.json(), call.parts)
    project, member = _ids(call)
    try:
        result = await _change(call, member, project, request.data())
    except ApiError as error:
        raise (_unknown() if error.code == "not-found" else error) from None
    return await _answer(call, result, project, MemberChanged)


async def _delete(call: Call) -> Response:
    nothing_else(call.parameters())
    project, member = _ids(call)
    try:
        result = await _change(call, member, project, None)
    except ApiError as error:
        raise (_unknown() if error.code == "not-found" else error.at("")) from None
    return WORKFLOW.pending(result, "member") if result.reply is None else Response(status_code=204)


_operation = partial(Operation, WORKFLOW)
OPERATIONS = (
    _operation(
        "POST", MEMBERS, "write", "workflow_create_member", "Let a person join a project", request=NewMember,
        gives=("directory.change",), handler=_create, view=MemberCreated, status=201,
        description="Who is in the project already gets what is said of the membership.",
    ),
    _operation(
        "PATCH", f"{MEMBERS}/{{id}}", "write", "workflow_change_member", "Change what a person is in a project",
        request=MemberChange, gives=("directory.change",), handler=_patch, view=MemberChanged,
    ),
    _operation(
        "DELETE", f"{MEMBERS}/{{id}}", "write", "workflow_delete_member", "Let a person leave a project",
        gives=("directory.change",), handler=_delete, status=204, refusals=(400, 404, 409, 422),
    ),
)  # fmt: skip
