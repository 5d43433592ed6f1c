"""Every body of every operation, whole ones and each of their values: what is refused was not sent, what was sent fits.

Commands wait here, so that what was sent can be looked at, and all tests share a scene.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from copy import deepcopy
from typing import Any

import pytest

from domain import COMMANDS
from tests.services.http.api import Api, incoming
from tests.services.http.contract import (
    COMPONENTS,
    EXAMPLES,
    WITH_BODY,
    Case,
    Json,
    documented,
    name_of,
    refused,
    send,
    validator,
    was_taken,
)
from tests.services.http.ugly import BODIES, DIGITS, VALUES, dealt

pytestmark = pytest.mark.asyncio(loop_scope="module")
EVERY = pytest.mark.parametrize("case", WITH_BODY, ids=name_of)
NO_JSON = (None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp")
JSON_BY_OTHER_NAMES = ("application/json; charset=utf-8", "Application/JSON", "application/vnd.api+json")
# What says nothing of a value's kind.
_NO_KIND = ("description", "default", "examples", "example", "maxLength", "minLength", "maximum", "minimum")


def resolved(schema: Json) -> Json:
    """Return a schema with what it refers to in its place."""
    while "$ref" in schema:
        schema = COMPONENTS.schemas[schema["$ref"].rpartition("/")[2]]
    return schema


def kind_of(schema: Json) -> str:
    return json.dumps({key: value for key, value in schema.items() if key not in _NO_KIND}, sort_keys=True)


def demand_carried(api: Api) -> None:
    """Expect that a worker takes all that was sent."""
    for command in api.sender.waiting:
        assert 1 <= len(command.routing_key.encode()) <= 255, command.routing_key
        incoming(command)


@pytest.fixture
def stopped(scene_api: Api) -> Api:
    """An API where commands wait."""
    scene_api.sender.stopped = True
    return scene_api


class Chunks:
    """A body of many chunks; counts how many were taken."""

    def __init__(self, count: int) -> None:
        self.count, self.taken = count, 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(self.count):
            self.taken += 1
            yield b" " * 1024


@EVERY
async def test_what_is_no_request_is_refused_and_not_sent(stopped: Api, case: Case) -> None:
    envelope = case.operation.dialect.envelope
    for (code, pointer), bodies in BODIES.items():
        for body in bodies:
            response = await send(stopped, case, content=body)
            refused(response, envelope, code, pointer)
            documented(case, response)
    if not case.operation.body_optional:
        refused(await send(stopped, case, content=b""), envelope, "not-json")
    for kind in (*NO_JSON, b"\xff"):
        response = await send(stopped, case, headers={"Content-Type": kind}, content=case.content or b"{}")
        refused(response, envelope, "unsupported-media-type", parameter="Content-Type")
        documented(case, response)
    chunks = Chunks(1000)
    refused(await send(stopped, case, content=chunks), envelope, "too-large")
    assert chunks.taken < 100
    for length in (DIGITS, "99999999999999999999"):
        refused(await send(stopped, case, headers={"Content-Length": length}), envelope, "too-large")
    assert stopped.sender.sent == []
    for kind in JSON_BY_OTHER_NAMES:
        assert was_taken(case, await send(stopped, case, headers={"Content-Type": kind}))


@EVERY
async def test_a_key_that_nobody_knows_is_refused_unless_keys_are_free(stopped: Api, case: Case) -> None:
    body = {**case.body, "colour": 1}
    response = await send(stopped, case, content=json.dumps(body))
    documented(case, response)
    if validator(case.schema).is_valid(body):
        assert was_taken(case, response), response.text
    else:
        # It is named by its place, or in the words.
        assert "colour" in response.text
        pointer = "/colour" if "/colour" in response.text else ""
        refused(response, case.operation.dialect.envelope, "unknown-field", pointer)
        assert stopped.sender.sent == []


# Each value of a body.


class Place:
    """A value in a body of an operation."""

    def __init__(self, case: Case, path: tuple[Any, ...], kind: Any) -> None:
        self.case, self.path, self.kind = case, path, kind

    def body(self, value: Any) -> Json:
        """Return the case's body with another value at this place."""
        body: Json = deepcopy(self.case.body)
        inside: Any = body
        for part in self.path[:-1]:
            inside = inside[part]
        inside[self.path[-1]] = value
        return body


def places(case: Case) -> Iterator[Place]:
    """Give the documented fields of a body, and whatever stands in the example."""
    dialect = case.operation.dialect.envelope
    schema = resolved(case.schema)
    forms = [schema, *(resolved(form) for form in (*schema.get("anyOf", ()), *schema.get("oneOf", ())))]
    known = {(name,): kind_of(field) for form in forms for name, field in form.get("properties", {}).items()}
    inside = {path: path[-1] for path in _inside(case.body) if path not in known}
    for path, kind in {**known, **inside}.items():
        # What is sent in the background is sent at any time, and has tests of its own.
        if path != ("background",):
            yield Place(case, path, (dialect, kind))


def _inside(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    # The items of a list are alike.
    items = value.items() if isinstance(value, dict) else list(enumerate(value))[:1] if isinstance(value, list) else ()
    for key, item in items:
        yield (*before, key)
        yield from _inside(item, (*before, key))


def _dealt() -> dict[str, list[tuple[Place, Sequence[Any]]]]:
    found = defaultdict(list)
    every = [place for case in EXAMPLES if case.body is not None for place in places(case)]
    for place, values in dealt(every, lambda place: place.kind, VALUES):
        found[place.case.name].append((place, values))
    return found


DEALT = _dealt()


@pytest.mark.parametrize("name", DEALT)
async def test_a_value_that_the_schema_forbids_is_refused_and_the_others_are_carried(scene_api: Api, name: str) -> None:
    sender = scene_api.sender
    for place, values in DEALT[name]:
        allowed = validator(place.case.schema)
        for value in values:
            body = place.body(value)
            # What is forbidden may be left for the worker to refuse.
            sender.stopped = allowed.is_valid(body)
            sender.sent.clear()
            response = await send(scene_api, place.case, content=json.dumps(body))
            documented(place.case, response)
            if not sender.stopped:
                assert response.status_code >= 400, f"{str(body)[:300]}: {response.text}"
            elif response.status_code >= 400:
                assert sender.sent == []
    demand_carried(scene_api)


# What a command may say is for the wire contract to tell, so the data of each is a body of its own.


def _fields() -> Iterator[tuple[str, str, str]]:
    for name in COMMANDS:
        data = resolved(resolved(COMPONENTS.schemas[f"command.{name}"])["properties"]["data"])
        for field, schema in data["properties"].items():
            yield name, field, kind_of(schema)


POST = next(case for case in WITH_BODY if case.name == "post_command")


@pytest.mark.parametrize("name", COMMANDS)
async def test_every_command_with_any_value_is_refused_or_carried(stopped: Api, name: str) -> None:
    data = resolved(resolved(COMPONENTS.schemas[f"command.{name}"])["properties"]["data"])
    basis = dict.fromkeys(data.get("required", ()), "t1")
    for (command, field, _), values in dealt(_fields(), lambda each: each[2], VALUES):
        for value in values if command == name else ():
            body = json.dumps({"type": name, "data": {**basis, field: value}})
            documented(POST, await send(stopped, POST, content=body))
    demand_carried(stopped)


@pytest.mark.parametrize("key", ["id", "actor", "expected_version", "routing_key", "type", "data"])
async def test_what_stands_around_a_command_is_refused_or_carried(stopped: Api, key: str) -> None:
    for value in (*VALUES, "x" * 255, "x" * 256, "\u00e9" * 200, "\u00e9" * 100):
        body = json.dumps({"type": "task.create", "data": {}, key: value})
        documented(POST, await send(stopped, POST, content=body))
    demand_carried(stopped)
