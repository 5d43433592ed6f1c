"""What the commands on workflows answer: done, ignored, and each refusal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import hypothesis
from hypothesis import settings
from hypothesis import strategies as st

from domain.activity import NewTask
from domain.decider import UniqueKey
from domain.directory import ChangeEntry, EntryRegistered, RetireEntry
from domain.steps import Step, stored_steps
from domain.workflow import (
    ChangeWorkflow,
    DefineWorkflow,
    RetireWorkflow,
    WorkflowChanged,
    WorkflowDefined,
    WorkflowRetired,
)
from tests.builders import activity, entry, manager, member, steps, workflow
from tests.domain.cases import Case, done, each, ignored, refused
from tests.given import Given, Outcome, given, given_commands


def defined(**rest: Any) -> Given:
    return given_commands([workflow(**rest)])


def define(*, name: str = "Visit", **rest: Any) -> Outcome:
    return given().when(workflow(name=name, **rest))


DEFINED = WorkflowDefined("w", "Visit", steps(2), "none", "wait_all", None)
NAME, OTHER_NAME = UniqueKey("workflow-name", "visit"), UniqueKey("workflow-name", "audit")

CASES: list[Case] = [
    done("workflow.define", "two steps", lambda: define(), [DEFINED], {NAME: "w"}),
    done(
        "workflow.define",
        "an id is given out",
        lambda: given().when(DefineWorkflow("Visit", steps(2))),
        [WorkflowDefined("id-1", "Visit", steps(2), "none", "wait_all", None)],
    ),
    done(
        "workflow.define",
        "all that may be said",
        lambda: given_commands([entry("project", "p")]).when(
            workflow(project="p", gating="sequential", failure="fail_fast")
        ),
        [WorkflowDefined("w", "Visit", steps(2), "sequential", "fail_fast", "p")],
    ),
    done(
        "workflow.define",
        "default people by e-mail become members, each once",
        lambda: define(steps=(Step("One", assignees=("A@x.vn", "a@X.VN")), Step("Two", assignees=("a@x.vn",)))),
        [
            EntryRegistered("member", "id-1", {"email": "A@x.vn", "account_id": 1}),
            WorkflowDefined(
                "w",
                "Visit",
                (Step("One", assignees=("id-1",)), Step("Two", assignees=("id-1",))),
                "none",
                "wait_all",
                None,
            ),
        ],
        {
            UniqueKey("member-email", "a@x.vn"): "id-1",
            UniqueKey("member-account", "1"): "id-1",
            UniqueKey("registered", "member"): "id-1",
            NAME: "w",
        },
    ),
    done(
        "workflow.define",
        "a retired workflow's name is free again",
        lambda: defined().and_commands([RetireWorkflow("w")]).when(workflow(id="w2", name="VISIT")),
        [WorkflowDefined("w2", "VISIT", steps(2), "none", "wait_all", None)],
        {NAME: "w2"},
    ),
    done(
        "workflow.define",
        "its project's manager defines it",
        lambda: given_commands([entry("project", "p"), manager()]).when(workflow(project="p"), "max"),
        [WorkflowDefined("w", "Visit", steps(2), "none", "wait_all", "p")],
    ),
    refused("workflow.define", "invalid", "a name too short", lambda: define(name="x"), "/name"),
    refused("workflow.define", "invalid", "a name too long", lambda: define(name="x" * 101), "/name"),
    refused("workflow.define", "invalid", "a name of blanks", lambda: define(name="   "), "/name"),
    refused("workflow.define", "invalid", "a name with a blank at its end", lambda: define(name="Visit "), "/name"),
    refused("workflow.define", "invalid", "an id with a slash", lambda: define(id="w/1"), "/id"),
    refused("workflow.define", "invalid", "an id with a NUL", lambda: define(id="w\0"), "/id"),
    refused("workflow.define", "invalid", "an id with a line end", lambda: define(id="w\n"), "/id"),
    refused("workflow.define", "invalid", "an empty id", lambda: define(id=""), "/id"),
    refused("workflow.define", "invalid", "an id too long", lambda: define(id="w" * 65), "/id"),
    refused("workflow.define", "invalid", "no step", lambda: define(steps=()), "/steps"),
    refused("workflow.define", "invalid", "eleven steps", lambda: define(steps=steps(11)), "/steps"),
    refused(
        "workflow.define",
        "invalid",
        "a step without name",
        lambda: define(steps=(Step("A"), Step(""))),
        "/steps/1/name",
    ),
    refused(
        "workflow.define",
        "invalid",
        "a flow twice",
        lambda: define(steps=(Step("A", flow_id="f"), Step("B"), Step("C", flow_id="f"))),
        "/steps/2/flow_id",
    ),
    refused(
        "workflow.define",
        "invalid",
        "default people that are nobody's address",
        lambda: define(steps=(Step("A", assignees=("a@x.vn", "@")),)),
        "/steps/0/assignees/1",
    ),
    refused("workflow.define", "invalid", "a project with a slash", lambda: define(project="p/q"), "/project"),
    refused("workflow.define", "not-found", "an unknown project", lambda: define(project="p"), "/project"),
    refused(
        "workflow.define",
        "not-found",
        "a retired project",
        lambda: given_commands([entry("project", "p"), RetireEntry("project", "p")]).when(workflow(project="p")),
        "/project",
    ),
    refused(
        "workflow.define",
        "not-found",
        "unknown default people",
        lambda: define(steps=(Step("A"), Step("B", assignees=("nobody",)))),
        "/steps/1/assignees/0",
    ),
    refused(
        "workflow.define",
        "invalid",
        "more default people than a task can have",
        lambda: define(steps=(Step("A", assignees=tuple(f"m{n}@x.vn" for n in range(51))),)),
        "/steps/0/assignees",
    ),
    *(
        refused(
            "workflow.define",
            "not-eligible",
            f"a default person who {why}",
            lambda step=step, project=project: given_commands(
                [entry("project", "p"), member("ann", email="ann@x.vn"), member("bob", projects={"p": {}})]
            ).when(workflow(steps=(Step("A"), step), project=project)),
            "/steps/1/assignees/1",
        )
        for why, step, project in (
            ("is on the blacklist", Step("B", assignees=("bob", "ann@x.vn"), blacklist=("ann",)), None),
            ("is not on the whitelist", Step("B", assignees=("bob", "ann"), whitelist=("bob",)), None),
            ("is not of the project", Step("B", assignees=("bob", "ann")), "p"),
            ("is new, and so not of the project", Step("B", assignees=("bob", "new@x.vn")), "p"),
        )
    ),
    refused(
        "workflow.define",
        "not-eligible",
        "a default person without the role",
        lambda: given_commands([member("ann")]).when(workflow(steps=(Step("A", assignees=("ann",), roles=("r",)),))),
        "/steps/0/assignees/0",
    ),
    refused("workflow.define", "taken", "the id is in use", lambda: defined().when(workflow(name="Other")), "/id"),
    refused(
        "workflow.define",
        "taken",
        "the id of a retired one",
        lambda: defined().and_commands([RetireWorkflow("w")]).when(workflow(name="Other")),
        "/id",
    ),
    refused(
        "workflow.define",
        "name-taken",
        "upper and lower case are one name",
        lambda: defined().when(workflow(id="w2", name="vISIT")),
        "/name",
    ),
    refused("workflow.define", "forbidden", "a stranger", lambda: given().when(workflow(), "nobody")),
    refused(
        "workflow.define",
        "forbidden",
        "a manager of another project",
        lambda: given_commands([entry("project", "p"), manager(project="q")]).when(workflow(project="p"), "max"),
    ),
    done(
        "workflow.change",
        "the name; the old one is free",
        lambda: defined().when(ChangeWorkflow("w", name="Audit")),
        [WorkflowChanged("w", 2, {"name": "Visit"}, {"name": "Audit"})],
        {NAME: None, OTHER_NAME: "w"},
    ),
    done(
        "workflow.change",
        "the name's case; it stays held",
        lambda: defined().when(ChangeWorkflow("w", name="VISIT")),
        [WorkflowChanged("w", 2, {"name": "Visit"}, {"name": "VISIT"})],
        {NAME: "w"},
    ),
    done(
        "workflow.change",
        "steps, gating and failure",
        lambda: defined().when(
            ChangeWorkflow("w", steps=(Step("A"), Step("B")), gating="sequential", failure="fail_fast")
        ),
        [
            WorkflowChanged(
                "w",
                2,
                {"steps": stored_steps(steps(2)), "gating": "none", "failure": "wait_all"},
                {"steps": stored_steps((Step("A"), Step("B"))), "gating": "sequential", "failure": "fail_fast"},
            )
        ],
        {},
    ),
    done(
        "workflow.change",
        "only what differs is recorded",
        lambda: defined().when(ChangeWorkflow("w", name="Visit", gating="sequential", failure="wait_all")),
        [WorkflowChanged("w", 2, {"gating": "none"}, {"gating": "sequential"})],
        {},
    ),
    ignored(
        "workflow.change",
        "everything as it is",
        lambda: defined().when(ChangeWorkflow("w", "Visit", steps(2), "none", "wait_all")),
    ),
    ignored("workflow.change", "nothing said", lambda: defined().when(ChangeWorkflow("w"))),
    refused("workflow.change", "invalid", "an id with a slash", lambda: given().when(ChangeWorkflow("a/b")), "/id"),
    refused(
        "workflow.change", "invalid", "a name too short", lambda: defined().when(ChangeWorkflow("w", name="")), "/name"
    ),
    refused(
        "workflow.change",
        "invalid",
        "a flow twice",
        lambda: defined().when(ChangeWorkflow("w", steps=(Step("A", flow_id="f"), Step("B", flow_id="f")))),
        "/steps/1/flow_id",
    ),
    refused("workflow.change", "not-found", "unknown", lambda: given().when(ChangeWorkflow("w", name="Audit")), "/id"),
    refused(
        "workflow.change",
        "forbidden",
        "a member who manages nothing",
        lambda: defined().and_commands([member()]).when(ChangeWorkflow("w", name="Audit"), "ann"),
    ),
    refused(
        "workflow.change",
        "name-taken",
        "another's name",
        lambda: defined().and_commands([workflow(id="w2", name="Audit")]).when(ChangeWorkflow("w", name="AUDIT")),
        "/name",
    ),
    refused(
        "workflow.change",
        "not-eligible",
        "a default person on the blacklist",
        lambda: given_commands([member("ann"), workflow(1)]).when(
            ChangeWorkflow("w", steps=(Step("A", assignees=("ann",), blacklist=("ann",)),))
        ),
        "/steps/0/assignees/0",
    ),
    refused(
        "workflow.change",
        "step-count-fixed",
        "one step more",
        lambda: defined().when(ChangeWorkflow("w", steps=steps(3))),
        "/steps",
    ),
    refused(
        "workflow.change",
        "step-count-fixed",
        "no step",
        lambda: defined().when(ChangeWorkflow("w", steps=())),
        "/steps",
    ),
    refused(
        "workflow.change",
        "retired",
        "retired",
        lambda: defined().and_commands([RetireWorkflow("w")]).when(ChangeWorkflow("w", name="Audit")),
        "/id",
    ),
    done(
        "workflow.retire",
        "never used; its name is free",
        lambda: defined().when(RetireWorkflow("w")),
        [WorkflowRetired("w")],
        {NAME: None},
    ),
    refused("workflow.retire", "invalid", "an id with a NUL", lambda: given().when(RetireWorkflow("\0")), "/id"),
    refused("workflow.retire", "not-found", "unknown", lambda: given().when(RetireWorkflow("w")), "/id"),
    refused("workflow.retire", "forbidden", "a stranger", lambda: defined().when(RetireWorkflow("w"), "nobody")),
    done(
        "workflow.retire",
        "its activities have ended, those of another have not",
        lambda: (
            defined()
            .and_commands([workflow(id="w2", name="Other"), activity(workflow_id="w2")])
            .when(RetireWorkflow("w"))
        ),
        [WorkflowRetired("w")],
        {NAME: None},
    ),
    refused(
        "workflow.retire",
        "in-use",
        "an activity was made from it",
        lambda: defined().and_commands([activity()]).when(RetireWorkflow("w")),
        "/id",
    ),
    refused(
        "workflow.retire",
        "retired",
        "twice",
        lambda: defined().and_commands([RetireWorkflow("w")]).when(RetireWorkflow("w")),
        "/id",
    ),
]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


def test_the_version_counts_the_definitions() -> None:
    scene = defined().and_commands([ChangeWorkflow("w", name="Audit"), ChangeWorkflow("w", gating="sequential")])
    assert (scene.state("workflow", "w").version, scene.state("workflow", "w").name) == (3, "Audit")


def test_a_refused_change_gives_no_version() -> None:
    scene = defined()
    scene.when(ChangeWorkflow("w", steps=steps(3))).then_rejected("step-count-fixed")
    assert scene.state("workflow", "w").version == 1


def test_steps_come_back_from_a_change_as_they_went_in() -> None:
    full = Step("A", "flow", "flow-id", (), {"DONE": "met"}, ("field",), ("m1",), ("m2",))
    people = (member("m1"), member("m2"))
    scene = defined().and_commands([*people, ChangeWorkflow("w", steps=(full, replace(full, flow_id=None)))])
    assert scene.state("workflow", "w").steps == (full, replace(full, flow_id=None))


def test_ten_steps_of_people_need_no_more_rounds_than_one() -> None:
    people = [member(f"m{number}") for number in range(10)]
    wide = tuple(Step(f"S{n}", assignees=(f"m{n}", f"n{n}@x.vn", f"o{n}@x.vn")) for n in range(10))
    narrow = given_commands(people).when(workflow(steps=wide[:1])).rounds
    assert given_commands(people).when(workflow(steps=wide)).rounds == narrow


def test_a_name_has_2_to_100_characters_and_a_workflow_1_to_10_steps() -> None:
    for name, count in (("ab", 1), ("x" * 100, 10)):
        assert given().when(workflow(count, name=name)).decision is not None


@settings(max_examples=150, deadline=None, database=None)
@hypothesis.given(st.data())
def test_what_a_definition_allows_a_creation_accepts_whoever_changes_or_goes_since(data: st.DataObject) -> None:
    people, roles = ["ann", "bob", "cid"], ["r", "s"]
    some = lambda names: st.lists(st.sampled_from(names), unique=True, max_size=2).map(tuple)  # noqa: E731
    who = st.fixed_dictionaries({}, optional={"actor_roles": some(roles).map(list), "projects": st.just({"p": {}})})
    scene = given_commands([entry("project", "p"), *(member(name, **data.draw(who)) for name in people)])
    step = st.builds(
        Step,
        st.just("Step"),
        assignees=some(people),
        roles=some(roles),
        whitelist=some(people),
        blacklist=some(people),
    )
    wanted = workflow(steps=(data.draw(step), data.draw(step)), project=data.draw(st.sampled_from([None, "p"])))
    if scene.when(wanted).refusal is not None:
        return
    for name in people:
        what = data.draw(st.sampled_from(["stay", "go", "change"]))
        if what == "go":
            scene.and_commands([RetireEntry("member", name)])
        elif what == "change":
            scene.and_commands([ChangeEntry("member", name, {"actor_roles": None, "projects": None, **data.draw(who)})])
    got = scene.when(activity(tasks=(NewTask("t1"), NewTask("t2"))))
    assert got.refusal is None
    for index, defined_step in enumerate(scene.state("workflow", "w").steps):
        held = scene.state("task", f"t{index + 1}").assignees
        left = {out.member for out in got.events[0].left_out if out.step == index}
        assert (set(held) | left, set(held) & left) == (set(defined_step.assignees), set())
        assert not any(scene.state("member", name).retired for name in held)
