"""Short words for the commands that set a scene; every id is given, so that a test can name what it means."""

from __future__ import annotations

from typing import Any

from domain.activity import CreateActivity, NewTask
from domain.directory import RegisterEntry
from domain.plan import DispatchPlan
from domain.steps import Step
from domain.task import CreateTask
from domain.workflow import DefineWorkflow

EARLY = "2025-10-31T08:50:00.000+07:00"
LATE = "2025-11-01T08:55:00.000+07:00"


def steps(count: int = 2, **same: Any) -> tuple[Step, ...]:
    """Return steps named `Step 1`, `Step 2` …, alike in all else."""
    return tuple(Step(f"Step {number}", flow=f"flow-{number}", **same) for number in range(1, count + 1))


def workflow(count: int = 2, id: str = "w", name: str = "Visit", **rest: Any) -> DefineWorkflow:  # noqa: A002
    """Return the definition of a workflow with so many steps."""
    return DefineWorkflow(name, rest.pop("steps", steps(count)), id, **rest)


def activity(count: int = 2, id: str = "a", workflow_id: str = "w", **rest: Any) -> CreateActivity:  # noqa: A002
    """Return the creation of an activity whose tasks are `t1`, `t2` …, nobody's unless `assignees` says so."""
    given = rest.pop("assignees", ())
    people = [given[index] if index < len(given) else () for index in range(count)]
    tasks = tuple(NewTask(id=f"t{number}", assignees=tuple(who)) for number, who in enumerate(people, start=1))
    return CreateActivity(workflow_id, rest.pop("tasks", tasks), id, **rest)


def task(id: str = "t", **rest: Any) -> CreateTask:  # noqa: A002
    """Return the creation of a task that stands alone."""
    return CreateTask(id, **rest)


def member(id: str = "ann", **fields: Any) -> RegisterEntry:  # noqa: A002
    """Return the registration of a person."""
    return RegisterEntry("member", id, fields)


def manager(id: str = "max", project: str = "p", **fields: Any) -> RegisterEntry:  # noqa: A002
    """Return the registration of a person who manages a project."""
    return member(id, projects={project: {"is_manager": True}}, **fields)


def admin(id: str = "eve", **fields: Any) -> RegisterEntry:  # noqa: A002
    """Return the registration of a tenant-admin, who is in no project."""
    return member(id, tenant_admin=True, **fields)


def entry(kind: Any, id: str, **fields: Any) -> RegisterEntry:  # noqa: A002
    """Return the registration of anything else that commands refer to."""
    return RegisterEntry(kind, id, fields)


def plan(channel: str = "EMAIL", **rest: Any) -> DispatchPlan:
    """Return a plan by which a task goes out, never by itself unless `scheduled_at` says when."""
    return DispatchPlan(channel, **rest)


# Who takes what goes out by e-mail.
EMAIL = entry("dispatch", "EMAIL", provider="console")
