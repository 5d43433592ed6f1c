"""Every value of every command has a limit, so has what is merged, and a time is the same to every Python."""

from __future__ import annotations

from dataclasses import make_dataclass, replace
from typing import Annotated, Any

import pytest

from domain import COMMANDS, checks
from domain.activity import ChangeActivity, NewTask
from domain.decider import instant
from domain.directory import ChangeEntry, RegisterEntry
from domain.directory.fields import ENTRY_FIELDS
from domain.errors import MAX_DETAIL, MAX_POINTER, Refusal, Rejected
from domain.limits import MAX_FIELDS_BYTES, MAX_PEOPLE, MAX_ROLES, MAX_VALUES
from domain.plan import DispatchPlan
from domain.steps import FieldMapping, Step
from domain.task import ChangeTask, CompleteTask, CreateTask, DispatchTask, SaveTask, SubmitResult
from domain.workflow import ChangeWorkflow
from tests import builders
from tests.builders import member, task
from tests.domain.cases import Case, each, refused
from tests.given import Given, given, given_commands
from tests.widest import beyond, built, places, widest

HALF = {"a": "x" * (MAX_FIELDS_BYTES // 2)}
MORE = {"b": "x" * (MAX_FIELDS_BYTES // 2)}
# Half the values: the map's own member, and so many further inside.
MANY = {"many": [[] for _ in range(MAX_VALUES // 2 - 1)]}
MANY_MORE = {"more": {"inner": [0] * (MAX_VALUES // 2 - 1)}}


def drafted() -> Given:
    return given_commands([task(), SaveTask("t", HALF)])


def configured(*keys: str, strategy: str = "UPFRONT") -> Given:
    """A commerce of half the greatest size, and attributes that take all of it."""
    policies = [
        RegisterEntry("attribute", key, {"strategy": strategy, "source": "commerce.a", "fallback": None})
        for key in keys
    ]
    provider = RegisterEntry("dispatch", "SMS", {"provider": "console"})
    return given_commands([RegisterEntry("commerce", "c", HALF), *policies, provider])


def sent(*keys: str) -> CreateTask:
    return CreateTask("t", commerce="c", plan=DispatchPlan("SMS", attribute_keys=keys))


def mapped() -> Given:
    """A step whose field goes to a later one, which is half full."""
    first, second = builders.steps(2)
    steps = (first, replace(second, field_mapping=(FieldMapping(0, "b", "c"),)))
    tasks = (NewTask("t1", fields=MORE, assignees=("ann",)), NewTask("t2", fields=HALF))
    return given_commands([member("ann"), builders.workflow(steps=steps), builders.activity(tasks=tasks)])


def naming(people: int) -> tuple[Step, ...]:
    """Ten steps that name so many different people, each no more than a step may."""
    each = -(-people // 10)
    named = [f"p{number}@example.com" for number in range(people)]
    return tuple(
        replace(step, blacklist=tuple(named[index * each : (index + 1) * each]))
        for index, step in enumerate(builders.steps(10))
    )


def labelled() -> tuple[Step, ...]:
    """Ten steps with all the roles and labels that a step may have, each short of its own limit."""
    roles = tuple(f"{number:03}{'ä' * 90}" for number in range(MAX_ROLES))
    return tuple(replace(step, roles=roles) for step in builders.steps(10))


CASES: list[Case] = [
    refused("task.save", "too-large", "with the draft", lambda: drafted().when(SaveTask("t", MORE)), "/data"),
    refused(
        "task.save",
        "too-large",
        "with the draft's values",
        lambda: given_commands([task(), SaveTask("t", MANY)]).when(SaveTask("t", MANY_MORE)),
        "/data",
    ),
    refused(
        "directory.change",
        "too-large",
        "with the values before",
        lambda: given_commands([RegisterEntry("hub", "h", MANY)]).when(ChangeEntry("hub", "h", MANY_MORE)),
        "/fields",
    ),
    refused("task.complete", "too-large", "with the draft", lambda: drafted().when(CompleteTask("t", MORE)), "/data"),
    refused("task.complete", "too-large", "what a later step takes over", lambda: mapped().when(CompleteTask("t1"))),
    refused(
        "task.submit-result",
        "too-large",
        "with the draft",
        lambda: drafted().when(SubmitResult("t", "COMPLETED", data=MORE)),
        "/data",
    ),
    refused(
        "task.change",
        "too-large",
        "with the fields before",
        lambda: given_commands([task(fields=HALF)]).when(ChangeTask("t", fields=MORE)),
        "/fields",
    ),
    refused("task.create", "too-large", "by itself", lambda: given().when(task(fields={**HALF, **MORE})), "/fields"),
    refused(
        "task.create",
        "too-large",
        "attributes of a large source",
        lambda: configured("k1", "k2").when(sent("k1", "k2")),
        "/attributes",
    ),
    refused(
        "task.dispatch",
        "too-large",
        "attributes that grew since",
        lambda: configured("k1", "k2", strategy="ON_DISPATCH").and_commands([sent("k1", "k2")]).when(DispatchTask("t")),
    ),
    refused(
        "activity.create",
        "too-large",
        "a task's fields",
        lambda: given().when(builders.activity(1, fields={**HALF, **MORE})),
        "/fields",
    ),
    refused(
        "activity.change",
        "too-large",
        "with the fields before",
        lambda: given_commands([builders.workflow(1), builders.activity(1, fields=HALF)]).when(
            ChangeActivity("a", fields=MORE)
        ),
        "/fields",
    ),
    refused(
        "directory.register",
        "too-large",
        "by itself",
        lambda: given().when(RegisterEntry("hub", "h", {**HALF, **MORE})),
        "/fields",
    ),
    refused(
        "directory.change",
        "too-large",
        "with the fields before",
        lambda: given_commands([RegisterEntry("hub", "h", HALF)]).when(ChangeEntry("hub", "h", MORE)),
        "/fields",
    ),
    refused(
        "directory.register",
        "invalid",
        "a project that is no id",
        lambda: given().when(RegisterEntry("member", "m", {"projects": {"x" * 65: {"is_manager": True}}})),
        "/fields/projects",
    ),
    refused(
        "workflow.define",
        "too-large",
        "more people than one command names",
        lambda: given().when(builders.workflow(steps=naming(MAX_PEOPLE + 1))),
    ),
    refused(
        "workflow.change",
        "too-large",
        "more people than one command names",
        lambda: given_commands([builders.workflow(10)]).when(ChangeWorkflow("w", steps=naming(MAX_PEOPLE + 1))),
    ),
    refused(
        "workflow.define",
        "too-large",
        "all steps together",
        lambda: given().when(builders.workflow(steps=labelled())),
        "/steps",
    ),
    refused(
        "workflow.change",
        "too-large",
        "all steps together",
        lambda: given_commands([builders.workflow(10)]).when(ChangeWorkflow("w", steps=labelled())),
        "/steps",
    ),
    refused(
        "task.create",
        "invalid",
        "a day that does not exist",
        lambda: given().when(CreateTask("t", start="2025-02-30T00:00:00Z")),
        "/start",
    ),
]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


@pytest.mark.parametrize("hint", [str, int, Any, tuple[str, ...], dict[str, Any], list[int], str | None])
def test_a_field_without_a_limit_cannot_be_part_of_a_command(hint: Any) -> None:
    with pytest.raises(TypeError, match="has no limit"):
        checks.refusal(make_dataclass("Unlimited", [("x", hint)])("a"))


def test_every_field_of_every_command_is_checked() -> None:
    for kind in COMMANDS.values():
        assert list(places(kind)), kind
        # Made for the first command of a class, it raises for a field that has no limit.
        checks.check_of(kind)


@pytest.mark.parametrize("kind", ENTRY_FIELDS)
def test_known_fields_of_entries_are_limited_when_they_are_registered_and_changed(kind: str) -> None:
    for name, hint in ENTRY_FIELDS[kind].items():
        for place in places(hint):
            checks.demand(hint, built(hint, place.path, widest(place)), "")
            for value, code in beyond(place):
                with pytest.raises(Rejected) as refusal:
                    checks.demand(hint, built(hint, place.path, value), f"/fields/{name}")
                assert (refusal.value.code, refusal.value.pointer) == (code, f"/fields/{name}{place.pointer}")


TIMES = {
    "2025-10-31T08:55:00.000+07:00": True,
    "2025-10-31T08:55:00Z": True,
    "2025-10-31t08:55:00Z": True,
    "2025-10-31T23:59:59.123456789-23:59": True,
    "2024-02-29T00:00:00+00:00": True,
    "0001-01-01T00:00:00Z": True,
    "9999-12-31T23:59:59.999999999Z": True,
    "2025-10-31T08:55:00.1234567891Z": False,
    "2025-10-31T08:55:00." + "1" * 5000 + "Z": False,
    # Python 3.14 reads it.
    "2025-10-31T24:00:00Z": False,
    "2025-10-31T23:59:60Z": False,
    "2025-10-31T23:60:00Z": False,
    "2025-10-31T08:55:00+24:00": False,
    "2025-10-31T08:55:00+07:60": False,
    "2025-10-31T08:55:00+0700": False,
    "2025-10-31T08:55:00+07": False,
    "2025-10-31T08:55:00+07:00:30": False,
    "2025-10-31T08:55:00,5Z": False,
    "2025-10-31T08:55:00.Z": False,
    "2025-10-31T08:55:00z": False,
    "2025-10-31T08:55:00": False,
    "2025-10-31T08:55Z": False,
    "2025-10-31T08Z": False,
    "2025-10-31 08:55:00Z": False,
    "20251031T085500Z": False,
    "2025-W44-5T08:55:00Z": False,
    "2025-304T08:55:00Z": False,
    "2025-02-29T00:00:00Z": False,
    "2025-04-31T00:00:00Z": False,
    "2025-13-01T00:00:00Z": False,
    "2025-00-01T00:00:00Z": False,
    "2025-01-00T00:00:00Z": False,
    "0000-01-01T00:00:00Z": False,
    "0001-01-01T00:00:00+00:01": False,
    "9999-12-31T23:59:59-00:01": False,
    "10000-01-01T00:00:00Z": False,
    "\u0662025-10-31T08:55:00Z": False,
    " 2025-10-31T08:55:00Z": False,
    "2025-10-31T08:55:00Z\n": False,
    "": False,
}


@pytest.mark.parametrize(("text", "fits"), TIMES.items(), ids=[text[:45] for text in TIMES])
def test_what_a_time_is_never_depends_on_the_python(text: str, fits: bool) -> None:
    outcome = given().when(CreateTask("t", end=text))
    if fits:
        assert outcome.refusal is None
        assert instant(text, "/end").utcoffset() is not None
    else:
        outcome.then_rejected("invalid", "/end")


def test_an_annotation_of_something_else_is_no_limit() -> None:
    with pytest.raises(TypeError, match="has no limit"):
        checks.check_of(Annotated[str, "short"])


def test_a_draft_that_was_kept_can_always_be_completed() -> None:
    scene = given_commands([member("ann"), task(assignees=("ann",))])
    for number in range(30):
        scene.when(SaveTask("t", {f"part-{number}": "\u0001" * 5_000}), "ann")
    assert 1 < len(scene.state("task", "t").data) < 30
    scene.when(CompleteTask("t"), "ann")
    assert scene.log[-1].output == scene.state("task", "t").data
    assert checks.json_size(scene.log[-1].output) <= MAX_FIELDS_BYTES


def test_a_refusal_keeps_little_of_what_it_quotes() -> None:
    refused = Rejected("not-found", "there is no " + "x" * 900_000, "/fields/" + "y/" * 450_000).refusal
    assert refused.detail.startswith("there is no xxx")
    assert refused.detail.endswith("x…")
    assert len(refused.detail) == MAX_DETAIL
    # It still names a place: what is around the one at fault.
    assert refused.pointer.startswith("/fields/y/")
    assert refused.pointer.endswith("/y")
    assert len(refused.pointer) <= MAX_POINTER
    assert Refusal("invalid", "short", "/a") == Refusal("invalid", "short", "/a")
    assert Refusal("invalid", "d" * MAX_DETAIL, "/" + "p" * (MAX_POINTER - 1)).pointer == "/" + "p" * (MAX_POINTER - 1)
    assert Refusal("invalid", "", "/" + "p" * MAX_POINTER).pointer == ""
