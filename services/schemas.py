"""JSON Schemas of commands, events and answers, made from the types that are parsed and encoded, so they cannot drift.

The limits of commands' values are part of their types, from which `bounds` lets pydantic read them.
"""

from __future__ import annotations

import inspect
from copy import deepcopy
from functools import cache
from typing import Any

import msgspec
from pydantic import TypeAdapter

from domain import COMMANDS, EVENTS
from domain.directory.fields import ENTRY_FIELDS, NAME
from domain.lifecycle import ROWS
from domain.streams import ENTRY_KINDS
from services import bounds
from services.commands import wire

Json = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ID: Json = {"pattern": "^[A-Za-z0-9_-]{1,64}$"}
TENANT: Json = {"type": "string", "pattern": "^[a-z0-9-]{1,63}$"}
MOMENT: Json = {"format": "date-time"}


def tidy(schema: Any) -> Any:
    """Simplify a schema: drop titles of fields, unions that only add null, and indentation of descriptions."""
    if isinstance(schema, list):
        return [tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: value for key, value in schema.items() if key not in ("properties", "title")}
    made = {key: value if key in ("default", "enum", "const") else tidy(value) for key, value in made.items()}
    if "description" in made:
        made["description"] = inspect.cleandoc(made["description"])
    if "properties" in schema:
        owner = schema.get("title", "")
        properties = {name: tidy(field) for name, field in schema["properties"].items()}
        made = {**({"title": owner} if owner else {}), **made, "properties": properties}
    return _flat(made)


def _flat(schema: Json) -> Json:
    """Merge `anyOf` of a plain type and null into one schema."""
    choices = schema.get("anyOf", [])
    if len(choices) == 2 and choices[1] == {"type": "null"} and isinstance(choices[0].get("type"), str):
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        made = {**choices[0], "type": [choices[0]["type"], "null"], **rest}
        if "enum" in made:
            made["enum"] = [*made["enum"], None]
        return made
    return schema


@cache
def _command(name: str) -> Json:
    made: Json = tidy(TypeAdapter(COMMANDS[name]).json_schema())
    if {"kind", "fields"} <= set(made["properties"]):
        made["allOf"] = _entries()
    said, summary = made.get("description"), ROWS[name].summary
    made["description"] = f"{summary}\n\n{said}" if said else summary
    return {"$schema": DIALECT, "$id": f"urn:foldwork:command:{name}", **made}


def _entries() -> list[Json]:
    """Return the schemas of the fields of directory entries, by kind."""
    return [
        {
            "if": {"properties": {"kind": {"const": kind}}},
            "then": {
                "properties": {
                    "fields": {"properties": {name: _or_null(bounds.schema_of(hint)) for name, hint in hints.items()}}
                }
            },
        }
        for kind in ENTRY_KINDS
        if (hints := {**NAME, **ENTRY_FIELDS.get(kind, {})})
    ]


def _or_null(schema: Json) -> Json:
    nullable = {**schema, "type": [schema["type"], "null"]}
    return {**nullable, "enum": [*schema["enum"], None]} if "enum" in schema else nullable


def command(name: str) -> Json:
    return deepcopy(_command(name))


@cache
def _event(name: str) -> Json:
    made: Json = tidy(TypeAdapter(EVENTS[name]).json_schema(mode="serialization"))
    # Later versions may add fields, so readers must accept unknown ones.
    for part in (made, *made.get("$defs", {}).values()):
        part.pop("additionalProperties", None)
    return {"$schema": DIALECT, "$id": f"urn:foldwork:event:{name}", **made}


def event(name: str) -> Json:
    return deepcopy(_event(name))


def inlined(schema: Json, prefix: str, shared: Json, namespace: str = "") -> Json:
    """Return a schema for use in a larger document; its definitions go to `shared`, as `<namespace><name>`."""
    prefix = f"{prefix}{namespace}"
    plain = {key: value for key, value in deepcopy(schema).items() if key not in ("$schema", "$id", "$defs")}
    for name, definition in schema.get("$defs", {}).items():
        shared.setdefault(f"{namespace}{name}", _moved(definition, prefix))
    moved: Json = _moved(plain, prefix)
    return moved


def _moved(schema: Any, prefix: str) -> Any:
    if isinstance(schema, list):
        return [_moved(item, prefix) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value.replace("#/$defs/", prefix) if key == "$ref" else _moved(value, prefix)
        for key, value in schema.items()
    }


def shapes(prefix: str, *kinds: type[msgspec.Struct]) -> Json:
    """Return the schemas of encoded types, by class name; all keys are required, and no others are allowed."""
    _, found = msgspec.json.schema_components(kinds, ref_template=prefix + "{name}")
    return {name: _complete(tidy(schema)) for name, schema in found.items()}


def _complete(schema: Json) -> Json:
    if "properties" not in schema:
        return schema
    for field in schema["properties"].values():
        field.pop("default", None)
    return {**schema, "required": list(schema["properties"]), "additionalProperties": False}


def reply() -> Json:
    found = shapes("#/$defs/", wire.Reply)
    whole, refusal = found.pop("Reply"), found.pop("Refusal")
    whole["properties"]["outcome"] = {"type": "string", "enum": ["accepted", "rejected"]}
    whole["properties"]["error"] = {"anyOf": [{"$ref": "#/$defs/Refusal"}, {"type": "null"}]}
    return {"$schema": DIALECT, "$id": "urn:foldwork:reply", **whole, "$defs": {**found, "Refusal": refusal}}


def cloud_event(name: str | None = None, data: str = "") -> Json:
    """Return the schema of a published event: of one type, with a reference to that of its `data`, or of any."""
    text: Json = {"type": "string"}
    moment: Json = {"type": "string", **MOMENT}
    count: Json = {"type": "integer", "minimum": 1}
    shown = {
        "specversion": {"const": "1.0"},
        "id": {**text, "description": "the same at every repetition"},
        "source": {**text, "pattern": "^/foldwork/[a-z0-9-]{1,63}$"},
        "type": {"type": "string", "enum": list(EVENTS)} if name is None else {"type": "string", "const": name},
        "subject": {**text, "pattern": "^[a-z_]+/[A-Za-z0-9_-]{1,64}$"},
        "time": {**moment, "description": "when the worker decided"},
        "datacontenttype": {"const": "application/json"},
        "tenant": TENANT,
        "position": {**count, "description": "in the log of all tenants"},
        "streamversion": {**count, "description": "in the stream that `subject` names"},
        "recordedat": moment,
        "commandid": text,
        "correlationid": text,
        "causationid": text,
        "actor": text,
        "data": {"type": "object"} if name is None else {"$ref": data},
        "traceparent": {**text, "description": "W3C trace context, if the command had one"},
    }
    return {
        "title": "CloudEvent" if name is None else f"CloudEvent {name}",
        "type": "object",
        "required": [key for key in shown if key != "traceparent"],
        "properties": shown,
    }
