"""What programs read of the contracts is what the code says: made anew, every document is the same, and valid."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from faststream.specification.asyncapi.v3_0_0.schema import ApplicationSchema
from pydantic import ValidationError

from domain import COMMANDS, EVENTS
from domain.errors import Refusal
from services import contracts, schemas
from services.commands import wire
from services.http.core.app import OPERATIONS
from tests.documents import ROOT, shape
from tests.domain.cases import REFUSALS

DOCS = ROOT / "docs"
SAMPLES = ROOT / "tests" / "domain" / "samples"
# FastStream's model of AsyncAPI 3.0 demands these, where the specification leaves them open.
OPTIONAL = {"pathname", "ack"}


@cache
def openapi() -> dict[str, Any]:
    return contracts.openapi()


@cache
def table() -> dict[str, list[set[str]]]:
    """The table of commands as it stands in the documentation: data, events, refusals, endpoints."""
    made = (DOCS / "contracts.md").read_text("utf-8").split("<!-- commands:")[1].split("<!-- end -->")[0]
    rows = [row[2:-2].split(" | ") for row in made.splitlines() if row.startswith("| `")]
    return {row[0].strip("`"): [set(re.findall(r"`([^`]+)`", cell)) for cell in row[1:]] for row in rows}


def responses(operation: dict[str, Any]) -> dict[str, Any]:
    """The responses of an operation by status, those that several share included."""
    shared = openapi()["components"]["responses"]
    found = operation["responses"].items()
    return {status: shared[each["$ref"].rpartition("/")[2]] if "$ref" in each else each for status, each in found}


def operations() -> set[str]:
    return {f"{method.upper()} {path}" for path, found in openapi()["paths"].items() for method in found}


def test_the_made_documents_are_current() -> None:
    made = contracts.documents()
    stale = [path for path, text in made.items() if _text(DOCS / path) != text]
    kept = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.json")}
    assert stale == [], "run `make docs`"
    assert kept - set(made) == set(), "run `make docs`"


def _text(path: Path) -> str | None:
    return path.read_text("utf-8") if path.exists() else None


def test_the_same_code_makes_the_same_documents() -> None:
    assert contracts.documents() == contracts.documents()


def test_every_command_is_in_the_table_with_its_data_and_refusals() -> None:
    assert list(table()) == list(COMMANDS)
    for name, (data, events, refusals, _) in table().items():
        assert data == set(shape(COMMANDS[name])), name
        assert events <= set(EVENTS), name
        assert refusals == REFUSALS[name], name


def test_every_event_is_in_a_table() -> None:
    text = (DOCS / "contracts.md").read_text("utf-8").split("<!-- events:")[1]
    assert re.findall(r"^\| `([a-z.-]+)`", text, re.MULTILINE) == list(EVENTS)


def test_every_event_of_a_command_is_recorded_by_one() -> None:
    recorded = {event for _, events, _, _ in table().values() for event in events}
    # This one follows from any command on a task.
    assert set(EVENTS) - recorded == {"activity.status-changed"}


def test_every_endpoint_that_writes_names_its_commands() -> None:
    assert {name for each in OPERATIONS for name in each.commands} <= set(COMMANDS)
    assert not any(each.commands for each in OPERATIONS if not each.writes)
    # It takes any command.
    assert [each.name for each in OPERATIONS if each.writes and not each.commands] == ["post_command"]


def references(schema: Any) -> Iterator[str]:
    """Yield every `$ref` of a document."""
    if isinstance(schema, list):
        for item in schema:
            yield from references(item)
    elif isinstance(schema, dict):
        for key, value in schema.items():
            if key == "$ref" and isinstance(value, str):
                yield value
            else:
                yield from references(value)


def test_the_asyncapi_document_is_valid() -> None:
    document = contracts.asyncapi()
    try:
        ApplicationSchema.model_validate(document)
        problems = []
    except ValidationError as invalid:
        problems = [error for error in invalid.errors() if error["loc"][-1] not in OPTIONAL]
    assert problems == []
    dangling = [pointer for pointer in references(document) if not _leads_somewhere(document, pointer)]
    assert dangling == []
    messages_said = set(document["components"]["messages"])
    assert messages_said == {*COMMANDS, *EVENTS, "reply", "deadLetter"}


def test_every_reference_in_the_openapi_document_leads_somewhere() -> None:
    dangling = [pointer for pointer in references(openapi()) if not _leads_somewhere(openapi(), pointer)]
    assert dangling == []


def test_every_link_leads_to_an_operation() -> None:
    known = {operation["operationId"] for found in openapi()["paths"].values() for operation in found.values()}
    named = {
        link["operationId"]
        for found in openapi()["paths"].values()
        for operation in found.values()
        for response in responses(operation).values()
        for link in response.get("links", {}).values()
    }
    assert named
    assert named - known == set()


def _leads_somewhere(document: Any, pointer: str) -> bool:
    if not pointer.startswith("#/"):
        return False
    for part in pointer[2:].split("/"):
        if not isinstance(document, dict) or part not in document:
            return False
        document = document[part]
    return True


def test_the_openapi_document_says_all_of_every_operation() -> None:
    seen, tags = set(), {tag["name"] for tag in openapi()["tags"]}
    lacking = []
    for path, found in openapi()["paths"].items():
        for method, operation in found.items():
            name = f"{method.upper()} {path}"
            seen.add(operation["operationId"])
            if not operation.get("summary") or not set(operation["tags"]) <= tags:
                lacking.append(f"{name}: summary or tag")
            placed = {part["name"] for part in operation.get("parameters", ()) if part["in"] == "path"}
            if placed != set(re.findall(r"{(\w+)}", path)):
                lacking.append(f"{name}: path parameters")
            for status, response in responses(operation).items():
                if not response.get("description"):
                    lacking.append(f"{name} {status}: description")
                for media, content in response.get("content", {}).items():
                    if content.get("schema") in (None, {}, {"type": "object"}):
                        lacking.append(f"{name} {status} {media}: schema")
            if operation["security"]:
                lacking += [
                    f"{name}: {status}"
                    for status in ("401", "403", "500", "503")
                    if status not in operation["responses"]
                ]
    assert lacking == []
    assert len(seen) == len(operations())


def test_every_example_fits_its_schema() -> None:
    document = openapi()
    wrong = []
    for name, content in _contents(document):
        shown = [example["value"] for example in content.get("examples", {}).values()]
        shown += [content["example"]] if "example" in content else []
        # In one document with what it refers to, so that references are found.
        referred = _referred(content["schema"], document["components"]["schemas"])
        schema = {"$schema": schemas.DIALECT, **content["schema"], "components": {"schemas": referred}}
        validator = jsonschema_rs.validator_for(schema, validate_formats=True)
        wrong += [
            f"{name}: {error.instance_path} {error.message[:200]}"
            for each in shown
            for error in validator.iter_errors(each)
        ]
    assert wrong == []


def _referred(schema: Any, components: dict[str, Any]) -> dict[str, Any]:
    """Return the components that a schema refers to, and those that these do."""
    found, waiting = dict[str, Any](), [schema]
    while waiting:
        names = set(re.findall(r'"#/components/schemas/([^"/]+)', json.dumps(waiting.pop()))) - set(found)
        found |= {name: components[name] for name in names}
        waiting += [components[name] for name in names]
    return found


def _contents(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for path, operations_of_path in document["paths"].items():
        for method, operation in operations_of_path.items():
            bodies = {"request": operation.get("requestBody", {}), **responses(operation)}
            found += [
                (f"{method.upper()} {path} {part} {media}", content)
                for part, body in bodies.items()
                for media, content in body.get("content", {}).items()
            ]
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_schema_is_a_schema_and_forbids_what_is_unknown(name: str) -> None:
    schema = schemas.command(name)
    jsonschema_rs.meta.validate(schema)
    assert schema["additionalProperties"] is False
    assert schema["description"]
    assert set(schema["properties"]) == {field.rstrip("?").removesuffix("[]") for field in shape(COMMANDS[name])}


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_every_event_ever_released_fits_its_schema(sample: Path) -> None:
    name = re.sub(r"\.[0-9]+$", "", sample.stem)
    schema = schemas.event(name)
    jsonschema_rs.meta.validate(schema)
    data = json.loads(sample.read_text("utf-8"))
    found = jsonschema_rs.validator_for(schema).iter_errors(data)
    assert [f"{error.instance_path}: {error.message[:300]}" for error in found] == []


def test_answers_fit_their_schema() -> None:
    validator = jsonschema_rs.validator_for(schemas.reply())
    summary = wire.EventSummary(1, "task.completed", "task-t1", 2)
    for reply in (
        wire.Reply("c1", "accepted", False, 1, (summary,)),
        wire.Reply("c1", "rejected", error=Refusal("invalid", "an id", "/id")),
    ):
        assert validator.is_valid(msgspec.to_builtins(reply))
    assert not validator.is_valid({"command_id": "c1", "outcome": "accepted"})
