"""The schemas that are made from what is encoded or given: resources of the read models, events, and commands."""

from __future__ import annotations

from functools import cache
from typing import Annotated

from pydantic import Field

from domain import COMMANDS, EVENTS
from domain.lifecycle import ROWS, TABLE, Lifecycle
from domain.rollup import RULES
from domain.streams import ENTRY_KINDS
from projections import activities, directory, history
from projections.task import table as tasks
from services import schemas
from services.http.core.components import PREFIX
from services.http.core.models import Json, View
from services.http.native.requests import Command

# The ids of tasks in the answer to a member's retirement.
MAX_HELD = 100
_MOMENT: Json = {"type": "string", **schemas.MOMENT}


class OpenTasks(View):
    """A member's open tasks, the oldest first."""

    total: Annotated[int, Field(ge=0)]
    ids: Annotated[list[str], Field(max_length=MAX_HELD)]


def ref(name: str) -> Json:
    """Return a reference to a shared schema."""
    return {"$ref": f"{PREFIX}{name}"}


@cache
def resources() -> Json:
    """Return the schemas of what the read models show, by their names."""
    found: Json = {"Kind": {"type": "string", "enum": list(ENTRY_KINDS)}}
    status = {"type": "string", "enum": [state.value.lower() for state in Lifecycle]}
    for name, shown, actions in (
        ("Task", tasks.Shown, list(TABLE)),
        ("Activity", activities.Shown, ["activity.change", "activity.cancel"]),
    ):
        made = schemas.shapes(PREFIX, shown)
        found[name] = _with_actions(made.pop("Shown"), actions)
        found |= made
    found["Activity"]["properties"]["rule"] = {"type": "string", "enum": list(RULES)}
    for name in ("Task", "Activity", "ShownChild"):
        found[name]["properties"] |= {"status": status, "created_at": _MOMENT}
    found["Child"] = found.pop("ShownChild")
    found["Activity"]["properties"]["children"] = {"type": "array", "items": ref("Child")}
    entry = schemas.shapes(PREFIX, directory.Entry)["Entry"]
    entry["description"] = "An entry of the directory; `fields` are its caller's own."
    entry["properties"] |= {"kind": ref("Kind"), "created_at": _MOMENT, "updated_at": _MOMENT}
    found["Entry"] = entry
    held = {"anyOf": [ref("OpenTasks"), {"type": "null"}], "description": "null while the read model is behind"}
    found["RetiredEntry"] = {**entry, "properties": {**entry["properties"], "open_tasks": held}}
    found["OpenTasks"] = schemas.tidy(OpenTasks.model_json_schema())
    event = schemas.shapes(PREFIX, history.Entry)["Entry"]
    event["properties"]["type"] = {"type": "string", "enum": list(EVENTS)}
    event["properties"]["data"] = {"type": "object", "description": "as the event's type says"}
    found["HistoryEntry"] = event
    for schema in found.values():
        # A client made from the document takes its classes' names from titles first.
        schema.pop("title", None)
    return found


def _with_actions(schema: Json, names: list[str]) -> Json:
    actions = {"type": "array", "items": {"type": "string", "enum": names}}
    schema["properties"]["allowed_actions"] = {**actions, "description": "what the caller may give as it stands"}
    return {**schema, "required": list(schema["properties"])}


@cache
def shared() -> Json:
    """Return every schema that is made elsewhere than from a model, by its name."""
    found: Json = dict(resources())
    found["Reply"] = schemas.inlined(schemas.reply(), PREFIX, found)
    found["CloudEvent"] = schemas.cloud_event()
    around = schemas.tidy(Command.model_json_schema())["properties"]
    for field in around.values():
        field.pop("default", None)
    for name in COMMANDS:
        own = {
            "type": {"type": "string", "const": name},
            "data": schemas.inlined(schemas.command(name), PREFIX, found),
        }
        found[f"command.{name}"] = {
            "type": "object",
            "description": ROWS[name].summary,
            "required": list(own),
            "additionalProperties": False,
            "properties": {**around, **own},
        }
    mapping = {name: f"{PREFIX}command.{name}" for name in COMMANDS}
    found["Command"] = {
        "oneOf": [{"$ref": place} for place in mapping.values()],
        "discriminator": {"propertyName": "type", "mapping": mapping},
    }
    return found


def example(schema: str, known: Json) -> Json:
    """Return an example with every key in its order; what is not known has the emptiest value of its type."""
    empty = {"string": "", "integer": 0, "number": 0.0, "boolean": False, "array": [], "object": {}}
    shown = {}
    for name, field in resources()[schema]["properties"].items():
        kinds = field.get("type", "null")
        shown[name] = known[name] if name in known else (None if "null" in kinds else empty[kinds])
    return shown
