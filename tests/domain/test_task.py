"""What the commands on tasks answer: done, ignored, and each refusal."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from domain.activity import ActivityCanceled, CancelActivity
from domain.decider import Claim, instant
from domain.directory import ChangeEntry, EntryRegistered, RetireEntry
from domain.errors import Rejected
from domain.lifecycle import ACTIVE, CANCELED, FAILED, OPEN
from domain.task import (
    AssignTask,
    Attribute,
    AttributesResolved,
    CancelTask,
    ChangeTask,
    ClaimTask,
    CompleteTask,
    CreateTask,
    Dispatch,
    FailTask,
    PauseTask,
    ProcessTask,
    ReassignTask,
    Resolution,
    ResolutionFailed,
    RetryTask,
    SaveTask,
    Target,
    TargetsResolved,
    TaskAssigned,
    TaskCanceled,
    TaskCompleted,
    TaskCreated,
    TaskDataSaved,
    TaskFailed,
    TaskFieldsChanged,
    TaskPaused,
    TaskReassigned,
    TaskRescheduled,
    TaskResumed,
    TaskRetried,
    TaskStarted,
    TaskUnassigned,
    UnassignTask,
)
from tests.builders import EARLY, LATE, activity, entry, manager, member, task, workflow
from tests.domain.cases import Case, done, each, ids_and_strangers, ignored, refused
from tests.given import COMMAND_NAMES, NOW, Given, Outcome, given, given_commands

RUNNING_ANN, RUNNING_BOB = Claim("running", "ann"), Claim("running", "bob")
PEOPLE = (member("ann"), member("bob"), member("cid"), manager("max"))


def people(*more: Any) -> Given:
    return given_commands([*PEOPLE, *more])


def nobodys(**rest: Any) -> Given:
    return people(task(**rest))


def anns(*more: Any, **rest: Any) -> Given:
    return people(task(assignees=("ann",), **rest), *more)


def active(*more: Any, **rest: Any) -> Given:
    return anns(ProcessTask("t"), *more, **rest)


def paused(**rest: Any) -> Given:
    return active(PauseTask("t"), **rest)


def completed() -> Given:
    return active(CompleteTask("t"))


def failed(**rest: Any) -> Given:
    return anns(FailTask("t"), **rest)


def unresolved() -> Given:
    return nobodys().and_events([ResolutionFailed("t", None, "nobody matches")])


def gated(*, second: tuple[str, ...] = ("bob",)) -> Given:
    return people(workflow(gating="sequential"), activity(assignees=(("ann",), second)))


def create(**rest: Any) -> Outcome:
    return people().when(task(**rest))


def made_for(**rest: Any) -> Given:
    """A task with rules of who may have it; ann fits all, bob lacks the role, cid is shut out though let in."""
    rules = {"roles": ("sales",), "whitelist": ("ann", "bob", "cid"), "blacklist": ("cid",), "project": "p", **rest}
    joined = {"projects": {"p": {}}}
    scene = people(
        entry("project", "p"),
        ChangeEntry("member", "ann", {"actor_roles": ["sales", "field"], **joined}),
        ChangeEntry("member", "bob", {"actor_roles": ["field"], **joined}),
        ChangeEntry("member", "cid", {"actor_roles": ["sales"], **joined}),
        member("dan", actor_roles=["sales"], **joined),
    )
    return scene.and_commands([task(**rules)])


def late(value: str | None = None) -> Given:
    scene = anns(end=EARLY)
    return scene.and_commands([entry("policy", "late-completion", value=value)]) if value else scene


def ended(name: str, command: Any, code: str = "terminal") -> list[Case]:
    """Cases for the three ends of a task."""
    scenes = (completed, lambda: anns(CancelTask("t")), failed)
    names = ("a completed task", "a cancelled task", "a failed task")
    return [
        refused(name, code, why, lambda scene=scene: scene().when(command))
        for why, scene in zip(names, scenes, strict=True)
    ]


CREATE = [
    done("task.create", "nothing but an id", lambda: create(), [TaskCreated("t")], {}),
    done("task.create", "an id is given out", lambda: given().when(CreateTask()), [TaskCreated("id-1")], {}),
    done(
        "task.create",
        "all that may be said",
        lambda: people(
            *(entry(kind, f"{kind}-1") for kind in ("hub", "project", "commerce", "route", "operator")),
            ChangeEntry("member", "ann", {"actor_roles": ["r"], "projects": {"project-1": {}}}),
        ).when(
            task(
                title="T",
                flow="f",
                flow_id="fid",
                fields={"a": [1]},
                assignees=("ann",),
                start=EARLY,
                end=LATE,
                hub="hub-1",
                project="project-1",
                commerce="commerce-1",
                route="route-1",
                operator="operator-1",
                roles=("r",),
                whitelist=("ann",),
                blacklist=("bob",),
                attributes=(
                    Attribute("a", 0),
                    Attribute("b", None, "else"),
                    Attribute("c", "own", "else"),
                    Attribute("d"),
                ),
            )
        ),
        [
            TaskCreated(
                id="t",
                title="T",
                flow="f",
                flow_id="fid",
                fields={"a": [1]},
                start=EARLY,
                end=LATE,
                hub="hub-1",
                project="project-1",
                commerce="commerce-1",
                route="route-1",
                operator="operator-1",
                roles=("r",),
                whitelist=("ann",),
                blacklist=("bob",),
            ),
            TaskAssigned("t", None, ("ann",)),
            AttributesResolved("t", None, {"a": 0, "b": "else", "c": "own"}),
        ],
        {},
    ),
    done(
        "task.create",
        "assignees twice, by id, by e-mail and by e-mail in another case",
        lambda: people(ChangeEntry("member", "ann", {"email": "Ann@x.vn"})).when(
            task(assignees=("bob", "ann@X.vn", "ann", "new@x.vn", "bob", "NEW@x.vn"))
        ),
        [
            EntryRegistered("member", "id-1", {"email": "new@x.vn", "account_id": 5}),
            TaskCreated("t"),
            TaskAssigned("t", None, ("bob", "ann", "id-1")),
        ],
        {Claim("member-email", "new@x.vn"): "id-1", Claim("member-account", "5"): "id-1"},
    ),
    done(
        "task.create",
        "the end is the start, told in another offset",
        lambda: create(start="2025-10-31T08:55:00.000+07:00", end="2025-10-31T01:55:00Z"),
        [TaskCreated("t", start="2025-10-31T08:55:00.000+07:00", end="2025-10-31T01:55:00Z")],
    ),
    done(
        "task.create",
        "any hub, in a tenant without hubs",
        lambda: create(hub="anywhere"),
        [TaskCreated("t", hub="anywhere")],
    ),
    done("task.create", "a stranger may", lambda: given().when(task(), "nobody"), [TaskCreated("t")]),
    refused("task.create", "invalid", "an id with a slash", lambda: create(id="a/b"), "/id"),
    refused("task.create", "invalid", "an id with a NUL", lambda: create(id="a\0"), "/id"),
    refused("task.create", "invalid", "an empty id", lambda: create(id=""), "/id"),
    refused("task.create", "invalid", "a start without offset", lambda: create(start="2025-10-31T08:55:00"), "/start"),
    refused("task.create", "invalid", "an end that is a day", lambda: create(end="2025-10-31"), "/end"),
    refused(
        "task.create",
        "end-before-start",
        "an end before the start, though its text is later",
        lambda: create(start="2025-10-31T08:55:00+07:00", end="2025-10-31T09:00:00+09:00"),
        "/end",
    ),
    refused("task.create", "invalid", "a hub with a slash", lambda: create(hub="a/b"), "/hub"),
    refused("task.create", "invalid", "a route with a NUL", lambda: create(route="a\0"), "/route"),
    refused("task.create", "invalid", "an assignee with a NUL", lambda: create(assignees=("a\0",)), "/assignees/0"),
    refused(
        "task.create", "invalid", "an e-mail that is none", lambda: create(assignees=("ann", "@x.vn")), "/assignees/1"
    ),
    refused(
        "task.create",
        "invalid",
        "more people than a task can have",
        lambda: create(assignees=tuple(f"m{number}@x.vn" for number in range(51))),
        "/assignees",
    ),
    *(
        refused("task.create", "not-found", f"an unknown {kind}", lambda kind=kind: create(**{kind: "x"}), f"/{kind}")
        for kind in ("project", "commerce", "route", "operator")
    ),
    refused(
        "task.create",
        "not-found",
        "a retired commerce",
        lambda: people(entry("commerce", "c"), RetireEntry("commerce", "c")).when(task(commerce="c")),
        "/commerce",
    ),
    refused(
        "task.create",
        "not-found",
        "an unknown hub, in a tenant with hubs",
        lambda: people(entry("hub", "h")).when(task(hub="x")),
        "/hub",
    ),
    refused("task.create", "not-found", "an unknown assignee", lambda: create(assignees=("zoe",)), "/assignees/0"),
    refused(
        "task.create",
        "not-found",
        "an assignee who was retired",
        lambda: people(RetireEntry("member", "bob")).when(task(assignees=("ann", "bob"))),
        "/assignees/1",
    ),
    refused("task.create", "taken", "the id is in use", lambda: nobodys().when(task()), "/id"),
    refused(
        "task.create",
        "taken",
        "the id is an activity's",
        lambda: given_commands([workflow(), activity()]).when(task("a")),
        "/id",
    ),
    refused(
        "task.create",
        "not-eligible",
        "on both lists: the blacklist wins",
        lambda: create(assignees=("ann",), whitelist=("ann",), blacklist=("ann",)),
        "/assignees/0",
    ),
    refused(
        "task.create",
        "not-eligible",
        "the place that is told counts those named twice",
        lambda: create(assignees=("ann", "ann", "bob"), whitelist=("ann",)),
        "/assignees/2",
    ),
    refused(
        "task.create",
        "not-eligible",
        "somebody new has no role",
        lambda: create(assignees=("new@x.vn",), roles=("sales",)),
        "/assignees/0",
    ),
]

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
            Claim("member-email", "new@x.vn"): "id-1",
            Claim("member-account", "5"): "id-1",
            Claim("running", "id-1"): "t",
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

PROCESS = [
    done(
        "task.process",
        "start",
        lambda: anns().when(ProcessTask("t"), "ann"),
        [TaskStarted("t", None, "ann")],
        {RUNNING_ANN: "t"},
    ),
    done(
        "task.process",
        "resume, by the other of two",
        lambda: people(task(assignees=("ann", "bob")), ProcessTask("t"), PauseTask("t")).when(ProcessTask("t"), "bob"),
        [TaskResumed("t", None, "bob")],
        {RUNNING_BOB: "t"},
    ),
    done(
        "task.process",
        "the system starts for the first assignee",
        lambda: people(task(assignees=("bob", "ann"))).when(ProcessTask("t")),
        [TaskStarted("t", None, "bob")],
        {RUNNING_BOB: "t"},
    ),
    done(
        "task.process",
        "the system starts what is nobody's",
        lambda: nobodys().when(ProcessTask("t")),
        [TaskStarted("t", None, None)],
        {},
    ),
    done(
        "task.process",
        "another running task of the person is paused first",
        lambda: active(task("u", assignees=("ann",))).when(ProcessTask("u"), "ann"),
        [TaskPaused("t", None, "other-task-started"), TaskStarted("u", None, "ann")],
        {RUNNING_ANN: "u"},
    ),
    done(
        "task.process",
        "the next step, once the one before is completed",
        lambda: gated().and_commands([CompleteTask("t1")]).when(ProcessTask("t2"), "bob"),
        [TaskStarted("t2", "a", "bob")],
        {RUNNING_BOB: "t2"},
    ),
    done(
        "task.process",
        "targets that were resolved later",
        lambda: (
            unresolved()
            .and_events([TargetsResolved("t", None, (Target("t1", "ANY", "RESOLVED", "x"),))])
            .when(ProcessTask("t"))
        ),
        [TaskStarted("t", None, None)],
    ),
    done(
        "task.process",
        "an earlier step that was cancelled",
        lambda: gated().and_commands([CancelTask("t1")]).when(ProcessTask("t2"), "bob"),
        [TaskStarted("t2", "a", "bob")],
    ),
    *ids_and_strangers(ProcessTask, "task.process"),
    *ended("task.process", ProcessTask("t")),
    refused("task.process", "not-assignee", "a stranger", lambda: anns().when(ProcessTask("t"), "bob")),
    refused("task.process", "not-assignee", "a manager", lambda: anns().when(ProcessTask("t"), "max")),
    *(
        refused(
            COMMAND_NAMES[type(command)],
            "not-assignee",
            "the system, when whoever has it was retired",
            lambda command=command: anns().and_commands([RetireEntry("member", "ann")]).when(command),
        )
        for command in (ProcessTask("t"), CompleteTask("t"))
    ),
    refused("task.process", "already-processing", "twice", lambda: active().when(ProcessTask("t"), "ann")),
    refused("task.process", "blocked", "an earlier step is open", lambda: gated().when(ProcessTask("t2"), "bob")),
    refused(
        "task.process",
        "blocked",
        "an earlier step is at work",
        lambda: gated().and_commands([ProcessTask("t1")]).when(ProcessTask("t2"), "bob"),
    ),
    refused("task.process", "unresolved", "targets not resolved", lambda: unresolved().when(ProcessTask("t"))),
]

PAUSE = [
    done(
        "task.pause",
        "by the assignee, who is free",
        lambda: active().when(PauseTask("t"), "ann"),
        [TaskPaused("t", None, "asked")],
        {RUNNING_ANN: None},
    ),
    done(
        "task.pause",
        "what a system works on",
        lambda: nobodys().and_commands([ProcessTask("t")]).when(PauseTask("t")),
        [TaskPaused("t", None, "asked")],
        {},
    ),
    *ids_and_strangers(PauseTask, "task.pause"),
    *ended("task.pause", PauseTask("t"), "not-processing"),
    refused("task.pause", "not-processing", "not begun", lambda: anns().when(PauseTask("t"), "ann")),
    refused("task.pause", "not-processing", "twice", lambda: paused().when(PauseTask("t"), "ann")),
    refused("task.pause", "not-assignee", "a manager", lambda: active().when(PauseTask("t"), "max")),
]

SAVE = [
    done(
        "task.save",
        "old and new of what differs",
        lambda: anns(SaveTask("t", {"a": 1, "b": 1})).when(SaveTask("t", {"a": 1, "b": 2, "c": [3]}), "ann"),
        [TaskDataSaved("t", None, {"b": 1, "c": None}, {"b": 2, "c": [3]})],
        {},
    ),
    done(
        "task.save",
        "zero, one and truth are four values",
        lambda: anns(SaveTask("t", {"a": 1, "b": {"c": 0}})).when(SaveTask("t", {"a": True, "b": {"c": False}})),
        [TaskDataSaved("t", None, {"a": 1, "b": {"c": 0}}, {"a": True, "b": {"c": False}})],
    ),
    ignored("task.save", "the same again", lambda: anns(SaveTask("t", {"a": 1})).when(SaveTask("t", {"a": 1}), "ann")),
    ignored("task.save", "nothing said", lambda: anns().when(SaveTask("t", {}), "ann")),
    *ids_and_strangers(SaveTask, "task.save", {}),
    *ended("task.save", SaveTask("t", {"a": 1})),
    refused("task.save", "not-assignee", "a manager", lambda: anns().when(SaveTask("t", {"a": 1}), "max")),
]

CHANGE = [
    done(
        "task.change",
        "title, hub and fields, and the times",
        lambda: anns(title="T", fields={"a": 1, "b": 1}, start=EARLY).when(
            ChangeTask("t", "U", {"a": None, "b": 1, "c": 2}, end=LATE, hub="h"), "ann"
        ),
        [
            TaskFieldsChanged(
                "t",
                None,
                {"title": "T", "hub": None, "fields": {"a": 1, "c": None}},
                {"title": "U", "hub": "h", "fields": {"a": None, "c": 2}},
            ),
            TaskRescheduled("t", None, EARLY, None, EARLY, LATE),
        ],
        {},
    ),
    done(
        "task.change",
        "the same instant in another offset is another text",
        lambda: nobodys(start="2025-10-31T08:00:00+07:00").when(ChangeTask("t", start="2025-10-31T01:00:00Z")),
        [TaskRescheduled("t", None, "2025-10-31T08:00:00+07:00", None, "2025-10-31T01:00:00Z", None)],
    ),
    ignored(
        "task.change",
        "everything as it is",
        lambda: anns(title="T", fields={"a": 1}, start=EARLY, hub="h").when(
            ChangeTask("t", "T", {"a": 1, "b": None}, start=EARLY, hub="h")
        ),
    ),
    ignored("task.change", "nothing said", lambda: anns().when(ChangeTask("t"))),
    *ids_and_strangers(ChangeTask, "task.change"),
    *ended("task.change", ChangeTask("t", "U")),
    refused(
        "task.change",
        "end-before-start",
        "a start behind the end that stays",
        lambda: nobodys(end="2025-10-31T08:00:00+07:00").when(ChangeTask("t", start="2025-10-31T01:00:01Z")),
        "/end",
    ),
    refused(
        "task.change",
        "invalid",
        "an end without offset",
        lambda: nobodys().when(ChangeTask("t", end="2025-10-31T08:00:00")),
        "/end",
    ),
    refused("task.change", "invalid", "a hub with a slash", lambda: nobodys().when(ChangeTask("t", hub="a/b")), "/hub"),
    refused(
        "task.change",
        "not-found",
        "a hub that was retired",
        lambda: nobodys().and_commands([entry("hub", "h"), RetireEntry("hub", "h")]).when(ChangeTask("t", hub="h")),
        "/hub",
    ),
    refused("task.change", "forbidden", "a stranger", lambda: anns().when(ChangeTask("t", "U"), "bob")),
]

COMPLETE = [
    done(
        "task.complete",
        "at work; the draft is part of the output, and the person is free",
        lambda: active(SaveTask("t", {"a": 1, "b": 1})).when(CompleteTask("t", {"b": 2}), "ann"),
        [TaskCompleted("t", None, {"a": 1, "b": 2}, False)],
        {RUNNING_ANN: None},
    ),
    done(
        "task.complete",
        "not begun: it is started first",
        lambda: people(task(assignees=("ann", "bob"))).when(CompleteTask("t"), "bob"),
        [TaskStarted("t", None, "bob"), TaskCompleted("t", None, {}, False)],
        {},
    ),
    done(
        "task.complete",
        "paused",
        lambda: paused().when(CompleteTask("t"), "ann"),
        [TaskCompleted("t", None, {}, False)],
        {},
    ),
    done(
        "task.complete",
        "just in time",
        lambda: anns(end="2025-10-31T08:00:00+07:00").when(CompleteTask("t"), "ann"),
        [TaskStarted("t", None, "ann"), TaskCompleted("t", None, {}, False)],
    ),
    *(
        done(
            "task.complete",
            f"late, and the policy is {value}",
            lambda value=value: late(value).when(CompleteTask("t"), "ann", NOW + timedelta(days=1)),
            [TaskStarted("t", None, "ann"), TaskCompleted("t", None, {}, flagged)],
        )
        for value, flagged in ((None, True), ("flag", True), ("allow", False))
    ),
    done(
        "task.complete",
        "late, and the policy that refused it was retired",
        lambda: (
            late("reject")
            .and_commands([RetireEntry("policy", "late-completion")])
            .when(CompleteTask("t"), "ann", NOW + timedelta(days=1))
        ),
        [TaskStarted("t", None, "ann"), TaskCompleted("t", None, {}, True)],
    ),
    *ids_and_strangers(CompleteTask, "task.complete"),
    *ended("task.complete", CompleteTask("t")),
    refused("task.complete", "not-assignee", "a manager", lambda: active().when(CompleteTask("t"), "max")),
    refused("task.complete", "not-assignee", "nobody's, not begun", lambda: nobodys().when(CompleteTask("t"))),
    refused("task.complete", "blocked", "an earlier step is open", lambda: gated().when(CompleteTask("t2"), "bob")),
    refused(
        "task.complete",
        "late",
        "the tenant refuses it",
        lambda: late("reject").when(CompleteTask("t"), "ann", NOW + timedelta(days=1)),
    ),
]

REST = [
    done(
        "task.error",
        "at work; the person is free",
        lambda: active().when(FailTask("t", "broken"), "ann"),
        [TaskFailed("t", None, "broken")],
        {RUNNING_ANN: None},
    ),
    done("task.error", "nobody's", lambda: nobodys().when(FailTask("t"), "max"), [TaskFailed("t", None, None)], {}),
    *ids_and_strangers(FailTask, "task.error"),
    *ended("task.error", FailTask("t")),
    refused("task.error", "forbidden", "a stranger", lambda: anns().when(FailTask("t"), "bob")),
    done(
        "task.cancel",
        "at work; the event remembers whose it was",
        lambda: active().when(CancelTask("t", "no need"), "max"),
        [TaskCanceled("t", None, "no need", ("ann",))],
        {RUNNING_ANN: None},
    ),
    done(
        "task.cancel",
        "failed, under a cancelled activity",
        lambda: (
            people(workflow(), activity(), FailTask("t1"))
            .and_events([ActivityCanceled("a", None)])
            .when(CancelTask("t1"))
        ),
        [TaskCanceled("t1", "a", None, ())],
        {},
    ),
    done(
        "task.cancel",
        "a manager who has it himself",
        lambda: people(task(assignees=("max",))).when(CancelTask("t"), "max"),
        [TaskCanceled("t", None, None, ("max",))],
    ),
    *ids_and_strangers(CancelTask, "task.cancel"),
    *ended("task.cancel", CancelTask("t")),
    refused("task.cancel", "forbidden", "the assignee", lambda: anns().when(CancelTask("t"), "ann")),
    refused(
        "task.cancel",
        "forbidden",
        "a manager of another project",
        lambda: made_for(project="p").and_commands([manager("eve", project="q")]).when(CancelTask("t"), "eve"),
    ),
    refused(
        "task.cancel",
        "terminal",
        "failed, under an activity that goes on",
        lambda: people(workflow(), activity(), FailTask("t1")).when(CancelTask("t1")),
    ),
    done(
        "task.retry",
        "it is open again, and still theirs",
        lambda: failed().when(RetryTask("t"), "max"),
        [TaskRetried("t", None)],
        {},
    ),
    *ids_and_strangers(RetryTask, "task.retry"),
    refused("task.retry", "forbidden", "the assignee", lambda: failed().when(RetryTask("t"), "ann")),
    *(
        refused("task.retry", "not-failed", why, lambda scene=scene: scene().when(RetryTask("t")))
        for why, scene in (
            ("not begun", anns),
            ("at work", active),
            ("paused", paused),
            ("completed", completed),
            ("cancelled", lambda: anns(CancelTask("t"))),
        )
    ),
    refused(
        "task.retry",
        "activity-canceled",
        "under a cancelled activity",
        lambda: (
            people(workflow(), activity(), FailTask("t1"))
            .and_events([ActivityCanceled("a", None)])
            .when(RetryTask("t1"))
        ),
    ),
]

CASES: list[Case] = [
    *CREATE,
    *ASSIGN,
    *CLAIM,
    *REASSIGN,
    *UNASSIGN,
    *PROCESS,
    *PAUSE,
    *SAVE,
    *CHANGE,
    *COMPLETE,
    *REST,
]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


def test_a_retried_task_is_open_and_its_dispatch_is_reset() -> None:
    state = failed().and_commands([RetryTask("t")]).state("task", "t")
    assert (state.lifecycle, state.assignees, state.dispatch) == (OPEN, ("ann",), Dispatch.NONE)


def test_a_reassigned_task_is_open() -> None:
    state = active(ReassignTask("t", ("bob",))).state("task", "t")
    assert (state.lifecycle, state.assignees, state.runner) == (OPEN, ("bob",), None)


def test_a_cancelled_task_is_nobodys() -> None:
    state = active(CancelTask("t")).state("task", "t")
    assert (state.lifecycle, state.assignees, state.runner) == (CANCELED, (), None)


def test_a_failed_task_keeps_its_people() -> None:
    state = active(FailTask("t")).state("task", "t")
    assert (state.lifecycle, state.assignees, state.runner) == (FAILED, ("ann",), None)


def test_what_is_resolved_is_a_fact_of_its_own() -> None:
    scene = unresolved()
    assert (scene.state("task", "t").lifecycle, scene.state("task", "t").resolution) == (OPEN, Resolution.FAILED)
    scene.and_events([TargetsResolved("t", None, ())])
    assert scene.state("task", "t").resolution is Resolution.RESOLVED


def test_a_field_set_to_null_goes_away() -> None:
    scene = nobodys(fields={"a": 1, "b": 2}).and_commands([ChangeTask("t", fields={"a": None})])
    assert scene.state("task", "t").fields == {"b": 2}


def test_what_starts_while_another_stands_paused_pauses_nothing() -> None:
    scene = paused().and_commands([task("u", assignees=("ann",))])
    scene.when(ProcessTask("u"), "ann").then([TaskStarted("u", None, "ann")])
    assert scene.state("task", "u").lifecycle is ACTIVE


def test_a_claim_whose_task_has_ended_stops_nobody() -> None:
    scene = completed().and_commands([task("u", assignees=("ann",))]).and_claims({RUNNING_ANN: "t"})
    scene.when(ProcessTask("u"), "ann").then([TaskStarted("u", None, "ann")])


def test_two_claims_of_one_task_read_the_stream_that_decides_the_race() -> None:
    scene = nobodys()
    first, second = scene.ask(ClaimTask("t"), "ann"), scene.ask(ClaimTask("t"), "bob")
    assert first.events
    assert second.events
    scene.record(first.decision)
    scene.when(ClaimTask("t"), "bob").then_rejected("already-assigned")


def test_cancelling_an_activity_and_retrying_its_task_read_one_another() -> None:
    scene = people(workflow(), activity(), FailTask("t1"))
    assert scene.ask(RetryTask("t1")).events
    scene.and_commands([CancelActivity("a")])
    scene.when(RetryTask("t1")).then_rejected("not-failed")


def test_fifty_people_need_no_more_rounds_than_two() -> None:
    scene = given_commands([member("zoe"), *(member(f"m{number}") for number in range(30))])
    names = tuple(f"m{number}" for number in range(30)) + tuple(f"n{number}@x.vn" for number in range(20))
    rule = {"blacklist": ("zoe",)}
    few = scene.ask(task(assignees=("m0", "n0@x.vn"), **rule)).rounds
    assert scene.ask(task(assignees=names, **rule)).rounds == few


@pytest.mark.parametrize(
    "text",
    [
        "2025-10-31T08:55:00.000+07:00",
        "2025-10-31T08:55:00Z",
        "2025-10-31T08:55:00.123456789-03:30",
        "2024-02-29T23:59:59-00:00",
    ],
)
def test_time(text: str) -> None:
    assert instant(text, "/start").tzinfo is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "2025-10-31",
        "2025-10-31T08:55:00",
        "2025-10-31 08:55:00+07:00",
        "2025-10-31T08:55+07:00",
        "20251031T085500+0700",
        "2025-W44-5T08:55:00+07:00",
        "2025-10-31T08:55:00+07",
        "2025-10-31T08:55:00+07:00:30",
        "2025-10-31T08:55:00,5Z",
        "2025-10-31T08:55:00Z\n",
        "2025-02-29T08:55:00Z",
        "2025-10-31T24:00:00Z",
        "2025-10-31T08:55:60Z",
        "2025-10-31T08:55:00+24:00",
        "0001-01-01T00:00:00+07:00",
        "9999-12-31T23:59:59-07:00",
        "２025-10-31T08:55:00Z",  # noqa: RUF001
    ],
)
def test_no_time(text: str) -> None:
    with pytest.raises(Rejected) as refusal:
        instant(text, "/start")
    assert (refusal.value.code, refusal.value.pointer) == ("invalid", "/start")
