"""Every question with every ugly value: an answer or a refusal in the dialect's own words, never a failure."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest

from projections.support.conditions import OPERATORS
from services.http.workflow.lists import FILTERS
from tests.services.http.api import Api, problem, with_activity, with_workflow
from tests.services.http.ugly import RAW, TEXTS, Json, demand_envelope, operations

QUESTIONS = operations("get")
LISTS = [path for _, path, said in QUESTIONS if any(one["name"] == "cursor" for one in said.get("parameters", ()))]
SORTED = ("/v1/activities", "/v1/tasks")
PARTS = ("{kind}", "{id}")
SORTS = ("-created_at", "created_at", "-updated_at", "start", "-end", "title", "x", "\ud800", "\0" * 500)
# What could stand in a cursor where the value of the sort belongs.
KEYS = (
    *("2025-10-31 01:50:00+00", "infinity", "-infinity", "now", "epoch", "", "x", "a\0b", "\ud800", "x" * 1001),
    *("2025-W01-1T00:00:00+00:00", "20251031T010000Z", "2025-10-31T24:00:00Z", "2025-10-31T01:00:00,5Z"),
    *("2025-10-31T01:00:00+23:59", "2025-10-31T01:00:00+23:59:59.999999", "2025-10-31T01:00:00"),
    *("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "10000-01-01T00:00:00Z"),
)


def _cursor(*values: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def _raw(body: bytes) -> str:
    return base64.urlsafe_b64encode(body).decode().rstrip("=")


# Cursors by the sort that they are of.
KEYED = {_cursor(sort, key, "a1"): sort for sort in SORTS for key in KEYS}
CURSORS = (
    *KEYED,
    *(_cursor("-created_at", "infinity", last) for last in ("no id", "\0", "", "x" * 65, "\ud800")),
    *(_cursor(), _cursor(1, 2, 3), _cursor("-created_at", None, "a1"), _cursor("-created_at", "infinity", "a1", "b")),
    *(_raw(b"\xff\xfe"), _raw(b"{}"), _raw(b"null"), _raw(b"[" * 30_000), _raw(b'["a","b","c",' + b"[" * 30_000)),
    *("!!!", "=", "====", "a", "\u00e9", "\0", "9" * 20, "9" * 5000, "-1", "no id", ",", "null"),
)


VALUES = (*map(quote, TEXTS), *RAW)
# For parameters that there are not: their names are refused before anybody reads a value, which only must be decoded.
UNREAD = ("", *RAW)
FILTERED = "/api/v3/workflow/activities"


def _address(path: str) -> str:
    own = "a1" if path.startswith(("/v1/activities", "/v1/directory")) else "a1-t1"
    return path.replace("{kind}", "hub").replace("{id}", own)


async def _demand_answer(api: Api, path: str, address: str) -> None:
    response = await api.get(address)
    assert response.status_code < 500, f"{address[:300]}: {response.text}"
    if response.status_code >= 400:
        demand_envelope(path, response)


@pytest.fixture
def scene(api: Api) -> Api:
    """An API with something of each kind, so that every question has rows to look at."""
    api.command("directory.register", {"kind": "hub", "id": "a1"})
    with_workflow(api)
    with_activity(api)
    api.command("task.save", {"id": "a1-t1", "data": {"a": 1.5, "b": "\U0001f600", "c": [None, {"d": 2**62}]}})
    api.command("task.create", {"id": "t1", "title": "\u00c4", "start": "0001-01-01T00:00:00Z"})
    return api


@pytest.mark.parametrize(("path", "said"), [each[1:] for each in QUESTIONS], ids=[each[1] for each in QUESTIONS])
async def test_no_value_of_a_parameter_makes_a_question_fail(scene: Api, path: str, said: Json) -> None:
    names = [name for one in said.get("parameters", ()) if one["in"] == "query" for name in _names(one)]
    if path == FILTERED:  # asked with every operator below
        names = [name for name in names if not name.startswith("filter[")]
    for name in (*names, "no such parameter", "\0"):
        for value in VALUES if name in names else UNREAD:
            await _demand_answer(scene, path, f"{_address(path)}?{quote(name, safe='')}={value}")


def _names(parameter: Json) -> list[str]:
    """The names that a parameter has in a query: one for each property of an object."""
    if parameter.get("style") != "deepObject":
        return [parameter["name"]]
    return [f"{parameter['name']}[{name}]" for name in parameter["schema"]["properties"]]


@pytest.mark.parametrize("path", [path for _, path, _ in QUESTIONS if "{" in path])
async def test_no_part_of_a_path_makes_a_question_fail(scene: Api, path: str) -> None:
    for part in (part for part in PARTS if part in path):
        for value in (*(quote(text, safe="")[:20_000] for text in TEXTS), *RAW, "..%2f"):
            await _demand_answer(scene, path, _address(path.replace(part, value)))


@pytest.mark.parametrize("path", LISTS)
async def test_a_cursor_made_by_hand_is_refused_or_goes_on_from_there(scene: Api, path: str) -> None:
    sorts = ("", "&sort=created_at", "&sort=title", "&sort=-end", "&sort=start") if path in SORTED else ("",)
    for number, cursor in enumerate(CURSORS):
        # A sort that is not the cursor's own is refused whatever else stands in it, so one of those is enough.
        own = f"&sort={KEYED.get(cursor)}"
        for sort in {sorts[number % len(sorts)], own if own in sorts else sorts[0]}:
            address = f"{_address(path)}?cursor={quote(cursor)}{sort}"
            response = await scene.get(address)
            assert response.status_code in (200, 400), f"{cursor[:100]}{sort}: {response.text}"
            if response.status_code == 400:
                problem(response, 400, "bad-cursor", parameter="cursor")


@pytest.mark.parametrize("path", SORTED)
@pytest.mark.parametrize("sort", ["created_at", "-updated_at", "start", "-end", "title", "-title"])
async def test_a_cursor_that_was_given_out_goes_on_where_the_page_ended(api: Api, path: str, sort: str) -> None:
    with_workflow(api)
    times = ("0001-01-01T00:00:00Z", "2025-10-31T01:00:00.123456+07:00", "9999-12-31T23:59:59.999999Z", None)
    for number, end in enumerate(times):
        ends = {} if end is None else {"end": end, "start": end}
        tasks = [{"id": f"a{number}-t1", "title": f"\U0001f600{number}", **ends}, {"id": f"a{number}-t2"}]
        new = {"id": f"a{number}", "workflow_id": "w1", "tasks": tasks, "title": f"'\\{number}"}
        api.command("activity.create", new)
    whole = [one["id"] for one in (await api.get(f"{path}?sort={sort}")).json()["data"]]
    seen: list[str] = []
    follow = f"{path}?sort={sort}&limit=1"
    while follow is not None:
        page = (await api.get(follow)).json()
        seen += [one["id"] for one in page["data"]]
        follow = page["next"]
    assert seen == whole


@pytest.mark.parametrize("name", FILTERS)
async def test_every_filter_of_the_workflow_dialect_can_be_answered(scene: Api, name: str) -> None:
    # Every value of each filter, by two of its operators: filters of one kind are read alike, and take turns.
    operators = ("", *(f"__{operator}" for operator in OPERATORS))
    for number, value in enumerate(VALUES, list(FILTERS).index(name)):
        for operator in (operators[number % len(operators)], operators[(number + 6) % len(operators)]):
            parameter = quote(f"filter[{name}{operator}]", safe="")
            await _demand_answer(scene, FILTERED, f"{FILTERED}?{parameter}={value}")
