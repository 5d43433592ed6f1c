"""Query parameters: a model has a field for each, from which they are read, refused and documented; and pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Annotated, Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from domain.limits import INSTANT, MAX_WHOLE, Number, limits_of
from services import schemas
from services.http.core.call import Call
from services.http.core.errors import ApiError
from services.http.core.middleware import CURRENT, header
from services.http.core.past import look_back

Json = dict[str, Any]

# What a parameter that is no number of its range is refused with; any other is a limit.
_CODES = {"min_position": "bad-position", "after": "bad-position", "cursor": "bad-cursor"}
Position = Annotated[int, Number(0, MAX_WHOLE)]


class Query(BaseModel):
    """The parameters of a query: whole numbers, texts, flags and choices, each given once. Any other is refused.

    A list is given by repeating its parameter; its texts are for the caller of `read` to check.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, call: Call) -> Self:
        """Return the parameters of a request; raises `ApiError`."""
        parameters = call.parameters()
        query = cls.take(parameters)
        nothing_else(parameters, [alias for _, alias, _ in _fields(cls)])
        return query

    @classmethod
    def take(cls, parameters: dict[str, list[str]]) -> Self:
        """Take the parameters of the model out of all parameters, and leave the others; raises `ApiError`."""
        return cls.model_construct(
            **{name: take(parameters, alias) for name, alias, take in _fields(cls) if alias in parameters}
        )


class MinPosition(Query):
    """The position that a read waits for."""

    min_position: Position = Field(0, description="Wait until the read model has handled this position")


# A time in a query, as `domain.decider.instant` reads it: there is no year 0.
MOMENT: Json = {"format": "date-time", "pattern": f"^(?!0000){INSTANT}$"}
# A position, or such a time.
_MOMENT = r"^([0-9]{1,18}|(?!0000)\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d))$"


class AsOf(MinPosition):
    """The position that a read waits for, or the one, or the time, that it looks back to."""

    as_of: str | None = Field(
        None,
        alias="as_of",
        description="Show what was at this position of the log, or at this time, RFC 3339 with an offset; of lists,"
        " those of the tasks of one activity",
        json_schema_extra={"pattern": _MOMENT},
    )


POSITION = "Foldwork-Position"


async def settled(call: Call, query: MinPosition | None, *models: str) -> None:
    """Wait until these read models have handled the position that a query, or its header, asks for.

    Without a read model it is the log itself that is read. The answer then says how far they are. A call that looks
    back reads the log: it waits for nothing, and its answer says the position that it looks back to.
    """
    if isinstance(query, AsOf) and query.as_of is not None:
        await _waited(call, query)
        CURRENT.get().position = await look_back(call, query.as_of)
    else:
        await _waited(call, query, *models)


async def _waited(call: Call, query: MinPosition | None, *models: str) -> None:
    asked = query.min_position if query is not None and "min_position" in query.model_fields_set else None
    said = header(b"foldwork-position")
    if asked is None and said is None:
        return
    asked_by = "min_position"
    if said is not None:
        if not _is_whole(said, 0, MAX_WHOLE):
            raise ApiError("bad-header", f"a position is a whole number from 0 to {MAX_WHOLE}", parameter=POSITION)
        if asked not in (None, int(said)):
            raise ApiError("bad-header", "the header names another position than min_position", parameter=POSITION)
        asked, asked_by = int(said), POSITION
    assert asked is not None  # noqa: S101
    timeout = call.service.settings.view_timeout
    CURRENT.get().position = await call.service.positions.demand(models, asked, timeout, asked_by)


def documented(query: type[Query]) -> list[Json]:
    """Return the parameters of a model for the OpenAPI document."""
    made = schemas.tidy(query.model_json_schema())
    found = []
    for name, schema in made["properties"].items():
        plain = {key: value for key, value in schema.items() if key != "description"}
        if not plain.get("default"):
            plain.pop("default", None)
        if "null" in plain["type"]:
            plain["type"] = plain["type"][0]
            if "enum" in plain:
                plain["enum"] = plain["enum"][:-1]
        required = {"required": True} if name in made.get("required", ()) else {}
        found.append({"name": name, "in": "query", "description": schema["description"], "schema": plain, **required})
    return found


# Reading from the parameters' texts.


def one(parameters: dict[str, list[str]], name: str) -> str | None:
    """Take a parameter that may be given once."""
    values = parameters.pop(name, None)
    if values is None:
        return None
    if len(values) > 1:
        raise ApiError("bad-filter", f"{name} is given more than once", parameter=name)
    return values[0]


def number(parameters: dict[str, list[str]], name: str, default: int, least: int, most: int = MAX_WHOLE) -> int:
    """Take a parameter that is a whole number."""
    text = one(parameters, name)
    if text is None:
        return default
    if not _is_whole(text, least, most):
        code = _CODES.get(name, "bad-limit")
        raise ApiError(code, f"{name} is a whole number from {least} to {most}", parameter=name)
    return int(text)


def _is_whole(text: str, least: int, most: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 19 and least <= int(text) <= most


def choice(parameters: dict[str, list[str]], name: str, *known: str) -> str | None:
    """Take a parameter that is one of some words."""
    text = one(parameters, name)
    if text is not None and text not in known:
        raise ApiError("bad-filter", f"{name} is one of {', '.join(known)}", parameter=name)
    return text


def flag(parameters: dict[str, list[str]], name: str) -> bool:
    """Take a parameter that is true or false."""
    text = one(parameters, name)
    if text not in ("true", "false"):
        raise ApiError("bad-filter", f"{name} is true or false", parameter=name)
    return text == "true"


def nothing_else(parameters: dict[str, list[str]], known: Iterable[str] = ()) -> None:
    """Refuse parameters that nobody took, since a misspelt one would silently change the answer."""
    for name in parameters:
        raise ApiError("unknown-parameter", f"the parameters are {', '.join(known)}", parameter=name)


_Reader = Callable[[dict[str, list[str]], str], Any]


@cache
def _fields(query: type[Query]) -> tuple[tuple[str, str, _Reader], ...]:
    return tuple((name, field.alias or name, _reader(field)) for name, field in query.model_fields.items())


def _reader(field: FieldInfo) -> _Reader:
    parts = [part for part in get_args(field.annotation) if part is not type(None)]
    hint = parts[0] if type(None) in get_args(field.annotation) else field.annotation
    bare, marks = limits_of(hint)
    if get_origin(bare) is Literal:
        return lambda parameters, name: choice(parameters, name, *get_args(bare))
    if get_origin(bare) is list:
        return lambda parameters, name: parameters.pop(name)
    if bare is bool:
        return flag
    if bare is int:
        (limit,) = (mark for mark in (*marks, *field.metadata) if isinstance(mark, Number))
        return lambda parameters, name: number(parameters, name, 0, limit.least, limit.most)
    return one
