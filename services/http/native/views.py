"""What the native API answers. What read models keep as bytes is shown as it is, and its schema made from its type."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, RootModel

from domain.lifecycle import Lifecycle
from domain.rollup import RULES
from services.http.core.errors import STATUS_OF_CODE
from services.http.core.models import From, Json, View
from services.http.native.derived import example
from services.http.native.requests import NewEntry

_AT = "2025-10-31T01:50:00.000Z"
_START, _END = "2025-10-31T08:55:00.000+07:00", "2025-11-01T08:55:00.000+07:00"
_RECORDED = "2025-10-31T01:50:00.123456Z"
_EVENT_ID = "0199a1f0-0000-7000-8000-000000000001"

Count = Annotated[int, Field(ge=0)]
_CODES: Any = {"enum": sorted(STATUS_OF_CODE)}
_STATUSES: Any = {"enum": [state.value.lower() for state in Lifecycle]}
Status = Annotated[str, Field(json_schema_extra=_STATUSES)]


class Problem(View):
    """Problem details, RFC 9457."""

    type: str = Field(json_schema_extra={"format": "uri", "pattern": "^urn:foldwork:problem:"})
    title: str
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="for people")
    code: str = Field(json_schema_extra=_CODES)
    pointer: str = Field("", description="JSON pointer into the body")
    parameter: str = Field("", description="query parameter or header at fault")
    command_id: str = Field("", description="the command that was refused")
    position: int | None = Field(None, description="how far the log was")
    duplicate: bool = Field(False, description="the command had been refused before")


class External(View):
    """An answer whose bytes and schema are made from a read model's types."""

    external = True


# Activities and tasks.

_FACTS: Json = {
    "status": "open",
    "assignees": ["ann"],
    "resolution": "NONE",
    "dispatch": "NONE",
    "start": _START,
    "end": _END,
    "overdue": False,
    "created_at": _AT,
    "started_at": None,
    "ended_at": None,
    "worked_seconds": 0.0,
    "working_since": None,
}
_PERIODS = {"working_seconds": 0.0, "live_seconds": 0.0, "pipeline_seconds": 12.5}
_CHILD = example("Child", {"id": "t1", "step": 0, "title": "Pickup", **_FACTS, "position": 41, "label": "picked up"})
_PROGRESS = {"total": 1, "open": 1, "active": 0, "paused": 0, "completed": 0, "failed": 0, "canceled": 0, "percent": 0}


class Task(External):
    """The task"""

    example = example(
        "Task",
        {
            **{name: _CHILD[name] for name in ("id", "step", "title", *_FACTS, "position")},
            "activity_id": "a1",
            "flow": "pickup",
            "fields": {"customerName": "John Doe"},
            "created_by": "system",
            "updated_at": _AT,
            "version": 2,
            **_PERIODS,
            "allowed_actions": ["task.process", "task.save", "task.complete"],
        },
    )


class Activity(External):
    """The activity"""

    example = example(
        "Activity",
        {
            "id": "a1",
            "title": "Pickup to Delivery",
            "workflow": {"id": "w1", "version": 1, "name": "Pickup to Delivery"},
            "failure": "wait_all",
            "children": [_CHILD],
            "created_at": _AT,
            "created_by": "system",
            "updated_at": _AT,
            "status": "active",
            "rule": "U8",
            "current_step": 0,
            "progress": _PROGRESS,
            "assignees": ["ann"],
            "start": _START,
            "end": _END,
            "version": 1,
            "position": 41,
            **_PERIODS,
            "allowed_actions": ["activity.change", "activity.cancel"],
        },
    )


class LeftOut(External):
    """One of a step's default people who could not have its task any more."""


class ExplainedChild(View):
    """A child's part in the status of its activity."""

    id: str
    step: int | None
    status: Status
    assignees: list[str]
    resolution: str
    dispatch: str
    position: Count
    decides: bool = Field(description="it is one of those that make the rule fit")

    example: ClassVar[Json] = {
        **{name: _CHILD[name] for name in ("id", "step", "status", "assignees", "resolution", "dispatch", "position")},
        "decides": True,
    }


class Explanation(View):
    """The rule, and each child's part in it"""

    id: str = Field(examples=["a1"])
    status: Status = Field(examples=["active"])
    rule: str = Field(json_schema_extra={"enum": list(RULES)}, examples=["U8"])
    failure: Literal["wait_all", "fail_fast"]
    canceled: bool = Field(examples=[False])
    progress: dict[str, int] = Field(examples=[_PROGRESS])
    # Shown as they are.
    left_out: Annotated[list[LeftOut], From("left_out", lambda value, _: value)] = Field(examples=[[]])
    position: Count = Field(examples=[41])
    rule_text: str = Field(examples=[RULES["U8"]])
    children: list[ExplainedChild]


_DATA = {"id": "t1", "activity_id": "a1", "output": {"signed": True}, "late": False}
_CAUSES = {"command_id": "c-1", "correlation_id": "c-1", "causation_id": "c-1"}


class HistoryEntry(External):
    """An event"""

    example: ClassVar[Json] = {
        "position": 42,
        "event_id": _EVENT_ID,
        "type": "task.completed",
        "category": "task",
        "entity_id": "t1",
        "activity_id": "a1",
        "version": 3,
        "occurred_at": _AT,
        "recorded_at": _AT,
        "actor": "ann",
        **_CAUSES,
        "data": _DATA,
    }


class CloudEvent(External):
    """An event as it is published"""

    example: ClassVar[Json] = {
        "specversion": "1.0",
        "id": _EVENT_ID,
        "source": "/foldwork/acme",
        "type": "task.completed",
        "subject": "task/t1",
        "time": _RECORDED,
        "datacontenttype": "application/json",
        "tenant": "acme",
        "position": 42,
        "streamversion": 3,
        "recordedat": "2025-10-31T01:50:00.130000Z",
        **{name.replace("_", ""): value for name, value in _CAUSES.items()},
        "actor": "ann",
        "data": _DATA,
    }


class Events(View):
    """Events"""

    events: list[CloudEvent]
    next: Count = Field(examples=[42])
    head: Count = Field(examples=[42])


# The directory.


class Entry(External):
    """The entry"""

    example: ClassVar[Json] = {
        "kind": "member",
        "id": "ann",
        "fields": {**NewEntry.example["fields"], "account_id": 1001},
        "retired": False,
        "created_at": _AT,
        "created_by": "system",
        "updated_at": _AT,
        "version": 1,
        "position": 7,
    }


class RetiredEntry(External):
    """The entry as it was left"""

    example: ClassVar[Json] = {
        **Entry.example,
        "retired": True,
        "version": 2,
        "open_tasks": {"total": 1, "ids": ["t1"]},
    }


# Pages.


class _Page(View):
    data: list[Any]
    next: str | None = Field(description="the next page's address", examples=[None])


class TaskPage(_Page):
    """A page"""

    data: list[Task]


class ActivityPage(_Page):
    """A page"""

    data: list[Activity]


class HistoryPage(_Page):
    """A page"""

    data: list[HistoryEntry]


class EntryPage(_Page):
    """A page"""

    data: list[Entry]


# The probes.


class Live(View):
    """It is"""

    status: Literal["live"]


class Readiness(View):
    """How ready it is, and what every part says of itself under its own name"""

    model_config = ConfigDict(extra="allow")
    status: Literal["ready", "degraded", "not ready"]
    not_ready: list[str] = Field(description="the parts that are missing", examples=[[]])
    degraded: list[str] = Field(description="the followers that hold something back", examples=[[]])

    example: ClassVar[Json] = {"status": "ready", "not_ready": [], "degraded": [], "database": {"ready": True}}


class Figures(RootModel[str]):
    """Figures"""

    example: ClassVar[str] = "foldwork_up 1.0\n"
