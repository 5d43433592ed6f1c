"""The members of projects in the workflow dialect: what is shown and found, and what cannot be asked."""

from __future__ import annotations

from tests.services.http.api import Api
from tests.services.http.workflow_scene import BASE, furnish, refused

MEMBERS = f"{BASE}/members"


def set_scene(api: Api) -> None:
    furnish(api)
    api.command("directory.register", {"kind": "project", "id": "q", "fields": {"name": "South"}})
    fields = {
        "account_id": 50,
        "name": "Zoë Lee",
        "email": "Zoe@x.vn",
        "projects": {"p": {}, "q": {"is_manager": True}},
    }
    api.command("directory.register", {"kind": "member", "id": "zoe", "fields": fields})
    api.command("directory.register", {"kind": "member", "id": "gone", "fields": {"projects": {"p": {}}}})
    api.command("directory.retire", {"kind": "member", "id": "gone"})


async def test_a_person_is_a_member_of_each_project(api: Api) -> None:
    member = (await api.get(f"{MEMBERS}/q:zoe")).json()["data"]
    assert (member["type"], member["id"]) == ("workflow/project/members", "q:zoe")
    shown = {"id": "q:zoe", "person_id": "zoe", "account_id": 50, "actor_roles": [], "is_supervisor": True}
    assert {name: member["attributes"][name] for name in shown} == shown
    assert member["relationships"] == {"project": {"data": {"type": "workflow/projects", "id": "q"}}}
    sparse = await api.get(f"{MEMBERS}/p:zoe?fields[workflow/project/members][]=is_supervisor")
    assert sparse.json()["data"]["attributes"] == {"is_supervisor": False}
    for unknown in ("zoe", "p:gone", "p:nobody", "q:ann", ":", "p:", "%00", "%C3%A4:zoe"):
        refused(await api.get(f"{MEMBERS}/{unknown}"), 404, "not-found", pointer="")


async def test_members_are_found(api: Api) -> None:
    for query, wanted in (
        ("", "p:ann p:bob p:max p:zoe q:zoe"),
        ("sort=-id", "q:zoe p:zoe p:max p:bob p:ann"),
        ("sort=-account_id,project_id&page[size]=2", "p:zoe q:zoe"),
        ("filter[id]=p:ann", "p:ann"),
        ("filter[project_id][]=q", "q:zoe"),
        ("filter[person_id__in]=ann,zoe&filter[project_id]=p", "p:ann p:zoe"),
        ("filter[account_id]=42", "p:ann"),
        ("filter[account_id__in][]=42&filter[account_id__in][]=44", "p:ann p:max"),
        ("filter[is_supervisor][]=true", "p:max q:zoe"),
        ("filter[is_supervisor]=0", "p:ann p:bob p:zoe"),
        ("filter[actor_roles__contains][]=driver&filter[actor_roles__contains][]=cook", "p:ann p:bob p:max"),
        ("filter[search__match]=ZO%C3%8B", "p:zoe q:zoe"),
        ("filter[search__match][]=x.VN", "p:zoe q:zoe"),
        ("filter[created_at__lt]=2025-10-31T01:50:00Z", ""),
    ):
        response = await api.get(f"{MEMBERS}?{query}")
        assert response.status_code == 200, response.text
        assert " ".join(found["id"] for found in response.json()["data"]) == wanted, query
    counted = (await api.get(f"{MEMBERS}?count=true&page[size]=1&filter[project_id]=p")).json()
    assert counted["meta"] == {"page": {"number": 1, "size": 1}, "count": 4}


async def test_a_question_that_cannot_be_asked(api: Api) -> None:
    for query, code in (
        ("filter[colour]=x", "unknown-filter"),
        ("filter[account_id]=x", "bad-filter"),
        ("filter[account_id__match]=4", "bad-filter"),
        ("filter[search]=x", "bad-filter"),
        ("filter[search__match]=%00", "bad-filter"),
        ("filter[actor_roles]=driver", "bad-filter"),
        ("filter[actor_roles__contains]=%00", "bad-filter"),
        ("filter[is_supervisor]=maybe", "bad-filter"),
        ("filter[id__prefix]=p", "bad-filter"),
        ("sort=name", "bad-sort"),
        ("included=person", "bad-filter"),
    ):
        refused(await api.get(f"{MEMBERS}?{query}"), 422, code)
