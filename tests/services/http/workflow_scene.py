"""The scene of the workflow dialect's tests: one task of a project, one activity of two steps, and the people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from services.http.workflow.errors import JSON_API
from tests.services.http.api import Api

BASE = "/api/v3/workflow"
LIST = f"{BASE}/activities"
# Members of the project, each with an account number: `max` manages it, `eve` is in no project.
ACCOUNTS = {"ann": 42, "bob": 43, "max": 44, "eve": 45}


@dataclass(frozen=True)
class Write:
    """One action: how it is asked for, and the commands that make a task for which it is possible."""

    method: str
    path: str
    body: Any = None
    before: tuple[tuple[str, dict[str, Any]], ...] = ()
    status: str = ""


GIVEN = (("task.assign", {"id": "t", "assignees": ["ann"]}),)
RUNS = (*GIVEN, ("task.process", {"id": "t"}))
PAUSED = (*RUNS, ("tracker.pause", {"member": "ann"}))
WRITES = {
    "save": Write("PATCH", "/activities/t", {"data": {"draft": [1, None]}}, GIVEN, "pending"),
    "assign": Write("PATCH", "/activities/t/assign", {"account_id": 42, "start_working": False}, (), "pending"),
    "reassign": Write("PATCH", "/activities/t/reassign", {"account_id": 43}, RUNS, "pending"),
    "unassign": Write("PATCH", "/activities/t/unassign", None, RUNS, "pending"),
    "process": Write("PATCH", "/activities/t/process", None, GIVEN, "in-progress"),
    "complete": Write("PATCH", "/activities/t/complete", {"data": {"signed": True}}, GIVEN, "completed"),
    "error": Write("POST", "/activities/t/error", {"data": {"comment": "no road"}}, RUNS, "errored"),
    "cancel": Write("POST", "/activities/t/cancel", None, RUNS, "canceled"),
    "pause": Write("POST", "/tracker/pause", {"account_id": 42}, RUNS, "paused"),
    "pause somebody": Write("POST", "/tracker/pause/42", None, RUNS, "paused"),
    "resume": Write("POST", "/tracker/resume", {"account_id": 42}, PAUSED, "in-progress"),
    "start": Write("POST", "/tracker/start", {"data": {"attributes": {"activity_id": "t"}}}, GIVEN, "in-progress"),
    "cancel unit": Write("POST", "/work_units/a/cancel", None, (), "canceled"),
}


def furnish(api: Api) -> None:
    """Set the scene of the dialect."""
    api.command("directory.register", {"kind": "project", "id": "p", "fields": {"name": "North"}})
    for member, number in ACCOUNTS.items():
        projects = {} if member == "eve" else {"p": {"is_manager": member == "max"}}
        fields = {"account_id": number, "projects": projects, "actor_roles": ["driver"]}
        api.command("directory.register", {"kind": "member", "id": member, "fields": fields})
    api.command("workflow.define", {"id": "w", "name": "Visit", "steps": [{"name": "Go"}, {"name": "Come"}]})
    api.command("activity.create", {"id": "a", "workflow_id": "w", "tasks": [{"id": "a1"}, {"id": "a2"}]})
    api.command("task.create", {"id": "t", "title": "Visit", "project": "p", "fields": {"kg": 2}})
    for member in ("ann", "bob", "max", "eve"):
        api.tokens[member] = api.key("acme", member)


async def send(api: Api, write: Write, token: str | None = None, **rest: Any) -> httpx.Response:
    body = rest.pop("body", write.body)
    headers = {**api.by(token), **rest.pop("headers", {})}
    return await api.client.request(write.method, f"{BASE}{write.path}", json=body, headers=headers, **rest)


async def act(api: Api, way: str, body: Any = None, actor: str | None = None, task: str = "t") -> httpx.Response:
    """Ask for an action on a task; a path beside the task's own."""
    method = "POST" if way in ("/cancel", "/error") else "PATCH"
    headers = api.by(api.tokens[actor] if actor is not None else None)
    return await api.client.request(method, f"{LIST}/{task}{way}", json=body, headers=headers)


def ready(api: Api, write: Write) -> None:
    for name, data in write.before:
        api.command(name, data)


def shown(response: httpx.Response) -> dict[str, Any]:
    """Expect a resource, and return its attributes."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == JSON_API
    attributes: dict[str, Any] = response.json()["data"]["attributes"]
    return attributes


def refused(response: httpx.Response, status: int, code: str, **source: str) -> None:
    """Expect an error document."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == JSON_API
    (error,) = response.json()["errors"]
    assert list(error) == ["status", "title", "detail", "source"]
    assert (error["status"], error["title"]) == (str(status), code)
    assert error["detail"]
    assert response.headers["x-request-id"]
    if source:
        assert error["source"] == source
