"""What `task.create` answers."""

from __future__ import annotations

from domain.decider import UniqueKey
from domain.directory import ChangeEntry, EntryRegistered, RetireEntry
from domain.plan import Attribute
from domain.task import AttributesResolved, CreateTask, TaskAssigned, TaskCreated
from tests.builders import EARLY, LATE, activity, entry, member, task, workflow
from tests.domain.cases import Case, done, each, refused
from tests.domain.task_scenes import (
    create,
    nobodys,
    people,
)
from tests.given import given, given_commands

CASES: list[Case] = [
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
            AttributesResolved("t", None, {"a": 0, "b": "else", "c": "own"}, ("b",)),
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
        {UniqueKey("member-email", "new@x.vn"): "id-1", UniqueKey("member-account", "5"): "id-1"},
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


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


def test_fifty_people_need_no_more_rounds_than_two() -> None:
    scene = given_commands([member("zoe"), *(member(f"m{number}") for number in range(30))])
    names = tuple(f"m{number}" for number in range(30)) + tuple(f"n{number}@x.vn" for number in range(20))
    rule = {"blacklist": ("zoe",)}
    few = scene.ask(task(assignees=("m0", "n0@x.vn"), **rule)).rounds
    assert scene.ask(task(assignees=names, **rule)).rounds == few
