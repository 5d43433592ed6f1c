"""What becomes of an activity as a whole: its own title, hub and fields, and its cancellation."""

from __future__ import annotations

from dataclasses import dataclass, field

from domain.activity.state import ACTIVITY, Activity, ActivityCanceled, ActivityFieldsChanged
from domain.decider import Context, Decision, given
from domain.directory.eligibility import actor_kind
from domain.directory.lookup import known_hub
from domain.errors import Rejected
from domain.left_out import left_out
from domain.lifecycle import FAILED, TERMINAL, permit
from domain.limits import Comment, Fields, Id, Title
from domain.task.changing import changed_fields
from domain.task.ending import canceled
from domain.task.state import Task


@ACTIVITY.command("activity.change")
@dataclass(frozen=True, slots=True)
class ChangeActivity:
    """What is left out stays as it is, what is null goes away; an activity always has a title."""

    id: Id
    title: Title = left_out()
    hub: Id | None = left_out()
    fields: Fields = field(default_factory=dict)


@ACTIVITY.command("activity.cancel")
@dataclass(frozen=True, slots=True)
class CancelActivity:
    id: Id
    reason: Comment | None = None


@ACTIVITY.decides(ChangeActivity)
def change(command: ChangeActivity, context: Context) -> Decision:
    activity = _present(command.id, context)
    permit("activity.change", actor_kind(context, (), activity.project))
    if activity.canceled:
        raise Rejected("activity-canceled", "the activity was cancelled")
    wanted = given(command, "title", "hub")
    if wanted.get("hub") is not None:
        known_hub(context, wanted["hub"], "/hub")
    old, new = changed_fields(activity, wanted, command.fields)
    if not new:
        return Decision()
    event = ActivityFieldsChanged(activity.id, old, new)
    return Decision(((context.stream("activity", activity.id), event),))


@ACTIVITY.decides(CancelActivity)
def cancel(command: CancelActivity, context: Context) -> Decision:
    activity = _present(command.id, context)
    permit("activity.cancel", actor_kind(context, (), activity.project))
    children: list[Task] = context.all_states("task", activity.children)
    left = [task for task in children if task.lifecycle not in TERMINAL or task.lifecycle is FAILED]
    if activity.canceled or not left:
        raise Rejected("terminal", "the activity has ended")
    event = ActivityCanceled(activity.id, command.reason)
    decisions = [canceled(task, "activity-canceled", context) for task in left]
    events = ((context.stream("activity", activity.id), event), *(e for d in decisions for e in d.events))
    return Decision(events, {unique: holder for d in decisions for unique, holder in d.unique_keys.items()})


def _present(activity_id: str, context: Context) -> Activity:
    activity: Activity | None = context.state("activity", activity_id)
    if activity is None:
        raise Rejected("not-found", f"there is no activity {activity_id}", "/id")
    return activity
