"""Periods of work in the workflow dialect: what is shown and found of them, and the last one of the caller."""

from __future__ import annotations

from typing import Any

import pytest

from tests.services.http.api import Api
from tests.services.http.workflow_scene import BASE, act, furnish, refused

PERIODS, LAST = f"{BASE}/work_periods", f"{BASE}/tracker/last"


def set_scene(api: Api) -> None:
    furnish(api)
    for name, data in (
        ("task.assign", {"id": "t", "assignees": ["ann"]}),
        ("task.process", {"id": "t"}),
        ("task.assign", {"id": "a1", "assignees": ["ann"]}),
        # What ann is working on is paused.
        ("task.process", {"id": "a1"}),
        ("task.complete", {"id": "a1"}),
        ("task.reassign", {"id": "t", "assignees": ["bob"]}),
        ("task.process", {"id": "t"}),
    ):
        api.command(name, data)


async def ids(api: Api, query: str = "") -> str:
    response = await api.get(f"{PERIODS}?{query}")
    assert response.status_code == 200, response.text
    return " ".join(found["id"] for found in response.json()["data"])


async def test_each_period_is_one_persons_on_one_activity(api: Api) -> None:
    page = (await api.get(f"{PERIODS}?sort=started_at&count=true")).json()
    assert page["meta"]["count"] == 3
    first, second, third = page["data"]
    assert [each["id"] for each in page["data"]] == ["t:3", "a1:3", "t:6"]
    assert [each["attributes"]["account_id"] for each in page["data"]] == [42, 42, 43]
    assert first["type"] == "workflow/work_periods"
    assert first["attributes"]["started_at"] <= first["attributes"]["ended_at"] <= third["attributes"]["started_at"]
    assert (third["attributes"]["ended_at"], third["attributes"]["read_only"]) == (None, True)
    assert first["relationships"] == {
        "project": {"data": {"type": "workflow/projects", "id": "p"}},
        "activity": {"data": {"type": "workflow/activities", "id": "t"}},
    }
    assert second["relationships"]["project"] == {"data": None}
    assert (await api.get(f"{PERIODS}/t:3")).json() == {"data": first}
    sparse = await api.get(f"{PERIODS}/t:3?fields[workflow/work_periods][]=account_id")
    assert sparse.json()["data"]["attributes"] == {"account_id": 42}
    other = api.key("other", "system")
    refused(await api.get(f"{PERIODS}/t:3", other), 404, "not-found")
    assert (await api.get(PERIODS, other)).json()["data"] == []


async def test_what_stands_beside_a_period(api: Api) -> None:
    beside = "included[]=project&included[]=activity.work_unit"
    for path in (f"{PERIODS}/a1:3", f"{PERIODS}?filter[activity_id]=a1"):
        body = (await api.get(f"{path}{'&' if '?' in path else '?'}{beside}")).json()
        assert [(each["type"], each["id"]) for each in body["included"]] == [
            ("workflow/activities", "a1"), ("workflow/work_units", "a"),
        ]  # fmt: skip
    whole = (await api.get(f"{PERIODS}?included=project,activity&fields[workflow/activities]=name")).json()
    assert [(each["type"], each["id"]) for each in whole["included"]] == [
        ("workflow/projects", "p"), ("workflow/activities", "a1"), ("workflow/activities", "t"),
    ]  # fmt: skip
    assert list(whole["included"][2]["attributes"]) == ["name"]


async def test_periods_are_found(api: Api) -> None:
    for query, wanted in (
        ("", "t:6 a1:3 t:3"),
        ("page[size]=1&page[number]=2", "a1:3"),
        ("sort=id", "a1:3 t:3 t:6"),
        ("sort=-account_id,started_at", "t:6 t:3 a1:3"),
        ("sort=project_id,-activity_id,started_at", "t:3 t:6 a1:3"),
        ("sort=ended_at", "t:3 a1:3 t:6"),
        ("filter[id]=t:3", "t:3"),
        ("filter[id__in][]=t:3&filter[id__in][]=a1:3&sort=id", "a1:3 t:3"),
        ("filter[account_id][]=43", "t:6"),
        ("filter[account_id__in]=42,43&filter[activity_id]=t", "t:6 t:3"),
        ("filter[account_id__neq]=42", "t:6"),
        ("filter[account_id__gte]=43", "t:6"),
        ("filter[account_id]=ann", "a1:3 t:3"),
        ("filter[account_id]=999", ""),
        ("filter[project_id]=p", "t:6 t:3"),
        ("filter[project_id]=", "a1:3"),
        ("filter[related_to_project_id]=p", "t:6 t:3"),
        ("filter[activity_id__exists]=true&filter[ended_at__exists]=0", "t:6"),
        ("filter[ended_at]=", "t:6"),
        ("filter[started_at__gte]=2025-10-31T01:50:00Z&filter[ended_at__lte]=2025-10-31T01:50:00Z", "a1:3 t:3"),
        ("filter[started_at__lt]=2025-10-31T01:50:00Z", ""),
        ("filter[ended_at__gt]=2025-10-31T01:50:00Z", ""),
    ):
        assert await ids(api, query) == wanted, query


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("filter[billable]=true", "unknown-filter"), ("filter[details]=x", "unknown-filter"),
        ("filter[id__gt]=t:3", "bad-filter"), ("filter[id]=%00", "bad-filter"),
        ("filter[account_id__match]=4", "bad-filter"), ("filter[account_id__lt]=x", "bad-filter"),
        ("filter[account_id]=a:b", "bad-filter"), ("filter[started_at]=now", "bad-filter"),
        ("filter[ended_at__contains]=2", "bad-filter"), ("sort=details", "bad-sort"), ("included=node", "bad-filter"),
        ("fields[workflow/work_periods]=billable", "bad-filter"), ("page[size]=0", "bad-limit"),
    ],
)  # fmt: skip
async def test_what_cannot_be_asked(api: Api, query: str, code: str) -> None:
    response = await api.get(f"{PERIODS}?{query}")
    assert response.status_code == 422, response.text
    assert response.json()["errors"][0]["title"] == code


async def test_what_is_no_period(api: Api) -> None:
    for unknown in ("t", "t:0", "t:4", ":3", "x:3", "t:3:3", "t:" + "9" * 18, "t" * 64 + ":1", "%00", "x" * 5000):
        refused(await api.get(f"{PERIODS}/{unknown}"), 404, "not-found", pointer="")


async def last(api: Api, actor: str, query: str = "") -> Any:
    response = await api.get(f"{LAST}{query}", api.tokens[actor] if actor != "system" else None)
    assert response.status_code == 200, response.text
    return response.json()


async def test_the_last_period_of_the_caller(api: Api) -> None:
    assert (await last(api, "bob"))["data"]["id"] == "t:6"
    assert (await last(api, "ann"))["data"]["id"] == "a1:3"
    assert await last(api, "max") == {"data": None}
    assert await last(api, "system", "?included=activity") == {"data": None, "included": []}
    shown = await last(api, "bob", "?included=activity,project")
    assert shown["data"]["attributes"]["ended_at"] is None
    assert [each["id"] for each in shown["included"]] == ["p", "t"]
    assert (await act(api, "/unassign", actor="bob")).status_code == 200
    shown = await last(api, "bob")
    assert (shown["data"]["id"], shown["data"]["attributes"]["ended_at"] is None) == ("t:6", False)
    refused(await api.get(f"{LAST}?included=node", api.tokens["ann"]), 422, "bad-filter", parameter="included")
    refused(await api.get(f"{LAST}?account_id=42", api.tokens["ann"]), 422, "unknown-parameter", parameter="account_id")
