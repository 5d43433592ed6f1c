"""A task: one step of an activity, or a piece of work that stands alone; a file for each theme of its life.

A theme holds its commands and events, what each event changes, and how its commands are decided. Each theme is imported
here, and what it defines is found here too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from domain.decider import streams_of_id
from domain.plan import *  # noqa: F403
from domain.task import creating
from domain.task.assigning import *  # noqa: F403
from domain.task.changing import *  # noqa: F403
from domain.task.creating import *  # noqa: F403
from domain.task.dispatching import *  # noqa: F403
from domain.task.ending import *  # noqa: F403
from domain.task.results import *  # noqa: F403
from domain.task.scheduling import *  # noqa: F403
from domain.task.state import *  # noqa: F403
from domain.task.state import TASK, evolve
from domain.task.targeting import *  # noqa: F403
from domain.task.waking import *  # noqa: F403
from domain.task.working import *  # noqa: F403


def reads(command: Any) -> Iterable[tuple[str, str]]:
    """Name the streams that the command is sure to look at, the task's own first."""
    if isinstance(command, creating.CreateTask):
        return (*streams_of_id(command.id, "task"), *creating.streams_of_new(command))
    task_id = getattr(command, "id", None)
    return () if task_id is None else (("task", task_id),)


DECIDER = TASK.decider(evolve, reads)
EVENTS = TASK.events
