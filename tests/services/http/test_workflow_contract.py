"""What the workflow dialect adds to the contract of all dialects, and that its page names every action."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from services.http.core import openapi
from services.http.core.components import Components
from services.http.workflow.filters import FILTERS
from services.http.workflow.lists import ATTRIBUTES
from services.http.workflow.operations import OPERATIONS
from tests.services.http.api import Api
from tests.services.http.workflow_scene import LIST, furnish

DOCUMENT = Path(__file__).parents[3] / "docs" / "workflow.md"
COMPONENTS = Components()
ABOUT = {(one.method, one.path): openapi.about(one, COMPONENTS) for one in OPERATIONS}
PLACES = {"/activities/t": "/activities/{id}", "/work_units/a": "/work_units/{id}"}


set_scene = furnish


def validate(documented: dict[str, Any], body: Any) -> None:
    """Demand that a body is as each of its media types says."""
    for media in documented["content"].values():
        schema = {**media["schema"], "components": {"schemas": COMPONENTS.schemas}}
        jsonschema_rs.validate(schema, body)


def about(method: str, path: str) -> dict[str, Any]:
    """Return what the document says of a path of the scene."""
    for there, template in PLACES.items():
        path = path.replace(there, template)
    return ABOUT[method, f"/api/v3/workflow{path}"]


async def test_queries_answer_what_their_schemas_say(api: Api) -> None:
    sparse = "&".join(f"fields[{kind}]=id" for kind in ATTRIBUTES)
    for query in ("", "?included=project,work_unit,node", f"?included=project,work_unit,node&{sparse}"):
        for path in ("/activities", "/activities/a1"):
            response = await api.get(f"/api/v3/workflow{path}{query}")
            validate(about("GET", path.replace("/a1", "/{id}"))["responses"]["200"], response.json())
    counted = (await api.get(f"{LIST}?count=true&filter[id]=nobody")).json()
    validate(about("GET", "/activities")["responses"]["200"], counted)
    assert counted["meta"]["count"] == 0


def test_what_is_demanded_of_an_assignment_is_part_of_its_schema() -> None:
    body = about("PATCH", "/activities/t/assign")["requestBody"]
    for good in ({"account_id": 42, "start_working": True}, {"self_assigning": True, "start_working": False}):
        validate(body, good)
    for bad in ({"start_working": True}, {"self_assigning": False, "start_working": True}, {"account_id": 42}):
        with pytest.raises(jsonschema_rs.ValidationError):
            validate(body, bad)


def test_the_parameters_of_a_list_are_objects_that_clients_are_generated_from() -> None:
    said = {each["name"]: each for each in about("GET", "/activities")["parameters"]}
    own = ["page", "sort", "count", "filter", "included", "fields"]
    assert list(said) == [*own, "min_position", "as_of", "Foldwork-Position"]
    for name in ("page", "filter", "fields"):
        assert (said[name]["style"], said[name]["explode"], said[name]["schema"]["type"]) == (
            "deepObject",
            True,
            "object",
        )
    assert set(FILTERS) < set(said["filter"]["schema"]["properties"])
    assert list(said["fields"]["schema"]["properties"]) == list(ATTRIBUTES)[:4]


def test_the_document_names_every_action() -> None:
    text = DOCUMENT.read_text("utf-8")
    for operation in OPERATIONS:
        action = operation.path.removeprefix("/api/v3/workflow/")
        if operation.method != "GET":
            assert f"`{operation.method} {action}`" in text or f"`{action}`" in text


def test_the_endpoints_that_are_said_to_work_are_those_that_are_served_and_the_counts_are_right() -> None:
    text = DOCUMENT.read_text("utf-8")
    said = re.findall(r"^\| `([A-Z]+ \S+)` \| (works|differs|no) \|", text, re.MULTILINE)
    totals = re.search(r"Of (\d+) endpoints [^.]*?, (\d+) work, (\d+) work differently and (\d+)\s+are not there", text)
    assert totals is not None
    counts = [sum(word == wanted for _, word in said) for wanted in ("works", "differs", "no")]
    assert list(map(int, totals.groups())) == [len(said), *counts]
    served = {f"{one.method} {re.sub('/api/v3/(workflow/)?', '', one.path)}" for one in OPERATIONS}
    assert sorted(endpoint for endpoint, word in said if word != "no") == sorted(served)
