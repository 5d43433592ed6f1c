"""Hubs and users, from the directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from starlette.responses import Response

from domain.decider import SYSTEM
from domain.directory.fields import ENTRY_FIELDS
from domain.references import is_email
from projections import directory, entries
from services.http.core.call import Call, as_json
from services.http.core.entities import entry
from services.http.core.errors import ApiError
from services.http.core.models import From, Json, View
from services.http.core.openapi import parameter
from services.http.core.operation import Operation
from services.http.core.parameters import MinPosition, settled
from services.http.core.shown import CAMEL, CamelView, MaybeTime
from services.http.field.dialect import FIELD
from services.http.field.errors import Good
from services.http.field.lists import ListPage, keys_of, listed, only
from services.http.field.models import HUB, Beside, CreatedTime, OrganizationId, UpdatedTime

_HUB, _MEMBER = "hub", "member"


class _Entry(CamelView):
    """An entry with its own fields after the service's."""

    model_config = ConfigDict(extra="allow")

    @classmethod
    def show(cls, resource: Any, context: Any = None) -> Json:
        """Return the entry with the fields that it was registered with; the service's own names win."""
        shown = super().show(resource, context)
        used = ENTRY_FIELDS.get(resource["kind"], {})
        return {**{name: value for name, value in resource["fields"].items() if name not in used}, **shown}


class Hub(_Entry):
    """A hub. Any other key is a field that it was registered with, such as `name`, `address`, `lat` and `lng`."""

    id: str = Field(alias="_id", examples=[HUB])
    organization_id: OrganizationId
    created_time: CreatedTime
    updated_time: UpdatedTime


class _User(_Entry):
    """A member. Any other key is a field that the member was registered with, such as `name` and `phoneNumber`."""

    id: str = Field(alias="_id", examples=["019a3d5e-3c1f-7a64"])
    email: Annotated[str | None, From("fields/email", default=None)] = Field(examples=["leandro@mile.app"])
    status: Annotated[str, From("", lambda _, __: "active")] = Field(description="Always `active`", examples=["active"])
    organization_id: OrganizationId


class User(_User):
    """A member. Any other key is a field that the member was registered with, such as `name` and `phoneNumber`."""

    created_time: CreatedTime
    updated_time: UpdatedTime


class Me(_User):
    """The user whose key is used; `system` for a key of the organization, which nobody has registered."""

    created_time: Annotated[MaybeTime, From("created_at")]
    updated_time: Annotated[MaybeTime, From("updated_at")]


_SYSTEM: Json = {"kind": _MEMBER, "id": SYSTEM, "fields": {"name": SYSTEM}, "created_at": None, "updated_at": None}
_ListedHub, _ListedUser = listed(Hub), listed(User)


class HubsFound(View):
    """A page of hubs"""

    data: list[_ListedHub]  # type: ignore[valid-type]
    status: Annotated[Literal[True], From("", lambda _, __: True)]


class HubFound(View):
    """The hub"""

    data: Annotated[Hub, From("")]
    status: Annotated[Literal[True], From("", lambda _, __: True)]


class UsersFound(View):
    """A page of users"""

    data: list[_ListedUser]  # type: ignore[valid-type]
    status: Annotated[Literal[True], From("", lambda _, __: True)]


class UserFound(Good):
    """The user"""

    message: Literal["Success"]
    user: Annotated[User, From("")]


class ListEntries(ListPage):
    """Which hubs or users are asked for."""

    model_config = CAMEL

    name: str = Field("", description="With this in the name")
    q: str = Field("", description="With this in the name, or in the e-mail address of a user")
    sort_by: Literal["name"] = Field("name", description="Order")
    sort_order: Literal["asc", "desc"] = Field("asc", description="Direction")
    keys: str = Field("", alias="fields", description="Just these keys, with commas between")


async def _page(call: Call, kind: str, view: type[View]) -> Response:
    query, tenant = ListEntries.read(call), call.caller.tenant
    await settled(call, query, directory.NAME)
    asked = entries.by_name(
        tenant,
        kind,
        entries.named_like(query.q or query.name),
        limit=query.limit,
        offset=(query.page - 1) * query.limit,
        descending=query.sort_order == "desc",
    )
    keys, shown_with = keys_of(query.keys), Beside(tenant)
    found = await call.all_documents(asked, query.size_parameter)

    def answered() -> Response:
        rows = [only(keys, view.show(directory.resource(row), shown_with)) for row in found.rows]
        return as_json({"data": rows, "status": True})

    return await call.worked(answered)


async def _hubs(call: Call) -> Response:
    return await _page(call, _HUB, Hub)


async def _users(call: Call) -> Response:
    return await _page(call, _MEMBER, User)


async def _one(call: Call, kind: str) -> Mapping[str, Any]:
    await settled(call, MinPosition.read(call), directory.NAME)
    found = await entry(kind).find(call, call.id)
    if found is None or found["retired"]:
        raise ApiError(f"no-{kind}", "Data not found")
    return found


async def _hub(call: Call) -> Response:
    return await FIELD.show(call, HubFound, await _one(call, _HUB))


async def _user_of(call: Call) -> Response:
    """Answer with the member who has the e-mail address in the path."""
    await settled(call, MinPosition.read(call), directory.NAME)
    email = call.parts["email"]
    found = await call.service.members.named(call.caller.tenant, [email], "email") if is_email(email) else {}
    for member in found.get(email, ()):
        # One who was retired may have had the address before.
        user = await entry(_MEMBER).find(call, member)
        if user is not None and not user["retired"]:
            return await FIELD.show(call, UserFound, user)
    raise ApiError("no-member", "Data not found")


async def _user(call: Call) -> Response:
    return await FIELD.show(call, UserFound, await _one(call, _MEMBER))


async def _me(call: Call) -> Response:
    await settled(call, MinPosition.read(call), directory.NAME)
    actor = call.caller.actor
    found = _SYSTEM if actor == SYSTEM else await entry(_MEMBER).find(call, actor)
    if found is None:
        raise ApiError("no-member", "the member of the key is not registered")
    return as_json(Me.show(found, Beside(call.caller.tenant)))


OPERATIONS = (
    Operation(
        FIELD, "GET", "/api/v3/hubs", "read", "field_list_hubs", "List hubs",
        query=ListEntries, handler=_hubs, view=HubsFound, topic="hub",
    ),
    Operation(
        FIELD, "GET", "/api/v3/hub/{id}", "read", "field_get_hub", "Read one hub",
        query=MinPosition, handler=_hub, view=HubFound, topic="hub", tagged=True,
    ),
    Operation(
        FIELD, "GET", "/api/v3/users", "read", "field_list_users", "List users",
        query=ListEntries, handler=_users, view=UsersFound, topic="member",
    ),
    Operation(
        FIELD, "GET", "/api/v3/user", "read", "field_get_me", "Read the user whose key is used",
        query=MinPosition, handler=_me, view=Me, topic="member",
    ),
    Operation(
        FIELD, "GET", "/api/v3/user/{id}", "read", "field_get_user", "Read one user",
        query=MinPosition, handler=_user, view=UserFound, topic="member", tagged=True,
    ),
    Operation(
        FIELD, "GET", "/api/v3/user/email/{email}", "read", "field_get_user_by_email", "Read the user of an e-mail",
        query=MinPosition, handler=_user_of, view=UserFound, topic="member", tagged=True,
        parameters=(parameter("email", "The e-mail address, without regard to case", place="path"),),
    ),
)  # fmt: skip
