"""What every operation of the native API has in common, and its limits."""

from __future__ import annotations

import pytest

from services.http.core import openapi
from services.http.core.components import Components
from services.http.core.operation import Operation
from services.http.native.models import EXTERNAL, MAX_ENTRIES
from services.http.native.operations import OPERATIONS, PROBES
from tests.services.http.api import Api, problem

EVERY = pytest.mark.parametrize("operation", [*OPERATIONS, *PROBES], ids=lambda one: one.name)


@EVERY
def test_every_successful_body_is_a_component(operation: Operation) -> None:
    components = Components(EXTERNAL)
    shown = openapi.about(operation, components)["responses"]
    bodies = [
        media["schema"]
        for status, response in shown.items()
        if status.startswith("2")
        for media in response["content"].values()
    ]
    assert bodies
    for schema in bodies:
        assert set(schema) == {"$ref"}
        assert components.schemas[schema["$ref"].rpartition("/")[2]]


async def test_a_list_as_long_as_may_be_is_registered(api: Api) -> None:
    entries = [{"id": f"h{number}"} for number in range(MAX_ENTRIES)]
    assert (await api.post("/v1/directory/hub", {"entries": entries})).json()["registered"] == MAX_ENTRIES
    problem(await api.post("/v1/directory/hub", {"entries": [*entries, {}]}), 422, "wrong-shape", pointer="/entries")
