"""The models of a dialect: requests, which become the data of commands, and views, which show resources.

A field says once what it is called, what it may be, and where it goes to or comes from. Validation, the command's data,
the place of a refusal in the caller's own terms and the schema all follow from that. Types alone are checked here:
the limits of `domain.limits` are part of the types for the schema's sake, and the worker refuses what exceeds them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal, NoReturn, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, SkipValidation, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError

from services import bounds as bounds  # so that limits are part of the models' schemas
from services.commands.wire import pointer_of
from services.http.core.errors import ApiError

Json = dict[str, Any]
_MISSING: Any = object()
_PASSED_ON: Any = SkipValidation
# The default of a field that may be left out, but is not null.
LEFT_OUT: Any = None


@dataclass(frozen=True, slots=True)
class To:
    """The place of a request's field in the command's data, such as `plan/channel`; None if it is no part of it.

    `by` makes the command's value of the request's. Without this mark a field stands under its Python name.
    """

    place: str | None
    by: Callable[[Any], Any] | None = None


@dataclass(frozen=True, slots=True)
class From:
    """The source of a view's field: the resource's value at a place such as `fields/name`, or all of it for "".

    `by(value, context)` makes what is shown of it. Without this mark a field comes from its Python name, and one that
    is a literal of one value is that value. A missing value raises unless there is a `default`.
    """

    place: str
    by: Callable[[Any, Any], Any] | None = None
    default: Any = _MISSING


def _fail_fast(schema: Any) -> None:
    """Let every list end with its first fault, since only that one is told, and a list may have very many."""
    if isinstance(schema, list):
        for part in schema:
            _fail_fast(part)
    elif isinstance(schema, dict):
        if schema.get("type") == "list":
            schema["fail_fast"] = True
        for part in schema.values():
            _fail_fast(part)


class Model(BaseModel):
    """A request or a view, as a schema with an example."""

    # Whether it is encoded elsewhere: it is shown as it is, and its schema is passed to `Components` under its name.
    external: ClassVar[bool] = False
    example: ClassVar[Any] = None


class Request(Model):
    """A request's body. A subclass has a field for each key, and says what else holds of all of them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    # What is left out of a change stays as it is, and null takes away; elsewhere null is as if the key were not there.
    changes: ClassVar[bool] = False
    # Where unknown keys go in the command's data, in a model with `extra="allow"`.
    free: ClassVar[str] = ""
    # Keys that the service gives a value, by why they are refused.
    derived: ClassVar[Mapping[str, str]] = {}
    # Names of the command's data that are not in the body, as the id is in the path.
    outside_body: ClassVar[frozenset[str]] = frozenset({"id"})

    @classmethod
    def read(cls, body: Any, parts: Mapping[str, str] | None = None) -> Self:
        """Return a decoded body as a request; raises `ApiError` with one of its faults.

        `parts` are those of the path, by name; validators find them in their context.
        """
        try:
            return cls.model_validate(body, context=parts)
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
        # A key that nobody knows is told first, since one that is missing may be the same, misspelt.
        raise cls._refused(next((each for each in found if each["type"] == "extra_forbidden"), found[0]))

    def data(self) -> Json:
        """Return the command's data."""
        found: Json = {}
        fields_set, values = self.__pydantic_fields_set__, self.__dict__
        for field in _fields_to(type(self)):
            if field.name not in fields_set or not field.path:
                continue
            value = values[field.name]
            if value is None and not self.changes:
                continue
            if field.model is not None and value is not None:
                value = [item.data() for item in value] if field.many else value.data()
            elif field.by is not None:
                value = field.by(value)
            inner = found
            for part in field.path[:-1]:
                inner = inner.setdefault(part, {})
            inner[field.path[-1]] = value
        if self.__pydantic_extra__:
            found[self.free] = {**found.get(self.free, {}), **self.__pydantic_extra__}
        return found

    @classmethod
    def pointer(cls, place: str) -> str:
        """Return a JSON pointer into the command's data as one into the request's body."""
        return "".join(f"/{part}" for part in cls._placed(place.split("/")[1:]))

    @classmethod
    def _placed(cls, parts: list[str]) -> list[str]:
        # The longest first, since one field may stand inside of another's place.
        for field in sorted(_fields_to(cls), key=lambda field: -len(field.path)):
            path = list(field.path)
            if not path or parts[: len(path)] != path:
                continue
            rest = parts[len(path) :]
            if field.by is not None:
                return [field.alias]
            if field.model is not None and issubclass(field.model, Request) and rest:
                index, rest = (rest[:1], rest[1:]) if field.many else ([], rest)
                return [field.alias, *index, *field.model._placed(rest)]
            return [field.alias, *rest]
        if parts and parts[0] in {*cls.outside_body, *(field.path[0] for field in _fields_to(cls) if field.path)}:
            return []
        return parts[1:] if cls.free and parts[:1] == [cls.free] else parts

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        _fail_fast(schema)
        return schema

    @model_validator(mode="after")
    def _demand_nothing_derived(self) -> Self:
        for key in self.__pydantic_extra__ or ():
            if key in self.derived:
                refuse("derived", f"{key} {self.derived[key]}", pointer_of((key,)))
        return self

    @classmethod
    def unknown(cls, key: str, pointer: str) -> ApiError:
        """Return the refusal of a key that the object at a place does not have."""
        return ApiError("unknown-field", f"the fields are {', '.join(names(cls))}", f"{pointer}{pointer_of((key,))}")

    @classmethod
    def _refused(cls, error: ErrorDetails) -> ApiError:
        kind, place = error["type"], error["loc"]
        if kind == "extra_forbidden":
            owner: type[Request] = cls
            for part in (part for part in place[:-1] if isinstance(part, str)):
                owner = _model_of(_field_called(part, owner))[0]
            return owner.unknown(str(place[-1]), pointer_of(place[:-1]))
        context = error.get("ctx", {})
        if "refused" in context:
            return ApiError(kind, context["refused"], f"{pointer_of(place)}{context['at']}")
        return ApiError("wrong-shape", cls.message(error), pointer_of(place))

    @classmethod
    def message(cls, error: ErrorDetails) -> str:
        """Return the message for a value of the wrong type."""
        place = error["loc"]
        if not place:
            return "the body is an object"
        message = _MESSAGES.get(error["type"])
        return error["msg"] if message is None else message.format(name=place[-1], **error.get("ctx", {}))


# Messages for pydantic's errors.
_MESSAGES = {
    "missing": "{name} is required",
    "literal_error": "this is one of {expected}",
    "string_type": "this is a text",
    "string_too_short": "this is a text that is not empty",
    "bool_type": "this is true or false",
    "int_type": "this is a whole number",
    "list_type": "this is a list",
    "dict_type": "this is an object",
    "model_type": "this is an object",
}


def refuse(code: str, detail: str, at: str = "") -> NoReturn:
    """Refuse a value from within a validator; `at` is a place inside of what is validated."""
    raise PydanticCustomError(code, "{refused}", {"refused": detail, "at": at})


class View(Model):
    """A representation of a resource, with its keys in this order. An empty field with a default is left out."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def show(cls, resource: Any, context: Any = None) -> Json:
        """Return a resource as it is shown; `context` is what the dialect looked up for it."""
        return resource if cls.external else _shower(cls)(resource, context)


def names(model: type[BaseModel]) -> list[str]:
    """Return the keys of a model in their order."""
    return [field.alias or name for name, field in model.model_fields.items()]


@dataclass(frozen=True, slots=True)
class _FieldTo:
    name: str
    alias: str
    path: tuple[str, ...]
    by: Callable[[Any], Any] | None
    model: type[Request] | None
    many: bool


@cache
def _fields_to(model: type[Request]) -> tuple[_FieldTo, ...]:
    found = []
    for name, field in model.model_fields.items():
        to = _mark(field, To) or To(name)
        path = () if to.place is None else tuple(to.place.split("/"))
        # What is not validated is passed on as it came, for the worker alone to judge.
        inner, many = (None, False) if _mark(field, _PASSED_ON) is not None else _model_of(field)
        found.append(_FieldTo(name, field.alias or name, path, to.by, inner, many))
    return tuple(found)


@cache
def _shower(view: type[View]) -> Callable[[Any, Any], Json]:
    """Return the function that shows a resource, written out as dataclasses' are, since each row of a page needs it."""
    lines, given = ["def show(resource, context):", " shown = {}"], dict[str, Any]()
    for index, (name, field) in enumerate(view.model_fields.items()):
        value = _value(index, name, field, given)
        lines.append(f" if value := {value}:" if not field.is_required() else f" value = {value}")
        lines.append(f"{' ' if field.is_required() else '  '}shown[{field.alias or name!r}] = value")
    exec("\n".join([*lines, " return shown"]), given)  # noqa: S102 - of the model's own names alone
    show: Callable[[Any, Any], Json] = given["show"]
    return show


def _value(index: int, name: str, field: FieldInfo, given: Json) -> str:
    """Return the expression for what a field shows; the values that it refers to are added to `given`."""
    mark = _mark(field, From)
    words = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    if mark is None and len(words) == 1:
        return repr(words[0])
    mark = mark or From(name)
    value = "resource"
    for part in mark.place.split("/") if mark.place else ():
        value += f"[{part!r}]" if mark.default is _MISSING else f".get({part!r}, default{index})"
    inner, many = _model_of(field)
    given[f"default{index}"] = mark.default
    if mark.by is not None:
        given[f"by{index}"] = mark.by
        return f"by{index}({value}, context)"
    if inner is None or not issubclass(inner, View) or inner.external:
        return value
    # What shows in its own way is asked; anything else is shown without the detour, since each row of a page needs it.
    given[f"show{index}"] = _shower(inner) if inner.show.__func__ is View.show.__func__ else inner.show  # type: ignore[attr-defined]
    if many:
        return f"[show{index}(each, context) for each in {value}]"
    return f"None if (found := {value}) is None else show{index}(found, context)"


def _field_called(alias: str, model: type[BaseModel]) -> FieldInfo:
    return next(field for name, field in model.model_fields.items() if alias in (field.alias, name))


def _mark(field: FieldInfo, kind: type[Any]) -> Any:
    return next((mark for mark in field.metadata if isinstance(mark, kind)), None)


def _model_of(field: FieldInfo) -> tuple[Any, bool]:
    """Return the model that a field's value is one of, if it is one, and whether it holds a list of them."""
    found = models_in(field.annotation)
    kinds = (field.annotation, *get_args(field.annotation))
    return (found[0] if len(found) == 1 else None), any(get_origin(kind) is list for kind in kinds)


def models_in(hint: Any) -> list[type[BaseModel]]:
    """Return the models that a type is made of."""
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return [hint]
    return [model for part in get_args(hint) for model in models_in(part)]
