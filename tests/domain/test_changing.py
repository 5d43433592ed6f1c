"""What `task.change` answers for a task's title, fields and times."""

from __future__ import annotations

from domain.directory import RetireEntry
from domain.task import (
    ChangeTask,
    TaskFieldsChanged,
    TaskRescheduled,
)
from tests.builders import EARLY, LATE, entry
from tests.domain.cases import Case, done, each, ids_and_strangers, ignored, refused
from tests.domain.task_scenes import (
    anns,
    ended,
    nobodys,
)

CASES: list[Case] = [
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


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


def test_a_field_set_to_null_goes_away() -> None:
    scene = nobodys(fields={"a": 1, "b": 2}).and_commands([ChangeTask("t", fields={"a": None})])
    assert scene.state("task", "t").fields == {"b": 2}
