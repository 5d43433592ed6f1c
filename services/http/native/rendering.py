"""Rows of the read models as bytes; what of a document never changes is rendered once, and kept while it is asked for.

What a document means stays with the read models. What is kept is found by the document's own text, so a changed row
never meets it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from domain.lifecycle import RIGHTS, TABLE, TERMINAL, Lifecycle, allowed_actions
from projections import activities
from projections.support.time import Seconds, Timed, seconds, stamp
from projections.task import table as tasks

_LIFECYCLE = {state.value.lower(): state for state in Lifecycle}
encode = msgspec.json.Encoder().encode
_task = msgspec.json.Decoder(tasks.Shown).decode
_activity = msgspec.json.Decoder(activities.Shown).decode
# A resource ends with its periods, which grow while nobody writes.
_NO_PERIODS = b',"working_seconds":0.0,"live_seconds":0.0,"pipeline_seconds":0.0}'
# One that nobody has begun has just the last of them.
_WAITING = b'%b,"working_seconds":0.0,"live_seconds":0.0,"pipeline_seconds":%.3f%b'
_KEPT = 2048
# Longer documents are not kept, which bounds the memory.
_LONGEST = 4096

# What a reader is to something with these assignees, in this project.
Kinds = Callable[[Sequence[str], str | None], tuple[str, ...]]
Actions = Callable[..., bytes]


class Prepared(NamedTuple):
    """A resource but for its actions, and for its periods unless they are over.

    `facts` are those that its actions follow from, beside what the reader is to it.
    """

    head: bytes
    over: bool
    facts: tuple[Any, ...]
    assignees: Sequence[str]
    project: str | None
    timed: Timed
    created_ms: int
    work: Sequence[tuple[float, str | None]]


@dataclass(frozen=True, slots=True)
class Renderer:
    """Shows the rows of one read model."""

    prepare: Callable[[str], Prepared]
    kept: Callable[[str], Prepared]
    actions: Actions

    def __call__(self, rows: Sequence[Sequence[Any]], now: datetime, kinds: Kinds) -> list[bytes]:
        """Return each row's resource."""
        at = stamp(now)
        now_ms = _milliseconds(at)
        kept, prepare, actions = self.kept, self.prepare, self.actions
        shown: list[bytes] = []
        # One loop without calls between: fifty rows of a page cost as much as their query.
        for row in rows:
            doc: str = row[0]
            head, over, facts, assignees, project, timed, created_ms, work = (
                kept(doc) if len(doc) <= _LONGEST else prepare(doc)
            )
            tail = actions(kinds(assignees, project), *facts)
            if over:
                shown.append(head + tail)
            elif timed.started_at is None:
                shown.append(_WAITING % (head, max(0, now_ms - created_ms) / 1000, tail))
            else:
                shown.append(head + _periods(seconds(timed, work, at)) + tail)
        return shown


def _prepared(
    shown: tasks.Shown | activities.Shown, work: Sequence[tuple[float, str | None]], facts: tuple[Any, ...]
) -> Prepared:
    whole = encode(shown)
    if not whole.endswith(_NO_PERIODS):
        raise ValueError("a resource does not end with its periods")
    head = whole[: -len(_NO_PERIODS)]
    over = shown.ended_at is not None
    if over:
        head += _periods(seconds(shown, work, shown.ended_at or ""))
    created_ms = _milliseconds(shown.created_at)
    return Prepared(head, over, facts, shown.assignees, shown.project, shown, created_ms, work)


def _periods(found: Seconds) -> bytes:
    return b',"working_seconds":%.3f,"live_seconds":%.3f,"pipeline_seconds":%.3f' % found


def _milliseconds(at: str) -> int:
    return round(datetime.fromisoformat(at).timestamp() * 1000)


def _prepare_task(doc: str) -> Prepared:
    shown = _task(doc)
    facts = (shown.status, bool(shown.assignees), shown.resolution, shown.dispatchable)
    return _prepared(shown, ((shown.worked_seconds, shown.working_since),), facts)


def _prepare_activity(doc: str) -> Prepared:
    shown = _activity(doc)
    work = [(child.worked_seconds, child.working_since) for child in shown.children]
    return _prepared(shown, work, (shown.status,))


def _tail(names: Sequence[str]) -> bytes:
    return b',"allowed_actions":' + encode(names) + b"}"


@lru_cache(maxsize=1024)
def task_actions(
    kinds: tuple[str, ...], status: str, assigned: bool, resolution: str = "NONE", dispatchable: bool = False
) -> bytes:
    """Return the end of a task's resource: the commands that an actor of these kinds can give."""
    state = _LIFECYCLE[status]
    possible = {
        name
        for kind in kinds
        for name in allowed_actions(state, assigned, kind, resolution=resolution, dispatchable=dispatchable)
    }
    return _tail([name for name in TABLE if name in possible])


@lru_cache(maxsize=256)
def activity_actions(kinds: tuple[str, ...], status: str) -> bytes:
    """Return the end of an activity's resource."""
    state = _LIFECYCLE[status]
    names = [] if state is Lifecycle.CANCELED else ["activity.change"]
    if state not in TERMINAL or state is Lifecycle.FAILED:
        names.append("activity.cancel")
    return _tail([name for name in names if any(kind in RIGHTS[name][0] for kind in kinds)])


shown_tasks = Renderer(_prepare_task, lru_cache(_KEPT)(_prepare_task), task_actions)
shown_activities = Renderer(_prepare_activity, lru_cache(_KEPT)(_prepare_activity), activity_actions)
