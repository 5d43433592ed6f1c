"""What `task.change` answers for a task's title, fields and times."""

from __future__ import annotations

from domain.directory import RetireEntry
from domain.task import (
    ChangeTask,
    SaveTask,
    TaskDataSaved,
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
    done(
        "task.change",
        "the order index, which may be a fraction",
        lambda: nobodys(order_index=10).when(ChangeTask("t", order_index=-0.5)),
        [TaskFieldsChanged("t", None, {"order_index": 10}, {"order_index": -0.5})],
    ),
    done(
        "task.change",
        "no order index of its own any more",
        lambda: nobodys(order_index=10).when(ChangeTask("t", order_index=None)),
        [TaskFieldsChanged("t", None, {"order_index": 10}, {"order_index": None})],
    ),
    ignored(
        "task.change",
        "the same order index, written otherwise",
        lambda: nobodys(order_index=10).when(ChangeTask("t", order_index=10.0)),
    ),
    done(
        "task.change",
        "all fields at once, but those that are kept",
        lambda: (
            anns(fields={"a": 1, "b": 1, "c": 1, "d": 1})
            .and_commands([SaveTask("t", {"b": 2, "e": 2, "f": 2})])
            .when(ChangeTask("t", fields={"a": 1, "e": 3, "g": 3}, keeping=("c", "f", "nothing")))
        ),
        [
            TaskFieldsChanged(
                "t",
                None,
                {"fields": {"b": 1, "d": 1, "e": None, "g": None}},
                {"fields": {"b": None, "d": None, "e": 3, "g": 3}},
            ),
            TaskDataSaved("t", None, {"b": 2, "e": 2}, {"b": None, "e": 3}),
        ],
    ),
    done(
        "task.change",
        "no fields any more",
        lambda: nobodys(fields={"a": 1}).when(ChangeTask("t", keeping=())),
        [TaskFieldsChanged("t", None, {"fields": {"a": 1}}, {"fields": {"a": None}})],
    ),
    ignored(
        "task.change",
        "all fields as they are",
        lambda: nobodys(fields={"a": 1, "b": [1]}).when(ChangeTask("t", fields={"a": 1.0}, keeping=("b",))),
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
