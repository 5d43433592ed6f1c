"""Hubs and users, from the directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from starlette.responses import Response

from domain.directory.fields import ENTRY_FIELDS
from projections import directory, entries
from services.http.core.call import Call, as_json
from services.http.core.entities import entry
from services.http.core.errors import ApiError
from services.http.core.models import From, Json, View
from services.http.core.operation import Operation
from services.http.core.parameters import MinPosition, settled
from services.http.core.shown import CAMEL, CamelView
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


class User(_Entry):
    """A member. Any other key is a field that the member was registered with, such as `name` and `phoneNumber`."""

    id: str = Field(alias="_id", examples=["019a3d5e-3c1f-7a64"])
    email: Annotated[str | None, From("fields/email", default=None)] = Field(examples=["leandro@mile.app"])
    status: Annotated[str, From("", lambda _, __: "active")] = Field(description="Always `active`", examples=["active"])
    organization_id: OrganizationId
    created_time: CreatedTime
    updated_time: UpdatedTime


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


async def _page(call: Call, kind: str, view: type[View]) -> list[Json]:
    query, tenant = ListEntries.read(call), call.caller.tenant
    await settled(call, query, directory.NAME)
    asked = entries.by_name(
        tenant,
        kind,
        query.q or query.name,
        limit=query.limit,
        offset=(query.page - 1) * query.limit,
        descending=query.sort_order == "desc",
    )
    keys, shown_with = keys_of(query.keys), Beside(tenant)
    rows = await call.service.pool.fetch(*asked)
    return [only(keys, view.show(directory.resource(row), shown_with)) for row in rows]


async def _hubs(call: Call) -> Response:
    return as_json({"data": await _page(call, _HUB, Hub), "status": True})


async def _users(call: Call) -> Response:
    return as_json({"data": await _page(call, _MEMBER, User), "status": True})


async def _one(call: Call, kind: str) -> Mapping[str, Any]:
    await settled(call, MinPosition.read(call), directory.NAME)
    found = await entry(kind).find(call, call.id)
    if found is None or found["retired"]:
        raise ApiError(f"no-{kind}", "Data not found")
    return found


async def _hub(call: Call) -> Response:
    return as_json(HubFound.show(await _one(call, _HUB), Beside(call.caller.tenant)))


async def _user(call: Call) -> Response:
    return as_json(UserFound.show(await _one(call, _MEMBER), Beside(call.caller.tenant)))


async def _me(call: Call) -> Response:
    await settled(call, MinPosition.read(call), directory.NAME)
    found = await entry(_MEMBER).find(call, call.caller.actor)
    if found is None:
        raise ApiError("no-member", "the key acts for the organization, and for no member")
    return as_json(User.show(found, Beside(call.caller.tenant)))


OPERATIONS = (
    Operation(
        FIELD, "GET", "/api/v3/hubs", "read", "field_list_hubs", "List hubs",
        query=ListEntries, handler=_hubs, view=HubsFound, topic="hub",
    ),
    Operation(
        FIELD, "GET", "/api/v3/hub/{id}", "read", "field_get_hub", "Read one hub",
        query=MinPosition, handler=_hub, view=HubFound, topic="hub",
    ),
    Operation(
        FIELD, "GET", "/api/v3/users", "read", "field_list_users", "List users",
        query=ListEntries, handler=_users, view=UsersFound, topic="member",
    ),
    Operation(
        FIELD, "GET", "/api/v3/user", "read", "field_get_me", "Read the user whose key is used",
        query=MinPosition, handler=_me, view=User, topic="member",
    ),
    Operation(
        FIELD, "GET", "/api/v3/user/{id}", "read", "field_get_user", "Read one user",
        query=MinPosition, handler=_user, view=UserFound, topic="member",
    ),
)  # fmt: skip
