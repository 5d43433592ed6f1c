"""The values that commands and events of a task share: how it is sent out, whom it is meant for, what it passes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

from domain.limits import MAX_KEYS, Channel, Comment, Fields, Id, Instant, Items, Key, Label, Role, Title, Value, Whole

# When the users that a task is meant for are found; with MANUAL somebody names them.
TargetStrategy = Literal["ON_CREATION", "ON_DISPATCH", "MANUAL"]
ON_CREATION, ON_DISPATCH, MANUAL = get_args(TargetStrategy)
# A task is work that somebody does; a message goes out over a channel, and nobody has it.
TaskType = Literal["TASK", "MESSAGE"]
WORK: TaskType
MESSAGE: TaskType
WORK, MESSAGE = get_args(TaskType)
CriterionType = Literal["ROLE_MATCH", "LAST_CONTACTED_ALL_CHANNELS", "LAST_CONTACTED_SAME_CHANNEL", "ANY"]


@dataclass(frozen=True, slots=True)
class Attribute:
    """A value that the caller provides, with one to fall back on."""

    key: Key
    value: Value = None
    fallback: Value = None


Attributes = Annotated[tuple[Attribute, ...], Items(MAX_KEYS)]


@dataclass(frozen=True, slots=True)
class Criterion:
    """How a user of the commerce is found; the lowest `priority` is tried first. `role` belongs to `ROLE_MATCH`."""

    type: CriterionType
    priority: Whole = 0
    role: Role | None = None


@dataclass(frozen=True, slots=True)
class DispatchPlan:
    """Over which channel a task goes out, and when. Without `criteria` those of the tenant's targeting hold.

    `reason` is another name for the task's title in a command; it is stored as that title, and not here.
    """

    channel: Channel
    reason: Title | None = None
    scheduled_at: Instant | None = None
    suggested_at: Instant | None = None
    user_status: Label | None = None
    score: Whole | None = None
    assignment_reason: Comment | None = None
    criteria: Annotated[tuple[Criterion, ...], Items(MAX_KEYS)] | None = None
    attribute_keys: Annotated[tuple[Id, ...], Items(MAX_KEYS)] = ()


def reason_of(title: str | None, stored: str | None) -> str | None:
    """Return why a task goes out: its title; only a task from before that was so has a stored reason instead."""
    return stored if title is None else title


@dataclass(frozen=True, slots=True)
class Target:
    """A user of the commerce that the task is meant for, or the place of one that was not found.

    `status` is PENDING, RESOLVED, FAILED or LOCKED; `reason` says why it failed or is locked. `by` says how the user
    was found, unless by one of the criteria: by a fallback, whose `role` is given, or by somebody who named the user.
    `strategy` says when the user was to be found.
    """

    id: str
    criterion: str
    status: str
    user: str | None = None
    reason: str | None = None
    by: Literal["fallback", "manual"] | None = None
    role: str | None = None
    strategy: TargetStrategy = "ON_CREATION"


@dataclass(frozen=True, slots=True)
class Provider:
    """Who takes a dispatched task, as the tenant had configured it at that moment.

    `secret` is a name, never a value, and `credentials` are encrypted by the service. `timeout` and `backoff` are in
    seconds; the wait before the third attempt is twice the one before the second.
    """

    kind: Literal["http", "console"]
    url: str | None = None
    secret: str | None = None
    timeout: float = 5.0
    backoff: float = 30.0
    credentials: str | None = None


Contact = Literal["INBOUND", "OUTBOUND"]


@dataclass(frozen=True, slots=True)
class Report:
    """What whoever carried a task out says beside its result.

    `outcome` is the tenant's own code for what came of it, `operator` whoever was there, `contact` who got in touch
    with whom, `follow_up_at` when it is to be tried again, and `raw` whatever else came with it.
    """

    occurred_at: Instant | None = None
    outcome: Label | None = None
    external_status: Label | None = None
    operator: Label | None = None
    contact: Contact | None = None
    follow_up_at: Instant | None = None
    raw: Fields = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskFieldMapping:
    """A field that goes to a later step's task, if it is blank there, when this one is completed."""

    task: str
    from_field: str
    to_field: str
