"""Every endpoint of the dispatch dialect under odd values, repetitions and views that are late."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.services.http.api import Api
from tests.services.http.dispatch_scene import BODY, failure
from tests.services.http.test_dispatch_contract import (
    CASES,
    COMPONENTS,
    WITH_BODY,
    WRITES,
    Case,
    about,
    documented,
    set_scene,
    validator,
)

# The scene is the same.
__all__ = ["set_scene"]

# One value of each kind, at its edges, and lists and objects that are nearly what some field takes.
ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**63 - 1, 1.5, "", " ", "\u0007", "\u00e4" * 300, "\U0001f600", [], [None], [[]], {}),
    *({"a": 1}, {"key": 1}, {"type": "ANY", "x": 1}, ["a", 1], [{"type": "ROLE_MATCH"}], [{"type": "ANY", "role": 1}]),
)


def _name(case: Case) -> str:
    return f"{case.method} {case.path}"


async def _send(api: Api, case: Case, body: Any, **headers: str) -> httpx.Response:
    content = None if body is None else json.dumps(body).encode()
    headers = {**api.by(), "Content-Type": "application/json", **headers}
    return await api.client.request(case.method, case.at(), content=content, headers=headers)


def _properties(schema: dict[str, Any]) -> list[str]:
    """Return the keys of a body, those of each of its forms when it has several."""
    said = COMPONENTS.schemas[schema["$ref"].rpartition("/")[2]]
    forms = (
        [said]
        if "properties" in said
        else [COMPONENTS.schemas[each["$ref"].rpartition("/")[2]] for each in said["anyOf"]]
    )
    return list(dict.fromkeys(name for form in forms for name in form["properties"]))


@pytest.mark.parametrize("case", WITH_BODY, ids=_name)
async def test_what_the_schema_forbids_is_refused_and_nothing_fails(api: Api, case: Case) -> None:
    schema = about(case)["requestBody"]["content"]["application/json"]["schema"]
    allowed = validator(schema)
    for name in _properties(schema):
        for value in ODD:
            body = {**case.body, name: value}
            response = await _send(api, case, body)
            assert response.status_code < 500, f"{body}: {response.text}"
            documented(case, response)
            if not allowed.is_valid(body):
                assert response.status_code >= 400, f"{body}: {response.text}"


@pytest.mark.parametrize("case", CASES, ids=_name)
async def test_a_write_answers_the_same_while_the_views_are_late(api: Api, case: Case) -> None:
    api.sender.late = {"activities", "tasks", "directory"}
    response = await _send(api, case, case.body)
    assert response.status_code == case.status, response.text
    documented(case, response)


@pytest.mark.parametrize("case", WRITES, ids=_name)
async def test_a_repetition_under_one_key_takes_effect_once(api: Api, case: Case) -> None:
    key = {"Idempotency-Key": BODY["idempotency_key"]}
    first = await _send(api, case, case.body, **key)
    assert first.status_code == case.status, first.text
    position = api.command("task.create", {}).position
    again = await _send(api, case, case.body, **key)
    if case.path == "/api/activities/tasks":
        failure(again, 409, existingId=first.json()["id"], samePayload=True)
    else:
        assert (again.status_code, again.content) == (first.status_code, first.content)
    assert api.command("task.create", {}).position == (position or 0) + 1
