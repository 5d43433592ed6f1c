"""Dry runs over HTTP: every write of every dialect, what it would record or why it would not, and nothing recorded."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import psycopg
import pytest

from services import keys
from services.store import codec
from tests.services.http.api import Api, problem
from tests.services.http.contract import CASES, EXAMPLES, Case, documented, name_of, send
from tests.services.http.contract_scene import set_the_scene

set_scene = set_the_scene
DRY = {"Prefer": "dry-run"}
MEDIA = "application/vnd.foldwork.dry-run+json"
WRITES = [
    case for case in EXAMPLES if case.operation.writes and case.operation.tries and "entries" not in (case.body or ())
]
CREATE: dict[str, Any] = {"type": "task.create", "id": "c-1", "data": {"id": "new", "title": "Water"}}
# What is made up, and what every answer has of its own.
MADE_UP = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|\b1\d{3}\b")


def plain(value: Any) -> Any:
    return json.loads(MADE_UP.sub("0", json.dumps(value)))


def everything(api: Api) -> dict[str, Any]:
    """Return the contents of every table."""
    tables = "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    with psycopg.connect(api.url) as conn:
        return {
            table: conn.execute(f"SELECT md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM {table} t").fetchone()
            for (table,) in conn.execute(tables).fetchall()
        }


def recorded_since(api: Api, position: int) -> list[Any]:
    """Return the events behind a position as a dry run says them."""
    asked = (
        "SELECT topic, originator_id, originator_version, state FROM stored_events"
        " WHERE notification_id > %s ORDER BY notification_id"
    )
    with psycopg.connect(api.url) as conn:
        return [
            {"type": name, "stream": stream.partition("/")[2], "version": version,
             "data": json.loads(bytes(codec.raw(bytes(state), name).data))}
            for name, stream, version, state in conn.execute(asked, (position,)).fetchall()
        ]  # fmt: skip


def head(api: Api) -> int:
    with psycopg.connect(api.url) as conn:
        row = conn.execute("SELECT max(notification_id) FROM stored_events").fetchone()
    assert row is not None
    return int(row[0])


def tried(response: httpx.Response) -> dict[str, Any]:
    """Expect the answer to a dry run that would be accepted."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == MEDIA
    assert response.headers["preference-applied"] == "dry-run"
    assert "location" not in response.headers
    assert "foldwork-position" not in response.headers
    body: dict[str, Any] = response.json()
    assert (body["outcome"], body["dry_run"], body["error"]) == ("accepted", True, None)
    return body


@pytest.mark.parametrize("case", WRITES, ids=name_of)
async def test_a_write_would_record_what_it_then_records(api: Api, case: Case) -> None:
    api.by()
    before, position = everything(api), head(api)
    dry = await send(api, case, headers=DRY)
    body = tried(dry)
    documented(case, dry)
    assert everything(api) == before
    real = await send(api, case)
    assert real.status_code == case.operation.status or real.status_code in case.operation.also
    assert "preference-applied" not in real.headers
    assert plain(body["would_record"]) == plain(recorded_since(api, position))


@pytest.mark.parametrize("case", WRITES, ids=name_of)
async def test_a_write_that_is_refused_is_refused_alike(api: Api, case: Case) -> None:
    token = api.key("acme", "nobody", *(set(keys.PERMISSIONS) - {"impersonate"}))
    path = case.at(
        **{"id": "north:nobody" if "members" in case.operation.path else "nobody"} if "id" in case.parts else {}
    )
    api.by()
    before = everything(api)
    dry = await send(api, case, path, headers={**DRY, **api.by(token)})
    assert everything(api) == before
    real = await send(api, case, path, headers=api.by(token))
    assert dry.headers["preference-applied"] == "dry-run"
    if real.status_code < 300:
        tried(dry)
    else:
        same = ("detail", "title", "code", "message", "failedCode", "error", "errors", "pointer", "parameter")
        assert (dry.status_code, dry.headers["content-type"]) == (real.status_code, real.headers["content-type"])
        assert [dry.json().get(name) for name in same] == [real.json().get(name) for name in same]


@pytest.mark.parametrize("value", ["return=minimal", 'a="dry-run"', "respond-async, wait=10", "", "x-dry-run-x"])
async def test_other_preferences_are_left_alone(api: Api, value: str) -> None:
    answered = await api.post("/v1/commands", CREATE, headers={"Prefer": value})
    assert answered.json()["events"]
    assert "preference-applied" not in answered.headers


async def test_without_a_dry_run_it_is_done(api: Api) -> None:
    answered = await api.post("/v1/commands?dry_run=false", CREATE)
    assert answered.json()["events"]
    assert "dry_run" not in answered.json()


async def test_what_was_sent_before_is_answered_as_it_was(api: Api) -> None:
    first = (await api.post("/v1/commands", CREATE, headers={"Idempotency-Key": "k"})).json()
    again = tried(await api.post("/v1/commands", CREATE, headers=DRY))
    assert again == {**first, "duplicate": True, "dry_run": True, "would_record": []}
    other = {**CREATE, "data": {"id": "other"}}
    problem(await api.post("/v1/commands", other, headers=DRY), 409, "command-id-conflict")
    del other["id"]
    keyed = {**DRY, "Idempotency-Key": "k"}
    problem(await api.post("/v1/commands", other, headers=keyed), 409, "idempotency-conflict")
    unused = {**DRY, "Idempotency-Key": "unused"}
    tried(await api.post("/v1/commands", other, headers=unused))
    assert (await api.post("/v1/commands", {**CREATE, "id": "c-2", "data": {"id": "third"}}, headers=unused)).is_success
    done = await api.post("/v1/commands", other, headers={"Idempotency-Key": "unused"})
    assert done.json()["duplicate"] is False


async def test_a_tag_is_compared(api: Api) -> None:
    found = await api.get("/api/v3/task/t1")
    path, tags = "/api/v3/task/t1", {"If-Match": found.headers["etag"]}
    change = {"title": "Other"}
    tried(await api.client.patch(path, json=change, headers={**api.by(), **DRY, **tags}))
    assert (await api.client.patch(path, json=change, headers={**api.by(), **tags})).status_code == 200
    stale = await api.client.patch(path, json=change, headers={**api.by(), **DRY, **tags})
    assert stale.status_code == 412
    assert stale.headers["preference-applied"] == "dry-run"


@pytest.mark.parametrize("name", ["dispatch_create_task", "dispatch_create_activity"])
async def test_a_key_in_the_body_that_was_used_is_told_as_it_is_then(api: Api, name: str) -> None:
    (case,) = [case for case in CASES if case.name == name]
    tried(await send(api, case, headers=DRY))
    assert (await send(api, case)).status_code == 201
    again, dry = await send(api, case), await send(api, case, headers=DRY)
    assert (dry.status_code, dry.json()) == (409, again.json())
    assert dry.headers["preference-applied"] == "dry-run"
