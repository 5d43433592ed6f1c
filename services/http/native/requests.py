"""The bodies that the native API takes. What a command's data may hold is left to the wire contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, ConfigDict, Field, RootModel, SkipValidation, TypeAdapter, model_validator

from domain import COMMANDS
from domain.directory.fields import NAME
from domain.limits import MAX_WHOLE, Id
from services import schemas
from services.commands.wire import pointer_of
from services.http.core.errors import ApiError
from services.http.core.models import Json, Request, names, refuse
from services.http.core.submit import MAX_ROUTING_KEY

MAX_ENTRIES = 1000


def _demand(fits: Callable[[Any], bool], detail: str, code: str = "wrong-shape") -> BeforeValidator:
    """Return a validator that refuses what does not fit."""

    def check(value: Any) -> Any:
        if not fits(value):
            refuse(code, detail)
        return value

    return BeforeValidator(check)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_routing_key(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value.encode()) <= MAX_ROUTING_KEY


class _Body(Request):
    # What is refused when the body is no object.
    wanted: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _demand_object(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            refuse("wrong-shape", cls.wanted)
        return value

    @classmethod
    def unknown(cls, key: str, pointer: str) -> ApiError:
        return ApiError("unknown-field", f"known here: {', '.join(names(cls))}", f"{pointer}{pointer_of((key,))}")


class Command(_Body):
    """A command as it is on the wire, with what stands around its data."""

    external = True
    wanted = "a command is an object"

    type: Annotated[
        str,
        _demand(
            lambda name: isinstance(name, str) and name in COMMANDS,
            f"commands are {', '.join(COMMANDS)}",
            "unknown-type",
        ),
    ]
    own: Annotated[Json, _demand(lambda data: isinstance(data, dict), "data is an object")] = Field(alias="data")
    id: Annotated[str | None, _demand(lambda value: value is None or isinstance(value, str), "an id is a text")] = (
        Field(
            None,
            description="the command's own id; sent again, it takes effect once",
            json_schema_extra={"pattern": "^[!-~]{1,128}$"},
        )
    )
    # Who may be named, and how, depends on who asks.
    actor: SkipValidation[Id | None] = None
    expected_version: Annotated[
        int | None,
        _demand(lambda value: value is None or _is_whole(value), "expected_version is a whole number from 0"),
    ] = Field(None, json_schema_extra={"minimum": 0, "maximum": MAX_WHOLE})
    routing_key: Annotated[
        str | None,
        _demand(
            lambda value: value is None or _is_routing_key(value),
            f"routing_key is a text of 1 to {MAX_ROUTING_KEY} bytes",
        ),
    ] = Field(None, json_schema_extra={"minLength": 1, "maxLength": MAX_ROUTING_KEY // 4})

    @model_validator(mode="before")
    @classmethod
    def _demand_type_and_data(cls, value: Any) -> Any:
        return {"type": None, "data": None, **value} if isinstance(value, dict) else value

    example: ClassVar[Json] = {"type": "task.complete", "data": {"id": "t1", "data": {"signed": True}}}

    @classmethod
    def unknown(cls, key: str, pointer: str) -> ApiError:
        return ApiError("unknown-field", f"a command has {', '.join(names(cls))}", f"{pointer}{pointer_of((key,))}")


def _or_null(hint: Any) -> Json:
    wanted: Any = hint | None
    made: Json = schemas.tidy(TypeAdapter(wanted).json_schema())
    return made


_FIELDS: Any = Field(
    None,
    alias="fields",
    description="The entry's own fields, any JSON; those below mean something to the service",
    json_schema_extra={"properties": {name: _or_null(hint) for name, hint in NAME.items()}},
)


class NewEntry(_Body):
    """An entry to register."""

    wanted = "an entry is an object"

    id: SkipValidation[Id | None] = Field(None, description="given out if it is left out")
    own: SkipValidation[Json] = _FIELDS

    example: ClassVar[Json] = {
        "id": "ann",
        "fields": {
            "name": "Ann",
            "email": "ann@example.com",
            "actor_roles": ["driver"],
            "projects": {"p1": {"is_manager": True}},
        },
    }


class NewEntries(_Body):
    """Entries to register, each by itself."""

    entries: Annotated[
        list[Any],
        _demand(
            lambda value: isinstance(value, list) and 1 <= len(value) <= MAX_ENTRIES,
            f"entries is a list of 1 to {MAX_ENTRIES} entries",
        ),
    ] = Field(
        description="An entry each; one of another shape is refused by itself, and stops no other",
        json_schema_extra={"minItems": 1, "maxItems": MAX_ENTRIES},
    )
    background: Annotated[bool, _demand(lambda value: isinstance(value, bool), "background is true or false")] = Field(
        False, description="answer before the entries are sent"
    )

    example: ClassVar[Json] = {"entries": [{"id": "h1", "fields": {"name": "North"}}, {"id": "h2"}]}


class Registration(RootModel[NewEntry | NewEntries]):
    """An entry, or a list of them."""


class EntryChange(_Body):
    """A change of an entry."""

    wanted = "a change is an object with `fields`"
    # That they are there is for the command to demand.
    model_config = ConfigDict(json_schema_extra={"required": ["fields"]})

    own: SkipValidation[Json] = _FIELDS

    example: ClassVar[Json] = {"fields": {"name": "Ann B.", "actor_roles": None}}
