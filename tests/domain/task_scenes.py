"""Scenes of one task, as the tests of its commands share them."""

from __future__ import annotations

from typing import Any

from domain.decider import UniqueKey
from domain.directory import ChangeEntry
from domain.task import (
    CancelTask,
    CompleteTask,
    FailTask,
    PauseTask,
    ProcessTask,
    ResolutionFailed,
)
from tests.builders import EARLY, activity, entry, manager, member, task, workflow
from tests.domain.cases import Case, refused
from tests.given import Given, Outcome, given_commands

RUNNING_ANN, RUNNING_BOB = UniqueKey("running", "ann"), UniqueKey("running", "bob")


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
