"""What `activity.create` answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from domain.activity import (
    ActivityCreated,
    CreateActivity,
    LeftOut,
    NewTask,
)
from domain.decider import UniqueKey
from domain.directory import ChangeEntry, EntryRegistered, RetireEntry
from domain.steps import Step
from domain.task import TaskAssigned, TaskCreated
from domain.workflow import ChangeWorkflow, RetireWorkflow
from tests.builders import EARLY, LATE, activity, entry, member, steps, task, workflow
from tests.domain.activity_scenes import IN_USE, ready, running
from tests.domain.cases import Case, done, each, refused
from tests.given import Outcome, given, given_commands


def create(*tasks: NewTask, more: tuple[Any, ...] = (), **rest: Any) -> Outcome:
    return ready(*more).when(activity(tasks=tasks, **rest) if tasks else activity(**rest))


DEFAULTS = (
    Step("Step 1", flow="flow-1", assignees=("ann", "bob", "cid"), roles=("r",)),
    Step("Step 2", flow="flow-2", assignees=("bob",), roles=("r",)),
)


CREATED = ActivityCreated("a", "Visit", "w", 1, "Visit", steps(2), "none", "wait_all", ("t1", "t2"))


FIRST = TaskCreated("t1", "Step 1", "a", 0, "flow-1", workflow_id="w")


SECOND = TaskCreated("t2", "Step 2", "a", 1, "flow-2", workflow_id="w")


CASES: list[Case] = [
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
        {UniqueKey("workflow-use/w", "id-1"): "id-1"},
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
        {UniqueKey("member-email", "new@x.vn"): "id-1", UniqueKey("member-account", "3"): "id-1", IN_USE: "a"},
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
        "end-before-start",
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


def test_ten_tasks_of_people_need_no_more_rounds_than_one() -> None:
    names = [f"m{number}" for number in range(30)]
    crowd = [(*names[3 * n : 3 * n + 3], f"n{n}@x.vn", f"o{n}@x.vn") for n in range(10)]
    scene = given_commands([member(name) for name in (*names, "zoe")])
    rule = steps(10, blacklist=("zoe",))
    scene.and_commands([workflow(10, steps=rule), workflow(1, "one", "Other", steps=rule[:1])])
    narrow = scene.ask(activity(1, workflow_id="one", assignees=crowd)).rounds
    assert scene.ask(activity(10, assignees=crowd)).rounds == narrow
