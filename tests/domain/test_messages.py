"""Messages: activities that go out over a channel, and that nobody can have."""

from __future__ import annotations

from typing import Any

import pytest

from domain.lifecycle import COMPLETED, OPEN, SYSTEM, TABLE, allowed_actions
from domain.plan import MESSAGE
from domain.task import (
    AssignTask,
    ChangeTask,
    ClaimTask,
    CreateTask,
    DispatchTask,
    ReportDispatch,
    SubmitResult,
    TaskAssigned,
    TaskCreated,
    TaskWakeSet,
)
from tests.builders import plan, task
from tests.domain.cases import Case, done, each, refused
from tests.domain.dispatch_scenes import PAST, people
from tests.given import Given


def message(**rest: Any) -> CreateTask:
    return task(**{"type": MESSAGE, "plan": plan(), **rest})


def with_message(*more: Any) -> Given:
    return people(message(), *more)


CASES: list[Case] = [
    done(
        "task.create",
        "a message goes out by itself as a task does",
        lambda: people().when(message(title="Sale", commerce="c", plan=plan(scheduled_at=PAST))),
        [
            TaskCreated("t", "Sale", commerce="c", plan=plan(scheduled_at=PAST), type=MESSAGE),
            TaskWakeSet("t", None, "dispatch", PAST),
        ],
    ),
    refused(
        "task.create", "invalid", "a message without a channel", lambda: people().when(message(plan=None)), "/plan"
    ),
    *(
        refused(
            "task.create",
            "invalid",
            f"a message that has {name}",
            lambda name=name, value=value: people().when(message(**{name: value})),
            f"/{name}",
        )
        for name, value in (("assignees", ("ann",)), ("route", "r"), ("operator", "op"))
    ),
    refused(
        "task.assign",
        "not-eligible",
        "nobody is given a message",
        lambda: with_message().when(AssignTask("t", ("ann",))),
        "/assignees",
    ),
    refused(
        "task.claim",
        "not-eligible",
        "nobody takes a message",
        lambda: with_message().when(ClaimTask("t"), "ann"),
        "/member",
    ),
    refused(
        "task.change",
        "not-eligible",
        "nobody is given a message by a change",
        lambda: with_message().when(ChangeTask("t", assignees=("ann",))),
        "/assignees",
    ),
    refused(
        "task.dispatch",
        "not-ready",
        "a message, where a task is meant",
        lambda: with_message().when(DispatchTask("t", "TASK")),
    ),
    refused(
        "task.dispatch",
        "not-ready",
        "a task, where a message is meant",
        lambda: people(task(plan=plan())).when(DispatchTask("t", "MESSAGE")),
    ),
]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


@pytest.mark.parametrize("named", [None, MESSAGE])
def test_a_message_is_sent_and_ends_by_its_result(named: Any) -> None:
    scene = with_message(DispatchTask("t", named), ReportDispatch("t", 1, succeeded=True))
    outcome = scene.when(SubmitResult("t", "COMPLETED"))
    assert outcome.given.state("task", "t").lifecycle is COMPLETED
    assert not any(isinstance(event, TaskAssigned) for event in outcome.given.log)


def test_what_was_created_before_there_were_messages_is_a_task() -> None:
    assert TaskCreated("t").type == CreateTask("t").type == "TASK"
    assert not people(task()).state("task", "t").is_message


def test_an_action_that_a_message_refuses_is_not_offered() -> None:
    offered = allowed_actions(OPEN, False, SYSTEM, assignable=False)
    assert {"task.assign", "task.claim"} == set(allowed_actions(OPEN, False, SYSTEM)) - set(offered)
    assert set(offered) <= set(TABLE)
