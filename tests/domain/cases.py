"""One case per command and outcome; what is asked of each command stands in CONTRACT, and a test compares both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from domain.decider import UniqueKey
from tests.given import Outcome, given

DONE, IGNORED = "done", "ignored"

# What each command may answer. `done` and `ignored` beside the codes of its refusals.
CONTRACT: dict[str, set[str]] = {
    "task.create": {DONE, "invalid", "end-before-start", "not-found", "taken", "not-eligible", "too-large"},
    "task.assign": {
        DONE,
        "invalid",
        "not-found",
        "forbidden",
        "already-assigned",
        "already-processing",
        "not-eligible",
        "blocked",
        "unresolved",
        "terminal",
    },
    "task.claim": {
        DONE,
        "invalid",
        "not-found",
        "forbidden",
        "already-assigned",
        "already-processing",
        "not-eligible",
        "blocked",
        "unresolved",
        "terminal",
    },
    "task.reassign": {
        DONE,
        "invalid",
        "not-found",
        "forbidden",
        "not-assigned",
        "not-eligible",
        "same-assignee",
        "terminal",
    },
    "task.unassign": {DONE, "invalid", "not-found", "forbidden", "not-assigned", "terminal"},
    "task.process": {
        DONE,
        "invalid",
        "not-found",
        "not-assignee",
        "already-processing",
        "blocked",
        "unresolved",
        "terminal",
    },
    "task.pause": {DONE, "invalid", "not-found", "not-processing", "not-assignee"},
    "task.save": {DONE, IGNORED, "invalid", "not-found", "not-assignee", "terminal", "too-large"},
    "task.change": {
        DONE,
        IGNORED,
        "invalid",
        "end-before-start",
        "not-found",
        "forbidden",
        "already-processing",
        "not-eligible",
        "not-assignee",
        "blocked",
        "late",
        "terminal",
        "too-large",
    },
    "task.complete": {DONE, "invalid", "not-found", "not-assignee", "blocked", "late", "terminal", "too-large"},
    "task.error": {DONE, "invalid", "not-found", "forbidden", "terminal"},
    "task.cancel": {DONE, "invalid", "not-found", "forbidden", "terminal"},
    "task.retry": {DONE, "invalid", "not-found", "forbidden", "not-failed", "activity-canceled"},
    "task.retry-resolution": {DONE, IGNORED, "invalid", "not-found", "forbidden", "not-unresolved", "terminal"},
    "task.resolve-target": {
        DONE,
        "invalid",
        "not-found",
        "forbidden",
        "target-locked",
        "not-unresolved",
        "terminal",
    },
    "task.dispatch": {DONE, "invalid", "not-found", "forbidden", "no-provider", "not-ready", "too-large"},
    "task.report-dispatch": {DONE, IGNORED, "invalid", "not-found", "forbidden"},
    "task.submit-result": {
        DONE,
        IGNORED,
        "invalid",
        "not-found",
        "forbidden",
        "blocked",
        "result-final",
        "activity-canceled",
        "too-large",
    },
    "task.wake": {DONE, IGNORED, "invalid", "not-found", "forbidden"},
    "tracker.pause": {DONE, "invalid", "not-found", "forbidden", "not-processing"},
    "tracker.resume": {DONE, "invalid", "not-found", "forbidden", "not-paused", "blocked"},
    "activity.create": {
        DONE,
        "invalid",
        "end-before-start",
        "not-found",
        "wrong-task-count",
        "taken",
        "not-eligible",
        "too-large",
    },
    "activity.change": {DONE, IGNORED, "invalid", "not-found", "forbidden", "activity-canceled", "too-large"},
    "activity.cancel": {DONE, "invalid", "not-found", "forbidden", "terminal"},
    "workflow.define": {
        DONE,
        "invalid",
        "not-found",
        "forbidden",
        "taken",
        "name-taken",
        "not-eligible",
        "too-large",
    },
    "workflow.change": {
        DONE,
        IGNORED,
        "invalid",
        "not-found",
        "forbidden",
        "name-taken",
        "not-eligible",
        "step-count-fixed",
        "retired",
        "too-large",
    },
    "workflow.retire": {DONE, "invalid", "not-found", "forbidden", "in-use", "retired"},
    "directory.register": {DONE, IGNORED, "invalid", "forbidden", "taken", "too-large"},
    "directory.change": {DONE, IGNORED, "invalid", "not-found", "forbidden", "taken", "too-large"},
    "directory.put": {DONE, IGNORED, "invalid", "forbidden", "taken", "too-large"},
    "directory.retire": {DONE, "invalid", "not-found", "forbidden"},
}
# The codes of refusals alone.
REFUSALS: dict[str, set[str]] = {name: answers - {DONE, IGNORED} for name, answers in CONTRACT.items()}


@dataclass(frozen=True, slots=True)
class Case:
    """A scene, what a command does there, and what must come of it."""

    command: str
    outcome: str
    why: str
    run: Callable[[], Outcome]
    events: Sequence[Any] = ()
    unique_keys: Mapping[UniqueKey, str | None] | None = None
    pointer: str = ""

    def check(self) -> Outcome:
        """Run the scene and compare."""
        got = self.run()
        assert got.name == self.command
        if self.outcome == DONE:
            got.then(self.events)
            if self.unique_keys is not None:
                got.then_unique_keys(self.unique_keys)
        elif self.outcome == IGNORED:
            got.then_nothing()
        else:
            got.then_rejected(self.outcome, self.pointer)
        return got


def done(
    command: str,
    why: str,
    run: Callable[[], Outcome],
    events: Sequence[Any],
    unique_keys: Mapping[UniqueKey, str | None] | None = None,
) -> Case:
    """Expect exactly these events and, where they are said, exactly these changes of unique keys."""
    assert events, "what is done is recorded; else it is ignored"
    return Case(command, DONE, why, run, events, unique_keys)


def ignored(command: str, why: str, run: Callable[[], Outcome]) -> Case:
    """Expect an accepted command that does nothing."""
    return Case(command, IGNORED, why, run)


def refused(command: str, code: str, why: str, run: Callable[[], Outcome], pointer: str = "") -> Case:
    """Expect a refusal with this code, at this place of the command's data."""
    return Case(command, code, why, run, pointer=pointer)


def ids_and_strangers(kind: type, name: str, *rest: Any) -> list[Case]:
    """Return the cases that every command on one task shares."""
    return [
        refused(name, "invalid", "an id with a slash", lambda: given().when(kind("a/b", *rest)), "/id"),
        refused(name, "invalid", "an id with a NUL", lambda: given().when(kind("a\0", *rest)), "/id"),
        refused(name, "not-found", "an unknown task", lambda: given().when(kind("nope", *rest)), "/id"),
    ]


def each(cases: Sequence[Case]) -> pytest.MarkDecorator:
    """Make a test of each case."""
    names = [f"{case.command} {case.outcome}: {case.why}" for case in cases]
    assert len(set(names)) == len(names), "two cases have one name"
    return pytest.mark.parametrize("case", cases, ids=names)
