"""Whether a step may begin: in a workflow with sequential gating each waits for all before it."""

from __future__ import annotations

from domain.decider import Context
from domain.errors import Rejected
from domain.lifecycle import CANCELED, COMPLETED
from domain.task.state import Task


def is_blocked(task: Task, context: Context) -> bool:
    """Tell whether an earlier step is not done with."""
    if not task.created.after:
        return False
    # A cancelled step is one that will not happen; what follows it must not wait for ever.
    done = (COMPLETED, CANCELED)
    earlier = context.all_states("task", task.created.after)
    return any(each is None or each.lifecycle not in done for each in earlier)


def demand_unblocked(task: Task, context: Context) -> None:
    """Refuse a step that must wait."""
    if is_blocked(task, context):
        raise Rejected("blocked", "an earlier step is not done with")
