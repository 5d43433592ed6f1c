"""How many there are by status beside a page of a list: of its filter, bounded, and never instead of the page."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest

from projections.listing import Listing
from projections.statement import Query
from services.http.native import counts
from tests.services.http.api import Api, opened, problem, with_activity, with_workflow
from tests.services.http.bulk_scene import with_tasks

NONE = dict.fromkeys(("open", "active", "paused", "completed", "failed", "canceled"), 0)


async def counted(api: Api, path: str) -> dict[str, int] | None:
    response = await api.get(path)
    assert response.status_code == 200, response.text
    said = response.json().get("counts")
    if said is None:
        return None
    assert not any(each["more"] for each in said)
    return {each["status"]: each["count"] for each in said}


async def test_they_are_those_of_the_filters_but_the_status(api: Api) -> None:
    north = with_tasks(api, 3, "n", hub="north")
    with_tasks(api, 2, "s", hub="south")
    with_tasks(api, 4, "x", tenant="other", hub="north")
    api.command("task.cancel", {"id": north[0]})
    assert await counted(api, "/v1/tasks") is None
    assert await counted(api, "/v1/tasks?counts=status") == {**NONE, "open": 4, "canceled": 1}
    of_north = {**NONE, "open": 2, "canceled": 1}
    for query in ("", "&status=open", "&status=failed&status=paused", "&limit=1", "&sort=-end"):
        assert await counted(api, f"/v1/tasks?counts=status&hub=north{query}") == of_north
    assert await counted(api, "/v1/tasks?hub=nowhere&counts=status") == NONE
    with_workflow(api)
    with_activity(api)
    assert await counted(api, "/v1/activities?counts=status") == {**NONE, "active": 1}
    with_activity(api, "a2")
    as_of = (await api.get("/v1/activities/a1")).json()["position"]
    past = await counted(api, f"/v1/tasks?activity_id=a1&as_of={as_of}&counts=status")
    assert past is not None
    assert sum(past.values()) == len((await api.get("/v1/tasks?activity_id=a1")).json()["data"])


async def test_the_next_page_does_not_count_again(api: Api) -> None:
    with_tasks(api, 3)
    first = (await api.get("/v1/tasks?counts=status&limit=2")).json()
    assert first["next"].startswith("/v1/tasks?limit=2&cursor=")
    second = (await api.get(first["next"])).json()
    assert ("counts" in first, "counts" in second, len(second["data"])) == (True, False, 1)


async def test_they_are_bounded(api: Api) -> None:
    with_tasks(api, 3, hub="north")
    with patch.object(counts, "MOST", 2):
        found = (await api.get("/v1/tasks?counts=status")).json()
        of_hub = (await api.get("/v1/tasks?counts=status&hub=north")).json()
    assert found["counts"][:2] == [
        {"status": "open", "count": 2, "more": True},
        {"status": "active", "count": 0, "more": False},
    ]
    # More than were counted may have any status.
    assert of_hub["counts"][:2] == [
        {"status": "open", "count": 2, "more": True},
        {"status": "active", "count": 0, "more": True},
    ]
    assert len(found["data"]) == len(of_hub["data"]) == 3


async def test_what_has_a_text_in_its_title_is_counted(api: Api) -> None:
    with_tasks(api, 2, "n", title="A visit in the north")
    with_tasks(api, 3, "s", title="A visit in the south")
    for search, count in (("VISIT IN", 5), ("north", 2), ("o", 5), ("east", 0), ("northern", 0)):
        assert await counted(api, f"/v1/tasks?counts=status&search={search}") == {**NONE, "open": count}, search


async def test_what_takes_too_long_is_left_out_and_the_page_is_there(module_url: str) -> None:
    def slow(listing: Listing, *_: Any) -> Query:
        return Query("SELECT 'open', 1 FROM pg_sleep(60)", ())

    async with opened(module_url, list_timeout=0.5) as api:
        with_tasks(api, 2)
        with patch.object(Listing, "standing", slow):
            response = await api.get("/v1/tasks?counts=status")
        assert response.status_code == 200
        assert ("counts" in response.json(), len(response.json()["data"])) == (False, 2)


@pytest.mark.parametrize("query", ["counts=", "counts=hub", "counts=status&counts=status", "counts=status&hub=%00"])
async def test_what_cannot_be_counted_is_refused(api: Api, query: str) -> None:
    problem(await api.get(f"/v1/tasks?{query}"), 400, "bad-filter")
    assert (await api.get("/v1/directory/hub?counts=status")).json()["code"] == "unknown-parameter"
