"""What the commands on a task's people answer."""

from __future__ import annotations

from domain.decider import UniqueKey
from domain.directory import ChangeEntry, EntryRegistered, RetireEntry
from domain.lifecycle import OPEN
from domain.task import (
    AssignTask,
    ClaimTask,
    ProcessTask,
    ReassignTask,
    TaskAssigned,
    TaskPaused,
    TaskReassigned,
    TaskStarted,
    TaskUnassigned,
    UnassignTask,
)
from tests.builders import entry, task
from tests.domain.cases import Case, done, each, ids_and_strangers, refused
from tests.domain.task_scenes import (
    RUNNING_ANN,
    RUNNING_BOB,
    active,
    anns,
    ended,
    gated,
    made_for,
    nobodys,
    paused,
    people,
    unresolved,
)

ASSIGN = [
    done(
        "task.assign",
        "two people",
        lambda: nobodys().when(AssignTask("t", ("bob", "ann", "bob"))),
        [TaskAssigned("t", None, ("bob", "ann"))],
        {},
    ),
    done(
        "task.assign",
        "by e-mail, and start: the first is at work",
        lambda: nobodys().when(AssignTask("t", ("new@x.vn", "ann"), start=True)),
        [
            EntryRegistered("member", "id-1", {"email": "new@x.vn", "account_id": 5}),
            TaskAssigned("t", None, ("id-1", "ann")),
            TaskStarted("t", None, "id-1"),
        ],
        {
            UniqueKey("member-email", "new@x.vn"): "id-1",
            UniqueKey("member-account", "5"): "id-1",
            UniqueKey("running", "id-1"): "t",
        },
    ),
    done(
        "task.assign",
        "start pauses what the person works on",
        lambda: (
            nobodys(id="t")
            .and_commands([task("u", assignees=("ann",)), ProcessTask("u")])
            .when(AssignTask("t", ("ann",), start=True), "max")
        ),
        [
            TaskAssigned("t", None, ("ann",)),
            TaskPaused("u", None, "other-task-started"),
            TaskStarted("t", None, "ann"),
        ],
        {RUNNING_ANN: "t"},
    ),
    done(
        "task.assign",
        "who fits the task's rules",
        lambda: made_for().when(AssignTask("t", ("ann",))),
        [TaskAssigned("t", None, ("ann",))],
    ),
    *ids_and_strangers(AssignTask, "task.assign", ("ann",)),
    *ended("task.assign", AssignTask("t", ("bob",))),
    refused("task.assign", "invalid", "nobody", lambda: nobodys().when(AssignTask("t", ())), "/assignees"),
    refused(
        "task.assign",
        "not-found",
        "an unknown person",
        lambda: nobodys().when(AssignTask("t", ("ann", "zoe"))),
        "/assignees/1",
    ),
    refused("task.assign", "forbidden", "a stranger", lambda: nobodys().when(AssignTask("t", ("ann",)), "nobody")),
    refused("task.assign", "forbidden", "a member", lambda: nobodys().when(AssignTask("t", ("ann",)), "ann")),
    refused("task.assign", "forbidden", "the assignee", lambda: anns().when(AssignTask("t", ("bob",)), "ann")),
    refused("task.assign", "already-assigned", "to another", lambda: anns().when(AssignTask("t", ("bob",)))),
    refused("task.assign", "already-assigned", "to the same", lambda: anns().when(AssignTask("t", ("ann",)))),
    refused("task.assign", "already-assigned", "and at work", lambda: active().when(AssignTask("t", ("bob",)))),
    refused(
        "task.assign",
        "already-processing",
        "a system works on it",
        lambda: nobodys().and_commands([ProcessTask("t")]).when(AssignTask("t", ("ann",))),
    ),
    *(
        refused(
            "task.assign", "not-eligible", why, lambda who=who: made_for().when(AssignTask("t", (who,))), "/assignees/0"
        )
        for who, why in (
            ("bob", "without the role"),
            ("cid", "on both lists"),
            ("dan", "not on the whitelist"),
            ("new@x.vn", "somebody new"),
        )
    ),
    refused(
        "task.assign",
        "not-eligible",
        "no member of the project",
        lambda: people(entry("project", "p"), task(project="p")).when(AssignTask("t", ("ann",))),
        "/assignees/0",
    ),
    refused(
        "task.assign",
        "blocked",
        "start, while an earlier step is open",
        lambda: gated(second=()).when(AssignTask("t2", ("ann",), start=True)),
    ),
    refused(
        "task.assign",
        "unresolved",
        "start, while the targets are not resolved",
        lambda: unresolved().when(AssignTask("t", ("ann",), start=True)),
    ),
]


CLAIM = [
    done(
        "task.claim", "for oneself", lambda: nobodys().when(ClaimTask("t"), "bob"), [TaskAssigned("t", None, ("bob",))]
    ),
    done(
        "task.claim",
        "for oneself by name, and start",
        lambda: nobodys().when(ClaimTask("t", "bob", start=True), "bob"),
        [TaskAssigned("t", None, ("bob",)), TaskStarted("t", None, "bob")],
        {RUNNING_BOB: "t"},
    ),
    done(
        "task.claim",
        "the system speaks for somebody",
        lambda: nobodys().when(ClaimTask("t", "bob")),
        [TaskAssigned("t", None, ("bob",))],
        {},
    ),
    *(
        done(
            "task.claim",
            f"for oneself, by {reference}",
            lambda reference=reference: (
                nobodys()
                .and_commands([ChangeEntry("member", "bob", {"email": "bob@x.vn", "operator_id": "op-2"})])
                .when(ClaimTask("t", reference), "bob")
            ),
            [TaskAssigned("t", None, ("bob",))],
            {},
        )
        for reference in ("account:2", "operator:OP-2", "Bob@x.vn")
    ),
    refused(
        "task.claim",
        "forbidden",
        "another, by account",
        lambda: nobodys().when(ClaimTask("t", "account:1"), "bob"),
        "/member",
    ),
    refused(
        "task.claim",
        "not-found",
        "an e-mail of nobody's",
        lambda: nobodys().when(ClaimTask("t", "zoe@x.vn"), "bob"),
        "/member",
    ),
    *ids_and_strangers(ClaimTask, "task.claim"),
    *ended("task.claim", ClaimTask("t", "bob")),
    refused("task.claim", "invalid", "the system, for nobody", lambda: nobodys().when(ClaimTask("t")), "/member"),
    refused(
        "task.claim", "invalid", "the system, for itself", lambda: nobodys().when(ClaimTask("t", "system")), "/member"
    ),
    refused("task.claim", "invalid", "a slash", lambda: nobodys().when(ClaimTask("t", "a/b")), "/member"),
    refused("task.claim", "not-found", "a stranger", lambda: nobodys().when(ClaimTask("t"), "nobody"), "/member"),
    refused("task.claim", "forbidden", "another", lambda: nobodys().when(ClaimTask("t", "ann"), "bob"), "/member"),
    refused(
        "task.claim",
        "forbidden",
        "a manager for another",
        lambda: nobodys().when(ClaimTask("t", "ann"), "max"),
        "/member",
    ),
    refused(
        "task.claim",
        "already-assigned",
        "the second of two",
        lambda: nobodys().and_commands([ClaimTask("t")], "ann").when(ClaimTask("t"), "bob"),
    ),
    refused(
        "task.claim",
        "already-processing",
        "a system works on it",
        lambda: nobodys().and_commands([ProcessTask("t")]).when(ClaimTask("t"), "ann"),
    ),
    refused("task.claim", "not-eligible", "shut out", lambda: made_for().when(ClaimTask("t"), "cid"), "/member"),
    refused(
        "task.claim",
        "blocked",
        "start, while an earlier step is open",
        lambda: gated(second=()).when(ClaimTask("t2", start=True), "bob"),
    ),
    refused(
        "task.claim",
        "unresolved",
        "start, while the targets are not resolved",
        lambda: unresolved().when(ClaimTask("t", start=True), "bob"),
    ),
]


REASSIGN = [
    done(
        "task.reassign",
        "by the assignee",
        lambda: anns().when(ReassignTask("t", ("bob",)), "ann"),
        [TaskReassigned("t", None, ("ann",), ("bob",))],
        {},
    ),
    done(
        "task.reassign",
        "at work: it is paused, and the person is free",
        lambda: active().when(ReassignTask("t", ("bob", "ann")), "max"),
        [TaskPaused("t", None, "reassigned"), TaskReassigned("t", None, ("ann",), ("bob", "ann"))],
        {RUNNING_ANN: None},
    ),
    done(
        "task.reassign",
        "paused",
        lambda: paused().when(ReassignTask("t", ("bob",))),
        [TaskReassigned("t", None, ("ann",), ("bob",))],
        {},
    ),
    *ids_and_strangers(ReassignTask, "task.reassign", ("bob",)),
    *ended("task.reassign", ReassignTask("t", ("bob",))),
    refused("task.reassign", "invalid", "to nobody", lambda: anns().when(ReassignTask("t", ())), "/assignees"),
    refused(
        "task.reassign",
        "not-found",
        "to somebody retired",
        lambda: anns(RetireEntry("member", "bob")).when(ReassignTask("t", ("bob",))),
        "/assignees/0",
    ),
    refused("task.reassign", "forbidden", "a stranger", lambda: anns().when(ReassignTask("t", ("bob",)), "bob")),
    refused("task.reassign", "not-assigned", "nobody's", lambda: nobodys().when(ReassignTask("t", ("bob",)))),
    refused(
        "task.reassign",
        "not-eligible",
        "without the role",
        lambda: made_for().and_commands([AssignTask("t", ("ann",))]).when(ReassignTask("t", ("ann", "bob"))),
        "/assignees/1",
    ),
    refused(
        "task.reassign",
        "same-assignee",
        "the same, in another order and twice",
        lambda: people(task(assignees=("ann", "bob"))).when(ReassignTask("t", ("bob", "ann", "bob"))),
        "/assignees",
    ),
]


UNASSIGN = [
    done(
        "task.unassign",
        "not begun",
        lambda: anns().when(UnassignTask("t"), "ann"),
        [TaskUnassigned("t", None, ("ann",))],
        {},
    ),
    done(
        "task.unassign",
        "at work: it is paused, and the person is free",
        lambda: active().when(UnassignTask("t"), "max"),
        [TaskPaused("t", None, "unassigned"), TaskUnassigned("t", None, ("ann",))],
        {RUNNING_ANN: None},
    ),
    *ids_and_strangers(UnassignTask, "task.unassign"),
    *ended("task.unassign", UnassignTask("t")),
    refused("task.unassign", "forbidden", "a stranger", lambda: anns().when(UnassignTask("t"), "bob")),
    refused("task.unassign", "not-assigned", "nobody's", lambda: nobodys().when(UnassignTask("t"))),
]


CASES: list[Case] = [*ASSIGN, *CLAIM, *REASSIGN, *UNASSIGN]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


def test_a_reassigned_task_is_open() -> None:
    state = active(ReassignTask("t", ("bob",))).state("task", "t")
    assert (state.lifecycle, state.assignees, state.runner) == (OPEN, ("bob",), None)


def test_two_claims_of_one_task_read_the_stream_that_decides_the_race() -> None:
    scene = nobodys()
    first, second = scene.ask(ClaimTask("t"), "ann"), scene.ask(ClaimTask("t"), "bob")
    assert first.events
    assert second.events
    scene.record(first.decision)
    scene.when(ClaimTask("t"), "bob").then_rejected("already-assigned")
