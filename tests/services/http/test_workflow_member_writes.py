"""Members of projects in the workflow dialect as they join, change and leave, and who may let them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.services.http.api import Api
from tests.services.http.workflow_scene import BASE, LIST, furnish, refused

MEMBERS = f"{BASE}/members"
_TYPE = "workflow/project/members"


def set_scene(api: Api) -> None:
    furnish(api)
    api.command("directory.register", {"kind": "project", "id": "q", "fields": {"name": "South"}})
    api.command("directory.register", {"kind": "project", "id": "gone", "fields": {}})
    api.command("directory.retire", {"kind": "project", "id": "gone"})
    api.command("task.create", {"id": "cooked", "project": "q", "roles": ["cook"]})


def document(project: Any = "q", member_type: str = _TYPE, **attributes: Any) -> dict[str, Any]:
    link = {"project": {"data": {"type": "workflow/projects", "id": project}}}
    return {"data": {"type": member_type, "attributes": attributes, "relationships": link}}


async def patch(api: Api, member: str, actor: str | None = None, **attributes: Any) -> httpx.Response:
    body = {"data": {"type": _TYPE, "id": member, "attributes": attributes}}
    return await api.client.patch(
        f"{MEMBERS}/{member}", json=body, headers=api.by(api.tokens[actor] if actor else None)
    )


async def delete(api: Api, member: str, actor: str | None = None, **headers: str) -> httpx.Response:
    given = {**api.by(api.tokens[actor] if actor else None), **headers}
    return await api.client.delete(f"{MEMBERS}/{member}", headers=given)


async def test_a_person_joins_changes_and_leaves(api: Api) -> None:
    made = await api.post(MEMBERS, document(account_id="42", is_supervisor=False, actor_roles=["cook"]))
    assert made.status_code == 201, made.text
    member = made.json()["data"]
    assert member["id"] == "q:ann"
    # A person's own roles are had in every project, those of a membership in that one.
    shown = {"account_id": 42, "actor_roles": ["driver", "cook"], "is_supervisor": False}
    assert {name: member["attributes"][name] for name in shown} == shown
    assert (await api.get(f"{MEMBERS}/q:ann")).json()["data"] == member
    assert (await api.get(f"{MEMBERS}/p:ann")).json()["data"]["attributes"]["actor_roles"] == ["driver"]
    found = (await api.get(f"{MEMBERS}?filter[actor_roles__contains]=cook")).json()["data"]
    assert [each["id"] for each in found] == ["q:ann"]
    changed = await patch(api, "q:ann", is_supervisor=True)
    assert changed.json()["data"]["attributes"] == {**member["attributes"], "is_supervisor": True}
    changed = await patch(api, "q:ann", actor_roles=[])
    assert changed.json()["data"]["attributes"]["actor_roles"] == ["driver"]
    assert (await delete(api, "q:ann")).status_code == 204
    refused(await api.get(f"{MEMBERS}/q:ann"), 404, "not-found", pointer="")
    # The other membership is as it was.
    assert (await api.get(f"{MEMBERS}/p:ann")).status_code == 200
    refused(await delete(api, "q:ann"), 404, "not-found", pointer="")


async def test_a_role_in_a_project_makes_eligible_there(api: Api) -> None:
    assign = {"account_id": 42, "start_working": False}
    path = f"{LIST}/cooked/assign"
    for attributes in ({}, {"actor_roles": ["waiter"]}):
        await api.post(MEMBERS, document(account_id=42, **attributes))
        response = await api.client.patch(path, json=assign, headers=api.by())
        refused(response, 422, "not-eligible", pointer="/account_id")
    assert (await patch(api, "q:ann", actor_roles=["COOK", "cook"])).status_code == 200
    assert (await api.client.patch(path, json=assign, headers=api.by())).status_code == 200


async def test_only_managers_of_the_project_and_the_system_may(api: Api) -> None:
    body = document("p", account_id=45, is_supervisor=True)
    refused(await api.post(MEMBERS, body, api.tokens["ann"]), 403, "forbidden")
    refused(await api.post(MEMBERS, document(account_id=42), api.tokens["max"]), 403, "forbidden")
    assert (await api.post(MEMBERS, body, api.tokens["max"])).status_code == 201
    refused(await patch(api, "p:eve", "ann", is_supervisor=False), 403, "forbidden")
    assert (await patch(api, "p:eve", "max", is_supervisor=False)).status_code == 200
    refused(await delete(api, "p:eve", "bob"), 403, "forbidden", pointer="")
    assert (await delete(api, "p:eve", "max")).status_code == 204


async def test_a_repetition_takes_effect_once(api: Api) -> None:
    keyed = {**api.by(), "Idempotency-Key": "k"}
    answers = [await api.client.post(MEMBERS, json=document(account_id=42), headers=keyed) for _ in range(2)]
    assert [each.status_code for each in answers] == [201, 201]
    answers = [await delete(api, "q:ann", **{"Idempotency-Key": "d"}) for _ in range(2)]
    assert [each.status_code for each in answers] == [204, 204]


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({}, "wrong-shape", "/data"),
        (document(account_id=42, member_type="workflow/members"), "wrong-shape", "/data/type"),
        (document(), "wrong-shape", "/data/attributes/account_id"),
        (document(account_id=None), "wrong-shape", "/data/attributes/account_id"),
        (document(account_id=999), "not-found", "/data/attributes/account_id"),
        (document(account_id=42, is_supervisor="yes"), "wrong-shape", "/data/attributes/is_supervisor"),
        (document(account_id=42, actor_roles="cook"), "wrong-shape", "/data/attributes/actor_roles"),
        (document(account_id=42, actor_roles=["cook", None]), "wrong-shape", "/data/attributes/actor_roles/1"),
        (document(account_id=42, actor_roles=[""]), "invalid", "/data/attributes/actor_roles/0"),
        (document(account_id=42, name="Ann"), "unknown-field", "/data/attributes/name"),
        (document("nobody", account_id=42), "not-found", "/data/relationships/project/data/id"),
        (document("gone", account_id=42), "not-found", "/data/relationships/project/data/id"),
        (document("a:b", account_id=42), "not-found", "/data/relationships/project/data/id"),
        (document(7, account_id=42), "wrong-shape", "/data/relationships/project/data/id"),
    ],
)
async def test_what_cannot_be_is_refused_at_its_place(api: Api, body: Any, code: str, pointer: str) -> None:
    refused(await api.post(MEMBERS, body), 422, code, pointer=pointer)


async def test_who_is_not_there_is_not_changed(api: Api) -> None:
    for unknown in ("p:eve", "q:ann", "nobody", "p:nobody", "x:ann", ":", "p:", "%00:ann"):
        body = {"data": {"type": _TYPE, "attributes": {"is_supervisor": True}}}
        response = await api.client.patch(f"{MEMBERS}/{unknown}", json=body, headers=api.by())
        refused(response, 404, "not-found", pointer="")
        refused(await delete(api, unknown), 404, "not-found", pointer="")
