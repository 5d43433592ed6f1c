"""Native queries: one, many, history, explanation, positions, and what a caller may do with each."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.services.http.api import Api, problem, with_activity, with_workflow

set_scene = with_workflow


async def test_one_activity_and_one_task(api: Api) -> None:
    with_activity(api)
    activity = (await api.get("/v1/activities/a1")).json()
    assert (activity["id"], activity["status"], activity["rule"]) == ("a1", "active", "U8")
    assert activity["allowed_actions"] == ["activity.change", "activity.cancel"]
    task = (await api.get("/v1/tasks/a1-t2")).json()
    assert (task["id"], task["status"], task["activity_id"]) == ("a1-t2", "open", "a1")
    assert task["allowed_actions"] == ["task.assign", "task.claim", "task.process", "task.save", "task.change",
                                       "task.error", "task.cancel", "task.submit-result"]  # fmt: skip


async def test_a_task_with_a_channel_can_be_sent_out_once_its_targets_are_found(api: Api) -> None:
    api.command("directory.register", {"kind": "commerce", "id": "c1", "fields": {"users": []}})
    plan = {"channel": "SMS", "reason": "visit"}
    api.command("task.create", {"id": "open", "commerce": "c1", "plan": plan})
    criteria = [{"type": "ROLE_MATCH", "role": "buyer"}]
    api.command("task.create", {"id": "lost", "commerce": "c1", "plan": {**plan, "criteria": criteria}})
    sent = (await api.get("/v1/tasks/open")).json()
    assert sent["plan"]["channel"] == "SMS"
    assert "task.dispatch" in sent["allowed_actions"]
    assert {"task.retry-resolution", "task.resolve-target"}.isdisjoint(sent["allowed_actions"])
    lost = (await api.get("/v1/tasks/lost")).json()
    assert (lost["resolution"], lost["wake"]) == ("FAILED", "resolution")
    assert {"task.retry-resolution", "task.resolve-target"} <= set(lost["allowed_actions"])
    assert {"task.dispatch", "task.process"}.isdisjoint(lost["allowed_actions"])
    found = (await api.get("/v1/tasks?channel=SMS&sort=scheduled_at")).json()["data"]
    assert [task["id"] for task in found] == ["lost", "open"]


async def test_actions_are_those_of_the_callers_kind(api: Api) -> None:
    api.command("directory.register", {"kind": "project", "id": "p", "fields": {}})
    project = {"p": {"is_manager": True}}
    api.command("directory.register", {"kind": "member", "id": "max", "fields": {"projects": project}})
    api.command("directory.register", {"kind": "member", "id": "ann", "fields": {"projects": {"p": {}}}})
    api.command("task.create", {"id": "t", "project": "p", "assignees": ["ann"]})

    async def actions(actor: str) -> list[str]:
        found: list[str] = (await api.get("/v1/tasks/t", api.key("acme", actor))).json()["allowed_actions"]
        return found

    assert "task.complete" in await actions("ann")
    assert "task.cancel" not in await actions("ann")
    assert "task.cancel" in await actions("max")
    assert "task.complete" not in await actions("max")
    assert await actions("eve") == []
    assert {"task.complete", "task.cancel"} <= set(await actions("system"))
    api.command("task.reassign", {"id": "t", "assignees": ["max"]})
    assert {"task.complete", "task.cancel"} <= set(await actions("max"))
    api.command("task.complete", {"id": "t"})
    assert await actions("system") == []


async def test_pages_follow_one_another_without_gap_or_repetition(api: Api) -> None:
    for number in range(5):
        with_activity(api, f"a{number}")
    for path, total in (("/v1/activities?limit=2", 5), ("/v1/tasks?limit=3&sort=title", 10)):
        seen: list[str] = []
        follow: str | None = path
        while follow is not None:
            body = (await api.get(follow)).json()
            assert set(body) == {"data", "next"}
            seen += [found["id"] for found in body["data"]]
            follow = body["next"]
        assert len(seen) == len(set(seen)) == total


@pytest.mark.parametrize("path", ["/v1/activities", "/v1/tasks"])
@pytest.mark.parametrize("sort", ["created_at", "-updated_at", "start", "-end", "title", "-title"])
async def test_a_cursor_that_was_given_out_goes_on_where_the_page_ended(api: Api, path: str, sort: str) -> None:
    times = ("0001-01-01T00:00:00Z", "2025-10-31T01:00:00.123456+07:00", "9999-12-31T23:59:59.999999Z", None)
    for number, end in enumerate(times):
        ends = {} if end is None else {"end": end, "start": end}
        tasks = [{"id": f"a{number}-t1", "title": f"\U0001f600{number}", **ends}, {"id": f"a{number}-t2"}]
        new = {"id": f"a{number}", "workflow_id": "w1", "tasks": tasks, "title": f"'\\{number}"}
        api.command("activity.create", new)
    whole = [one["id"] for one in (await api.get(f"{path}?sort={sort}")).json()["data"]]
    seen: list[str] = []
    follow = f"{path}?sort={sort}&limit=1"
    while follow is not None:
        page = (await api.get(follow)).json()
        seen += [one["id"] for one in page["data"]]
        follow = page["next"]
    assert seen == whole


async def test_filters(api: Api) -> None:
    for number in range(3):
        with_activity(api, f"a{number}")
    api.command("task.create", {"id": "alone"})

    async def ids(query: str) -> set[str]:
        return {found["id"] for found in (await api.get(f"/v1/tasks?{query}")).json()["data"]}

    assert await ids("activity_id=a1") == {"a1-t1", "a1-t2"}
    assert await ids("activity_id=a1&activity_id=a2") == {"a1-t1", "a1-t2", "a2-t1", "a2-t2"}
    assert await ids("activity_id=") == {"alone"}
    assert await ids("status=active") == set()
    assert await ids("search=PICK") == {"a0-t1", "a1-t1", "a2-t1"}
    assert len(await ids("created_at__gte=2025-10-31T01:50:00Z")) == 7
    assert await ids("created_at__gte=2025-10-31T01:50:01Z") == set()


@pytest.mark.parametrize(
    ("query", "code", "parameter"),
    [
        ("colour=red", "unknown-filter", "colour"),
        ("sort=colour", "bad-sort", "sort"),
        ("limit=0", "bad-limit", "limit"),
        ("limit=501", "bad-limit", "limit"),
        ("limit=1&limit=2", "bad-filter", "limit"),
        ("cursor=x", "bad-cursor", "cursor"),
        ("status=%00", "bad-filter", "status"),
        ("overdue=maybe", "bad-filter", "overdue"),
        ("created_at__gte=now", "bad-filter", "created_at__gte"),
        ("min_position=x", "bad-position", "min_position"),
        ("min_position=99999999999999999999", "bad-position", "min_position"),
        ("&".join(["status=a"] * 101), "bad-filter", None),
    ],
)
async def test_a_question_that_cannot_be_asked(api: Api, query: str, code: str, parameter: str | None) -> None:
    for path in ("/v1/tasks", "/v1/activities"):
        problem(await api.get(f"{path}?{query}"), 400, code, parameter=parameter)


async def test_history_and_explanation(api: Api) -> None:
    with_activity(api)
    api.command("task.complete", {"id": "a1-t1"})
    created = ["activity.created", "task.created", "task.assigned", "task.created", "activity.status-changed"]
    kinds = [*created, "task.started", "task.completed"]
    history = (await api.get("/v1/activities/a1/history")).json()
    assert [entry["type"] for entry in history["data"]] == kinds
    first = (await api.get("/v1/activities/a1/history?limit=4")).json()
    rest = (await api.get(first["next"])).json()
    assert first["data"] + rest["data"] == history["data"]
    assert rest["next"] is None
    task = (await api.get("/v1/tasks/a1-t1/history")).json()
    assert [entry["type"] for entry in task["data"]] == [
        "task.created",
        "task.assigned",
        "task.started",
        "task.completed",
    ]
    explained = (await api.get("/v1/activities/a1/explain")).json()
    assert (explained["rule"], [child["decides"] for child in explained["children"]]) == ("U8", [True, False])
    problem(await api.get("/v1/activities/a1/history?sort=x"), 400, "bad-filter")
    problem(await api.get("/v1/activities/a1/explain?x=1"), 400, "unknown-parameter")
    problem(await api.get("/v1/tasks/a1-t1?x=1"), 400, "unknown-parameter")


QUERIES: list[tuple[str, str]] = [
    ("/v1/activities", "activities"),
    ("/v1/activities/a1", "activities"),
    ("/v1/activities/a1/explain", "activities"),
    ("/v1/activities/a1/history", "history"),
    ("/v1/tasks", "tasks"),
    ("/v1/tasks/a1-t1", "tasks"),
    ("/v1/tasks/a1-t1/history", "history"),
]


@pytest.mark.parametrize(("path", "model"), QUERIES)
async def test_a_position_is_waited_for_in_vain_then_reached(api: Api, path: str, model: str) -> None:
    api.sender.late = {model}
    position = with_activity(api).position
    response = await api.get(f"{path}?min_position={position}")
    problem(response, 503, "view-late")
    assert response.headers["retry-after"] == "1"
    api.sender.late = set()
    waiting = asyncio.create_task(api.get(f"{path}?min_position={position}"))
    await asyncio.to_thread(api.sender.follow)
    assert (await waiting).status_code == 200
    assert (await api.get(f"{path}?min_position=0")).status_code == 200


async def test_many_wait_with_one_watcher(api: Api) -> None:
    api.sender.late = {"tasks"}
    position = with_activity(api).position
    api.sender.late = set()
    waiting = [asyncio.create_task(api.get(f"/v1/tasks/a1-t1?min_position={position}")) for _ in range(20)]
    await asyncio.sleep(0)
    await asyncio.to_thread(api.sender.follow)
    answers: list[Any] = await asyncio.gather(*waiting)
    assert {answer.status_code for answer in answers} == {200}
