"""Webhooks over HTTP: what is created, changed, shown and refused, for whom, and what is recorded of it."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from services.encryption import Keyring
from services.webhooks import MAX_WEBHOOKS, key_of, place_of
from tests.services.harness import rows
from tests.services.http.api import KEY, Api, problem, with_workflow

ALL = "/v1/webhooks"
URL = "https://example.com/hooks"
SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def token(api: Api, tenant: str = "acme") -> str:
    """Return a token that may do everything with webhooks, and nothing else."""
    return api.tokens.setdefault(f"hooks {tenant}", api.key(tenant, "system", "webhooks"))


async def made(api: Api, tenant: str = "acme", **body: Any) -> dict[str, Any]:
    """Create a webhook, and return the answer."""
    response = await api.post(ALL, {"url": URL, **body}, token(api, tenant))
    assert response.status_code == 201, response.text
    return dict(response.json())


async def test_a_webhook_is_created_shown_and_its_secret_shown_once(api: Api) -> None:
    with_workflow(api)
    api.command("directory.register", {"kind": "member", "id": "ann", "fields": {"email": "ann@example.com"}})
    wanted = {"activities": ["a1"], "members": ["ann@example.com"]}
    created = await made(api, id="h1", types=["task.created"], filter=wanted)
    assert len(key_of(created.pop("secret"))) == 32
    assert created["filter"] == {"activities": ["a1"], "tasks": None, "members": ["ann"]}
    assert created["state"] == "active"
    assert created["created_by"] == "system"
    shown = await api.get(f"{ALL}/h1", token(api))
    assert shown.json() == created
    assert (await api.get(ALL, token(api))).json() == {"data": [created], "next": None}
    (stored,) = rows(api.url, "SELECT secret FROM webhooks")
    assert "whsec_" not in stored[0]


async def test_a_secret_of_ones_own_is_kept_encrypted(api: Api) -> None:
    assert (await made(api, id="h1", secret=SECRET))["secret"] == SECRET
    (stored,) = rows(api.url, "SELECT secret FROM webhooks")
    keys = Keyring([SecretStr(KEY)])
    assert keys.decrypt(place_of("acme", "h1"), stored[0]) == SECRET


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"url": "ftp://example.com"}, "/url"),
        ({"url": "https://"}, "/url"),
        ({"url": "https://user:word@example.com"}, "/url"),
        ({"url": "https://example.com/\n"}, "/url"),
        ({"url": "https://example.com:99999/"}, "/url"),
        ({"url": f"https://example.com/{'x' * 2000}"}, "/url"),
        ({"url": URL, "types": ["nonsense"]}, "/types"),
        ({"url": URL, "types": [""]}, "/types"),
        ({"url": URL, "filter": {"activities": ["no id"]}}, "/filter/activities"),
        ({"url": URL, "filter": {"tasks": ["\ud800"]}}, "/filter/tasks"),
        ({"url": URL, "filter": {"members": ["nobody@example.com"]}}, "/filter/members"),
        ({"url": URL, "secret": "whsec_short"}, "/secret"),
        ({"url": URL, "secret": SECRET.removeprefix("whsec_")}, "/secret"),
        ({"url": URL, "id": "no id"}, "/id"),
    ],
)
async def test_what_is_wrong_is_refused_with_its_place(api: Api, body: dict[str, Any], pointer: str) -> None:
    response = await api.client.post(
        ALL, content=json.dumps(body), headers={**api.by(token(api)), "Content-Type": "application/json"}
    )
    assert response.status_code in (400, 422), response.text
    assert response.json().get("pointer", "").startswith(pointer)
    assert rows(api.url, "SELECT count(*) FROM webhooks") == [(0,)]
    assert SECRET.removeprefix("whsec_") not in response.text


async def test_a_position_beyond_the_log_is_refused(api: Api) -> None:
    response = await api.post(ALL, {"url": URL, "from_position": 1}, token(api))
    problem(response, 400, "position-beyond-head", pointer="/from_position")
    await made(api, id="h1")
    response = await api.post(f"{ALL}/h1/replay", {"from_position": 1000}, token(api))
    problem(response, 400, "position-beyond-head", pointer="/from_position")


async def test_there_is_one_of_an_id_and_so_many_of_a_tenant(api: Api) -> None:
    await made(api, id="h1")
    problem(await api.post(ALL, {"url": URL, "id": "h1"}, token(api)), 409, "taken", pointer="/id")
    await made(api, "other", id="h1")
    with psycopg.connect(api.url) as conn:
        conn.execute(
            "INSERT INTO webhooks (tenant, id, url, secret, created_by)"
            " SELECT 'acme', 'x' || n, 'u', '', 'system' FROM generate_series(2, %s) AS n",
            (MAX_WEBHOOKS,),
        )
    problem(await api.post(ALL, {"url": URL}, token(api)), 409, "limit-reached")
    pages, path = [], f"{ALL}?limit=30"
    while path:
        page = (await api.get(path, token(api))).json()
        pages.append([each["id"] for each in page["data"]])
        path = page["next"]
    assert [len(page) for page in pages] == [30, 30, 30, 10]
    assert len({each for page in pages for each in page}) == MAX_WEBHOOKS
    problem(await api.get(f"{ALL}?cursor=%20", token(api)), 400, "bad-cursor")


async def test_a_change_leaves_what_it_does_not_name(api: Api) -> None:
    await made(api, id="h1", types=["task.created"], filter={"activities": ["a1"]})

    async def changed(**body: Any) -> dict[str, Any]:
        response = await api.client.patch(f"{ALL}/h1", json=body, headers=api.by(token(api)))
        assert response.status_code == 200, response.text
        return dict(response.json())

    assert (await changed(state="paused"))["state"] == "paused"
    shown = await changed(filter={"tasks": ["t1"]})
    assert (shown["types"], shown["state"]) == (["task.created"], "paused")
    assert shown["filter"] == {"activities": None, "tasks": ["t1"], "members": None}
    shown = await changed(types=None, url="https://example.org/")
    assert (shown["types"], shown["url"], shown["filter"]["tasks"]) == (None, "https://example.org/", ["t1"])
    assert (await changed(filter=None))["filter"]["tasks"] is None
    assert (await changed(state="active"))["state"] == "active"
    for wrong in ({"url": None}, {"state": None}, {"state": "disabled"}, {"secret": SECRET}):
        response = await api.client.patch(f"{ALL}/h1", json=wrong, headers=api.by(token(api)))
        assert response.status_code == 422, response.text


async def test_a_rotation_keeps_the_old_secret_for_a_while(api: Api) -> None:
    first = (await made(api, id="h1"))["secret"]
    rotated = (await api.post(f"{ALL}/h1/rotate-secret", {"overlap_seconds": 60}, token(api))).json()
    assert rotated["secret"] != first
    assert rotated["old_secret_until"] is not None
    assert (await api.get(f"{ALL}/h1", token(api))).json()["old_secret_until"] == rotated["old_secret_until"]
    at_once = (await api.post(f"{ALL}/h1/rotate-secret", {"overlap_seconds": 0}, token(api))).json()
    assert at_once["old_secret_until"] is None
    assert rows(api.url, "SELECT old_secret FROM webhooks") == [(None,)]


async def test_a_rotation_to_ones_own_secret_may_be_repeated(api: Api) -> None:
    first = (await made(api, id="h1"))["secret"]
    body = {"secret": SECRET, "overlap_seconds": 60}
    answers = [(await api.post(f"{ALL}/h1/rotate-secret", body, token(api))).json() for _ in range(2)]
    assert answers[0] == answers[1]
    (stored,) = rows(api.url, "SELECT secret, old_secret FROM webhooks")
    keys = Keyring([SecretStr(KEY)])
    assert [keys.decrypt(place_of("acme", "h1"), each) for each in stored] == [SECRET, first]


async def test_deliveries_are_paged_and_filtered(api: Api) -> None:
    await made(api, id="h1")
    with psycopg.connect(api.url) as conn:
        conn.execute(
            "INSERT INTO webhook_deliveries (tenant, webhook, position, entity, event_id, state, next_at, status)"
            " SELECT 'acme', 'h1', n, 'e', 'id' || n, CASE WHEN n %% 2 = 0 THEN 'parked' ELSE 'delivered' END,"
            " now(), 400 FROM generate_series(1, %s) AS n",
            (5,),
        )
    first = (await api.get(f"{ALL}/h1/deliveries?limit=3", token(api))).json()
    assert [each["position"] for each in first["data"]] == [5, 4, 3]
    second = (await api.get(first["next"], token(api))).json()
    assert ([each["position"] for each in second["data"]], second["next"]) == ([2, 1], None)
    parked = (await api.get(f"{ALL}/h1/deliveries?state=parked", token(api))).json()["data"]
    assert [(each["event_id"], each["next_at"]) for each in parked] == [("id4", None), ("id2", None)]
    again = await api.client.post(f"{ALL}/h1/deliveries/4/replay", headers=api.by(token(api)))
    assert (again.json()["state"], again.json()["attempts"]) == ("pending", 0)
    for path in (f"{ALL}/h1/deliveries/99/replay", f"{ALL}/h1/deliveries/x/replay", f"{ALL}/none/deliveries/4/replay"):
        problem(await api.client.post(path, headers=api.by(token(api))), 404, "not-found")


async def test_another_tenant_sees_and_changes_nothing(api: Api) -> None:
    await made(api, id="h1")
    theirs = token(api, "other")
    assert (await api.get(ALL, theirs)).json()["data"] == []
    for method, path, body in (
        ("GET", f"{ALL}/h1", None),
        ("PATCH", f"{ALL}/h1", {"state": "paused"}),
        ("DELETE", f"{ALL}/h1", None),
        ("POST", f"{ALL}/h1/rotate-secret", {}),
        ("POST", f"{ALL}/h1/replay", {"from_position": 0}),
        ("GET", f"{ALL}/h1/deliveries", None),
    ):
        problem(await api.client.request(method, path, json=body, headers=api.by(theirs)), 404, "not-found")
    assert (await api.get(f"{ALL}/h1", token(api))).json()["state"] == "active"
    outcomes = "SELECT convert_from(state, 'UTF8')::jsonb -> 'data' ->> 'outcome' FROM stored_events"
    assert {*rows(api.url, f"{outcomes} WHERE originator_id LIKE 'other/%%'")} == {("failed",)}


async def test_each_act_is_recorded_without_secrets(api: Api) -> None:
    secret = (await made(api, id="h1", url="https://example.com/in-the-path"))["secret"]
    await api.client.patch(f"{ALL}/h1", json={"state": "paused"}, headers=api.by(token(api)))
    other = (await api.post(f"{ALL}/h1/rotate-secret", {}, token(api))).json()["secret"]
    await api.post(f"{ALL}/h1/replay", {"from_position": 0}, token(api))
    assert (await api.client.delete(f"{ALL}/h1", headers=api.by(token(api)))).status_code == 204
    problem(await api.get(f"{ALL}/h1", token(api)), 404, "not-found")
    acts = (await api.get("/v1/audit", api.key("acme", "system", "audit"))).json()["data"]
    assert [each["act"] for each in reversed(acts)] == [
        f"webhook.{verb}" for verb in ("create", "change", "rotate-secret", "replay", "delete")
    ]
    assert {each["target"] for each in acts} == {"webhook/h1"}
    text = str(acts)
    assert "example.com" in text
    for hidden in (secret, other, "in-the-path"):
        assert hidden not in text


async def test_a_dry_run_is_refused_and_nothing_is_done(api: Api) -> None:
    response = await api.post(ALL, {"url": URL}, token(api), headers={"Prefer": "dry-run"})
    problem(response, 400, "bad-header", parameter="Prefer")
    assert rows(api.url, "SELECT count(*) FROM webhooks") == [(0,)]
