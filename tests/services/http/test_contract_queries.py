"""Every query with every ugly value: an answer or a refusal in the dialect's own words, never a failure."""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from projections.support.conditions import OPERATORS
from services.http.workflow.filters import FILTERS
from tests.services.http.api import Api
from tests.services.http.contract import READS, Case, Json, documented, name_of, refused, send
from tests.services.http.ugly import RAW, TEXTS, dealt

pytestmark = pytest.mark.asyncio(loop_scope="module")
VALUES = (*map(quote, TEXTS), *RAW)
PARTS = (*(quote(text, safe="")[:20_000] for text in TEXTS), *RAW, "..%2f")
LISTS = [case for case in READS if any(each["name"] == "cursor" for each in case.said.get("parameters", ()))]
SORTED = ("list_activities", "list_tasks")
FILTERED = next(case for case in READS if case.name == "workflow_list_activities")


class Parameter(NamedTuple):
    """A parameter of a query, or a part of a path, and what is alike in others that are read in the same way."""

    case: Case
    name: str
    kind: Hashable


def parameters(case: Case) -> Iterator[Parameter]:
    """Give the parameters of a query, one for each property of an object."""
    for said in case.said.get("parameters", ()):
        schema = said["schema"]
        # The workflow dialect's filters are asked for with every operator below.
        if said["in"] != "query" or said["name"] == "filter":
            continue
        if said.get("style") == "deepObject":
            for name, inner in schema["properties"].items():
                yield Parameter(case, f"{said['name']}[{name}]", _kind(case, inner))
        else:
            yield Parameter(case, said["name"], (said["name"] == "cursor", _kind(case, schema)))


def _kind(case: Case, schema: Json) -> Hashable:
    # Numbers and words are read alike everywhere; what a text means is the dialect's own.
    if schema["type"] in ("integer", "boolean") or "enum" in schema:
        return str(schema["type"])
    return case.operation.dialect.envelope, json.dumps({**schema, "description": None}, sort_keys=True)


def _by_case(every: list[Parameter], values: Sequence[str]) -> dict[str, list[tuple[Parameter, Sequence[str]]]]:
    found = defaultdict(list)
    for parameter, share in dealt(every, lambda each: each.kind, values):
        found[parameter.case.name].append((parameter, share))
    return found


QUERIES = _by_case([each for case in READS for each in parameters(case)], VALUES)
PATHS = _by_case(
    [Parameter(case, name, (case.operation.dialect.envelope, name)) for case in READS for name in case.parts], PARTS
)


async def demand_answer(api: Api, case: Case, address: str) -> None:
    response = await send(api, case, address)
    assert response.status_code < 500, f"{address[:300]}: {response.text}"
    documented(case, response)


@pytest.mark.parametrize("name", QUERIES)
async def test_no_value_of_a_parameter_makes_a_query_fail(scene_api: Api, name: str) -> None:
    for parameter, values in QUERIES[name]:
        for value in values:
            address = f"{parameter.case.at()}?{quote(parameter.name, safe='')}={value}"
            await demand_answer(scene_api, parameter.case, address)


@pytest.mark.parametrize("name", PATHS)
async def test_no_part_of_a_path_makes_a_query_fail(scene_api: Api, name: str) -> None:
    for part, values in PATHS[name]:
        for value in values:
            response = await send(scene_api, part.case, part.case.at(**{part.name: value}))
            # What has a slash in it, or nothing, may be another path.
            assert response.status_code in (200, 404, 405), f"{value[:300]}: {response.text}"


@pytest.mark.parametrize("name", FILTERS)
async def test_every_filter_of_the_workflow_dialect_can_be_answered(scene_api: Api, name: str) -> None:
    # Every value of each filter, by one of its operators: filters of one kind are read alike, and take turns.
    operators = ("", *(f"__{operator}" for operator in OPERATORS))
    for number, value in enumerate(VALUES, list(FILTERS).index(name)):
        parameter = quote(f"filter[{name}{operators[number % len(operators)]}]", safe="")
        await demand_answer(scene_api, FILTERED, f"{FILTERED.at()}?{parameter}={value}")


# Cursors.

SORTS = ("-created_at", "created_at", "-updated_at", "start", "-end", "title", "x", "\ud800", "\0" * 500)
# What could stand in a cursor where the value of the sort belongs.
KEYS = (
    *("2025-10-31 01:50:00+00", "infinity", "-infinity", "now", "epoch", "", "x", "a\0b", "\ud800", "x" * 1001),
    *("2025-W01-1T00:00:00+00:00", "20251031T010000Z", "2025-10-31T24:00:00Z", "2025-10-31T01:00:00,5Z"),
    *("2025-10-31T01:00:00+23:59", "2025-10-31T01:00:00+23:59:59.999999", "2025-10-31T01:00:00"),
    *("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "10000-01-01T00:00:00Z"),
)


def _cursor(*values: Any) -> str:
    return _raw(json.dumps(values).encode())


def _raw(body: bytes) -> str:
    return base64.urlsafe_b64encode(body).decode().rstrip("=")


NO_CURSORS = (
    *(_cursor("-created_at", "infinity", last) for last in ("no id", "\0", "", "x" * 65, "\ud800")),
    *(_cursor(), _cursor(1, 2, 3), _cursor("-created_at", None, "a1"), _cursor("-created_at", "infinity", "a1", "b")),
    *(_raw(b"\xff\xfe"), _raw(b"{}"), _raw(b"null"), _raw(b"[" * 30_000), _raw(b'["a","b","c",' + b"[" * 30_000)),
    *("!!!", "=", "====", "a", "\u00e9", "\0", "9" * 20, "9" * 5000, "-1", "no id", ",", "null"),
)
# Each by the sort that it is of. Times are compared alike by every sort.
CURSORS = {
    **{_cursor(sort, key, "a1"): sort for sort, keys in dealt(SORTS, lambda _: 0, KEYS, 3) for key in keys},
    **{_cursor(sort, key, "a1"): sort for sort in ("-created_at", "title") for key in KEYS},
    **dict.fromkeys(NO_CURSORS, ""),
}


@pytest.mark.parametrize("case", LISTS, ids=name_of)
async def test_a_cursor_made_by_hand_is_refused_or_goes_on_from_there(scene_api: Api, case: Case) -> None:
    known = {"created_at", "-updated_at", "title", "start", "-end"} if case.name in SORTED else set()
    for cursor, sort in CURSORS.items():
        by = f"&sort={sort}" if sort in known else ""
        response = await send(scene_api, case, f"{case.at()}?cursor={quote(cursor)}{by}")
        documented(case, response)
        if response.status_code != 200:
            refused(response, case.operation.dialect.envelope, "bad-cursor", parameter="cursor")
