"""The directory over HTTP: registered, changed, retired and read, alone and in lists, and every way to be refused."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from domain.streams import ENTRY_KINDS
from services.broker.sender import Outgoing
from services.http.native.models import MAX_ENTRIES, REGISTERED
from tests.services.http.api import Api, problem

HUBS = "/v1/directory/hub"
WRITES = [("POST", HUBS), ("PATCH", f"{HUBS}/h1")]
NORTH = {"id": "h1", "fields": {"name": "North", "size": 3}}
# What each kind cannot do without.
FIELDS: dict[str, tuple[str, dict[str, Any]]] = {
    "policy": ("late-completion", {"value": "reject"}),
    "attribute": ("name", {"strategy": "UPFRONT", "source": "commerce.name"}),
    "targeting": ("default", {"criteria": [{"type": "ANY"}]}),
    "dispatch": ("SMS", {"provider": "console"}),
    "outcome": ("sold", {"label": "Sold"}),
    "retention": ("active", {"label": "Active"}),
}


def _events(api: Api) -> list[str]:
    with psycopg.connect(api.url) as conn:
        return [str(row[0]) for row in conn.execute("SELECT topic FROM stored_events ORDER BY notification_id")]


async def _send(api: Api, method: str, path: str, token: str | None = None, **rest: Any) -> Any:
    headers = {**api.by(token), **rest.pop("headers", {})}
    return await api.client.request(method, path, headers=headers, **rest)


async def test_retiring_a_member_says_which_open_tasks_are_held(api: Api) -> None:
    api.command("directory.register", {"kind": "member", "id": "ann", "fields": {"email": "ann@x.vn"}})
    api.command("directory.register", {"kind": "member", "id": "bob"})
    for number, who in enumerate((["ann"], ["ann@x.vn", "bob"], ["bob"], ["ann"], [])):
        api.command("task.create", {"id": f"t{number}", "assignees": who})
    api.command("task.process", {"id": "t1"})
    api.command("task.complete", {"id": "t3"})
    retired = (await _send(api, "DELETE", "/v1/directory/member/ann")).json()
    assert retired["open_tasks"] == {"total": 2, "ids": ["t0", "t1"]}
    api.sender.late.add("tasks")
    late = (await _send(api, "DELETE", "/v1/directory/member/bob")).json()
    assert (late["retired"], late["open_tasks"]) == (True, None)


async def test_retiring_a_member_lists_at_most_a_hundred_tasks_and_counts_all(api: Api) -> None:
    api.command("directory.register", {"kind": "member", "id": "ann"})
    tasks = [Outgoing("task.create", b'{"id": "t%03d", "assignees": ["ann"]}' % n, "acme") for n in range(101)]
    api.sender.work(tasks)
    held = (await _send(api, "DELETE", "/v1/directory/member/ann")).json()["open_tasks"]
    assert (held["total"], held["ids"]) == (101, [f"t{n:03d}" for n in range(100)])


@pytest.mark.parametrize("kind", ENTRY_KINDS)
async def test_an_entry_of_every_kind_is_registered_and_read(api: Api, kind: str) -> None:
    entry_id, fields = FIELDS.get(kind, ("e1", {"name": "One", "anything": [1, None, {"deep": True}]}))
    response = await api.post(f"/v1/directory/{kind}", {"id": entry_id, "fields": fields})
    assert response.status_code == 201
    assert response.headers["location"] == f"/v1/directory/{kind}/{entry_id}"
    entry = response.json()
    assert {name: entry[name] for name in ("kind", "id", "retired", "version")} == {
        "kind": kind,
        "id": entry_id,
        "retired": False,
        "version": 1,
    }
    assert entry["fields"].items() >= fields.items()
    assert (await api.get(response.headers["location"])).json() == entry
    assert (await api.get(f"/v1/directory/{kind}")).json() == {"data": [entry], "next": None}


async def test_an_id_is_given_out_if_there_is_none(api: Api) -> None:
    first, second = [(await api.post(HUBS, body)).json() for body in ({"fields": {"name": "North"}}, {"id": None})]
    assert first["id"] != second["id"]
    assert first["fields"] == {"name": "North"}
    assert second["fields"] == {}


async def test_registering_the_same_again_changes_nothing(api: Api) -> None:
    first = await api.post(HUBS, NORTH)
    again = await api.post(HUBS, NORTH)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    problem(await api.post(HUBS, {"id": "h1", "fields": {"name": "South"}}), 409, "taken", pointer="/id")
    assert _events(api) == ["directory.entry-registered"]


async def test_under_one_key_an_entry_without_an_id_is_registered_once(api: Api) -> None:
    headers = {"Idempotency-Key": "k1"}
    first, again = [await api.post(HUBS, {"fields": {"name": "North"}}, headers=headers) for _ in range(2)]
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    problem(await api.post(HUBS, {"fields": {"name": "South"}}, headers=headers), 409, "idempotency-conflict")


async def test_what_was_registered_a_moment_ago_is_found_by_the_next_command(api: Api) -> None:
    api.sender.late.add("directory")
    created = await api.post(HUBS, NORTH)
    assert created.status_code == 201
    assert created.json()["fields"] == NORTH["fields"]
    problem(await api.get(f"{HUBS}/h1"), 404, "not-found")
    task = {"type": "task.create", "data": {"hub": "h1"}}
    assert (await api.post("/v1/commands", task)).status_code == 200
    task["data"] = {"hub": "h2"}
    problem(await api.post("/v1/commands", task), 404, "not-found", pointer="/data/hub")
    changed = await _send(api, "PATCH", f"{HUBS}/h1", json={"fields": {"size": 4}})
    # The view has not even the entry, so it is shown as the log has it.
    assert changed.status_code == 200
    assert changed.json()["fields"] == {**NORTH["fields"], "size": 4}


async def test_a_change_keeps_what_it_leaves_out_and_null_takes_away(api: Api) -> None:
    await api.post(HUBS, NORTH)
    changed = await _send(api, "PATCH", f"{HUBS}/h1", json={"fields": {"size": None, "open": True}})
    assert changed.status_code == 200
    assert changed.json()["fields"] == {"name": "North", "open": True}
    assert changed.json()["version"] == 2
    same = await _send(api, "PATCH", f"{HUBS}/h1", json={"fields": {"open": True}})
    assert same.json() == changed.json()
    response = await _send(api, "PATCH", f"{HUBS}/h1", json={"fields": {"name": ""}})
    problem(response, 422, "invalid", pointer="/fields/name")


async def test_a_retired_entry_is_shown_only_when_asked_for_and_may_come_back(api: Api) -> None:
    await api.post(HUBS, NORTH)
    retired = await _send(api, "DELETE", f"{HUBS}/h1")
    assert retired.status_code == 200
    assert retired.json()["retired"] is True
    problem(await api.get(f"{HUBS}/h1"), 404, "not-found")
    assert (await api.get(f"{HUBS}/h1?retired=true")).json() == retired.json()
    assert (await api.get(HUBS)).json()["data"] == []
    assert (await api.get(f"{HUBS}?retired=true")).json()["data"] == [retired.json()]
    for method, rest in (("DELETE", {}), ("PATCH", {"json": {"fields": {"size": 1}}})):
        problem(await _send(api, method, f"{HUBS}/h1", **rest), 404, "not-found", pointer="/id")
    back = await api.post(HUBS, {"id": "h1", "fields": {"name": "North again"}})
    assert back.status_code == 201
    assert back.json()["fields"] == {"name": "North again"}


async def test_pages_follow_one_another_by_id(api: Api) -> None:
    entries = [{"id": f"h{number}"} for number in range(5)]
    assert (await api.post(HUBS, {"entries": entries})).json()["registered"] == 5
    await api.post("/v1/directory/route", {"id": "r1"})
    await _send(api, "DELETE", f"{HUBS}/h2")
    for retired, expected in (("false", ["h0", "h1", "h3", "h4"]), ("true", ["h0", "h1", "h2", "h3", "h4"])):
        seen, path = [], f"{HUBS}?limit=2&retired={retired}&min_position=1"
        while path is not None:
            page = (await api.get(path)).json()
            assert len(page["data"]) <= 2
            seen += [entry["id"] for entry in page["data"]]
            path = page["next"]
        assert seen == expected


async def test_a_list_registers_each_entry_by_itself(api: Api) -> None:
    await api.post(HUBS, NORTH)
    entries = [
        {"id": "h2", "fields": {"name": "South"}},
        NORTH,
        {"id": "h1", "fields": {"name": "Other"}},
        {"id": "h3", "fields": {"name": 7}},
        {"id": "h3"},
        [],
        {"id": "no id"},
        {"id": 7},
        {"kind": "route"},
        {"fields": {"name": "West"}},
    ]
    response = await api.post(HUBS, {"entries": entries})
    assert response.status_code == 200
    found = response.json()
    assert {name: found[name] for name in REGISTERED} == {
        "registered": 2,
        "unchanged": 1,
        "refused": 7,
        "undecided": 0,
    }
    shown = [
        (item["status"], item.get("error", {}).get("code"), item.get("error", {}).get("pointer"))
        for item in found["entries"]
    ]
    assert shown == [
        ("registered", None, None),
        ("unchanged", None, None),
        ("refused", "invalid", "/entries/2/id"),
        ("refused", "invalid", "/entries/3/fields/name"),
        ("refused", "invalid", "/entries/4/id"),
        ("refused", "wrong-shape", "/entries/5"),
        ("refused", "invalid", "/entries/6/id"),
        ("refused", "wrong-shape", "/entries/7/id"),
        ("refused", "unknown-field", "/entries/8/kind"),
        ("registered", None, None),
    ]
    listed = (await api.get(f"{HUBS}?min_position={found['position']}")).json()["data"]
    assert {entry["id"] for entry in listed} == {"h1", "h2", found["entries"][9]["id"]}


async def test_a_list_under_one_key_takes_effect_once(api: Api) -> None:
    body = {"entries": [{"fields": {"name": "North"}}, {"fields": {"name": "South"}}]}
    first, again = [(await api.post(HUBS, body, headers={"Idempotency-Key": "k1"})).json() for _ in range(2)]
    assert [entry["id"] for entry in first["entries"]] == [entry["id"] for entry in again["entries"]]
    assert _events(api) == ["directory.entry-registered"] * 2


async def test_only_tenant_admins_and_the_system_write_hubs(api: Api) -> None:
    await api.post("/v1/directory/member", {"id": "bob", "fields": {"projects": {"p1": {"is_manager": True}}}})
    await api.post("/v1/directory/member", {"id": "eve", "fields": {"tenant_admin": True}})
    somebody = api.key("acme", "ann")
    problem(await api.post(HUBS, NORTH, api.key("acme", "bob")), 403, "forbidden")
    assert (await api.post(HUBS, NORTH, api.key("acme", "eve"))).status_code == 201
    problem(await api.post(HUBS, {"id": "h2"}, somebody), 403, "forbidden")
    for method, rest in (("PATCH", {"json": {"fields": {"size": 1}}}), ("DELETE", {})):
        problem(await _send(api, method, f"{HUBS}/h1", somebody, **rest), 403, "forbidden")
    found = (await api.post(HUBS, {"entries": [{"id": "h2"}]}, somebody)).json()
    assert found["entries"][0]["error"]["code"] == "forbidden"


async def test_an_unknown_kind_is_not_there(api: Api) -> None:
    for method, path, body in (
        ("POST", "", {}),
        ("GET", "", None),
        ("PATCH", "/h1", {"fields": {}}),
        ("DELETE", "/h1", None),
    ):
        for kind in ("workflow", "Hub", "%00"):
            problem(await _send(api, method, f"/v1/directory/{kind}{path}", json=body), 404, "not-found")
    assert api.sender.sent == []


async def test_a_list_as_long_as_may_be_is_registered(api: Api) -> None:
    entries = [{"id": f"h{number}"} for number in range(MAX_ENTRIES)]
    assert (await api.post(HUBS, {"entries": entries})).json()["registered"] == MAX_ENTRIES
    problem(await api.post(HUBS, {"entries": [*entries, {}]}), 422, "wrong-shape", pointer="/entries")


@pytest.mark.parametrize(("method", "path"), WRITES)
@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        (b'{"fields":[]}', 422, "wrong-shape", "/fields"),
        (b'{"fields":null}', 422, "wrong-shape", "/fields"),
        (b'{"fields":{},"kind":"route"}', 422, "unknown-field", "/kind"),
        (b'{"fields":{},"a/b":1}', 422, "unknown-field", "/a~1b"),
    ],
)
async def test_what_is_no_entry_is_refused_before_it_is_sent(
    api: Api, method: str, path: str, body: bytes, status: int, code: str, pointer: str | None
) -> None:
    response = await _send(api, method, path, content=body, headers={"Content-Type": "application/json"})
    problem(response, status, code, pointer=pointer)
    assert api.sender.sent == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"id": 7}, "/id"),
        ({"id": []}, "/id"),
        ({"entries": {}}, "/entries"),
        ({"entries": []}, "/entries"),
        ({"entries": None}, "/entries"),
    ],
)
async def test_a_registration_of_the_wrong_shape_is_refused(api: Api, body: Any, pointer: str) -> None:
    problem(await api.post(HUBS, body), 422, "wrong-shape", pointer=pointer)


async def test_a_registration_that_means_two_things_is_refused(api: Api) -> None:
    problem(await api.post(HUBS, {"entries": [{}], "id": "h1"}), 422, "unknown-field", pointer="/id")


async def test_a_change_without_fields_is_refused(api: Api) -> None:
    problem(await _send(api, "PATCH", f"{HUBS}/h1", json={}), 422, "wrong-shape", pointer="/fields")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("limit=0", "bad-limit"),
        ("limit=501", "bad-limit"),
        ("limit=1&limit=2", "bad-filter"),
        ("cursor=", "bad-cursor"),
        ("cursor=a%00", "bad-cursor"),
        ("retired=1", "bad-filter"),
        ("min_position=-1", "bad-position"),
        ("min_position=99", "position-beyond-head"),
    ],
)
async def test_a_question_that_cannot_be_asked_is_refused(api: Api, query: str, code: str) -> None:
    problem(await api.get(f"{HUBS}?{query}"), 400, code)


async def test_a_failed_task_of_a_retired_member_is_opened_again_for_the_others(api: Api) -> None:
    for name in ("ann", "bob"):
        api.command("directory.register", {"kind": "member", "id": name})
    for task_id, who in (("t1", ["ann"]), ("t2", ["ann", "bob"])):
        api.command("task.create", {"id": task_id, "assignees": who})
        api.command("task.error", {"id": task_id})
    await _send(api, "DELETE", "/v1/directory/member/ann")
    for task_id, rest in (("t1", []), ("t2", ["bob"])):
        api.command("task.retry", {"id": task_id})
        shown = (await api.get(f"/v1/tasks/{task_id}")).json()
        assert (shown["status"], shown["assignees"]) == ("open", rest)
    assert (await api.get("/v1/tasks?assignee=ann")).json()["data"] == []
