"""JSON Schemas of commands, events, replies and resources, made from the types that are parsed and encoded."""

from __future__ import annotations

import inspect
from copy import deepcopy
from functools import cache
from typing import Any

import msgspec
from pydantic import TypeAdapter

from domain import COMMANDS, EVENTS, STORED_EVENTS
from domain.directory.fields import ENTRY_FIELDS, NAME
from domain.lifecycle import ROWS, TABLE, Lifecycle
from domain.rollup import RULES
from domain.streams import ENTRY_KINDS
from projections import activities, directory, history
from projections.task import table as tasks
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
        made["anyOf"] = _entries()
    said, summary = made.get("description"), ROWS[name].summary
    made["description"] = f"{summary}\n\n{said}" if said else summary
    return {"$schema": DIALECT, "$id": f"urn:foldwork:command:{name}", **made}


def _entries() -> list[Json]:
    """Return the schemas of the fields of directory entries, by kind."""
    return [
        {
            "properties": {
                "kind": {"const": kind},
                "fields": {"properties": {name: or_null(bounds.schema_of(hint)) for name, hint in hints.items()}},
            }
        }
        for kind in ENTRY_KINDS
        if (hints := {**NAME, **ENTRY_FIELDS.get(kind, {})})
    ]


def or_null(schema: Json) -> Json:
    nullable = {**schema, "type": [schema["type"], "null"]}
    return {**nullable, "enum": [*schema["enum"], None]} if "enum" in schema else nullable


def command(name: str) -> Json:
    return deepcopy(_command(name))


@cache
def _event(name: str) -> Json:
    made: Json = tidy(TypeAdapter(STORED_EVENTS[name]).json_schema(mode="serialization"))
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
    properties, required = schema["properties"], schema.get("required", ())
    # What is omitted where it says nothing has no default.
    required = [name for name, field in properties.items() if name in required or "default" in field]
    for field in properties.values():
        field.pop("default", None)
    return {**schema, "required": required, "additionalProperties": False}


def reply() -> Json:
    found = shapes("#/$defs/", wire.Reply)
    whole, refusal = found.pop("Reply"), found.pop("Refusal")
    whole["properties"]["outcome"] = {"type": "string", "enum": ["accepted", "rejected", wire.PARKED]}
    whole["properties"]["error"] = {"anyOf": [{"$ref": "#/$defs/Refusal"}, {"type": "null"}]}
    return {"$schema": DIALECT, "$id": "urn:foldwork:reply", **whole, "$defs": {**found, "Refusal": refusal}}


_RESOURCES: dict[str, type[msgspec.Struct]] = {
    "Task": tasks.Shown,
    "Activity": activities.Shown,
    "Entry": directory.Entry,
    "HistoryEntry": history.Entry,
}
_ACTIONS = {"Task": list(TABLE), "Activity": ["activity.change", "activity.cancel"]}


def resources(prefix: str) -> Json:
    """Return the schemas of the resources of the read models, and of the types that they consist of, by name."""
    found: Json = {"Kind": {"type": "string", "enum": list(ENTRY_KINDS)}}
    for name, kind in _RESOURCES.items():
        made = shapes(prefix, kind)
        found[name] = made.pop(kind.__name__)
        found |= made
    found["Child"] = found.pop("ShownChild")
    moment = {"type": "string", **MOMENT}
    # What the types do not say of the values.
    exact = {
        "status": {"type": "string", "enum": [state.value.lower() for state in Lifecycle]},
        "rule": {"type": "string", "enum": list(RULES)},
        "kind": {"$ref": f"{prefix}Kind"},
        "children": {"type": "array", "items": {"$ref": f"{prefix}Child"}},
        **dict.fromkeys(("created_at", "updated_at", "occurred_at", "recorded_at"), moment),
    }
    for name in (*_RESOURCES, "Child"):
        properties = found[name]["properties"]
        properties |= {field: exact[field] for field in exact.keys() & properties.keys()}
    for name, commands in _ACTIONS.items():
        actions = {"type": "array", "items": {"type": "string", "enum": commands}}
        properties = found[name]["properties"]
        properties["allowed_actions"] = {**actions, "description": "what the caller may give as it stands"}
        found[name]["required"] = list(properties)
    found["HistoryEntry"]["properties"] |= {
        "type": {"type": "string", "enum": list(EVENTS)},
        "data": {"type": "object", "description": "as the event's type says"},
    }
    entry, held = found["Entry"], [{"$ref": f"{prefix}OpenTasks"}, {"type": "null"}]
    left = {"anyOf": held, "description": "null while the read model is behind"}
    found["RetiredEntry"] = {**entry, "properties": {**entry["properties"], "open_tasks": left}}
    found["Reply"] = inlined(reply(), prefix, found)
    found["CloudEvent"] = cloud_event()
    for schema in found.values():
        # A client made from the document takes its classes' names from titles first.
        schema.pop("title", None)
    return found


def sent_commands(prefix: str, message: Json) -> Json:
    """Return the schemas of all commands as messages with these properties around the data, and of their union."""
    around = {
        name: {key: value for key, value in field.items() if key != "default"}
        for name, field in message["properties"].items()
    }
    names, shared = {name: f"{prefix}command.{name}" for name in COMMANDS}, Json()
    for name in COMMANDS:
        own = {"type": {"type": "string", "const": name}, "data": inlined(command(name), prefix, shared)}
        shared[f"command.{name}"] = {
            "type": "object",
            "description": ROWS[name].summary,
            "required": list(own),
            "additionalProperties": False,
            "properties": {**around, **own},
        }
    discriminator = {"propertyName": "type", "mapping": names}
    shared["Command"] = {"oneOf": [{"$ref": place} for place in names.values()], "discriminator": discriminator}
    return shared


# The values of properties in examples.
_EXAMPLES: Json = {
    "id": "t1",
    "title": "Pickup",
    "kind": "member",
    "assignees": ["ann"],
    "created_by": "system",
    "actor": "ann",
    "tenant": "acme",
    "source": "/foldwork/acme",
    "subject": "task/t1",
    "stream": "task-t1",
    "type": "task.completed",
    "category": "task",
    "command_id": "c-1",
    "receipt": "/v1/commands/c-1",
    "position": 42,
    "version": 3,
    "resolution": "NONE",
    "failure": "wait_all",
    "dispatch": "NONE",
}
_EMPTY = {"string": "", "number": 0.0, "boolean": False, "array": [], "object": {}}


def example_of(name: str, schema: Json) -> Any:
    """Return an example of a property: a known value, or the emptiest one of its type."""
    if "const" in schema or "enum" in schema:
        words = schema.get("enum", [schema.get("const")])
        return _EXAMPLES[name] if _EXAMPLES.get(name) in words else words[0]
    if name in _EXAMPLES:
        return _EXAMPLES[name]
    if schema.get("format") == "date-time":
        return "2025-10-31T01:50:00.000Z"
    kind = schema.get("type", "null")
    if kind == "integer":
        return max(0, schema.get("minimum", 0))
    return None if "null" in kind else _EMPTY[kind]


def example(schema: Json, known: Json) -> Json:
    """Return an example of an object, with known values for some of its properties."""
    fields = {
        name: field for name, field in schema["properties"].items() if name in schema["required"] or name in known
    }
    return {name: known[name] if name in known else example_of(name, field) for name, field in fields.items()}


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
