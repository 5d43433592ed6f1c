"""Keys over HTTP: nobody gets more by a key that he makes than he has, and each tenant has its own alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from services import keys
from services.keys import MAX_DAYS, PERMISSIONS, ROLES, TOKEN
from tests.services.harness import rows
from tests.services.http.api import Api, problem

ALL = "/v1/keys"


def token(api: Api, tenant: str = "acme", actor: str = "system", *permissions: str) -> str:
    """Return a token that may make keys, and has these permissions to give."""
    name = " ".join(("keys", tenant, actor, *permissions))
    return api.tokens.setdefault(name, api.key(tenant, actor, "keys", *permissions))


def count(api: Api) -> int:
    ((found,),) = rows(api.url, "SELECT count(*) FROM api_keys")
    return int(found)


def acts(api: Api) -> list[tuple[str, str]]:
    event = "convert_from(state, 'UTF8')::jsonb -> 'data'"
    asked = f"SELECT {event} ->> 'act', {event} ->> 'target' FROM stored_events WHERE topic = 'operation.recorded'"
    return [(act, target) for act, target in rows(api.url, f"{asked} ORDER BY notification_id")]


async def made(api: Api, body: Any, by: str) -> dict[str, Any]:
    response = await api.post(ALL, body, by)
    assert response.status_code == 201, response.text
    assert response.headers["cache-control"] == "no-store"
    found: dict[str, Any] = response.json()
    assert response.headers["location"] == f"{ALL}/{found['id']}"
    return found


async def test_a_key_is_made_shown_without_its_token_and_lets_in(api: Api) -> None:
    by = token(api, "acme", "system", "read")
    created = await made(api, {"name": "reporting", "permissions": ["read"], "days": 2}, by)
    own = created.pop("token")
    assert TOKEN.match(own)
    assert (created["actor"], created["permissions"], created["state"]) == ("system", ["read"], "active")
    assert created["current"] is False
    lives = datetime.fromisoformat(created["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=1, hours=23) < lives <= timedelta(days=2)
    assert (await api.get(f"{ALL}/{created['id']}", by)).json() == created
    listed = (await api.get(ALL, by)).json()["data"]
    assert listed[0] == created
    assert [key["current"] for key in listed] == [False, True]
    assert own not in (await api.get(ALL, by)).text
    assert (await api.get("/v1/tasks", own)).status_code == 200
    problem(await api.post("/v1/commands", {"type": "task.create", "data": {}}, own), 403, "forbidden")
    assert acts(api) == [("key.create", f"key/{created['id']}")]
    ((stored,),) = rows(api.url, "SELECT encode(digest, 'hex') FROM api_keys WHERE id = %s", created["id"])
    assert own not in stored


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"permissions": ["read", "write"]}, "/permissions"),
        ({}, "/permissions"),
        ({"permissions": ["audit"]}, "/permissions"),
        ({"permissions": ["CREATE_ACTIVITY"]}, "/permissions"),
        ({"permissions": ["impersonate"]}, "/permissions"),
        ({"roles": ["operator"]}, "/permissions"),
        ({"permissions": ["keys"], "roles": ["manager"]}, "/permissions"),
    ],
)
async def test_nobody_gives_more_than_he_has(api: Api, body: Any, pointer: str) -> None:
    by = token(api, "acme", "system", "read")
    before = count(api)
    problem(await api.post(ALL, body, by), 403, "forbidden", pointer=pointer)
    # That somebody tried is recorded.
    assert (count(api), acts(api)) == (before, [("key.create", "key/")])


async def test_what_a_permission_implies_may_be_given(api: Api) -> None:
    created = await made(api, {"roles": ["viewer"]}, token(api, "acme", "system", "read"))
    assert created["permissions"] == ["VIEW_ACTIVITIES"]
    # But not what implies it.
    viewer = token(api, "acme", "system", "VIEW_ACTIVITIES")
    problem(await api.post(ALL, {"permissions": ["read"]}, viewer), 403, "forbidden", pointer="/permissions")


async def test_a_members_key_makes_keys_for_that_member_alone(api: Api) -> None:
    by = token(api, "acme", "ann", "read", "write")
    for actor in ("system", "bob"):
        problem(await api.post(ALL, {"actor": actor}, by), 403, "forbidden", pointer="/actor")
    assert (await made(api, {}, by))["actor"] == "ann"
    assert (await made(api, {"actor": "ann"}, by))["actor"] == "ann"
    system = token(api, "acme", "system", "read", "write")
    assert (await made(api, {"actor": "bob"}, system))["actor"] == "bob"


async def test_a_key_does_not_outlast_the_one_that_made_it(api: Api) -> None:
    until = datetime.now(UTC) + timedelta(days=3)
    with psycopg.connect(api.url) as conn:
        _, by = keys.create(conn, "acme", "system", ["keys", "read"], expires_at=until)
    later = (until + timedelta(seconds=1)).isoformat()
    for body in ({"days": 4}, {"expires_at": later}):
        problem(await api.post(ALL, {"permissions": ["read"], **body}, by), 403, "forbidden", pointer="/expires_at")
    silent = await made(api, {"permissions": ["read"]}, by)
    assert datetime.fromisoformat(silent["expires_at"]) == until
    assert (await made(api, {"permissions": ["read"], "days": 2}, by))["expires_at"] < silent["expires_at"]


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ([], "wrong-shape", None),
        ({"tenant": "other"}, "unknown-field", "/tenant"),
        ({"token": "fw_x"}, "unknown-field", "/token"),
        ({"name": ""}, "wrong-shape", "/name"),
        ({"name": "x" * 201}, "wrong-shape", "/name"),
        ({"name": "a\0b"}, "nul", "/name"),
        ({"actor": "no id"}, "wrong-shape", "/actor"),
        ({"actor": "ann@example.com"}, "wrong-shape", "/actor"),
        ({"permissions": []}, "wrong-shape", "/permissions"),
        ({"permissions": "read"}, "wrong-shape", "/permissions"),
        ({"permissions": ["read", "root"]}, "invalid", "/permissions/1"),
        ({"permissions": [1]}, "wrong-shape", "/permissions/0"),
        ({"roles": ["king"]}, "invalid", "/roles/0"),
        ({"actor": "ann", "permissions": ["impersonate"]}, "invalid", "/permissions"),
        ({"days": 0}, "wrong-shape", "/days"),
        ({"days": MAX_DAYS + 1}, "wrong-shape", "/days"),
        ({"days": 1.5}, "wrong-shape", "/days"),
        ({"days": True}, "wrong-shape", "/days"),
        ({"expires_at": "tomorrow"}, "invalid", "/expires_at"),
        ({"expires_at": "2999-01-01T00:00:00"}, "invalid", "/expires_at"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "invalid", "/expires_at"),
        ({"days": 1, "expires_at": "2999-01-01T00:00:00Z"}, "invalid", "/expires_at"),
    ],
)
async def test_what_no_key_can_be_is_refused_with_its_place(
    api: Api, body: Any, code: str, pointer: str | None
) -> None:
    by = token(api, "acme", "system", *PERMISSIONS)
    before = count(api)
    problem(await api.post(ALL, body, by), 422, code, pointer=pointer)
    assert (count(api), acts(api)) == (before, [])


async def test_a_dry_run_makes_no_key(api: Api) -> None:
    by = token(api, "acme", "system", "read")
    before = count(api)
    refused = await api.post(ALL, {"permissions": ["read"]}, by, headers={"Prefer": "dry-run"})
    assert refused.status_code == 400
    assert count(api) == before


async def test_a_revoked_key_lets_nobody_in_and_is_revoked_once(api: Api) -> None:
    by = token(api, "acme", "system", "read")
    created = await made(api, {"permissions": ["read"]}, by)
    assert (await api.get("/v1/tasks", created["token"])).status_code == 200
    path = f"{ALL}/{created['id']}"
    revoked = await api.client.delete(path, headers=api.by(by))
    assert (revoked.status_code, revoked.json()["state"], revoked.json()["current"]) == (200, "revoked", False)
    problem(await api.get("/v1/tasks", created["token"]), 401, "unauthorized")
    again = await api.client.delete(path, headers=api.by(by))
    assert (again.status_code, again.json()) == (200, revoked.json())
    assert acts(api) == [("key.create", f"key/{created['id']}"), ("key.revoke", f"key/{created['id']}")]
    listed = [(await api.get(f"{ALL}?state={state}", by)).json()["data"] for state in ("active", "expired", "revoked")]
    assert [[key["id"] == created["id"] for key in part] for part in listed] == [[False], [], [True]]


async def test_a_key_may_revoke_itself_and_is_told_so(api: Api) -> None:
    created = await made(api, {"permissions": ["keys"]}, token(api, "acme", "system"))
    by = created["token"]
    answer = await api.client.delete(f"{ALL}/{created['id']}", headers=api.by(by))
    assert (answer.status_code, answer.json()["current"], answer.json()["state"]) == (200, True, "revoked")
    problem(await api.get(ALL, by), 401, "unauthorized")


async def test_a_key_that_another_process_revoked_makes_none(api: Api) -> None:
    with psycopg.connect(api.url) as conn:
        info, by = keys.create(conn, "acme", "system", ["keys", "read"])
    assert (await api.get(ALL, by)).status_code == 200
    with psycopg.connect(api.url) as conn:
        assert keys.revoke(conn, info.id)
    # This process believes in the key for some seconds still.
    before = count(api)
    problem(await api.post(ALL, {"permissions": ["read"]}, by), 403, "forbidden")
    assert (count(api), acts(api)) == (before, [("key.create", "key/")])


async def test_the_keys_of_another_tenant_do_not_exist(api: Api) -> None:
    own, other = token(api, "acme", "system", "read"), token(api, "other", "system", "read")
    created = await made(api, {"permissions": ["read"]}, own)
    for method in ("GET", "DELETE"):
        problem(await api.client.request(method, f"{ALL}/{created['id']}", headers=api.by(other)), 404, "not-found")
    assert created["id"] not in (await api.get(ALL, other)).text
    assert (await api.get(f"{ALL}?cursor={created['id']}", other)).json() == {"data": [], "next": None}
    assert (await api.get("/v1/tasks", created["token"])).status_code == 200


async def test_pages_meet_without_a_gap(api: Api) -> None:
    by = token(api, "acme", "system", "read")
    with psycopg.connect(api.url) as conn:
        for _ in range(5):
            keys.create(conn, "acme", "system", ["read"])
        conn.execute("UPDATE api_keys SET created_at = now() WHERE permissions = '{read}'")
    found, path = [], f"{ALL}?limit=2"
    while path:
        page = (await api.get(path, by)).json()
        assert len(page["data"]) <= 2
        found += [key["id"] for key in page["data"]]
        path = page["next"]
    assert found == [key for (key,) in rows(api.url, "SELECT id FROM api_keys ORDER BY created_at DESC, id DESC")]
    for cursor in ("", "x", "0" * 15, "%00", "G" * 16):
        problem(await api.get(f"{ALL}?cursor={cursor}", by), 400, "bad-cursor", parameter="cursor")
    problem(await api.get(f"{ALL}?state=lost", by), 400, "bad-filter", parameter="state")


async def test_no_other_permission_implies_it(api: Api) -> None:
    by = api.key("acme", "system", *[name for name in PERMISSIONS if name != "keys"])
    for method, path in (("GET", ALL), ("POST", ALL), ("DELETE", f"{ALL}/0123456789abcdef")):
        refused = await api.client.request(method, path, headers=api.by(by), json={} if method == "POST" else None)
        problem(refused, 403, "forbidden")
    assert [role for role, its in ROLES.items() if "keys" in its] == ["administrator"]
