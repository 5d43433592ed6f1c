"""A member who was retired can do nothing and is given nothing; what the member has stays until it is changed."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from domain import COMMANDS
from domain.directory import RegisterEntry, RetireEntry
from domain.steps import Step
from domain.task import (
    AssignTask,
    CancelTask,
    ChangeTask,
    ClaimTask,
    CompleteTask,
    FailTask,
    PauseTask,
    ProcessTask,
    ReassignTask,
    RetryTask,
    SubmitResult,
    TaskAssigned,
    TaskFieldsChanged,
    TaskReassigned,
    TaskRetried,
    TaskStarted,
    TaskUnassigned,
)
from domain.workflow import ChangeWorkflow
from tests.builders import entry, manager, member, task, workflow
from tests.given import Given, given_commands


def example(kind: type) -> Any:
    """Return a command with something within its limits in each field that it must have."""
    hints = get_type_hints(kind)
    return kind(
        **{
            field.name: _value(hints[field.name])
            for field in fields(kind)
            if field.default is MISSING and field.default_factory is MISSING
        }
    )


def _value(hint: Any) -> Any:
    if is_dataclass(hint):
        return example(hint)
    if get_origin(hint) is tuple:
        return (_value(get_args(hint)[0]),)
    simple = {bool: True, int: 1, dict: {}}
    return simple.get(get_origin(hint) or hint, get_args(hint)[0] if get_origin(hint) is Literal else "tt")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_retired_member_is_refused_every_command(name: str) -> None:
    scene = given_commands([manager("max"), task(assignees=("max",)), RetireEntry("member", "max")])
    log = list(scene.log)
    scene.when(example(COMMANDS[name]), "max").then_rejected("forbidden")
    assert scene.log == log


def test_whoever_is_registered_again_acts_again() -> None:
    scene = given_commands([manager("max"), task(assignees=("max",)), RetireEntry("member", "max"), manager("max")])
    assert scene.when(ProcessTask("t"), "max").refusal is None


def test_only_the_member_of_that_id_is_meant() -> None:
    scene = given_commands([entry("hub", "max"), RetireEntry("hub", "max"), RegisterEntry("member", "max")])
    assert scene.when(task(), "max").refusal is None


GHOSTS = ("ghost", "ghost@x.vn", "GHOST@x.vn", "account:7", "operator:op-7")
GHOST = member("ghost", email="ghost@x.vn", account_id=7, operator_id="op-7")
GONE = RetireEntry("member", "ghost")


def held(*people: str, **rest: Any) -> Given:
    return given_commands([GHOST, member("bob"), task(assignees=people, **rest), GONE])


@pytest.mark.parametrize("who", GHOSTS)
def test_whoever_was_retired_is_given_no_work_by_any_name_and_comes_back_as_nobody_else(who: str) -> None:
    scene = held("bob").and_commands([task("free")])
    for command, place in (
        (task("t2", assignees=("bob", who)), "/assignees/1"),
        (AssignTask("free", (who,)), "/assignees/0"),
        (ClaimTask("free", who), "/member"),
        (ReassignTask("t", (who,)), "/assignees/0"),
        (ChangeTask("t", assignees=("bob", who)), "/assignees/1"),
        (workflow(steps=(Step("A", assignees=(who,)),)), "/steps/0/assignees/0"),
        (workflow(steps=(Step("A", blacklist=(who,)),)), "/steps/0/blacklist/0"),
    ):
        scene.ask(command).then_rejected("not-found", place)


@pytest.mark.parametrize("who", GHOSTS)
def test_whoever_has_a_task_and_was_retired_may_be_named_again_and_stays(who: str) -> None:
    scene = held("ghost", roles=())
    scene.ask(ChangeTask("t", assignees=(who,))).then_nothing()
    scene.ask(ChangeTask("t", title="New", assignees=(who,))).then(
        [TaskFieldsChanged("t", None, {"title": None}, {"title": "New"})]
    )
    scene.ask(ReassignTask("t", (who,))).then_rejected("same-assignee")
    scene.ask(ReassignTask("t", (who, "bob"))).then([TaskReassigned("t", None, ("ghost",), ("ghost", "bob"))])


def test_an_address_that_was_taken_over_names_its_new_member() -> None:
    scene = held("ghost").and_commands([member("new", email="ghost@x.vn")])
    scene.ask(ReassignTask("t", ("ghost@x.vn",))).then([TaskReassigned("t", None, ("ghost",), ("new",))])


@pytest.mark.parametrize("who", GHOSTS)
@pytest.mark.parametrize("place", ["assignees", "whitelist", "blacklist"])
def test_a_step_names_again_whom_it_names(place: str, who: str) -> None:
    steps: Any = (Step("A", **{place: ("ghost",)}), Step("B"))
    scene = given_commands([GHOST, workflow(steps=steps), GONE])
    again = replace(steps[0], **{place: (who,)})
    scene.ask(ChangeWorkflow("w", steps=(again, steps[1]))).then_nothing()
    renamed = scene.ask(ChangeWorkflow("w", name="Other", steps=(again, Step("C"))))
    assert renamed.events[0].new["steps"][0][place] == ["ghost"]
    # In no other step and no other list.
    scene.ask(ChangeWorkflow("w", steps=(again, Step("B", **{place: (who,)})))).then_rejected("not-found")
    other = "blacklist" if place != "blacklist" else "whitelist"
    scene.ask(ChangeWorkflow("w", steps=(Step("A", **{other: (who,)}), steps[1]))).then_rejected("not-found")


@pytest.mark.parametrize("people", [("ghost",), ("ghost", "bob"), ("bob",)])
def test_a_task_that_is_tried_again_is_not_given_to_who_was_retired(people: tuple[str, ...]) -> None:
    scene = held(*people).and_commands([FailTask("t")])
    retried = TaskRetried("t", None)
    after: dict[tuple[str, ...], list[Any]] = {
        ("ghost",): [retried, TaskUnassigned("t", None, ("ghost",))],
        ("ghost", "bob"): [retried, TaskReassigned("t", None, ("ghost", "bob"), ("bob",))],
        ("bob",): [retried],
    }
    scene.when(RetryTask("t")).then(after[people])
    assert scene.state("task", "t").assignees == tuple(who for who in people if who != "ghost")


@pytest.mark.parametrize("people", [("ghost",), ("ghost", "bob")])
def test_a_cancelled_task_that_gets_another_result_is_not_given_back_to_who_was_retired(people: Any) -> None:
    scene = held(*people).and_commands([CancelTask("t")])
    scene.and_commands([SubmitResult("t", "NOT_EXECUTED", hard_override=True)])
    rest = tuple(who for who in people if who != "ghost")
    assert scene.state("task", "t").assignees == rest
    assert [event for event in scene.log if isinstance(event, TaskAssigned)][1:] == (
        [TaskAssigned("t", None, rest)] if rest else []
    )


def test_the_system_starts_nothing_for_who_was_retired() -> None:
    for command in (ProcessTask("t"), CompleteTask("t")):
        held("ghost").ask(command).then_rejected("not-assignee")
    started = held("ghost", "bob").ask(ProcessTask("t"))
    started.then([TaskStarted("t", None, "bob")])
    paused = given_commands([GHOST, task(assignees=("ghost",)), ProcessTask("t"), PauseTask("t"), GONE])
    paused.ask(ProcessTask("t")).then_rejected("not-assignee")
