"""What a completed step hands on to later ones: into their blank fields, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from domain.activity import NewTask
from domain.plan import TaskFieldMapping
from domain.steps import FieldMapping, Step, stored_steps
from domain.task import (
    CancelTask,
    ChangeTask,
    CompleteTask,
    FailTask,
    ProcessTask,
    ResultRecorded,
    SubmitResult,
    TaskCompleted,
    TaskCreated,
    TaskFieldsChanged,
    TaskFieldsMapped,
    TaskReopened,
    TaskStarted,
)
from domain.workflow import ChangeWorkflow, WorkflowChanged, WorkflowDefined
from tests.builders import activity, member, steps, workflow
from tests.domain.cases import Case, done, each, ignored, refused
from tests.given import Given, Outcome, given, given_commands

ADDRESS = FieldMapping(0, "địa chỉ", "address")
MAPPED = (
    Step("One"),
    Step("Two", field_mapping=(ADDRESS, FieldMapping(0, "note", "note"))),
    Step("Three", field_mapping=(FieldMapping(1, "note", "note"), ADDRESS)),
)
FEEDS = (
    TaskFieldMapping("t2", "địa chỉ", "address"),
    TaskFieldMapping("t2", "note", "note"),
    TaskFieldMapping("t3", "địa chỉ", "address"),
)
STARTED = TaskStarted("t1", "a", "ann")


def run(*more: Any, **fields: dict[str, Any]) -> Given:
    """Three mapped steps; `t1`, `t2`, `t3` give the fields that they begin with."""
    tasks = tuple(NewTask(f"t{n}", fields=fields.get(f"t{n}", {}), assignees=("ann",)) for n in (1, 2, 3))
    return given_commands([member("ann"), workflow(steps=MAPPED), activity(tasks=tasks), *more])


def completed(**output: Any) -> TaskCompleted:
    return TaskCompleted("t1", "a", output, False)


def mapped(task: str, new: dict[str, Any], old: dict[str, Any] | None = None, source: str = "t1") -> TaskFieldsMapped:
    return TaskFieldsMapped(task, "a", source, old if old is not None else dict.fromkeys(new), new)


def define(*field_mapping: FieldMapping) -> Outcome:
    return given().when(workflow(steps=(Step("One"), Step("Two", field_mapping=field_mapping))))


def bad_mapping(why: str, name: str, *field_mapping: FieldMapping) -> Case:
    at = f"/steps/1/field_mapping/{len(field_mapping) - 1}/{name}"
    return refused("workflow.define", "invalid", why, lambda: define(*field_mapping), at)


CASES: list[Case] = [
    done(
        "workflow.define",
        "fields go on from earlier steps",
        lambda: given().when(workflow(steps=MAPPED)),
        [WorkflowDefined("w", "Visit", MAPPED, "none", "wait_all", None)],
    ),
    done(
        "workflow.change",
        "what goes on",
        lambda: given_commands([workflow(steps=steps(2))]).when(
            ChangeWorkflow("w", steps=(Step("One"), Step("Two", field_mapping=(ADDRESS,))))
        ),
        [
            WorkflowChanged(
                "w",
                2,
                {"steps": stored_steps(steps(2))},
                {"steps": stored_steps((Step("One"), Step("Two", field_mapping=(ADDRESS,))))},
            )
        ],
    ),
    ignored(
        "workflow.change",
        "the same goes on",
        lambda: given_commands([workflow(steps=MAPPED)]).when(ChangeWorkflow("w", steps=MAPPED)),
    ),
    bad_mapping("from the step itself", "step", FieldMapping(1, "a", "b")),
    bad_mapping("from a later step", "step", FieldMapping(0, "a", "b"), FieldMapping(2, "a", "c")),
    bad_mapping("from before the first", "step", FieldMapping(-1, "a", "b")),
    bad_mapping("from a field without name", "from_field", FieldMapping(0, "", "b")),
    bad_mapping("into a name too long", "to_field", FieldMapping(0, "a", "b" * 101)),
    bad_mapping("into one field twice", "to_field", FieldMapping(0, "a", "b"), FieldMapping(0, "c", "b")),
    refused(
        "workflow.define",
        "invalid",
        "more fields than a step can take",
        lambda: define(*(FieldMapping(0, "a", f"b{number}") for number in range(101))),
        "/steps/1/field_mapping",
    ),
    refused(
        "workflow.define",
        "invalid",
        "the first step takes from nobody",
        lambda: given().when(workflow(steps=(Step("One", field_mapping=(ADDRESS,)),))),
        "/steps/0/field_mapping/0/step",
    ),
    refused(
        "workflow.change",
        "invalid",
        "from a later step",
        lambda: given_commands([workflow()]).when(
            ChangeWorkflow("w", steps=(Step("One", field_mapping=(FieldMapping(1, "a", "b"),)), Step("Two")))
        ),
        "/steps/0/field_mapping/0/step",
    ),
    done(
        "task.complete",
        "blank fields of later steps are filled: the output comes before the fields",
        lambda: run(t1={"địa chỉ": "12 Lê Lợi", "note": "old"}).when(CompleteTask("t1", {"note": "new"}), "ann"),
        [
            STARTED,
            completed(note="new"),
            mapped("t2", {"address": "12 Lê Lợi", "note": "new"}),
            mapped("t3", {"address": "12 Lê Lợi"}),
        ],
        {},
    ),
    done(
        "task.complete",
        "what later steps have stays, zero and false too; an empty text is blank",
        lambda: run(
            t1={"địa chỉ": "12 Lê Lợi", "note": "x"}, t2={"address": 0, "note": False}, t3={"address": ""}
        ).when(CompleteTask("t1")),
        [STARTED, completed(), mapped("t3", {"address": "12 Lê Lợi"}, {"address": ""})],
    ),
    done(
        "task.complete",
        "a later step that is being worked on is filled; one that has ended is not",
        lambda: run(ProcessTask("t3"), CancelTask("t2"), t1={"địa chỉ": "x"}).when(CompleteTask("t1")),
        [STARTED, completed(), mapped("t3", {"address": "x"})],
    ),
    done(
        "task.complete",
        "zero and false go on; blank values do not",
        lambda: run(t1={"địa chỉ": False}).when(CompleteTask("t1", {"note": ""})),
        [
            STARTED,
            completed(note=""),
            mapped("t2", {"address": False}),
            mapped("t3", {"address": False}),
        ],
    ),
    done(
        "task.complete",
        "nothing to go on",
        lambda: run().when(CompleteTask("t1", {"other": 1})),
        [STARTED, completed(other=1)],
    ),
    done(
        "task.change",
        "with the last change the step is completed, and the change goes on",
        lambda: run().when(ChangeTask("t1", fields={"địa chỉ": "x"}, complete=True), "ann"),
        [
            TaskFieldsChanged("t1", "a", {"fields": {"địa chỉ": None}}, {"fields": {"địa chỉ": "x"}}),
            STARTED,
            completed(),
            mapped("t2", {"address": "x"}),
            mapped("t3", {"address": "x"}),
        ],
    ),
    done(
        "task.submit-result",
        "a step that was done elsewhere hands on as well",
        lambda: run(t1={"địa chỉ": "x"}).when(SubmitResult("t1", "TRANSFERRED", data={"note": "n"})),
        [
            ResultRecorded("t1", "a", "TRANSFERRED", data={"note": "n"}),
            completed(note="n"),
            mapped("t2", {"address": "x", "note": "n"}),
            mapped("t3", {"address": "x"}),
        ],
    ),
    done(
        "task.submit-result",
        "a step that was not done hands nothing on",
        lambda: run(t1={"note": "n"}).when(SubmitResult("t1", "CANCELED")),
        [ResultRecorded("t1", "a", "CANCELED"), *run(CancelTask("t1")).log[-1:]],
    ),
    done(
        "task.submit-result",
        "what is overridden hands on what is blank by then",
        lambda: run(FailTask("t1"), ChangeTask("t2", fields={"address": "own"}), t1={"địa chỉ": "x"}).when(
            SubmitResult("t1", "COMPLETED", hard_override=True)
        ),
        [
            ResultRecorded("t1", "a", "COMPLETED", None, True),
            TaskReopened("t1", "a"),
            completed(),
            mapped("t3", {"address": "x"}),
        ],
    ),
]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


def test_a_task_knows_what_it_hands_on() -> None:
    created = [event for event in run().log if isinstance(event, TaskCreated)]
    assert [event.feeds for event in created] == [FEEDS, (TaskFieldMapping("t3", "note", "note"),), ()]


def test_what_was_handed_on_is_handed_on_again_by_the_step_that_took_it() -> None:
    scene = run(CompleteTask("t1", {"note": "n"}))
    scene.when(CompleteTask("t2")).then(
        [TaskStarted("t2", "a", "ann"), TaskCompleted("t2", "a", {}, False), mapped("t3", {"note": "n"}, source="t2")]
    )
    assert scene.state("task", "t3").fields == {"note": "n"}


def test_a_field_that_was_filled_is_the_steps_own_from_then_on() -> None:
    scene = run(CompleteTask("t1", {"note": "n"}), ChangeTask("t2", fields={"note": None}))
    assert "note" not in scene.state("task", "t2").fields


@pytest.mark.parametrize("blank", [None, "", [], {}])
def test_blank(blank: Any) -> None:
    scene = run(t1={"địa chỉ": "x"}, t2={"address": blank})
    scene.and_commands([CompleteTask("t1")])
    assert scene.state("task", "t2").fields["address"] == "x"


@pytest.mark.parametrize("value", [0, 0.0, False, " ", [None], {"a": None}])
def test_not_blank(value: Any) -> None:
    scene = run(t1={"địa chỉ": "x"}, t2={"address": value})
    scene.and_commands([CompleteTask("t1")])
    assert scene.state("task", "t2").fields["address"] is value


def test_a_step_that_hands_nothing_on_changes_no_other() -> None:
    got = run().when(CompleteTask("t3"))
    assert got.decision is not None
    assert {stream for stream, _ in got.decision.events if "/task-" in stream} == {"acme/task-t3"}
