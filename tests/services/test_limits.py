"""What exceeds a limit is an answer with code and pointer, and no dead letter; the schemas say the same limits."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import jsonschema_rs
import pytest

from domain import COMMANDS
from domain.limits import Json
from services import schemas
from services.commands import wire
from services.commands.wire import Incoming
from tests.widest import Place, beyond, built, places, widest

PLACES = [(name, place) for name, kind in COMMANDS.items() for place in places(kind)]
IDS = [f"{name}{place.pointer}:{type(place.limit).__name__}" for name, place in PLACES]
# Bytes are no matter of a schema, and neither are the keys further inside.
UNSAID = Json
BOUNDS = {
    "string": ({"maxLength"}, {"enum"}, {"const"}),
    "integer": ({"minimum", "maximum"},),
    "array": ({"maxItems"},),
    "object": ({"maxProperties", "propertyNames"}, {"additionalProperties", "properties"}),
}


def parsed(name: str, data: Any) -> Incoming:
    properties = SimpleNamespace(
        message_id="m", message_type=name, headers={"tenant": "acme"}, reply_to=None, correlation_id=None, user_id=None
    )
    return wire.parse(properties, json.dumps(data, ensure_ascii=False).encode(), 4 << 20)


@pytest.mark.parametrize(("name", "place"), PLACES, ids=IDS)
def test_each_limit_is_reached_and_not_passed(name: str, place: Place) -> None:
    fits = jsonschema_rs.validator_for(schemas.command(name), validate_formats=False).is_valid
    kind = COMMANDS[name]
    data = built(kind, place.path, widest(place))
    assert parsed(name, data).refusal is None
    assert fits(data)
    several = list(beyond(place))
    for value, code in several:
        data = built(kind, place.path, value)
        refusal = parsed(name, data).refusal
        assert refusal is not None
        assert (refusal.code, refusal.pointer) == (code, place.pointer)
        assert refusal.detail
        assert isinstance(place.limit, UNSAID) or not fits(data)
    if isinstance(place.limit, UNSAID):
        assert sum(not fits(built(kind, place.path, value)) for value, _ in several) >= 1


def unbounded(schema: Any, at: str = "") -> list[str]:
    """Return the places of a schema that hold values without end."""
    if isinstance(schema, list):
        return [place for index, part in enumerate(schema) for place in unbounded(part, f"{at}/{index}")]
    if not isinstance(schema, dict):
        return []
    kinds = schema.get("type", [])
    found = [
        f"{at}: {kind}"
        for kind in ([kinds] if isinstance(kinds, str) else kinds)
        if kind in BOUNDS and not any(keywords <= set(schema) for keywords in BOUNDS[kind])
    ]
    inner = {key: part for key, part in schema.items() if key not in ("default", "enum", "const", "anyOf")}
    return found + [place for key, part in inner.items() for place in unbounded(part, f"{at}/{key}")]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_value_of_a_command_is_bounded_in_its_schema(name: str) -> None:
    schema = schemas.command(name)
    assert schema["additionalProperties"] is False
    assert unbounded(schema["properties"]) == []
    assert unbounded(schema.get("$defs", {})) == []


@pytest.mark.parametrize(
    ("kind", "field", "fits", "too_much"),
    [
        ("member", "projects", {"p1": {"is_manager": True}}, {"x" * 65: {}}),
        ("member", "actor_roles", ["r" * 100], ["r" * 101]),
        ("commerce", "users", [{"id": "u"}] * 500, [{"id": "u"}] * 501),
        ("hub", "name", "n" * 200, "n" * 201),
        ("dispatch", "url", "http://x", "x" * 501),
        ("attribute", "source", None, "x" * 201),
    ],
)
def test_the_known_fields_of_entries_are_bounded_in_the_schema(kind: str, field: str, fits: Any, too_much: Any) -> None:
    for name in ("directory.register", "directory.change"):
        valid = jsonschema_rs.validator_for(schemas.command(name)).is_valid
        assert valid({"kind": kind, "id": "x", "fields": {field: fits}})
        assert not valid({"kind": kind, "id": "x", "fields": {field: too_much}})
        assert valid({"kind": "route", "id": "x", "fields": {"other": too_much}})
