"""Hubs and users as they are registered, changed and retired, with the rights that the directory demands."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from starlette.responses import Response

from domain.compare import same_json
from domain.directory.fields import ENTRY_FIELDS
from services.http.core.call import Call
from services.http.core.entities import entry
from services.http.core.errors import ApiError
from services.http.core.models import From, Json, Request, To, View, names, refuse
from services.http.core.operation import Operation
from services.http.core.parameters import nothing_else
from services.http.core.shown import CamelRequest
from services.http.core.submit import submit
from services.http.field.dialect import FIELD
from services.http.field.directory import Hub, User
from services.http.field.errors import Good
from services.http.field.models import Beside

_HUB, _MEMBER = entry("hub"), entry("member")
_NUMBER = re.compile(r"-?[0-9]{1,3}(\.[0-9]{1,20})?\Z")


def _degrees(most: int) -> BeforeValidator:
    def read(value: Any) -> Any:
        number = float(value) if isinstance(value, str) and _NUMBER.match(value) else value
        if number is None:
            return None
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not -most <= number <= most:
            refuse("wrong-shape", f"this is a number from {-most} to {most}")
        return number

    return BeforeValidator(read)


class _Fields(CamelRequest):
    """A request whose keys are all fields of an entry."""

    model_config = ConfigDict(extra="allow")
    free = "fields"


_Latitude = Annotated[
    float | None, _degrees(90), Field(json_schema_extra={"minimum": -90, "maximum": 90}), To("fields/lat")
]
_Longitude = Annotated[
    float | None, _degrees(180), Field(json_schema_extra={"minimum": -180, "maximum": 180}), To("fields/lng")
]
_Name = Annotated[str, To("fields/name")]


class NewHub(_Fields):
    """A hub. Any other key is a field of it. A latitude and a longitude may be texts."""

    derived = dict.fromkeys(names(Hub), "is given by the service")

    name: _Name = Field(..., min_length=1)
    address: Annotated[str | None, To("fields/address")] = None
    lat: _Latitude = None
    lng: _Longitude = None

    example: ClassVar[Json] = {
        "name": "Dukuh Atas",
        "address": "12, Jalan Setia Budi VI, Jakarta Selatan 12910, Indonesia",
        "lat": -6.205870636762187,
        "lng": 106.82562818235002,
    }


class HubChange(NewHub):
    """What is left out stays as it is; null takes a field away."""

    changes = True


class _User(_Fields):
    """What a user may be given."""

    changes = True
    derived = dict.fromkeys(
        [*(name for name in names(User) if name != "email"), *(ENTRY_FIELDS["member"].keys() - {"email"})],
        "is not changed here",
    )

    email: Annotated[str | None, To("fields/email")] = None
    phone_number: Annotated[str | None, To("fields/phoneNumber")] = None

    example: ClassVar[Json] = {"name": "Leandro", "phoneNumber": "+628123456789"}


class UserReplacement(_User):
    """A user; what is left out stays as it is. Any other key is a field of it."""

    name: _Name = Field(..., min_length=1)


class UserChange(_User):
    """Some of a user; what is left out stays as it is. Any other key is a field of it."""

    name: Annotated[str | None, To("fields/name")] = None


class HubCreated(View):
    """Registered"""

    status: Annotated[Literal[True], From("", lambda _, __: True)]
    data: Annotated[Hub, From("")]


class HubDeleted(View):
    """Retired"""

    status: Annotated[Literal[True], From("", lambda _, __: True)]


class HubUpdated(Good):
    """Changed"""

    property: Annotated[Hub, From("")]
    message: Literal["Success"]


class UserUpdated(Good):
    """Changed"""

    data: Annotated[User, From("")]
    message: Literal["Data has been updated successfully."]
    status_code: Annotated[Literal[200], From("", lambda _, __: 200)]


def _of(kind: str) -> Any:
    def rephrase(refused: ApiError) -> ApiError:
        if refused.code in ("not-found", "retired") and refused.pointer in ("", "/id"):
            return ApiError(f"no-{kind}", "Data not found")
        return refused

    return rephrase


async def _change(call: Call, request: type[Request], shown_by: type[View], view: type[View]) -> Response:
    """Change an entry; what the service itself gives is accepted as it is shown."""
    nothing_else(call.parameters())
    entity = _HUB if shown_by is Hub else _MEMBER
    kind, body = entity.noun, await call.json()
    given = request.derived.keys() & body.keys() if isinstance(body, dict) else ()
    if given:
        found = await entity.find(call, call.id)
        if found is None:
            raise _of(kind)(entity.unknown())
        shown = shown_by.show(found, Beside(call.caller.tenant, {}))
        body = {key: value for key, value in body.items() if key not in given or not same_json(value, shown.get(key))}
    try:
        data = {"fields": {}, **request.read(body).data()}
        result = await submit(call, "directory.change", data, entity, entity_id=call.id, extra_data={"kind": kind})
    except ApiError as error:
        raise _of(kind)(error) from None
    return await FIELD.answer(call, result, view, kind)


async def _update_hub(call: Call) -> Response:
    return await _change(call, HubChange, Hub, HubUpdated)


async def _update_user(call: Call) -> Response:
    return await _change(call, UserReplacement if call.scope["method"] == "PUT" else UserChange, User, UserUpdated)


_ONE_HUB, _ONE_USER = "/api/v3/hub/{id}", "/api/v3/user/{id}"
OPERATIONS = (
    Operation(
        FIELD, "POST", "/api/v3/hub", "write", "field_create_hub", "Register a hub",
        request=NewHub, command="directory.register", entity=_HUB, extra_data=lambda _: {"kind": "hub"},
        view=HubCreated, topic="hub",
    ),
    Operation(
        FIELD, "PUT", _ONE_HUB, "write", "field_update_hub", "Change a hub",
        request=HubChange, gives=("directory.change",), handler=_update_hub, view=HubUpdated, topic="hub",
    ),
    Operation(
        FIELD, "DELETE", _ONE_HUB, "write", "field_delete_hub", "Retire a hub",
        description="What refers to it keeps its id.",
        command="directory.retire", entity=_HUB, extra_data=lambda _: {"kind": "hub"}, view=HubDeleted, topic="hub",
        rephrase=_of("hub"),
    ),
    Operation(
        FIELD, "PUT", _ONE_USER, "write", "field_update_user", "Change a user",
        request=UserReplacement, gives=("directory.change",), handler=_update_user, view=UserUpdated, topic="member",
    ),
    Operation(
        FIELD, "PATCH", _ONE_USER, "write", "field_patch_user", "Change some of a user",
        request=UserChange, gives=("directory.change",), handler=_update_user, view=UserUpdated, topic="member",
    ),
)  # fmt: skip
