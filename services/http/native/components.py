"""The schemas that native operations share in the OpenAPI document, made from the types that are encoded."""

from __future__ import annotations

from functools import cache
from typing import Any

from domain import COMMANDS, EVENTS
from domain.lifecycle import ROWS, TABLE, Lifecycle
from domain.rollup import RULES
from domain.streams import ENTRY_KINDS
from projections import activities, directory, history, tasks
from services import schemas
from services.http.core.errors import STATUS_OF_CODE

Json = dict[str, Any]

PREFIX = "#/components/schemas/"
MOST_POSITION = 2**63 - 1
# The ids of tasks in the answer to a member's retirement.
MAX_HELD = 100
ENTITY_ID: Json = {"type": "string", **schemas.ID}
_TEXT: Json = {"type": "string"}
_STATUS: Json = {"type": "string", "enum": [state.value.lower() for state in Lifecycle]}
_MOMENT: Json = {"type": "string", **schemas.MOMENT}
_MAYBE: Json = {"type": ["string", "null"]}
_POSITION: Json = {"type": "integer", "minimum": 0}
_OPEN: Json = {"type": "object"}


def ref(name: str) -> Json:
    """Return a reference to a shared schema."""
    return {"$ref": f"{PREFIX}{name}"}


def page_of(name: str) -> Json:
    """Return the schema of a page."""
    return shape(data={"type": "array", "items": ref(name)}, next={**_MAYBE, "description": "the next page's address"})


def shape(**fields: Json) -> Json:
    """Return an object that has these keys and no others."""
    return {"type": "object", "required": list(fields), "additionalProperties": False, "properties": fields}


@cache
def shared() -> Json:
    """Return every shared schema by its name."""
    found: Json = {"Problem": _problem(), "Kind": {"type": "string", "enum": list(ENTRY_KINDS)}}
    made = schemas.shapes(PREFIX, tasks.Shown)
    found["Task"] = _with_actions(made.pop("Shown"), list(TABLE))
    found |= made
    made = schemas.shapes(PREFIX, activities.Shown)
    found["Activity"] = _with_actions(made.pop("Shown"), ["activity.change", "activity.cancel"])
    found["Activity"]["properties"]["rule"] = {"type": "string", "enum": list(RULES)}
    found |= made
    for name in ("Task", "Activity", "ShownChild"):
        found[name]["properties"] |= {"status": _STATUS, "created_at": _MOMENT}
    found["Child"] = found.pop("ShownChild")
    found["Activity"]["properties"]["children"] = {"type": "array", "items": ref("Child")}
    found["Entry"] = schemas.shapes(PREFIX, directory.Entry)["Entry"]
    found["Entry"]["description"] = "An entry of the directory; `fields` are its caller's own."
    found["Entry"]["properties"] |= {"kind": ref("Kind"), "created_at": _MOMENT, "updated_at": _MOMENT}
    found["RetiredEntry"] = _retired_entry(found["Entry"])
    entry = schemas.shapes(PREFIX, history.Entry)["Entry"]
    entry["properties"] |= {"data": {**_OPEN, "description": "as the event's type says"}, "type": _event_type()}
    found["HistoryEntry"] = {**entry, "title": "HistoryEntry"}
    reply = schemas.reply()
    found["Reply"] = schemas.inlined(reply, PREFIX, found)
    found["Receipt"] = _receipt()
    found["Undecided"] = _undecided()
    found["Bulk"] = _bulk()
    found["CloudEvent"] = schemas.cloud_event()
    found["Explanation"] = _explanation()
    found["Readiness"] = {
        "type": "object",
        "required": ["status", "not_ready", "degraded"],
        "properties": {
            "status": {"type": "string", "enum": ["ready", "degraded", "not ready"]},
            "not_ready": {"type": "array", "items": _TEXT, "description": "the parts that are missing"},
            "degraded": {"type": "array", "items": _TEXT, "description": "the followers that hold something back"},
        },
        "additionalProperties": {**_OPEN, "description": "a part, by its name"},
    }
    for name in COMMANDS:
        found[f"command.{name}"] = _command(name, found)
    mapping = {name: f"{PREFIX}command.{name}" for name in COMMANDS}
    found["Command"] = {
        "oneOf": [ref(f"command.{name}") for name in COMMANDS],
        "discriminator": {"propertyName": "type", "mapping": mapping},
    }
    return found


def _retired_entry(entry: Json) -> Json:
    held: Json = {
        "type": ["object", "null"],
        "description": "a member's open tasks, the oldest first; null while the read model is behind",
        "required": ["total", "ids"],
        "properties": {
            "total": {"type": "integer", "minimum": 0},
            "ids": {"type": "array", "maxItems": MAX_HELD, "items": _TEXT},
        },
    }
    properties = {**entry["properties"], "open_tasks": held}
    return {**entry, "title": "RetiredEntry", "properties": properties}


def _event_type() -> Json:
    return {"type": "string", "enum": list(EVENTS)}


def _problem() -> Json:
    return {
        "type": "object",
        "description": "Problem details, RFC 9457.",
        "required": ["type", "title", "status", "detail", "code"],
        "properties": {
            "type": {"type": "string", "format": "uri", "pattern": "^urn:foldwork:problem:"},
            "title": _TEXT,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {**_TEXT, "description": "for people"},
            "code": {"type": "string", "enum": sorted(STATUS_OF_CODE)},
            "pointer": {**_TEXT, "description": "JSON pointer into the body"},
            "parameter": {**_TEXT, "description": "query parameter or header at fault"},
            "command_id": {**_TEXT, "description": "the command that was refused"},
            "position": {"type": ["integer", "null"], "description": "how far the log was"},
            "duplicate": {"type": "boolean", "description": "the command had been refused before"},
        },
    }


def _with_actions(schema: Json, names: list[str]) -> Json:
    actions = {"type": "array", "items": {"type": "string", "enum": names}}
    schema["properties"]["allowed_actions"] = {**actions, "description": "what the caller may give as it stands"}
    return {**schema, "required": list(schema["properties"])}


def _command(name: str, found: Json) -> Json:
    data = schemas.inlined(schemas.command(name), PREFIX, found)
    return {
        "type": "object",
        "description": ROWS[name].summary,
        "required": ["type", "data"],
        "additionalProperties": False,
        "properties": {
            "type": {"type": "string", "const": name},
            "data": data,
            "id": {
                "type": ["string", "null"],
                "pattern": "^[!-~]{1,128}$",
                "description": "the command's own id; sent again, it takes effect once",
            },
            "actor": {"type": ["string", "null"], **schemas.ID},
            "expected_version": {"type": ["integer", "null"], "minimum": 0, "maximum": MOST_POSITION},
            "routing_key": {"type": ["string", "null"], "minLength": 1, "maxLength": 63},
        },
    }


def _receipt() -> Json:
    known = shape(
        command_id=_TEXT,
        outcome={"type": "string", "enum": ["accepted", "rejected"]},
        recorded_at=_MOMENT,
        position={"type": ["integer", "null"]},
        events={"type": "array", "items": ref("EventSummary")},
    )
    known["properties"]["error"] = {**ref("Refusal"), "description": "there when it was rejected"}
    return known


def _bulk() -> Json:
    count: Json = {"type": "integer", "minimum": 0}
    item = shape(
        ref={**_MAYBE, "description": "the request's own name for the part, where it has one"},
        id={**_MAYBE, "description": "of what the part is about"},
        outcome={"type": "string", "enum": ["accepted", "rejected", "undecided"]},
        receipt={**_TEXT, "description": "of its command, once that is decided"},
        position={"type": ["integer", "null"], "description": "there when it was accepted"},
        error={**ref("Refusal"), "description": "there when it was rejected"},
    )
    return shape(
        id=_TEXT,
        command={"type": "string", "enum": list(COMMANDS)},
        state={"type": "string", "enum": ["running", "done"]},
        created_at=_MOMENT,
        total={**count, "description": "the parts of the request"},
        sent={**count, "description": "the commands that the broker has taken"},
        accepted=count,
        rejected=count,
        undecided=count,
        position={"type": ["integer", "null"], "description": "the highest one, for `min_position`"},
        items={"type": "array", "items": {**item, "required": ["ref", "id", "outcome"]}},
    )


def _undecided() -> Json:
    return shape(
        command_id=_TEXT,
        outcome={"type": "string", "enum": ["undecided", "accepted"], "description": "as far as it is known"},
        receipt={**_TEXT, "description": "where the outcome will be"},
    )


def _explanation() -> Json:
    child = shape(
        id=_TEXT,
        step={"type": ["integer", "null"]},
        status=_STATUS,
        assignees={"type": "array", "items": _TEXT},
        resolution=_TEXT,
        dispatch=_TEXT,
        position=_POSITION,
        decides={"type": "boolean", "description": "it is one of those that make the rule fit"},
    )
    return shape(
        id=_TEXT,
        status=_STATUS,
        rule={"type": "string", "enum": list(RULES)},
        failure={"type": "string", "enum": ["wait_all", "fail_fast"]},
        canceled={"type": "boolean"},
        progress={"type": "object", "additionalProperties": {"type": "integer"}},
        left_out={"type": "array", "items": ref("LeftOut")},
        position=_POSITION,
        rule_text=_TEXT,
        children={"type": "array", "items": child},
    )
