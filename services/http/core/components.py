"""The schemas of the OpenAPI document: each model, and whatever else is shown, once and under a name of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel, RootModel, TypeAdapter
from pydantic.fields import FieldInfo

from domain.limits import MAX_KEY
from services import schemas
from services.http.core.models import Json, Request, models_in, names

PREFIX = "#/components/schemas/"
_PACKAGE = "services.http."


def component_name(model: type[BaseModel]) -> str:
    """Return the name of a model's schema: its dialect's and its own, so that two dialects may have the same word."""
    dialect = model.__module__.removeprefix(_PACKAGE).partition(".")[0]
    prefix = "" if dialect in ("core", "native") else dialect.capitalize()
    return f"{prefix}{model.__name__.removeprefix('_')}"


class Components:
    """Collects the schemas that operations refer to. `external` are those made from something else."""

    def __init__(self, external: Mapping[str, Json] | None = None) -> None:
        self.schemas: Json = dict(external or {})
        self._models: dict[str, type[BaseModel]] = {}

    def ref(self, model: type[BaseModel]) -> Json:
        """Return a reference to a model's schema."""
        name = component_name(model)
        if self._models.get(name) is not model and not (getattr(model, "external", False) and name in self.schemas):
            self._add(name, model)
        return {"$ref": f"{PREFIX}{name}"}

    def _add(self, name: str, model: type[BaseModel]) -> None:
        if name in self.schemas:
            raise ValueError(f"two schemas are called {name}")
        self._models[name] = model
        found = _inside(model)
        made = model.model_json_schema()
        made.pop("$defs", None)
        self.schemas[name] = _referring(_tidy(model, made), {inner.__name__: component_name(inner) for inner in found})
        for inner in found:
            self.ref(inner)


def _inside(model: type[BaseModel]) -> list[type[BaseModel]]:
    """Return the models that a model is made of, those further inside included."""
    found: dict[type[BaseModel], None] = {}
    left = [model]
    while left:
        for field in left.pop().model_fields.values():
            for inner in models_in(field.annotation):
                if inner not in found:
                    found[inner] = None
                    left.append(inner)
    return list(found)


def _tidy(model: type[BaseModel], made: Json) -> Json:
    tidy: Json = schemas.tidy(made)
    # A client made from the document takes its classes' names from titles first.
    tidy.pop("title", None)
    changes = issubclass(model, Request) and model.changes
    for field in tidy.get("properties", {}).values():
        # What is left out of a change has no value, and an empty default says nothing.
        if "default" in field and (changes or (not field["default"] and field["default"] is not False)):
            del field["default"]
    if issubclass(model, Request) and model.model_config.get("extra") == "allow":
        unknown = {"maxLength": MAX_KEY}
        derived = sorted(set(model.derived) - set(names(model)))
        tidy["propertyNames"] = {**unknown, "not": {"enum": derived}} if derived else unknown
    return tidy


def _referring(schema: Any, called: Mapping[str, str]) -> Any:
    if isinstance(schema, list):
        return [_referring(item, called) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: f"{PREFIX}{called[value.rpartition('/')[2]]}" if key == "$ref" else _referring(value, called)
        for key, value in schema.items()
    }


def examples_of(model: type[BaseModel]) -> Json:
    """Return what a media type says of a model's examples; a union has one of each of its members."""
    if issubclass(model, RootModel):
        members = models_in(model.model_fields["root"].annotation)
        if len(members) > 1:
            return {"examples": {component_name(member): {"value": example_of(member)} for member in members}}
    return {"example": example_of(model)}


def example_of(model: type[BaseModel]) -> Any:
    """Return a model's example: its own, or one made of its fields' that are always there."""
    own = getattr(model, "example", None)
    if own is not None:
        return own
    if issubclass(model, RootModel):
        return _example_of_field(model.model_fields["root"], "root")
    return {
        field.alias or name: _example_of_field(field, field.alias or name)
        for name, field in model.model_fields.items()
        if field.is_required()
    }


def _example_of_field(field: FieldInfo, name: str) -> Any:
    if field.examples:
        return field.examples[0]
    hint: Any = field.annotation
    found, kind = models_in(hint), get_origin(hint) or hint
    if type(None) in get_args(hint):
        return None
    if found:
        shown = example_of(found[0])
        return [shown] if kind is list else shown
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    value = schemas.example_of(name, {**schemas.tidy(TypeAdapter(hint).json_schema()), **extra})
    if value == "":
        raise ValueError(f"{name}: {field!r} has no example")
    return value
