"""The field dialect's answers without a resource: refusals, by the one table of its failed codes, and receipts.

A failed code keeps its meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field
from starlette.responses import Response

from services.http.core.call import as_json
from services.http.core.errors import ApiError, status_of
from services.http.core.models import From
from services.http.core.shown import CamelView


class Failing(NamedTuple):
    """What a failed code is: the HTTP status, what it means, and which codes of the service it stands for."""

    status: int
    meaning: str
    codes: str = ""


FAILURES: Mapping[str, Failing] = {
    "activity-001": Failing(400, "the body is no JSON object, or a value has the wrong shape"),
    "activity-002": Failing(400, "not as many tasks as the workflow has steps", "wrong-task-count"),
    "activity-003": Failing(400, "a value is given that the service derives by itself", "derived"),
    "activity-004": Failing(400, "a task ends before it starts", "end-before-start"),
    "activity-005": Failing(
        400, "a value is no time, e-mail or id, exceeds its limit, or cannot be taken away", "invalid"
    ),
    "activity-006": Failing(409, "the idempotency key was used for another request", "idempotency-conflict"),
    "activity-007": Failing(409, "the command does not fit what is there"),
    "activity-008": Failing(422, "a text or number cannot be stored", "lone-surrogate nul number-out-of-range"),
    "auth-001": Failing(
        401, "the token is missing, unknown, expired or revoked, or its member was retired", "unauthorized"
    ),
    "auth-002": Failing(403, "the token lacks the permission, or its actor the right", "forbidden"),
    "bulk-001": Failing(400, "a bulk request has from 1 to 2000 tasks", "bulk-size"),
    "bulk-002": Failing(400, "several tasks of the bulk request have this refId", "ref-twice"),
    "flow-001": Failing(404, "no step of a workflow has such a flow", "no-flow"),
    "hub-001": Failing(404, "there is no such hub", "no-hub"),
    "member-001": Failing(404, "there is no such member", "no-member"),
    "member-002": Failing(422, "a member is not eligible for a task", "not-eligible"),
    "project-001": Failing(404, "there is no such project"),
    "request-001": Failing(404, "there is no such endpoint", "no-endpoint"),
    "request-002": Failing(405, "the endpoint has no such method", "method-not-allowed"),
    "request-003": Failing(
        413, "the body, or what a task or an activity would hold after it, is too large", "too-large"
    ),
    "request-004": Failing(415, "the body is not sent as application/json", "unsupported-media-type"),
    "request-005": Failing(400, "a query parameter or header is wrong", "bad-header unknown-filter"),
    "request-006": Failing(429, "too many requests are under way; see Retry-After", "overloaded too-many-requests"),
    "request-007": Failing(412, "the resource has changed since its tag was given out", "precondition-failed"),
    "request-008": Failing(408, "the body did not arrive in time", "body-late"),
    "server-001": Failing(500, "something went wrong", "internal"),
    "server-002": Failing(
        503, "a part of the service is away for the moment; see Retry-After", "newer-version unavailable view-late"
    ),
    "task-001": Failing(404, "there is no such task"),
    "task-002": Failing(409, "the task or its activity has ended", "activity-canceled terminal"),
    "task-003": Failing(409, "the task was due earlier, and the organization rejects late completion", "late"),
    "task-004": Failing(409, "an earlier step of the activity is not done with", "blocked"),
    "task-005": Failing(
        403, "only an assignee completes a task, so one that nobody has is completed by nobody", "not-assignee"
    ),
    "task-006": Failing(409, "a task of an activity is not deleted alone; delete the activity", "child"),
    "workflow-033": Failing(404, "there is no such workflow in the organization", "no-workflow"),
    "workflow-034": Failing(409, "another workflow of the organization has this name", "name-taken"),
    "workflow-035": Failing(409, "activities of the workflow have not ended", "in-use"),
    "workflow-036": Failing(
        400, "the number of a workflow's steps and its project never change", "fixed step-count-fixed"
    ),
    "workflow-037": Failing(400, "a workflow's name, step or mapping breaks a rule", "workflow-rule"),
}
_FAILED_CODE = {code: failed_code for failed_code, its in FAILURES.items() for code in its.codes.split()}
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
    "flow": ("auth", "flow", "request", "server"),
    "hub": ("auth", "hub", "request", "server"),
    "member": ("auth", "member-001", "request", "server"),
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
    return meanings, Failure.show({"message": found[first], "failed_code": first})


def failed(refused: ApiError) -> Response:
    """Render a refusal in the field dialect's envelope."""
    code = failed_code(refused)
    shown = Failure.show({"message": refused.message, "failed_code": code})
    return as_json(shown, FAILURES[code].status, refused.headers)


class Failure(CamelView):
    """A refusal."""

    status: Literal[False]
    message: str
    failed_code: str = Field(json_schema_extra={"enum": list(FAILURES)})


class Good(CamelView):
    """An answer to what was done."""

    status: Literal[True]


class Receipt(CamelView):
    """Where the outcome of a command will be."""

    command_id: str = Field(examples=["0199…"])
    receipt: str = Field(examples=["/v1/commands/0199…"])


def _accepted(found: Mapping[str, Any], _: Any) -> str:
    known = "it took effect, but cannot be shown now" if found["known"] else "its outcome is not known yet"
    return f"{found['noun'].capitalize()} accepted, {known}"


class Accepted(Good):
    """No answer yet, or nothing that can be shown; look at the receipt"""

    code: Literal[202]
    message: Annotated[str, From("", _accepted)] = Field(examples=["Task accepted, its outcome is not known yet"])
    data: Annotated[Receipt, From("")]
