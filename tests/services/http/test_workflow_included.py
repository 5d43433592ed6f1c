"""What stands beside projects, members and work units in the workflow dialect, and their further filters."""

from __future__ import annotations

from typing import Any

import pytest

from services.http.workflow import beside
from tests.services.http.api import Api
from tests.services.http.workflow_scene import BASE, furnish, refused

PROJECTS, MEMBERS, UNITS = f"{BASE}/projects", f"{BASE}/members", f"{BASE}/work_units"


def set_scene(api: Api) -> None:
    furnish(api)
    api.command("directory.register", {"kind": "project", "id": "q", "fields": {"name": "South"}})
    fields = {"account_id": 50, "first_name": "Zoë", "last_name": "Lee", "projects": {"p": {}, "gone": {}}}
    api.command("directory.register", {"kind": "member", "id": "zoe", "fields": fields})
    api.command(
        "workflow.define", {"id": "of-p", "name": "Of p", "steps": [{"name": "One", "flow": "f"}], "project": "p"}
    )
    for unit, fields in (
        ("b", {"priority": 2}),
        ("c", {"priority": "2"}),
        ("d", {"priority": -7}),
        ("e", {"priority": 2.5}),
    ):
        api.command("activity.create", {"id": unit, "workflow_id": "of-p", "tasks": [{}], "fields": fields})


async def read(api: Api, path: str, token: str | None = None) -> Any:
    response = await api.get(path, token)
    assert response.status_code == 200, response.text
    return response.json()


def named(resources: Any) -> list[str]:
    return [f"{each['type'].removeprefix('workflow/')} {each['id']}" for each in resources]


async def test_the_members_of_projects(api: Api) -> None:
    for path in (f"{PROJECTS}?included[]=members", f"{PROJECTS}/p?included=members"):
        body = await read(api, path)
        found = body["data"] if isinstance(body["data"], list) else [body["data"]]
        assert named(body["included"]) == [f"project/members p:{who}" for who in ("ann", "bob", "max", "zoe")]
        linked = [named(each["relationships"]["members"]["data"]) for each in found]
        assert linked == [named(body["included"]), []][: len(found)]
    assert "relationships" not in (await read(api, f"{PROJECTS}/p"))["data"]
    sparse = await read(api, f"{PROJECTS}/p?included=members&fields[workflow/project/members]=account_id")
    assert [each["attributes"] for each in sparse["included"]] == [
        {"account_id": number} for number in (42, 43, 44, 50)
    ]


async def test_no_more_members_are_included_than_an_answer_can_hold(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "MAX_MEMBERS", 3)
    response = await api.get(f"{PROJECTS}?included=members")
    refused(response, 422, "bad-filter", parameter="included")
    assert "more than 3 members" in response.text


async def test_the_project_of_members(api: Api) -> None:
    body = await read(api, f"{MEMBERS}?included[]=project&filter[person_id__in]=ann,zoe")
    assert named(body["data"]) == ["project/members gone:zoe", "project/members p:ann", "project/members p:zoe"]
    # A project that nobody has registered has nothing to show.
    assert named(body["included"]) == ["projects p"]
    assert named((await read(api, f"{MEMBERS}/p:ann?included=project"))["included"]) == ["projects p"]


async def test_the_nodes_of_work_units(api: Api) -> None:
    body = await read(api, f"{UNITS}?included[]=nodes&sort=id")
    assert named(body["included"]) == ["nodes of-p:0", "nodes w:0", "nodes w:1"]
    assert body["included"][0]["attributes"] == {"id": "of-p:0", "name": "One", "step": 0, "flow": "f", "flow_id": None}
    linked = [named(each["relationships"]["nodes"]["data"]) for each in body["data"]]
    assert linked == [["nodes w:0", "nodes w:1"], *[["nodes of-p:0"]] * 4]
    body = await read(api, f"{UNITS}/a?included=nodes&fields[workflow/nodes]=name")
    assert [each["attributes"] for each in body["included"]] == [{"name": "Go"}, {"name": "Come"}]
    # An activity's node is the same resource.
    of_activity = await read(api, f"{BASE}/activities/a1?included=node")
    assert named(of_activity["included"]) == ["nodes w:0"]


async def test_work_units_are_found_by_priority_and_by_who_created_them(api: Api) -> None:
    made = await api.post(
        UNITS,
        {
            "data": {
                "type": "workflow/work_units", "attributes": {"priority": 1},
                "relationships": {"project": {"data": {"type": "workflow/projects", "id": "p"}}},
            }
        },
        api.tokens["max"],
    )  # fmt: skip
    assert made.status_code == 201, made.text
    own = made.json()["data"]["id"]
    for query, wanted in (
        ("filter[priority]=2", ["b"]),
        ("filter[priority][]=2&filter[priority][]=-7", ["b", "d"]),
        ("filter[priority__lt]=2", [own, "d"]),
        ("filter[priority__exists]=0", ["a", "c", "e"]),
        ("filter[priority__neq]=2", [own, "a", "c", "d", "e"]),
        ("filter[created_by_id]=44", [own]),
        ("filter[created_by_id__in]=44,45", [own]),
        ("filter[created_by_id__neq]=44", ["a", "b", "c", "d", "e"]),
        ("filter[created_by_id__gte]=44", [own]),
    ):
        found = [each["id"] for each in (await read(api, f"{UNITS}?{query}&sort=id"))["data"]]
        assert found == sorted(wanted), query
    ordered = [each["id"] for each in (await read(api, f"{UNITS}?sort=priority,id&filter[priority__exists]=1"))["data"]]
    assert ordered == ["d", own, "b"]
    assert (await read(api, f"{UNITS}?sort=created_by_id,id"))["data"][0]["id"] == own


async def test_members_are_found_by_their_names(api: Api) -> None:
    for query, wanted in (
        ("filter[first_name__match]=O%C3%8B", "gone:zoe p:zoe"),
        ("filter[last_name__prefix]=le&filter[project_id]=p", "p:zoe"),
        ("filter[middle_name]=&filter[last_name]=Lee", "gone:zoe p:zoe"),
        ("filter[picture_url__exists]=1", ""),
        ("sort=-is_supervisor,last_name,id&page[size]=3", "p:max gone:zoe p:zoe"),
        ("sort=created_at,updated_at,first_name&page[size]=1", "gone:zoe"),
    ):
        found = (await read(api, f"{MEMBERS}?{query}"))["data"]
        assert " ".join(each["id"] for each in found) == wanted, query


@pytest.mark.parametrize(
    ("path", "query", "code"),
    [
        (PROJECTS, "included=project", "bad-filter"), (MEMBERS, "included=members", "bad-filter"),
        (UNITS, "included=node", "bad-filter"), (UNITS, "filter[priority]=high", "bad-filter"),
        (UNITS, "filter[priority]=" + "9" * 17, "bad-filter"), (UNITS, "filter[priority__match]=2", "bad-filter"),
        (UNITS, "filter[created_by_id]=a:b", "bad-filter"), (UNITS, "filter[created_by_id__prefix]=4", "bad-filter"),
        (MEMBERS, "filter[first_name__contains]=Z", "bad-filter"), (MEMBERS, "filter[first_name]=%00", "bad-filter"),
    ],
)  # fmt: skip
async def test_what_cannot_be_asked(api: Api, path: str, query: str, code: str) -> None:
    response = await api.get(f"{path}?{query}")
    assert response.status_code == 422, response.text
    assert response.json()["errors"][0]["title"] == code
