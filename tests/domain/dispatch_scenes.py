"""Scenes of a task with a plan, as the tests of how it goes out share them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from domain.activity import NewTask
from domain.decider import UniqueKey, text_of
from domain.plan import Provider
from domain.task import (
    DispatchRequested,
    DispatchTask,
    ReportDispatch,
    TaskWakeSet,
)
from tests.builders import EMAIL, activity, entry, manager, member, plan, task, workflow
from tests.given import NOW, Given, given_commands

NOW_TEXT = text_of(NOW)


PAST = "2025-10-30T08:55:00.000+07:00"


CONSOLE = Provider("console", None, None, 5.0, 30.0)


SHOP = entry("commerce", "c", segment="gold", address={"city": "Huế"}, users=[{"id": "u-1"}])


ALL, SAME = UniqueKey("contacted", "c"), UniqueKey("contacted", "c/EMAIL")


def people(*more: Any) -> Given:
    return given_commands([member("ann"), member("bob"), manager("max"), EMAIL, SHOP, *more])


def planned(*more: Any, assignees: tuple[str, ...] = ("ann",), **rest: Any) -> Given:
    return people(task(assignees=assignees, plan=plan(**rest)), *more)


def policy(key: str, strategy: str, **rest: Any) -> Any:
    return entry("attribute", key, strategy=strategy, **rest)


def report(attempt: int = 1, *, succeeded: bool = False, **rest: Any) -> ReportDispatch:
    return ReportDispatch("t", attempt, succeeded, **rest)


def in_flight(*more: Any, **rest: Any) -> Given:
    return planned(DispatchTask("t"), *more, **rest)


def sent(*more: Any, **rest: Any) -> Given:
    return in_flight(report(succeeded=True), *more, **rest)


def tried(times: int, *more: Any, **rest: Any) -> Given:
    """A task whose attempts failed so often, each asked for by hand."""
    attempts = [command for n in range(1, times + 1) for command in (DispatchTask("t"), report(n))]
    return planned(*attempts, *more, **rest)


def gated(*more: Any) -> Given:
    """Two steps, the second of which goes out by itself but must wait for the first."""
    tasks = (NewTask("t1", assignees=("ann",)), NewTask("t", plan=plan(scheduled_at=PAST)))
    return people(workflow(gating="sequential"), activity(tasks=tasks), *more)


def requested(attempt: int = 1, activity_id: str | None = None) -> DispatchRequested:
    return DispatchRequested("t", activity_id, attempt, "EMAIL", CONSOLE)


def wake(at: str | None = NOW_TEXT, kind: str = "dispatch") -> TaskWakeSet:
    return TaskWakeSet("t", None, kind, at)


def later(seconds: float) -> str:
    return text_of(NOW + timedelta(seconds=seconds))
