"""The field dialect's lists: the original's pages, filters, times and keys, and those that are ours."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.services.http.api import Api, field_failure, with_activity, with_workflow

BASE = "http://foldwork.test/api/v3/tasks"


def _task(api: Api, own: str, **data: Any) -> None:
    api.command("task.create", {"id": own, **data})


def set_scene(api: Api) -> None:
    with_workflow(api)
    with_activity(api)
    ann, bob = "ann@example.com", "bob@example.com"
    _task(api, "t1", flow="Visit", flow_id="f1", title="Visit Ann", assignees=[ann], fields={"size": 5, "who": "John"})
    _task(api, "t2", flow="Visit", flow_id="f1", title="Visit Bob", assignees=[bob], fields={"size": "5", "ok": True})
    _task(api, "t3", flow="Survey, long", flow_id="f2", start="2025-10-31T08:00:00Z", fields={"a key": None, "x.y": 1})
    api.command("task.complete", {"id": "t1"})


async def _listed(api: Api, **query: Any) -> dict[str, Any]:
    response = await api.get("/api/v3/tasks", params=query)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    assert (found["status"], found["message"]) == (True, "Success.")
    page: dict[str, Any] = found["tasks"]
    return page


async def _ids(api: Api, **query: Any) -> set[str]:
    page = await _listed(api, **query)
    assert page["total"] == len(page["data"])
    return {row["_id"] for row in page["data"]}


async def test_a_page_is_laid_out_as_the_original_lays_it_out(api: Api) -> None:
    page = await _listed(api, limit=2, page=2, sortBy="title", fields="title,label")
    assert list(page) == [
        "current_page", "data", "first_page_url", "from", "last_page", "last_page_url", "links", "next_page_url",
        "path", "per_page", "prev_page_url", "to", "total",
    ]  # fmt: skip
    query = "limit=2&sortBy=title&fields=title%2Clabel&page="
    assert page["first_page_url"] == f"{BASE}?{query}1"
    assert (page["last_page_url"], page["next_page_url"], page["path"]) == (f"{BASE}?{query}3",) * 2 + (BASE,)
    assert (page["current_page"], page["from"], page["to"], page["per_page"], page["total"]) == (2, 3, 4, 2, 6)
    assert page["links"] == [
        {"url": f"{BASE}?{query}1", "label": "&laquo; Previous", "active": False},
        {"url": f"{BASE}?{query}1", "label": "1", "active": False},
        {"url": f"{BASE}?{query}2", "label": "2", "active": True},
        {"url": f"{BASE}?{query}3", "label": "3", "active": False},
        {"url": f"{BASE}?{query}3", "label": "Next &raquo;", "active": False},
    ]
    assert all(set(row) <= {"_id", "title"} for row in page["data"])
    following = await api.get(page["next_page_url"])
    assert following.json()["tasks"]["current_page"] == 3


async def test_the_default_is_twenty_rows_on_one_page(api: Api) -> None:
    page = await _listed(api)
    assert (page["per_page"], page["first_page_url"], page["last_page"]) == (20, f"{BASE}?page=1", 1)
    assert [link["url"] for link in page["links"]] == [None, f"{BASE}?page=1", None]


@pytest.mark.parametrize(
    ("number", "labels"),
    [
        (1, ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "...", "19", "20"]),
        (10, ["1", "2", "...", "7", "8", "9", "10", "11", "12", "13", "...", "19", "20"]),
        (20, ["1", "2", "...", "11", "12", "13", "14", "15", "16", "17", "18", "19", "20"]),
        (99, ["1", "2", "...", "11", "12", "13", "14", "15", "16", "17", "18", "19", "20"]),
    ],
)
async def test_of_many_pages_those_around_and_at_the_ends_are_linked(api: Api, number: int, labels: list[str]) -> None:
    await api.post("/api/v3/tasks/bulk", {"tasks": [{"flow": "Many"}] * 20})
    page = await _listed(api, flow="Many", limit=1, page=number)
    before, *links, after = page["links"]
    assert [link["label"] for link in links] == labels
    assert [link["label"] for link in links if link["active"]] == ([str(number)] if number <= 20 else [])
    assert (before["url"] is None) is (number in (1, 99))
    assert (after["url"] is None) is (number >= 20)
    for link in links:
        if link["url"] is not None:
            assert parse_qs(urlsplit(link["url"]).query)["page"] == [link["label"]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"flow": "Visit"}, {"t1", "t2"}),
        ({"flowId": "f1, f2"}, {"t1", "t2", "t3"}),
        ({"assignee": "ann@example.com"}, {"a1", "a1-t1", "t1"}),
        ({"assignee": "ann@example.com,bob@example.com", "taskType": "task"}, {"t1", "t2"}),
        ({"assignee": "nobody@example.com"}, set()),
        ({"assignee": "ann@example.com", "hubId": "h1"}, set()),
        ({"search": "VISIT b"}, {"t2"}),
        ({"field[who]": "John"}, {"t1"}),
        ({"field[size]": "5"}, {"t1", "t2"}),
        ({"field[size]": ["5", "6"], "field[ok]": "true"}, {"t2"}),
        ({"field[x.y]": "1"}, {"t3"}),
        ({"field[size]": "05"}, set()),
        ({"field[flow]": "Visit"}, set()),
        ({"timeBy": "doneTime", "timeFrom": "2025-10-31 01:50:00", "timeTo": "2025-10-31T01:50:00Z"}, {"t1"}),
        ({"timeBy": "doneTime", "timeTo": "2025-10-31 01:49:59"}, set()),
        ({"timeBy": "startTime", "timeFrom": "2025-10-31 08:00:00"}, {"t3"}),
        ({"timeFrom": "2025-10-31 01:50:00", "taskType": "activityMaster"}, {"a1"}),
        ({"timeTo": "2025-10-31 01:49:59"}, set()),
    ],
)
async def test_what_is_asked_for_is_found(api: Api, query: dict[str, Any], found: set[str]) -> None:
    assert await _ids(api, **query) == found


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("assignee=no%20one", "assignee"),
        ("timeFrom=yesterday", "timeFrom"),
        ("timeBy=doneTime&timeTo=2025-10-31", "timeTo"),
        ("timeBy=endTime", "timeBy"),
        ("field[a]=%00", "field[a]"),
        ("field[%00]=1", "field["),
        ("field=1", "field"),
        ("asignee=ann", "asignee"),
        ("fields=" + ",".join(["a"] * 101), "fields"),
    ],
)
async def test_what_cannot_be_asked_is_refused_by_its_name(api: Api, query: str, place: str) -> None:
    assert place in field_failure(await api.get(f"/api/v3/tasks?{query}"), 400, "request-005")


async def test_any_key_may_be_asked_for(api: Api) -> None:
    (row,) = (await _listed(api, flowId="f2", fields="x.y, a key,flow,label"))["data"]
    assert row == {"_id": "t3", "flow": "Survey, long", "a key": None, "x.y": 1}
