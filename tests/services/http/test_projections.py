"""Read models over HTTP: how far they are, what they hold back of the tenant, rebuilds that are asked for, retries."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

import projections
from projections.task import table as tasks
from services.keys import PERMISSIONS
from services.processors.rebuilder import Rebuilder
from services.store import standing
from tests.eventually import PATIENCE, eventually_async
from tests.services.harness import rows
from tests.services.http.api import Api, problem

ALL, ONE = "/v1/projections", "/v1/projections/tasks"
TABLES = projections.follower_name(tasks, projections.suffix(tasks))


def operator(api: Api, tenant: str = "acme", actor: str = "system") -> str:
    name = f"operator {tenant} {actor}"
    return api.tokens.setdefault(name, api.key(tenant, actor, "read", "operate"))


def hold(api: Api, *entities: str, follower: str = TABLES) -> None:
    """Hold entities back, one hour until they are tried again."""
    with psycopg.connect(api.url) as conn:
        for position, entity in enumerate(entities, 1):
            conn.execute(
                "INSERT INTO held_entities (follower, entity, position, error, retry_at)"
                " VALUES (%s, %s, %s, %s, now() + interval '1 hour')",
                (follower, entity, position, f"ValueError: of {entity}"),
            )
            conn.execute(
                "INSERT INTO held_events (follower, entity, position) SELECT %s, %s, generate_series(1, 3)",
                (follower, entity),
            )


async def found(api: Api, name: str = "tasks", token: str | None = None) -> dict[str, Any]:
    response = await api.get(f"{ALL}/{name}", token)
    assert response.status_code == 200, response.text
    shown: dict[str, Any] = response.json()
    return shown


async def test_every_read_model_and_follower_is_listed_with_its_lag(api: Api) -> None:
    api.command("task.create", {"id": "t1"})
    api.sender.late = {"tasks"}
    position = api.command("task.create", {"id": "t2"}).position
    listed = {each["name"]: each for each in (await api.get(ALL)).json()["data"]}
    assert {name for name, each in listed.items() if each["kind"] == "read-model"} == set(projections.BY_NAME)
    assert listed["webhooks"]["kind"] == "follower"
    late, other = listed["tasks"], listed["history"]
    assert (late["head"], late["lag"]) == (position, 1)
    assert late["lag_seconds"] > 0
    assert (other["position"], other["lag"], other["lag_seconds"]) == (position, 0, 0)
    assert late == {**late, "halted_at": None, "error": None, "held_back": [], "build": None, "rebuild": None}
    again = await found(api)
    assert again | {"lag_seconds": 0} == late | {"lag_seconds": 0}


async def test_a_halt_says_the_kind_of_error_alone(api: Api) -> None:
    with psycopg.connect(api.url) as conn:
        conn.execute(
            "UPDATE followers SET halted_at = 7, error = 'ValueError: of acme/task-1' WHERE name = %s", (TABLES,)
        )
    shown = await found(api)
    assert (shown["halted_at"], shown["error"]) == (7, "ValueError")


async def test_what_is_held_back_is_the_tenants_own(api: Api) -> None:
    hold(api, "acme/task-t1", "other/task-secret", "acme-2/task-secret")
    (held,) = (await found(api))["held_back"]
    assert (held["entity"], held["error"]) == ("task-t1", "ValueError: of acme/task-t1")
    assert (held["position"], held["attempts"], held["waiting"]) == (1, 1, 3)
    listed = await api.get(ALL)
    assert "secret" not in listed.text
    other = await found(api, token=api.key("other", "system", "read"))
    assert [each["entity"] for each in other["held_back"]] == ["task-secret"]


async def test_only_what_is_the_tenants_own_is_tried_again_and_that_is_recorded(api: Api) -> None:
    hold(api, "acme/task-t1", "acme/*", "other/task-t1", "acme-2/task-t1")
    hold(api, "acme/task-t1", follower="webhooks")
    answer = await api.client.post(f"{ONE}/retry", headers=api.by(operator(api)))
    assert (answer.status_code, answer.json()) == (200, {"name": "tasks", "entities": 2})
    due = rows(api.url, "SELECT follower, entity FROM held_entities WHERE retry_at <= now() ORDER BY entity")
    assert due == [(TABLES, "acme/*"), (TABLES, "acme/task-t1")]
    (act,) = (await api.get("/v1/audit", api.key("acme", "system", "audit"))).json()["data"]
    assert (act["act"], act["target"], act["details"]) == ("held-back.retry", f"follower/{TABLES}", {"entities": 2})
    assert act["key_id"] is not None
    nothing = await api.client.post(f"{ALL}/directory/retry", headers=api.by(operator(api)))
    assert (nothing.status_code, nothing.json()["entities"]) == (200, 0)


@pytest.mark.parametrize("name", ["nothing", "tasks_v6", "%00", "x" * 300, "tasks%20"])
async def test_a_name_that_nothing_has_is_refused(api: Api, name: str) -> None:
    by = api.by(operator(api))
    for method, path in (("GET", ""), ("POST", "/retry"), ("POST", "/rebuild")):
        problem(await api.client.request(method, f"{ALL}/{name}{path}", headers=by), 404, "not-found")


async def test_what_is_no_read_model_is_not_rebuilt(api: Api) -> None:
    problem(await api.client.post(f"{ALL}/webhooks/rebuild", headers=api.by(operator(api))), 404, "not-found")


async def test_only_an_operators_key_of_the_system_rebuilds(api: Api) -> None:
    member = await api.client.post(f"{ONE}/rebuild", headers=api.by(operator(api, actor="ann")))
    problem(member, 403, "forbidden")
    assert "system" in member.json()["detail"]
    others = api.key("acme", "system", *[name for name in PERMISSIONS if name != "operate"])
    for path in ("rebuild", "retry"):
        problem(await api.client.post(f"{ONE}/{path}", headers=api.by(others)), 403, "forbidden")
    assert rows(api.url, "SELECT * FROM rebuilds") == []


@pytest.mark.parametrize("query", ["diff=yes", "diff=", "diff=true&diff=true", "switch=true", "dry_run=true"])
async def test_a_wrong_question_begins_nothing(api: Api, query: str) -> None:
    refused = await api.client.post(f"{ONE}/rebuild?{query}", headers=api.by(operator(api)))
    assert refused.status_code == 400
    dry = await api.client.post(f"{ONE}/rebuild", headers={**api.by(operator(api)), "Prefer": "dry-run"})
    assert dry.status_code == 400
    assert rows(api.url, "SELECT * FROM rebuilds") == []


async def test_a_rebuild_is_asked_for_once_and_its_end_is_shown(api: Api) -> None:
    api.command("task.create", {"id": "t1"})
    by = api.by(operator(api))
    asked = await api.client.post(f"{ONE}/rebuild?diff=true", headers=by)
    assert asked.status_code == 202
    assert asked.headers["location"] == ONE
    rebuild = asked.json()["rebuild"]
    assert rebuild == {**rebuild, "state": "waiting", "diff": True, "actor": "system", "result": None, "ended_at": None}
    problem(await api.client.post(f"{ONE}/rebuild", headers=by), 409, "not-ready")
    worker = Rebuilder()
    thread = threading.Thread(target=worker.run, args=(api.url,), daemon=True)
    thread.start()

    async def ended() -> bool:
        return (await found(api))["rebuild"]["ended_at"] is not None

    await eventually_async(ended)
    worker.stop()
    thread.join(PATIENCE)
    shown = (await found(api))["rebuild"]
    assert (shown["state"], shown["error"], shown["progress"]) == ("done", None, None)
    assert shown["result"]["switched"] is True
    assert shown["result"]["tables"]["tasks"] == {"same": 1, "missing": 0, "extra": 0, "different": 0, "columns": {}}
    assert shown["result"]["examples"] == []
    assert (await api.get("/v1/tasks/t1")).status_code == 200


async def test_a_rebuild_of_the_command_line_is_not_met_by_another(api: Api) -> None:
    with psycopg.connect(api.url, autocommit=True) as conn:
        assert standing.begin_rebuild(conn, "tasks")
        refused = await api.client.post(f"{ONE}/rebuild", headers=api.by(operator(api)))
        problem(refused, 409, "not-ready")
        suffix = projections.begin_build(conn, tasks)
    build = (await found(api))["build"]
    assert build["position"] == 0
    assert suffix not in (await api.get(ALL)).text


async def test_examples_of_another_tenants_rows_are_not_shown(api: Api) -> None:
    with psycopg.connect(api.url) as conn:
        conn.execute(
            "INSERT INTO rebuilds (name, tenant, actor, diff, state, ended_at, result, examples) VALUES"
            """ ('tasks', 'other', 'system', true, 'done', now(), '{"switched": false, "held_back": 0, "position": 1,"""
            """ "tables": {}}', '[{"table": "tasks", "key": {"id": "secret"}, "kind": "extra", "columns": {}}]')"""
        )
    own, other = await found(api), await found(api, token=api.key("other", "system", "read"))
    assert (own["rebuild"]["result"]["examples"], own["rebuild"]["result"]["position"]) == ([], 1)
    assert other["rebuild"]["result"]["examples"][0]["key"] == {"id": "secret"}
