"""What the tracker of a person's work answers: it pauses what the person works on, and goes on with it later."""

from __future__ import annotations

from typing import Any

from domain.decider import UniqueKey
from domain.directory import RetireEntry
from domain.lifecycle import ACTIVE, PAUSED
from domain.task import (
    CompleteTask,
    PauseTask,
    PauseTracker,
    ProcessTask,
    ReassignTask,
    ResumeTracker,
    SubmitResult,
    TaskPaused,
    TaskResumed,
)
from tests.builders import activity, entry, manager, member, task, workflow
from tests.domain.cases import Case, done, each, refused
from tests.given import Given, given_commands

RUNNING, TRACKED = UniqueKey("running", "ann"), UniqueKey("tracker", "ann")
PEOPLE = (member("ann", email="ann@x.vn", operator_id="op-1"), member("bob"), manager("max"))
STOPPED, RESUMED = TaskPaused("t", None, "asked"), TaskResumed("t", None, "ann")


def working(*more: Any) -> Given:
    return given_commands([*PEOPLE, task(assignees=("ann",)), task("u", assignees=("ann",)), ProcessTask("t"), *more])


def stopped(*more: Any) -> Given:
    return working(PauseTracker("ann"), *more)


def blocked() -> Given:
    """The tracker paused the second step; then the first was said not to have been done after all."""
    return given_commands(
        [
            *PEOPLE,
            workflow(gating="sequential"),
            activity(assignees=(("bob",), ("ann",))),
            CompleteTask("t1"),
            ProcessTask("t2"),
            PauseTracker("ann"),
            SubmitResult("t1", "NOT_EXECUTED", hard_override=True),
        ]
    )


def elsewhere() -> Given:
    """Ann works in a project that Max does not manage."""
    people = (member("ann", projects={"q": {}}), manager("max"))
    return given_commands([entry("project", "q"), *people, task(project="q", assignees=("ann",)), ProcessTask("t")])


def about_people(name: str, kind: Any, scene: Any) -> list[Case]:
    """Return what both commands answer to whoever they name."""
    return [
        refused(name, "invalid", "the system, for nobody", lambda: scene().when(kind()), "/member"),
        refused(name, "invalid", "the system, for itself", lambda: scene().when(kind("system")), "/member"),
        refused(name, "invalid", "a slash", lambda: scene().when(kind("a/b")), "/member"),
        refused(name, "invalid", "another kind of name", lambda: scene().when(kind("phone:112")), "/member"),
        refused(name, "not-found", "a stranger", lambda: scene().when(kind(), "nobody"), "/member"),
        refused(name, "not-found", "an account of nobody's", lambda: scene().when(kind("account:99")), "/member"),
        refused(name, "not-found", "an e-mail of nobody's", lambda: scene().when(kind("zoe@x.vn")), "/member"),
        refused(
            name,
            "not-found",
            "somebody who was retired",
            lambda: scene().and_commands([RetireEntry("member", "ann")]).when(kind("ann")),
            "/member",
        ),
        refused(name, "forbidden", "for another", lambda: scene().when(kind("ann"), "bob"), "/member"),
        refused(name, "forbidden", "for another, by e-mail", lambda: scene().when(kind("ann@x.vn"), "bob"), "/member"),
    ]


CASES: list[Case] = [
    *(
        done("tracker.pause", why, lambda who=who, actor=actor: working().when(PauseTracker(who), actor), [STOPPED])
        for why, who, actor in (
            ("one's own, by name", "ann", "ann"),
            ("one's own, by e-mail", "ann@x.vn", "ann"),
            ("the system, by account", "account:1", "system"),
            ("the system, by operator", "operator:op-1", "system"),
            ("the system, by e-mail in another case", "Ann@X.vn", "system"),
        )
    ),
    done(
        "tracker.pause",
        "one's own; the tracker remembers what it was",
        lambda: working().when(PauseTracker(), "ann"),
        [STOPPED],
        {RUNNING: None, TRACKED: "t"},
    ),
    *about_people("tracker.pause", PauseTracker, working),
    done(
        "tracker.pause",
        "a manager for another; the tracker of the other remembers it",
        lambda: working().when(PauseTracker("ann@x.vn"), "max"),
        [STOPPED],
        {RUNNING: None, TRACKED: "t"},
    ),
    refused(
        "tracker.pause", "not-processing", "a manager, at nothing", lambda: working().when(PauseTracker("bob"), "max")
    ),
    refused(
        "tracker.pause",
        "forbidden",
        "a manager of another project",
        lambda: elsewhere().when(PauseTracker("ann"), "max"),
        "/member",
    ),
    refused("tracker.pause", "not-processing", "at nothing", lambda: working().when(PauseTracker(), "bob")),
    refused("tracker.pause", "not-processing", "twice", lambda: stopped().when(PauseTracker(), "ann")),
    refused(
        "tracker.pause",
        "not-processing",
        "a unique key whose task another person works on",
        lambda: working().and_unique_keys({UniqueKey("running", "bob"): "t"}).when(PauseTracker(), "bob"),
    ),
    refused(
        "tracker.pause",
        "not-processing",
        "a unique key whose task has ended",
        lambda: working(CompleteTask("t")).and_unique_keys({RUNNING: "t"}).when(PauseTracker(), "ann"),
    ),
    done(
        "tracker.resume",
        "one's own; the tracker has nothing to remember",
        lambda: stopped().when(ResumeTracker(), "ann"),
        [RESUMED],
        {RUNNING: "t", TRACKED: None},
    ),
    done("tracker.resume", "the system, by account", lambda: stopped().when(ResumeTracker("account:1")), [RESUMED]),
    done(
        "tracker.resume",
        "what the person began since is paused",
        lambda: stopped(ProcessTask("u")).when(ResumeTracker(), "ann"),
        [TaskPaused("u", None, "other-task-started"), RESUMED],
        {RUNNING: "t", TRACKED: None},
    ),
    done(
        "tracker.resume",
        "what it paused last",
        lambda: stopped(ProcessTask("u"), PauseTracker("ann")).when(ResumeTracker(), "ann"),
        [TaskResumed("u", None, "ann")],
    ),
    *about_people("tracker.resume", ResumeTracker, stopped),
    refused(
        "tracker.resume",
        "forbidden",
        "a manager for another",
        lambda: stopped().when(ResumeTracker("ann"), "max"),
        "/member",
    ),
    *(
        refused("tracker.resume", "not-paused", why, lambda scene=scene: scene().when(ResumeTracker(), "ann"))
        for why, scene in (
            ("at work", working),
            ("it was not the tracker that paused it", lambda: working(PauseTask("t"))),
            ("twice", lambda: stopped(ResumeTracker("ann"))),
            ("gone on with otherwise", lambda: stopped(ProcessTask("t"))),
            ("completed since", lambda: stopped(CompleteTask("t"))),
            ("another's since", lambda: stopped(ReassignTask("t", ("bob",)))),
            (
                "another's since, who paused it",
                lambda: stopped(ReassignTask("t", ("bob",)), ProcessTask("t"), PauseTask("t")),
            ),
        )
    ),
    refused(
        "tracker.resume", "blocked", "an earlier step is open again", lambda: blocked().when(ResumeTracker(), "ann")
    ),
]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


def test_pause_and_resume_lead_back() -> None:
    scene = working()
    for _ in range(2):
        scene.and_commands([PauseTracker()], "ann")
        assert (scene.state("task", "t").lifecycle, scene.holders.get(RUNNING)) == (PAUSED, None)
        scene.and_commands([ResumeTracker()], "ann")
        assert (scene.state("task", "t").lifecycle, scene.holders.get(RUNNING)) == (ACTIVE, "t")
    assert TRACKED not in scene.holders


def test_two_peoples_trackers_know_nothing_of_one_another() -> None:
    scene = working(task("v", assignees=("bob",)), ProcessTask("v"))
    scene.and_commands([PauseTracker()], "ann").and_commands([PauseTracker()], "bob")
    scene.when(ResumeTracker(), "bob").then([TaskResumed("v", None, "bob")])
    assert scene.holders[TRACKED] == "t"
