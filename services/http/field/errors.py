"""The field dialect's error envelope and the one table of its failed codes; a code keeps its meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from starlette.responses import Response

from services.http.core.errors import ApiError, status_of


class Failure(NamedTuple):
    """What the dialect answers: the HTTP status, and what it means."""

    status: int
    meaning: str


FAILURES: Mapping[str, Failure] = {
    "activity-001": Failure(400, "the body is no JSON object, or a value has the wrong shape"),
    "activity-002": Failure(400, "not as many tasks as the workflow has steps"),
    "activity-003": Failure(400, "a value is given that the service derives by itself"),
    "activity-004": Failure(400, "a task ends before it starts"),
    "activity-005": Failure(400, "a value is no time, e-mail or id, exceeds its limit, or cannot be taken away"),
    "activity-006": Failure(409, "the idempotency key was used for another request"),
    "activity-007": Failure(409, "the command does not fit what is there"),
    "activity-008": Failure(422, "a text or number cannot be stored"),
    "auth-001": Failure(401, "the token is missing, unknown, expired or revoked, or its member was retired"),
    "auth-002": Failure(403, "the token lacks the permission, or its actor the right"),
    "bulk-001": Failure(400, "a bulk request has from 1 to 2000 tasks"),
    "bulk-002": Failure(400, "several tasks of the bulk request have this refId"),
    "hub-001": Failure(404, "there is no such hub"),
    "member-001": Failure(404, "there is no such member"),
    "member-002": Failure(422, "a member is not eligible for a task"),
    "project-001": Failure(404, "there is no such project"),
    "request-001": Failure(404, "there is no such endpoint"),
    "request-002": Failure(405, "the endpoint has no such method"),
    "request-003": Failure(413, "the body, or what a task or an activity would hold after it, is too large"),
    "request-004": Failure(415, "the body is not sent as application/json"),
    "request-005": Failure(400, "a query parameter or header is wrong"),
    "request-006": Failure(429, "too many requests are under way; see Retry-After"),
    "server-001": Failure(500, "something went wrong"),
    "server-002": Failure(503, "a part of the service is away for the moment; see Retry-After"),
    "task-001": Failure(404, "there is no such task"),
    "task-002": Failure(409, "the task or its activity has ended"),
    "task-003": Failure(409, "the task was due earlier, and the organization rejects late completion"),
    "task-004": Failure(409, "an earlier step of the activity is not done with"),
    "task-005": Failure(403, "only an assignee completes a task, so one that nobody has is completed by nobody"),
    "task-006": Failure(409, "a task of an activity is not deleted alone; delete the activity"),
    "workflow-033": Failure(404, "there is no such workflow in the organization"),
    "workflow-034": Failure(409, "another workflow of the organization has this name"),
    "workflow-035": Failure(409, "activities of the workflow have not ended"),
    "workflow-036": Failure(400, "the number of a workflow's steps and its project never change"),
    "workflow-037": Failure(400, "a workflow's name, step or mapping breaks a rule"),
}

_FAILED_CODE: Mapping[str, str] = {
    "activity-canceled": "task-002",
    "bad-header": "request-005",
    "blocked": "task-004",
    "bulk-size": "bulk-001",
    "child": "task-006",
    "derived": "activity-003",
    "end-before-start": "activity-004",
    "fixed": "workflow-036",
    "forbidden": "auth-002",
    "idempotency-conflict": "activity-006",
    "in-use": "workflow-035",
    "internal": "server-001",
    "invalid": "activity-005",
    "late": "task-003",
    "lone-surrogate": "activity-008",
    "method-not-allowed": "request-002",
    "name-taken": "workflow-034",
    "newer-version": "server-002",
    "no-endpoint": "request-001",
    "no-workflow": "workflow-033",
    "not-assignee": "task-005",
    "not-eligible": "member-002",
    "nul": "activity-008",
    "number-out-of-range": "activity-008",
    "overloaded": "request-006",
    "ref-twice": "bulk-002",
    "step-count-fixed": "workflow-036",
    "terminal": "task-002",
    "too-large": "request-003",
    "unauthorized": "auth-001",
    "unavailable": "server-002",
    "unknown-filter": "request-005",
    "unsupported-media-type": "request-004",
    "view-late": "server-002",
    "workflow-rule": "workflow-037",
    "wrong-task-count": "activity-002",
}
_OF_STATUS = {400: "activity-001", 422: "activity-001", 404: "task-001", 409: "activity-007"}


def is_of_person(pointer: str) -> bool:
    """Tell whether a place in a request is that of people."""
    return any(f"/{name}" in pointer for name in ("assignee", "whitelist", "blacklist"))


def failed_code(refused: ApiError) -> str:
    """Return the dialect's code of a refusal."""
    if refused.pointer == "/workflowId" and refused.code in ("not-found", "invalid"):
        return "workflow-033"
    if refused.code == "not-found":
        if refused.pointer.endswith("/hubId"):
            return "hub-001"
        if refused.pointer == "/projectId":
            return "project-001"
        return "member-001" if is_of_person(refused.pointer) else "task-001"
    known = _FAILED_CODE.get(refused.code)
    if known is not None:
        return known
    if refused.parameter:
        return "request-005"
    return _OF_STATUS.get(status_of(refused.code), "activity-007")


# Families of failed codes that an operation on these can answer with, whatever their status.
_FAMILIES: Mapping[str, tuple[str, ...]] = {
    "task": ("activity", "auth", "hub", "member", "request", "server", "task", "workflow-033"),
    "bulk": ("activity", "auth", "bulk", "request", "server"),
    "workflow": ("activity", "auth", "member", "project", "request", "server", "workflow"),
}


def failure(topic: str, status: int) -> tuple[str, dict[str, Any]] | None:
    """Return what the failed codes of a status mean, and an example."""
    found = {
        code: its.meaning
        for code, its in FAILURES.items()
        if its.status == status and code.startswith(_FAMILIES[topic])
    }
    if not found:
        return None
    first = next(iter(found))
    meanings = "; ".join(f"`{code}`: {meaning}" for code, meaning in found.items())
    return meanings, {"status": False, "message": found[first], "failedCode": first}


def message_and_code(refused: ApiError) -> tuple[str, str]:
    """Return the message and the failed code of a refusal."""
    where = refused.pointer or refused.parameter
    return f"{refused.detail} ({where})" if where else refused.detail, failed_code(refused)


def failed(refused: ApiError) -> Response:
    """Render a refusal in the field dialect's envelope."""
    message, code = message_and_code(refused)
    body = {"status": False, "message": message, "failedCode": code}
    return Response(msgspec.json.encode(body), FAILURES[code].status, refused.headers, "application/json")
