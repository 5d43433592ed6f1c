"""The field dialect's flows, hubs and users: what the organization's workflows and directory have."""

from __future__ import annotations

from typing import Any

import pytest

from services.http.field.flows import RESERVED_KEYS
from tests.services.http.api import Api, field_failure

HUB = {"name": "Neo Soho", "address": "Jl. Letjen S. Parman", "lat": -6.17434, "lng": 106.79028}


def _register(api: Api, kind: str, own: str, **fields: Any) -> None:
    api.command("directory.register", {"kind": kind, "id": own, "fields": fields})


def set_scene(api: Api) -> None:
    pickup = {"name": "Pickup", "flow": "Pickup flow", "flow_id": "f1"}
    mapping = [{"step": 0, "from_field": "parcel", "to_field": "package"}]
    delivery = {"name": "Delivery", "flow": "Delivery flow", "flow_id": "f2", "field_mapping": mapping}
    api.command("workflow.define", {"id": "w1", "name": "Pickup to Delivery", "steps": [pickup, delivery]})
    visit = {"name": "Visit", "flow": "Visit"}
    mapping = [{"step": 0, "from_field": "note", "to_field": "parcel"}]
    again = {"name": "Again", "flow": "Renamed", "flow_id": "f1", "field_mapping": mapping}
    api.command("workflow.define", {"id": "w2", "name": "Visits", "steps": [visit, again, {"name": "Plain"}]})
    _register(api, "hub", "h1", **HUB)
    _register(api, "hub", "h2", name="bogor", _id="x")
    _register(api, "hub", "h3", name="Away")
    api.command("directory.retire", {"kind": "hub", "id": "h3"})
    _register(api, "member", "u1", email="leandro@mile.app", name="Leandro", phoneNumber="+62", account_id=7)
    _register(api, "member", "u2", email="Driver@example.com")


async def _get(api: Api, path: str, **query: Any) -> dict[str, Any]:
    response = await api.get(f"/api/v3/{path}", params=query)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    assert found["status"] is True
    return found


async def test_flows_are_those_of_the_steps_of_all_workflows(api: Api) -> None:
    found = await _get(api, "flows", sort_by="name", sort_order="asc", limit=2)
    assert (found["message"], found["flows"]["total"], found["flows"]["last_page"]) == ("Success", 3, 2)
    assert [(flow["_id"], flow["name"]) for flow in found["flows"]["data"]] == [
        ("f2", "Delivery flow"),
        ("f1", "Pickup flow"),
    ]
    assert found["flows"]["next_page_url"].startswith("http://foldwork.test/api/v3/flows?sort_by=name&")
    (last,) = (await _get(api, "flows", sort_by="name", sort_order="asc", page=2, limit=2, fields="name"))["flows"][
        "data"
    ]
    assert last == {"_id": "Visit", "name": "Visit"}
    newest = (await _get(api, "flows"))["flows"]["data"][0]
    assert newest["orderIndex"] == 176187540000000


@pytest.mark.parametrize("named", ["f1", "Pickup flow"])
async def test_a_flow_is_read_by_its_id_or_its_name(api: Api, named: str) -> None:
    flow = (await _get(api, f"flow/{named}"))["flow"]
    assert (flow["_id"], flow["name"], flow["organizationId"]) == ("f1", "Pickup flow", "acme")
    (page,) = flow["pages"]
    assert (page["id"], page["enabled"]) == ("page0", True)
    assert [part["id"] for part in page["components"]] == ["parcel"]
    found = await _get(api, f"flow/{named}/fields")
    assert found["flowFields"] == page["components"]
    assert found["reservedKey"] == RESERVED_KEYS


async def test_fields_that_go_to_other_steps_are_fields_too(api: Api) -> None:
    found = [(await _get(api, f"flow/{own}/fields"))["flowFields"] for own in ("Visit", "f2")]
    assert [[part["id"] for part in parts] for parts in found] == [["note"], ["package"]]


async def test_hubs_are_shown_with_what_they_were_registered_with(api: Api) -> None:
    found = await _get(api, "hubs")
    assert list(found) == ["data", "status"]
    second, first = found["data"]
    assert {name: first[name] for name in HUB} == HUB
    assert (first["_id"], first["organizationId"], second["_id"]) == ("h1", "acme", "h2")
    assert (await _get(api, "hub/h1/")) == {"data": first, "status": True}
    assert (await _get(api, "hubs", q="SOHO", fields="name"))["data"] == [{"_id": "h1", "name": "Neo Soho"}]
    assert [hub["_id"] for hub in (await _get(api, "hubs", sortOrder="desc", limit=1))["data"]] == ["h1"]
    assert (await _get(api, "hubs", page=2, limit=2))["data"] == []


async def test_users_are_the_members(api: Api) -> None:
    found = (await _get(api, "users"))["data"]
    assert [user["_id"] for user in found] == ["u2", "u1"]
    leandro = found[1]
    assert (leandro["email"], leandro["name"], leandro["phoneNumber"]) == ("leandro@mile.app", "Leandro", "+62")
    assert (leandro["status"], "account_id" in leandro) == ("active", False)
    assert (await _get(api, "user/u1")) == {"status": True, "message": "Success", "user": leandro}
    assert [user["_id"] for user in (await _get(api, "users", q="DRIVER@"))["data"]] == ["u2"]


@pytest.mark.parametrize(
    ("path", "code"),
    [("hub/h3", "hub-001"), ("hub/h9", "hub-001"), ("flow/f9", "flow-001"), ("user/nobody", "member-001")],
)
async def test_what_is_not_there_is_said_in_the_originals_words(api: Api, path: str, code: str) -> None:
    assert field_failure(await api.get(f"/api/v3/{path}"), 404, code) == "Data not found"


@pytest.mark.parametrize("query", ["limit=1001", "sortBy=_id", "colour=1", "q=%00", "fields=,"])
async def test_a_list_that_cannot_be_asked_for(api: Api, query: str) -> None:
    for path in ("hubs", "users"):
        field_failure(await api.get(f"/api/v3/{path}?{query}"), 400, "request-005")


async def test_a_user_reads_himself(api: Api) -> None:
    response = await api.get("/api/v3/user", api.key("acme", "u1"))
    assert response.status_code == 200
    assert response.json() == (await api.get("/api/v3/user/u1")).json()["user"]
    assert (response.json()["email"], response.json()["status"]) == ("leandro@mile.app", "active")


async def test_a_key_of_no_member_has_no_user(api: Api) -> None:
    field_failure(await api.get("/api/v3/user"), 404, "member-001")
    # A member's id that is `system` would be no other.
    field_failure(await api.get("/api/v3/user", api.key("acme", "nobody")), 404, "member-001")
