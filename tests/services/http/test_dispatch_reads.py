"""The dispatch dialect's reads: statuses as a function of the facts, the list, and the events of one activity."""

from __future__ import annotations

import itertools
from typing import Any

import psycopg
import pytest

from domain.lifecycle import Lifecycle
from domain.task import EVENTS, Dispatch, Resolution, Task, TaskCreated, evolve
from services.http.dispatch.lists import CONDITIONS
from services.http.dispatch.models import STATUSES, status_of
from services.http.dispatch.parts import EVENT_NAMES, status_of_task
from tests.services.http.api import Api, with_activity, with_workflow
from tests.services.http.dispatch_scene import BODY, failure, furnish, planned, report, unresolved

FACTS = list(itertools.product(Lifecycle, Resolution, Dispatch))


set_scene = furnish


async def _ids(api: Api, query: str, token: str | None = None) -> list[str]:
    response = await api.get(f"/api/activities?{query}", token)
    assert response.status_code == 200, response.text
    return [shown["id"] for shown in response.json()["data"]]


# Statuses.


@pytest.mark.parametrize(
    ("lifecycle", "resolution", "dispatch", "status"),
    [
        ("canceled", "FAILED", "DISPATCHED", "CANCELED"),
        ("failed", "FAILED", "GAVE_UP", "FAILED"),
        ("completed", "NONE", "NONE", "COMPLETED"),
        ("paused", "NONE", "NONE", "READY"),
        ("paused", "NONE", "DISPATCHED", "DISPATCHED"),
        ("active", "FAILED", "NONE", "READY"),
        ("active", "RESOLVED", "DISPATCHED", "DISPATCHED"),
        ("open", "FAILED", "NONE", "UNRESOLVED"),
        ("open", "FAILED", "DISPATCHED", "UNRESOLVED"),
        ("open", "RESOLVED", "DISPATCHED", "DISPATCHED"),
        ("open", "RESOLVED", "REQUESTED", "READY"),
        ("open", "NONE", "GAVE_UP", "READY"),
        ("open", "PENDING", "NONE", "UNRESOLVED"),
        ("open", "DEFERRED", "NONE", "READY"),
        ("open", "NONE", "NONE", "READY"),
    ],
)
def test_a_status_is_a_function_of_the_facts(lifecycle: str, resolution: str, dispatch: str, status: str) -> None:
    assert status_of({"status": lifecycle, "resolution": resolution, "dispatch": dispatch}) == status


def test_the_lists_conditions_say_the_same_of_every_combination_of_facts(migrated_url: str) -> None:
    facts = [(state.value.lower(), resolution.value, dispatch.value) for state, resolution, dispatch in FACTS]
    with psycopg.connect(migrated_url) as conn:
        found = {
            status: conn.execute(
                "SELECT status, resolution, dispatch FROM unnest(%s::text[], %s::text[], %s::text[])"
                f" AS facts(status, resolution, dispatch) WHERE {condition.sql}",
                [list(column) for column in zip(*facts, strict=True)],
            ).fetchall()
            for status, condition in CONDITIONS.items()
        }
    assert tuple(found) == STATUSES
    for each in facts:
        named = dict(zip(("status", "resolution", "dispatch"), each, strict=True))
        assert [status for status, rows in found.items() if each in rows] == [status_of(named)]


# The list.


async def test_filters(api: Api) -> None:
    planned(api, "early", scheduled_at="2025-01-16T09:00:00+07:00", reason="Early visit")
    planned(api, "late", scheduled_at="2025-01-17T09:00:00Z", channel="EMAIL")
    unresolved(api, "lost")
    planned(api, "sent")
    api.command("task.dispatch", {"id": "sent"})
    report(api, "sent", 1, True)
    api.command("directory.register", {"kind": "commerce", "id": "kiosk"})
    api.command("task.create", {"id": "plain", "title": "Plain", "commerce": "kiosk"})
    api.command("task.cancel", {"id": "plain"})
    for status, expected in (
        ("READY", {"early", "late"}),
        ("UNRESOLVED", {"lost"}),
        ("DISPATCHED", {"sent"}),
        ("CANCELED", {"plain"}),
        ("COMPLETED", set()),
        ("FAILED", set()),
    ):
        assert set(await _ids(api, f"status={status}")) == expected
    every = {"early", "late", "lost", "sent", "plain"}
    assert set(await _ids(api, "")) == set(await _ids(api, "type=TASK")) == every
    assert await _ids(api, "channel=EMAIL") == ["late"]
    assert await _ids(api, "channel=SMS") == []
    assert await _ids(api, "commerce_id=kiosk") == ["plain"]
    assert await _ids(api, "status=READY&channel=SALESMAN&commerce_id=shop") == ["early"]
    assert await _ids(api, "scheduled_from=2025-01-16T02:00:00Z&scheduled_to=2025-01-16T02:00:00Z") == ["early"]
    assert await _ids(api, "scheduled_from=2025-01-16T02:00:00.001Z") == ["late"]
    assert await _ids(api, "scheduled_to=2025-01-17T08:59:59Z") == ["early"]
    api.command("task.change", {"id": "early", "title": "Early VISIT"})
    assert await _ids(api, "search=eArly%20vis") == ["early"]
    assert await _ids(api, "search=%25") == []
    assert (await _ids(api, "sort_by=scheduled_at&sort_order=asc"))[:2] == ["early", "late"]
    assert await _ids(api, "sort_order=asc") == (await _ids(api, "sort_by=created_at"))[::-1]


async def test_the_reason_is_the_title_in_every_dialect_wherever_it_was_changed(api: Api) -> None:
    body = {**BODY, "reason": "First"}
    task_id = (await api.post("/api/activities/tasks", body)).json()["id"]
    changes: tuple[tuple[str, Any], ...] = (
        ("First", None),
        ("Second", api.client.put(f"/api/v3/task/{task_id}", json={"title": "Second"}, headers=api.by())),
        (
            "Third",
            api.post("/v1/commands", {"type": "task.change", "data": {"id": task_id, "title": "Third"}}),
        ),
    )
    for title, change in changes:
        if change is not None:
            assert (await change).status_code == 200
        native = (await api.get(f"/v1/tasks/{task_id}")).json()
        assert (native["title"], native["plan"]["reason"]) == (title, None)
        assert (await api.get(f"/api/activities/{task_id}")).json()["reason"] == title
        assert (await api.get(f"/api/v3/task/{task_id}")).json()["task"]["title"] == title
        shown = (await api.get(f"/api/v3/workflow/activities/{task_id}")).json()
        assert shown["data"]["attributes"]["name"] == title
        found = {
            f"/api/activities?search={title.upper()}": "data",
            f"/v1/tasks?search={title.lower()}": "data",
            f"/api/v3/workflow/activities?filter[name__match]={title}": "data",
        }
        for path, key in found.items():
            assert [row["id"] for row in (await api.get(path)).json()[key]] == [task_id], path
    assert await _ids(api, "search=first") == []


async def test_pages(api: Api) -> None:
    for number in range(5):
        planned(api, f"a{number}")
    pages = [(await api.get(f"/api/activities?per_page=2&page={page}")).json() for page in (1, 2, 3, 4)]
    assert [[shown["id"] for shown in page["data"]] for page in pages] == [["a4", "a3"], ["a2", "a1"], ["a0"], []]
    assert [page["meta"] for page in pages] == [
        {"page": page, "limit": 2, "total": 5, "totalPages": 3} for page in (1, 2, 3, 4)
    ]
    whole = (await api.get("/api/activities")).json()
    assert whole["meta"] == {"page": 1, "limit": 25, "total": 5, "totalPages": 1}
    assert (await api.get("/api/activities?limit=2&per_page=2")).json() == pages[0]
    empty = (await api.get("/api/activities?channel=SMS&limit=100&page=100000")).json()
    assert empty == {"data": [], "meta": {"page": 100000, "limit": 100, "total": 0, "totalPages": 0}}


async def test_the_list_shows_what_the_activity_shows(api: Api) -> None:
    with_workflow(api)
    with_activity(api)
    api.command("directory.register", {"kind": "member", "id": "bob", "fields": {"operator_id": "op-2"}})
    planned(api, "a", score=3, criteria=[])
    api.command("task.assign", {"id": "a", "assignees": ["bob"]})
    listed = (await api.get("/api/activities")).json()["data"]
    assert len(listed) == 3
    for shown in listed:
        assert (await api.get(f"/api/activities/{shown['id']}")).json() == shown
    assert {shown["taskDetails"]["assignedOperatorId"] for shown in listed} == {"op-2", None}


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("status=OPEN", "status"),
        ("status=ready", "status"),
        ("status=READY&status=FAILED", "status"),
        ("type=message", "type"),
        ("channel=%00", "channel"),
        ("channel=" + "x" * 1001, "channel"),
        ("commerce_id=a&commerce_id=b", "commerce_id"),
        ("scheduled_from=tomorrow", "scheduled_from"),
        ("scheduled_from=2025-01-16T09:00:00", "scheduled_from"),
        ("scheduled_to=", "scheduled_to"),
        ("scheduled_to=0001-01-01T00:00:00%2B14:00", "scheduled_to"),
        ("search=%ED%A0%80%00", "search"),
        ("sort_by=title", "sort_by"),
        ("sort_order=up", "sort_order"),
        ("page=0", "page"),
        ("page=x", "page"),
        ("page=100001", "page"),
        ("limit=101", "limit"),
        ("per_page=0", "per_page"),
        ("per_page=1&limit=2", "limit"),
        ("colour=red", "colour"),
    ],
)
async def test_a_question_that_cannot_be_asked(api: Api, query: str, place: str) -> None:
    assert failure(await api.get(f"/api/activities?{query}"), 400).endswith(f"({place})")


# What happened to one.


async def _events(api: Api, task_id: str) -> list[tuple[Any, ...]]:
    response = await api.get(f"/api/activities/{task_id}/status-events")
    assert response.status_code == 200, response.text
    for event in response.json():
        assert event["occurredAt"] == "2025-10-31T01:50:00.000Z"
    assert len({event["id"] for event in response.json()}) == len(response.json())
    names = ("eventType", "fromStatus", "toStatus", "errorCode", "errorMessage")
    return [tuple(event[name] for name in names) for event in response.json()]


async def test_every_attempt_is_told_with_what_went_wrong(api: Api) -> None:
    planned(api, "a")
    for attempt in (1, 2, 3):
        api.command("task.dispatch", {"id": "a"})
        report(api, "a", attempt, False, code=f"http-50{attempt}", message="busy")
    api.command("task.retry", {"id": "a"})
    api.command("task.dispatch", {"id": "a"})
    report(api, "a", 4, True)
    requested = ("DISPATCH_REQUESTED", "READY", "READY", None, None)
    assert await _events(api, "a") == [
        ("CREATED", None, "READY", None, None),
        requested,
        ("DISPATCH_FAILED", "READY", "READY", "http-501", "busy"),
        requested,
        ("DISPATCH_FAILED", "READY", "READY", "http-502", "busy"),
        requested,
        ("DISPATCH_FAILED", "READY", "READY", "http-503", "busy"),
        ("FAILED", "READY", "FAILED", "dispatch-failed", "dispatch failed: busy"),
        ("RETRIED", "FAILED", "READY", None, None),
        requested,
        ("DISPATCH_SUCCESS", "READY", "DISPATCHED", None, None),
    ]


async def test_resolutions_and_results_are_told(api: Api) -> None:
    unresolved(api, "a")
    api.command("task.resolve-target", {"id": "a", "target": "t1", "user": "u-owner"})
    api.command("task.submit-result", {"id": "a", "result": "COMPLETED"})
    api.command("task.submit-result", {"id": "a", "result": "NOT_EXECUTED", "hard_override": True, "comment": "closed"})
    api.command("task.retry", {"id": "a"})
    api.command("task.error", {"id": "a", "comment": "lost"})
    assert await _events(api, "a") == [
        ("CREATED", None, "READY", None, None),
        ("RESOLUTION_FAILED", "READY", "UNRESOLVED", "resolution-failed", "everybody who fits is locked"),
        ("TARGETS_RESOLVED", "UNRESOLVED", "READY", None, None),
        ("RESULT_RECORDED", "READY", "READY", None, None),
        ("COMPLETED", "READY", "COMPLETED", None, None),
        ("RESULT_RECORDED", "COMPLETED", "COMPLETED", None, None),
        ("REOPENED", "COMPLETED", "READY", None, None),
        ("FAILED", "READY", "FAILED", "not-executed", "closed"),
        ("RETRIED", "FAILED", "READY", None, None),
        ("FAILED", "READY", "FAILED", "failed", "lost"),
    ]


async def test_work_is_no_step_on_the_way_out(api: Api) -> None:
    api.command("directory.register", {"kind": "member", "id": "ann"})
    planned(api, "a", scheduled_at="2030-01-01T00:00:00Z")
    for name, rest in (
        ("task.assign", {"assignees": ["ann"]}),
        ("task.process", {}),
        ("task.save", {"data": {"note": 1}}),
        ("task.pause", {}),
        ("task.process", {}),
        ("task.change", {"title": "New"}),
        ("task.cancel", {}),
    ):
        api.command(name, {"id": "a", **rest})
    assert [event[0] for event in await _events(api, "a")] == ["CREATED", "CANCELED"]


async def test_events_are_never_late(api: Api) -> None:
    api.sender.late = {"tasks", "activities", "history"}
    planned(api, "a")
    assert [event[0] for event in await _events(api, "a")] == ["CREATED"]
    failure(await api.get("/api/activities/a"), 404)


def _states() -> list[Task]:
    first = evolve(None, TaskCreated("t"))
    assert first is not None
    return [first._replace(lifecycle=state, resolution=found, dispatch=sent) for state, found, sent in FACTS]


def test_no_event_that_is_left_unread_could_change_a_status() -> None:
    unread = sorted(set(EVENTS) - set(EVENT_NAMES))
    assert len(unread) == 7
    values: dict[str, Any] = {"id": "t", "activity_id": None, "source": "s", "kind": "dispatch"}
    for name in unread:
        fields = EVENTS[name].__dataclass_fields__
        event = EVENTS[name](**{field: values.get(field, {}) for field in fields})
        for task in _states():
            after = evolve(task, event)
            assert status_of_task(after) == status_of_task(task), name
