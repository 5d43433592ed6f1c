"""What a task can be told; a person is a member id, an e-mail, `account:<number>` or `operator:<id>`.

Times are RFC 3339 texts with an offset.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from domain.left_out import left_out
from domain.limits import (
    MAX_ASSIGNEES,
    MAX_KEYS,
    MAX_LISTED,
    MAX_ROLES,
    Comment,
    Count,
    Due,
    Fields,
    Flow,
    Id,
    Instant,
    Items,
    Label,
    Person,
    Role,
    Said,
    Title,
)
from domain.plan import Attribute, DispatchPlan

Result = Literal["PENDING", "COMPLETED", "TRANSFERRED", "NOT_EXECUTED", "CANCELED"]
Deadline = Literal["overdue", "dispatch", "resolution"]
Assignees = Annotated[tuple[Person, ...], Items(MAX_ASSIGNEES)]
NewAssignees = Annotated[tuple[Person, ...], Items(MAX_ASSIGNEES, 1)]
Listed = Annotated[tuple[Person, ...], Items(MAX_LISTED)]
Roles = Annotated[tuple[Role, ...], Items(MAX_ROLES)]
Attributes = Annotated[tuple[Attribute, ...], Items(MAX_KEYS)]


@dataclass(frozen=True, slots=True)
class CreateTask:
    """Without `assignees`, the member whose operator id is `operator` has the task."""

    id: Id | None = None
    title: Title | None = None
    flow: Flow | None = None
    flow_id: Flow | None = None
    fields: Fields = field(default_factory=dict)
    assignees: Assignees = ()
    start: Instant | None = None
    end: Instant | None = None
    hub: Id | None = None
    project: Id | None = None
    commerce: Id | None = None
    route: Id | None = None
    operator: Id | None = None
    roles: Roles = ()
    whitelist: Listed = ()
    blacklist: Listed = ()
    attributes: Attributes = ()
    plan: DispatchPlan | None = None


@dataclass(frozen=True, slots=True)
class AssignTask:
    id: Id
    assignees: NewAssignees
    start: bool = False


@dataclass(frozen=True, slots=True)
class ClaimTask:
    """The actor takes the task; `member` names the person when `system` speaks for one."""

    id: Id
    member: Person | None = None
    start: bool = False


@dataclass(frozen=True, slots=True)
class ReassignTask:
    id: Id
    assignees: NewAssignees


@dataclass(frozen=True, slots=True)
class UnassignTask:
    id: Id


@dataclass(frozen=True, slots=True)
class ProcessTask:
    """Start the task, or go on with it."""

    id: Id


@dataclass(frozen=True, slots=True)
class PauseTask:
    id: Id


@dataclass(frozen=True, slots=True)
class SaveTask:
    """What is left out stays as it is, what is null goes away; the task is not completed."""

    id: Id
    data: Fields


@dataclass(frozen=True, slots=True)
class ChangeTask:
    """What is left out stays as it is, what is null goes away; no people, as null or a list, takes the task from them.

    `complete` completes the task with all else that the command changes, or nothing of it is done.
    """

    id: Id
    title: Title | None = left_out()
    fields: Fields = field(default_factory=dict)
    start: Instant | None = left_out()
    end: Instant | None = left_out()
    hub: Id | None = left_out()
    assignees: Assignees | None = left_out()
    complete: bool = False


@dataclass(frozen=True, slots=True)
class CompleteTask:
    id: Id
    data: Fields = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FailTask:
    id: Id
    comment: Comment | None = None


@dataclass(frozen=True, slots=True)
class CancelTask:
    id: Id
    reason: Comment | None = None


@dataclass(frozen=True, slots=True)
class RetryTask:
    id: Id


@dataclass(frozen=True, slots=True)
class PauseTracker:
    """Pause the task that a person is working on; `member` names the person when `system` speaks for one."""

    member: Person | None = None


@dataclass(frozen=True, slots=True)
class ResumeTracker:
    """Go on with the task that the tracker paused last."""

    member: Person | None = None


@dataclass(frozen=True, slots=True)
class DispatchTask:
    """Send the task out over its channel."""

    id: Id


@dataclass(frozen=True, slots=True)
class ReportDispatch:
    """Say what came of an attempt; the service's own word, which nobody else may give."""

    id: Id
    attempt: Count
    succeeded: bool
    reference: Said | None = None
    code: Said | None = None
    message: Said | None = None


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """Say how the task ended where it was sent to. A result is final once, unless `hard_override`."""

    id: Id
    result: Result
    hard_override: bool = False
    data: Fields = field(default_factory=dict)
    comment: Comment | None = None


@dataclass(frozen=True, slots=True)
class RetryResolution:
    """Look for the task's targets again."""

    id: Id


@dataclass(frozen=True, slots=True)
class ResolveTarget:
    """Say which user one target is."""

    id: Id
    target: Label
    user: Id


@dataclass(frozen=True, slots=True)
class WakeTask:
    """Say that a deadline came due. One that is no longer the task's own, by its kind and text, changes nothing."""

    id: Id
    kind: Deadline
    due: Due
