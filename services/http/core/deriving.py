"""Models that say nothing new: the request for a definition of the domain, the one that changes it, and its view."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import MISSING, fields
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import Field, create_model

from domain.limits import hints_of, limits_of
from services.http.core.models import From, Json, Request, To, View


def request_of(
    kind: type,
    name: str,
    base: type[Request],
    said: str,
    described: Mapping[str, Json],
    parts: Mapping[Any, type[Request]] | None = None,
) -> type[Request]:
    """Return the request for a dataclass of the domain: its fields with their limits, but the id.

    `described` has what else `Field` is to say of fields, `parts` the requests for the dataclasses in it.
    """
    hints, found = hints_of(kind), dict[str, Any]()
    for field in fields(kind):
        given: Json = {} if field.default is MISSING else {"default": field.default}
        given |= {} if field.default_factory is MISSING else {"default_factory": field.default_factory}
        if field.name != "id":
            found[field.name] = _listed(hints[field.name], parts or {}), Field(**given, **described.get(field.name, {}))
    return create_model(name, __base__=base, __module__=base.__module__, __doc__=said, **found)


def _listed(hint: Any, parts: Mapping[Any, type[Request]]) -> Any:
    """Return a type as JSON has it, where a tuple is a list."""
    bare, marks = limits_of(hint)
    if get_origin(bare) is not tuple:
        return hint
    item: Any = get_args(bare)[0]
    return Annotated[(list[parts.get(item, item)], *marks)]  # type: ignore[misc]


def change_of(
    new: type[Request], *fixed: str, said: str = "What is left out stays as it is; null takes a field away."
) -> type[Request]:
    """Return the request for changes of what `new` creates: its fields without the `fixed` ones, none of them needed.

    It has the base of `new`, which has no fields, and the example without what is fixed.
    """
    found: Any = {}
    for name, field in new.model_fields.items():
        if name not in fixed:
            found[name] = field.annotation, (optional := copy(field))
            optional.default, optional.default_factory = None, None
    name, base = f"{new.__name__.removeprefix('New')}Change", new.__base__
    assert base is not None  # noqa: S101
    assert issubclass(base, Request)  # noqa: S101
    made = create_model(name, __base__=base, __module__=new.__module__, __doc__=said, **found)
    made.changes = True
    if new.example is not None:
        keys = {new.model_fields[name].alias or name for name in fixed}
        made.example = {key: value for key, value in new.example.items() if key not in keys}
    return made


def view_of(new: type[Request], base: type[View], said: str, shown: Mapping[str, Any], **more: Any) -> type[View]:
    """Return the view of what `new` creates, each field from its place in the command's data, without its limits.

    `shown` has the fields that are shown otherwise, `more` those that follow.
    """
    hints, found = get_type_hints(new), dict[str, Any]()
    example: Json = new.example or {}
    for name, field in new.model_fields.items():
        place = next((mark.place for mark in field.metadata if isinstance(mark, To)), None) or name
        default = {} if field.is_required() else {"default": field.get_default(call_default_factory=True)}
        hint = shown.get(name, Annotated[hints[name], From(place, **default)])
        key = field.alias or name
        found[name] = hint, Field(alias=field.alias, examples=[example[key]] if key in example else field.examples)
    name = new.__name__.removeprefix("New")
    return create_model(name, __base__=base, __module__=new.__module__, __doc__=said, **found, **more)
