"""What the commands on activities answer: done, ignored, and each refusal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from domain.activity import (
    ActivityCanceled,
    ActivityCreated,
    ActivityFieldsChanged,
    CancelActivity,
    ChangeActivity,
    CreateActivity,
    LeftOut,
    NewTask,
)
from domain.decider import Claim
from domain.directory import ChangeEntry, EntryRegistered, RetireEntry
from domain.lifecycle import CANCELED, COMPLETED
from domain.steps import Step
from domain.task import CancelTask, CompleteTask, FailTask, ProcessTask, TaskAssigned, TaskCanceled, TaskCreated
from domain.workflow import ChangeWorkflow, RetireWorkflow
from tests.builders import EARLY, LATE, activity, entry, manager, member, steps, task, workflow
from tests.domain.cases import Case, done, each, ignored, refused
from tests.given import Given, Outcome, given, given_commands

IN_USE = Claim("workflow-use/w", "a")


def ready(*more: Any, **rest: Any) -> Given:
    return given_commands([member("ann"), member("bob"), workflow(**rest), *more])


def create(*tasks: NewTask, more: tuple[Any, ...] = (), **rest: Any) -> Outcome:
    return ready(*more).when(activity(tasks=tasks, **rest) if tasks else activity(**rest))


def running(*more: Any, **rest: Any) -> Given:
    return ready(activity(assignees=(("ann",), ("bob",)), **rest), *more)


DEFAULTS = (
    Step("Step 1", flow="flow-1", assignees=("ann", "bob", "cid"), roles=("r",)),
    Step("Step 2", flow="flow-2", assignees=("bob",), roles=("r",)),
)
CREATED = ActivityCreated("a", "Visit", "w", 1, "Visit", steps(2), "none", "wait_all", ("t1", "t2"))
FIRST = TaskCreated("t1", "Step 1", "a", 0, "flow-1", workflow_id="w")
SECOND = TaskCreated("t2", "Step 2", "a", 1, "flow-2", workflow_id="w")

CREATE = [
    done("activity.create", "nobody's tasks", lambda: create(), [CREATED, FIRST, SECOND], {IN_USE: "a"}),
    done(
        "activity.create",
        "ids are given out",
        lambda: ready().when(CreateActivity("w", (NewTask(), NewTask()))),
        [
            replace(CREATED, id="id-1", children=("id-2", "id-3")),
            replace(FIRST, id="id-2", activity_id="id-1"),
            replace(SECOND, id="id-3", activity_id="id-1"),
        ],
        {Claim("workflow-use/w", "id-1"): "id-1"},
    ),
    done(
        "activity.create",
        "all that may be said; a task's own hub wins",
        lambda: create(
            NewTask("t1", "One", {"a": 1}, ("ann", "bob", "ann"), EARLY, LATE, "h1"),
            NewTask("t2"),
            title="Mine",
            hub="h0",
            fields={"b": 2},
        ),
        [
            replace(CREATED, title="Mine", hub="h0", fields={"b": 2}),
            replace(FIRST, title="One", fields={"a": 1}, start=EARLY, end=LATE, hub="h1"),
            TaskAssigned("t1", "a", ("ann", "bob")),
            replace(SECOND, hub="h0"),
        ],
    ),
    done(
        "activity.create",
        "a step's default people, unless nobody is asked for",
        lambda: ready(steps=steps(2, assignees=("bob",))).when(
            activity(tasks=(NewTask("t1"), NewTask("t2", assignees=())))
        ),
        [
            replace(CREATED, steps=steps(2, assignees=("bob",))),
            FIRST,
            TaskAssigned("t1", "a", ("bob",)),
            SECOND,
        ],
    ),
    done(
        "activity.create",
        "without those of the default people who cannot have the task by now, and it says so",
        lambda: given_commands(
            [
                *(member(name, actor_roles=["r"], email=f"{name}@x.vn") for name in ("ann", "bob", "cid")),
                workflow(steps=DEFAULTS),
                RetireEntry("member", "bob"),
                ChangeEntry("member", "cid", {"actor_roles": None}),
            ]
        ).when(activity(tasks=(NewTask("t1"), NewTask("t2")))),
        [
            replace(
                CREATED,
                steps=DEFAULTS,
                left_out=(
                    LeftOut(0, "bob", "was retired"),
                    LeftOut(0, "cid", "has none of the roles r"),
                    LeftOut(1, "bob", "was retired"),
                ),
            ),
            replace(FIRST, roles=("r",)),
            TaskAssigned("t1", "a", ("ann",)),
            replace(SECOND, roles=("r",)),
        ],
    ),
    done(
        "activity.create",
        "nobody is left out where the command names people, and the operator's member steps in",
        lambda: given_commands(
            [
                member("ann"),
                member("bob", operator_id="op"),
                member("cid"),
                entry("operator", "op"),
                workflow(steps=steps(2, assignees=("cid",))),
                RetireEntry("member", "cid"),
            ]
        ).when(activity(tasks=(NewTask("t1", assignees=("ann",)), NewTask("t2", operator="op")))),
        [
            replace(CREATED, steps=steps(2, assignees=("cid",)), left_out=(LeftOut(1, "cid", "was retired"),)),
            FIRST,
            TaskAssigned("t1", "a", ("ann",)),
            replace(SECOND, operator="op"),
            TaskAssigned("t2", "a", ("bob",)),
        ],
    ),
    done(
        "activity.create",
        "one new e-mail in two tasks and in two cases",
        lambda: create(NewTask("t1", assignees=("new@x.vn",)), NewTask("t2", assignees=("NEW@x.vn", "ann"))),
        [
            EntryRegistered("member", "id-1", {"email": "new@x.vn", "account_id": 3}),
            CREATED,
            FIRST,
            TaskAssigned("t1", "a", ("id-1",)),
            SECOND,
            TaskAssigned("t2", "a", ("id-1", "ann")),
        ],
        {Claim("member-email", "new@x.vn"): "id-1", Claim("member-account", "3"): "id-1", IN_USE: "a"},
    ),
    done(
        "activity.create",
        "gated: each task waits for all before it",
        lambda: ready(count=3, gating="sequential").when(activity(3)),
        [
            replace(CREATED, steps=steps(3), gating="sequential", children=("t1", "t2", "t3")),
            FIRST,
            replace(SECOND, after=("t1",)),
            TaskCreated("t3", "Step 3", "a", 2, "flow-3", after=("t1", "t2"), workflow_id="w"),
        ],
    ),
    done(
        "activity.create",
        "the workflow as it is now, with its version",
        lambda: ready(activity(id="b", tasks=(NewTask(), NewTask())), ChangeWorkflow("w", name="Audit")).when(
            activity()
        ),
        [replace(CREATED, title="Audit", workflow_name="Audit", workflow_version=2), FIRST, SECOND],
        {IN_USE: "a"},
    ),
    done(
        "activity.create",
        "what a step asks of people goes into its task",
        lambda: given_commands(
            [
                entry("project", "p"),
                member("ann", actor_roles=["r"], projects={"p": {}}),
                member("bob"),
                workflow(1, project="p", steps=(Step("S", None, "f", ("ann",), {}, ("r",), ("ann",), ("bob",)),)),
            ]
        ).when(activity(tasks=(NewTask("t1"),)), "nobody"),
        [
            replace(
                CREATED,
                steps=(Step("S", None, "f", ("ann",), {}, ("r",), ("ann",), ("bob",)),),
                children=("t1",),
                project="p",
            ),
            TaskCreated(
                "t1",
                "S",
                "a",
                0,
                flow_id="f",
                project="p",
                roles=("r",),
                whitelist=("ann",),
                blacklist=("bob",),
                workflow_id="w",
            ),
            TaskAssigned("t1", "a", ("ann",)),
        ],
    ),
    refused("activity.create", "invalid", "a workflow with a slash", lambda: create(workflow_id="a/b"), "/workflow_id"),
    refused("activity.create", "invalid", "an id with a NUL", lambda: create(id="a\0"), "/id"),
    refused(
        "activity.create",
        "invalid",
        "a task's id with a slash",
        lambda: create(NewTask("t1"), NewTask("t/2")),
        "/tasks/1/id",
    ),
    refused("activity.create", "invalid", "a hub with a slash", lambda: create(hub="a/b"), "/hub"),
    refused(
        "activity.create",
        "invalid",
        "a start without offset",
        lambda: create(NewTask("t1", start="2025-10-31T08:55:00"), NewTask("t2")),
        "/tasks/0/start",
    ),
    refused(
        "activity.create",
        "invalid",
        "an end before the start, in another offset",
        lambda: create(
            NewTask("t1"), NewTask("t2", start="2025-10-31T08:55:00+07:00", end="2025-10-31T09:00:00+09:00")
        ),
        "/tasks/1/end",
    ),
    refused(
        "activity.create",
        "invalid",
        "an e-mail that is none",
        lambda: create(NewTask("t1"), NewTask("t2", assignees=("ann", "x@"))),
        "/tasks/1/assignees/1",
    ),
    refused(
        "activity.create",
        "invalid",
        "more people than a task can have",
        lambda: create(NewTask("t1"), NewTask("t2", assignees=tuple(f"m{n}@x.vn" for n in range(51)))),
        "/tasks/1/assignees",
    ),
    refused("activity.create", "not-found", "unknown workflow", lambda: given().when(activity()), "/workflow_id"),
    refused(
        "activity.create",
        "not-found",
        "a retired workflow",
        lambda: ready(RetireWorkflow("w")).when(activity()),
        "/workflow_id",
    ),
    refused("activity.create", "not-found", "unknown hub", lambda: create(hub="x", more=(entry("hub", "h"),)), "/hub"),
    refused(
        "activity.create",
        "not-found",
        "a task's hub is unknown",
        lambda: create(NewTask("t1", hub="h"), NewTask("t2", hub="x"), more=(entry("hub", "h"),)),
        "/tasks/1/hub",
    ),
    refused(
        "activity.create",
        "not-found",
        "unknown person",
        lambda: create(NewTask("t1"), NewTask("t2", assignees=("zoe",))),
        "/tasks/1/assignees/0",
    ),
    refused("activity.create", "wrong-task-count", "one too few", lambda: ready().when(activity(1)), "/tasks"),
    refused("activity.create", "wrong-task-count", "one too many", lambda: ready().when(activity(3)), "/tasks"),
    refused("activity.create", "wrong-task-count", "none", lambda: ready().when(CreateActivity("w", ())), "/tasks"),
    refused(
        "activity.create",
        "taken",
        "the id",
        lambda: running().when(activity(tasks=(NewTask(), NewTask()))),
        "/id",
    ),
    refused("activity.create", "taken", "a task's id", lambda: create(more=(task("t2"),)), "/tasks/1/id"),
    refused("activity.create", "taken", "its own id is a task's", lambda: create(more=(task("a"),)), "/id"),
    refused(
        "activity.create",
        "taken",
        "a task's id is an activity's",
        lambda: running().when(activity(id="b", tasks=(NewTask(), NewTask("a")))),
        "/tasks/1/id",
    ),
    refused(
        "activity.create",
        "taken",
        "one id for itself and a task",
        lambda: create(NewTask("t1"), NewTask("a")),
        "/tasks/1/id",
    ),
    refused(
        "activity.create",
        "taken",
        "two tasks with one id",
        lambda: create(NewTask("x"), NewTask("x")),
        "/tasks/1/id",
    ),
    refused(
        "activity.create",
        "not-eligible",
        "on both lists",
        lambda: ready(steps=steps(2, whitelist=("ann", "bob"), blacklist=("bob",))).when(
            activity(assignees=(("ann",), ("ann", "bob")))
        ),
        "/tasks/1/assignees/1",
    ),
]

REST = [
    done(
        "activity.change",
        "old and new of what differs",
        lambda: running(fields={"a": 1, "b": 1}).when(ChangeActivity("a", "Mine", "h", {"a": None, "b": 1, "c": [2]})),
        [
            ActivityFieldsChanged(
                "a",
                {"title": "Visit", "hub": None, "fields": {"a": 1, "c": None}},
                {"title": "Mine", "hub": "h", "fields": {"a": None, "c": [2]}},
            )
        ],
        {},
    ),
    done(
        "activity.change",
        "all tasks are completed",
        lambda: running(CompleteTask("t1"), CompleteTask("t2"), manager()).when(ChangeActivity("a", "Mine"), "max"),
        [ActivityFieldsChanged("a", {"title": "Visit"}, {"title": "Mine"})],
    ),
    ignored(
        "activity.change",
        "everything as it is",
        lambda: running(hub="h", fields={"a": 1}).when(ChangeActivity("a", "Visit", "h", {"a": 1, "b": None})),
    ),
    ignored("activity.change", "nothing said", lambda: running().when(ChangeActivity("a"))),
    refused("activity.change", "invalid", "an id with a slash", lambda: given().when(ChangeActivity("a/b")), "/id"),
    refused(
        "activity.change", "invalid", "a hub with a NUL", lambda: running().when(ChangeActivity("a", hub="\0")), "/hub"
    ),
    refused("activity.change", "not-found", "unknown", lambda: given().when(ChangeActivity("a")), "/id"),
    refused(
        "activity.change",
        "not-found",
        "a hub that was retired",
        lambda: running(entry("hub", "h"), RetireEntry("hub", "h")).when(ChangeActivity("a", hub="h")),
        "/hub",
    ),
    refused("activity.change", "forbidden", "who has a task", lambda: running().when(ChangeActivity("a", "x"), "ann")),
    refused(
        "activity.change",
        "activity-canceled",
        "cancelled",
        lambda: running(CancelActivity("a")).when(ChangeActivity("a", "Mine")),
    ),
    done(
        "activity.cancel",
        "open, at work and failed tasks go along; completed ones stay",
        lambda: ready(
            member("cid"),
            activity(4, assignees=(("ann",), ("bob",), ("cid",), ())),
            CompleteTask("t1"),
            ProcessTask("t2"),
            FailTask("t3"),
            count=4,
        ).when(CancelActivity("a", "rain")),
        [
            ActivityCanceled("a", "rain"),
            TaskCanceled("t2", "a", "activity-canceled", ("bob",)),
            TaskCanceled("t3", "a", "activity-canceled", ("cid",)),
            TaskCanceled("t4", "a", "activity-canceled", ()),
        ],
        {Claim("running", "bob"): None},
    ),
    done(
        "activity.cancel",
        "by a manager; just a failed task is left",
        lambda: running(CancelTask("t1"), FailTask("t2"), manager()).when(CancelActivity("a"), "max"),
        [ActivityCanceled("a", None), TaskCanceled("t2", "a", "activity-canceled", ("bob",))],
        {},
    ),
    refused("activity.cancel", "invalid", "an id with a NUL", lambda: given().when(CancelActivity("a\0")), "/id"),
    refused("activity.cancel", "not-found", "unknown", lambda: given().when(CancelActivity("a")), "/id"),
    refused("activity.cancel", "not-found", "a task's id", lambda: running().when(CancelActivity("t1")), "/id"),
    refused("activity.cancel", "forbidden", "who has a task", lambda: running().when(CancelActivity("a"), "ann")),
    refused(
        "activity.cancel",
        "forbidden",
        "a manager of another project",
        lambda: given_commands([entry("project", "p"), workflow(project="p"), activity(), manager(project="q")]).when(
            CancelActivity("a"), "max"
        ),
    ),
    refused("activity.cancel", "terminal", "twice", lambda: running(CancelActivity("a")).when(CancelActivity("a"))),
    refused(
        "activity.cancel",
        "terminal",
        "completed",
        lambda: running(CompleteTask("t1"), CompleteTask("t2")).when(CancelActivity("a")),
    ),
    refused(
        "activity.cancel",
        "terminal",
        "each task was cancelled or completed",
        lambda: running(CompleteTask("t1"), CancelTask("t2")).when(CancelActivity("a")),
    ),
]

CASES: list[Case] = [*CREATE, *REST]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


def test_a_refused_creation_leaves_nothing_not_even_the_people() -> None:
    scene = ready()
    before = (dict(scene.states), dict(scene.holders), list(scene.log))
    scene.when(activity(tasks=(NewTask("t1", assignees=("new@x.vn",)), NewTask("t2", end="soon")))).then_rejected(
        "invalid"
    )
    assert before == (scene.states, scene.holders, scene.log)


def test_a_later_change_of_the_workflow_does_not_reach_the_activity() -> None:
    scene = running()
    before = scene.state("activity", "a"), scene.state("task", "t1")
    scene.and_commands([ChangeWorkflow("w", name="Audit", steps=(Step("X"), Step("Y")), gating="sequential")])
    assert before == (scene.state("activity", "a"), scene.state("task", "t1"))
    scene.when(ProcessTask("t2"), "bob").then_claims({Claim("running", "bob"): "t2"})


def test_cancelling_ends_every_task_but_the_completed() -> None:
    scene = running(CompleteTask("t1"), CancelActivity("a"))
    assert scene.state("activity", "a").canceled
    assert [scene.state("task", child).lifecycle for child in ("t1", "t2")] == [COMPLETED, CANCELED]


def test_cancelling_frees_everybody_at_work() -> None:
    scene = running(ProcessTask("t1"), ProcessTask("t2"), CancelActivity("a"))
    assert [claim for claim in scene.holders if claim.kind == "running"] == []


def test_ten_tasks_of_people_need_no_more_rounds_than_one() -> None:
    names = [f"m{number}" for number in range(30)]
    crowd = [(*names[3 * n : 3 * n + 3], f"n{n}@x.vn", f"o{n}@x.vn") for n in range(10)]
    scene = given_commands([member(name) for name in (*names, "zoe")])
    rule = steps(10, blacklist=("zoe",))
    scene.and_commands([workflow(10, steps=rule), workflow(1, "one", "Other", steps=rule[:1])])
    narrow = scene.ask(activity(1, workflow_id="one", assignees=crowd)).rounds
    assert scene.ask(activity(10, assignees=crowd)).rounds == narrow
