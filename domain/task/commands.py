"""What a task can be told; a person is a member id, an e-mail, `account:<number>` or `operator:<id>`.

Times are RFC 3339 texts with an offset.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from domain.decider import left_out
from domain.plan import Attribute, DispatchPlan

Result = Literal["PENDING", "COMPLETED", "TRANSFERRED", "NOT_EXECUTED", "CANCELED"]
Deadline = Literal["overdue", "dispatch", "resolution"]


@dataclass(frozen=True, slots=True)
class CreateTask:
    """Without `assignees`, the member whose operator id is `operator` has the task."""

    id: str | None = None
    title: str | None = None
    flow: str | None = None
    flow_id: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    assignees: tuple[str, ...] = ()
    start: str | None = None
    end: str | None = None
    hub: str | None = None
    project: str | None = None
    commerce: str | None = None
    route: str | None = None
    operator: str | None = None
    roles: tuple[str, ...] = ()
    whitelist: tuple[str, ...] = ()
    blacklist: tuple[str, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    plan: DispatchPlan | None = None


@dataclass(frozen=True, slots=True)
class AssignTask:
    id: str
    assignees: tuple[str, ...]
    start: bool = False


@dataclass(frozen=True, slots=True)
class ClaimTask:
    """The actor takes the task; `member` names the person when `system` speaks for one."""

    id: str
    member: str | None = None
    start: bool = False


@dataclass(frozen=True, slots=True)
class ReassignTask:
    id: str
    assignees: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UnassignTask:
    id: str


@dataclass(frozen=True, slots=True)
class ProcessTask:
    """Start the task, or go on with it."""

    id: str


@dataclass(frozen=True, slots=True)
class PauseTask:
    id: str


@dataclass(frozen=True, slots=True)
class SaveTask:
    """What is left out stays as it is, what is null goes away; the task is not completed."""

    id: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ChangeTask:
    """What is left out stays as it is, what is null goes away; no people, as null or a list, takes the task from them.

    `complete` completes the task with all else that the command changes, or nothing of it is done.
    """

    id: str
    title: str | None = left_out()
    fields: dict[str, Any] = field(default_factory=dict)
    start: str | None = left_out()
    end: str | None = left_out()
    hub: str | None = left_out()
    assignees: tuple[str, ...] | None = left_out()
    complete: bool = False


@dataclass(frozen=True, slots=True)
class CompleteTask:
    id: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FailTask:
    id: str
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class CancelTask:
    id: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RetryTask:
    id: str


@dataclass(frozen=True, slots=True)
class PauseTracker:
    """Pause the task that a person is working on; `member` names the person when `system` speaks for one."""

    member: str | None = None


@dataclass(frozen=True, slots=True)
class ResumeTracker:
    """Go on with the task that the tracker paused last."""

    member: str | None = None


@dataclass(frozen=True, slots=True)
class DispatchTask:
    """Send the task out over its channel."""

    id: str


@dataclass(frozen=True, slots=True)
class ReportDispatch:
    """Say what came of an attempt; the service's own word, which nobody else may give."""

    id: str
    attempt: int
    succeeded: bool
    reference: str | None = None
    code: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """Say how the task ended where it was sent to. A result is final once, unless `hard_override`."""

    id: str
    result: Result
    hard_override: bool = False
    data: dict[str, Any] = field(default_factory=dict)
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class RetryResolution:
    """Look for the task's targets again."""

    id: str


@dataclass(frozen=True, slots=True)
class ResolveTarget:
    """Say which user one target is."""

    id: str
    target: str
    user: str


@dataclass(frozen=True, slots=True)
class WakeTask:
    """Say that a deadline came due. One that is no longer the task's own, by its kind and text, changes nothing."""

    id: str
    kind: Deadline
    due: str
