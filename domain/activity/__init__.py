"""An activity: one run of a workflow, a master whose children are tasks."""

from __future__ import annotations

from collections.abc import Iterable

from domain.activity.changing import CancelActivity, ChangeActivity
from domain.activity.creating import CreateActivity, NewTask
from domain.activity.state import (
    ACTIVITY,
    ActivityCanceled,
    ActivityCreated,
    ActivityFieldsChanged,
    LeftOut,
    evolve,
)
from domain.activity.status import STATUS_CATEGORY, STATUS_DECIDER, ActivityStatusChanged
from domain.decider import streams_of_id
from domain.task.creating import streams_of_new

__all__ = [
    "DECIDER",
    "STATUS_CATEGORY",
    "STATUS_DECIDER",
    "ActivityCanceled",
    "ActivityCreated",
    "ActivityFieldsChanged",
    "ActivityStatusChanged",
    "CancelActivity",
    "ChangeActivity",
    "CreateActivity",
    "LeftOut",
    "NewTask",
]


def reads(command: CreateActivity | ChangeActivity | CancelActivity) -> Iterable[tuple[str, str]]:
    """Name the streams that the command is sure to look at, the activity's own first."""
    if not isinstance(command, CreateActivity):
        return (("activity", command.id),)
    own = streams_of_id(command.id, "activity")
    # No creation reads it, but what becomes of its tasks next does, often in the same batch.
    status = () if command.id is None else ((STATUS_CATEGORY, command.id),)
    tasks = (stream for task in command.tasks for stream in streams_of_id(task.id, "task"))
    others = (stream for task in command.tasks for stream in streams_of_new(task))
    return (*own, *status, ("workflow", command.workflow_id), *tasks, *others)


DECIDER = ACTIVITY.decider(evolve, reads)
