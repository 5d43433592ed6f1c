"""Projects and work units in the workflow dialect: what is created, changed and found, and what is refused."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.services.http.api import Api
from tests.services.http.workflow_scene import BASE, furnish, refused

PROJECTS, UNITS = f"{BASE}/projects", f"{BASE}/work_units"


def set_scene(api: Api) -> None:
    furnish(api)
    steps = [{"name": "Go"}, {"name": "Come"}]
    api.command("workflow.define", {"id": "of-p", "name": "Of p", "steps": steps, "project": "p"})


def document(kind: str, attributes: Any, **more: Any) -> dict[str, Any]:
    return {"data": {"type": f"workflow/{kind}", "attributes": attributes, **more}}


def of(project: Any, workflow: str | None = None) -> dict[str, Any]:
    links: dict[str, Any] = {"project": {"data": {"type": "workflow/projects", "id": project}}}
    if workflow is not None:
        links["workflow"] = {"data": {"type": "workflow/workflows", "id": workflow}}
    return {"relationships": links}


async def patch(api: Api, path: str, body: Any, actor: str | None = None) -> httpx.Response:
    return await api.client.patch(path, json=body, headers=api.by(api.tokens[actor] if actor else None))


async def test_a_project_is_created_read_and_changed(api: Api) -> None:
    given = {"name": "South", "organizational_unit": "Sales", "organization_id": 7, "definition": '{"indicators": {}}'}
    made = await api.post(PROJECTS, document("projects", given))
    assert made.status_code == 201, made.text
    project = made.json()["data"]
    shown = {**given, "organization_id": "7", "definition": {"indicators": {}}, "enabled": True, "readonly": False}
    assert {name: project["attributes"][name] for name in shown} == shown
    path = f"{PROJECTS}/{project['id']}"
    assert (await api.get(path)).json() == {"data": project}
    changed = await patch(api, path, document("projects", {"enabled": False}, id=project["id"]))
    assert changed.json()["data"]["attributes"] == {**project["attributes"], "enabled": False}
    sparse = (await api.get(f"{path}?fields[workflow/projects][]=name&fields[workflow/projects][]=enabled")).json()
    assert sparse["data"]["attributes"] == {"name": "South", "enabled": False}
    refused(await api.post(PROJECTS, document("projects", {}), api.tokens["max"]), 403, "forbidden")
    assert (await patch(api, f"{PROJECTS}/p", document("projects", {"name": "N"}), "max")).status_code == 200


async def test_a_project_that_cannot_be_is_refused_at_its_place(api: Api) -> None:
    for attributes, pointer in (
        ([], "/data/attributes"),
        ({"name": 7}, "/data/attributes/name"),
        ({"name": ""}, "/data/attributes/name"),
        ({"enabled": "yes"}, "/data/attributes/enabled"),
        ({"definition": "{"}, "/data/attributes/definition"),
        ({"definition": "[1]"}, "/data/attributes/definition"),
        ({"readonly": True}, "/data/attributes/readonly"),
    ):
        response = await api.post(PROJECTS, document("projects", attributes))
        assert response.status_code == 422, response.text
        assert response.json()["errors"][0]["source"] == {"pointer": pointer}
    for body, pointer in (({}, "/data"), ({"data": {"type": "workflow/nodes", "attributes": {}}}, "/data/type")):
        refused(await api.post(PROJECTS, body), 422, "wrong-shape", pointer=pointer)
    refused(await patch(api, f"{PROJECTS}/p", document("projects", {}, id="q")), 422, "invalid", pointer="/data/id")
    refused(await patch(api, f"{PROJECTS}/nobody", document("projects", {"name": "N"})), 404, "not-found", pointer="")


async def test_projects_are_found(api: Api) -> None:
    for project, fields in {
        "q": {"name": "Südost", "enabled": False, "organizational_unit": "Sales"},
        "r": {"organization_id": "7", "enabled": "maybe"},
        "gone": {"name": "North"},
    }.items():
        api.command("directory.register", {"kind": "project", "id": project, "fields": fields})
    api.command("directory.retire", {"kind": "project", "id": "gone"})
    for query, wanted in (
        ("", "p q r"),
        ("sort=-id&page[size]=2&count=true", "r q"),
        ("sort=name", "p q r"),
        ("sort=-created_at,-id", "r q p"),
        ("filter[name__match][]=OST", "q"),
        ("filter[name__prefix]=nor", "p"),
        ("filter[name__exists]=0", "r"),
        ("filter[name]=", "r"),
        ("filter[enabled][]=false", "q"),
        ("filter[enabled]=1", "p r"),
        ("filter[readonly]=true", ""),
        ("filter[organizational_unit]=Sales", "q"),
        ("filter[organization_id__in][]=7&filter[organization_id__in][]=8", "r"),
        ("filter[id__neq]=p", "q r"),
        ("filter[created_at__gte]=2025-10-31T01:50:00Z", "p q r"),
        ("filter[updated_at__lt]=2025-10-31T01:50:00Z", ""),
    ):
        response = await api.get(f"{PROJECTS}?{query}")
        assert response.status_code == 200, response.text
        assert " ".join(found["id"] for found in response.json()["data"]) == wanted, query
    body = (await api.get(f"{PROJECTS}?page[size]=2&count=true")).json()
    assert (body["meta"], body["links"]["prev"]) == ({"page": {"number": 1, "size": 2}, "count": 3}, None)


QUESTIONS = (
    ("filter[definition]=x", "unknown-filter"),
    ("filter[enabled]=maybe", "bad-filter"),
    ("filter[enabled]=", "bad-filter"),
    ("filter[enabled__neq]=true", "bad-filter"),
    ("filter[created_at]=now", "bad-filter"),
    ("filter[created_at__match]=2025", "bad-filter"),
    ("filter[name__contains]=x", "bad-filter"),
    ("filter[name]=%00", "bad-filter"),
    ("sort=definition", "bad-sort"),
    ("included=project", "bad-filter"),
)


@pytest.mark.parametrize("path", [PROJECTS, UNITS])
async def test_a_question_that_cannot_be_asked(api: Api, path: str) -> None:
    for query, code in QUESTIONS:
        wanted = "unknown-filter" if path == UNITS and "[enabled" in query else code
        refused(await api.get(f"{path}?{query}"), 422, wanted)


async def test_a_work_unit_of_a_project_is_created_with_its_activities(api: Api) -> None:
    made = await api.post(
        UNITS, document("work_units", {"name": "Order 7", "priority": 3}, **of("p")), api.tokens["max"]
    )
    assert made.status_code == 201, made.text
    unit = made.json()["data"]
    shown = {"name": "Order 7", "status": "pending", "priority": 3, "created_by_id": 44}
    assert {name: unit["attributes"][name] for name in shown} == shown
    assert unit["relationships"]["project"] == {"data": {"type": "workflow/projects", "id": "p"}}
    path = f"{UNITS}/{unit['id']}"
    assert (await api.get(path)).json() == {"data": unit}
    listed = (await api.get(f"{UNITS}?filter[project_id][]=p")).json()["data"]
    assert listed == [unit]
    of_unit = (await api.get(f"{BASE}/activities?filter[work_unit_id][]={unit['id']}&sort=name")).json()["data"]
    assert [found["attributes"]["name"] for found in of_unit] == ["Come", "Go"]
    changed = await patch(api, path, document("work_units", {"name": "Order 8", "priority": 1}, id=unit["id"]), "max")
    assert changed.json()["data"]["attributes"] == {
        **unit["attributes"],
        "name": "Order 8",
        "priority": 1,
        "data": {"priority": 1},
    }
    named = await api.post(UNITS, document("work_units", {}, **of("p")))
    assert named.json()["data"]["attributes"]["name"] == "Of p"


async def test_work_units_are_found(api: Api) -> None:
    api.command("activity.create", {"id": "b", "workflow_id": "of-p", "title": "Order 7", "tasks": [{}, {}]})
    api.command("activity.cancel", {"id": "b"})
    for query, wanted in (
        ("sort=id", "a b"),
        ("sort=-name", "a b"),
        ("sort=status", "b a"),
        ("filter[id]=a", "a"),
        ("filter[name__match][]=ORDER", "b"),
        ("filter[status]=pending", "a"),
        ("filter[status__in][]=canceled&filter[status__in][]=errored", "b"),
        ("filter[project_id]=p", "b"),
        ("filter[project_id__exists]=false", "a"),
        ("filter[created_at__gte]=2026-01-01T00:00:00Z", ""),
    ):
        response = await api.get(f"{UNITS}?{query}")
        assert " ".join(found["id"] for found in response.json()["data"]) == wanted, (query, response.text)


async def test_a_work_unit_that_cannot_be_is_refused_at_its_place(api: Api) -> None:
    place = "/data/relationships/project/data/id"
    refused(await api.post(UNITS, document("work_units", {})), 422, "wrong-shape", pointer="/data/relationships")
    for project in ("nobody", "other"):
        response = await api.post(UNITS, document("work_units", {}, **of(project)))
        refused(response, 422, "invalid", pointer=place)
    refused(await api.post(UNITS, document("work_units", {}, **of(7))), 422, "wrong-shape", pointer=place)
    long = document("work_units", {"name": "x" * 301}, **of("p"))
    refused(await api.post(UNITS, long), 422, "invalid", pointer="/data/attributes/name")
    of_workflow = "/data/relationships/workflow/data/id"
    for workflow in ("w", "nobody"):
        response = await api.post(UNITS, document("work_units", {}, **of("p", workflow)))
        refused(response, 422, "invalid", pointer=of_workflow)
    api.command("workflow.define", {"id": "second", "name": "Second", "steps": [{"name": "Go"}], "project": "p"})
    response = await api.post(UNITS, document("work_units", {}, **of("p")))
    refused(response, 422, "invalid", pointer=of_workflow)
    assert "of-p, second" in response.text
    made = await api.post(UNITS, document("work_units", {}, **of("p", "second")))
    assert made.json()["data"]["attributes"]["progress"]["total"] == 1
