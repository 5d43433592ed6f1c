"""Who may make what of a directory entry: a manager of one project gets no power over another by it."""

from __future__ import annotations

from typing import Any

import pytest

from domain.directory import ChangeEntry, EntryChanged, EntryRetired, PutEntry, RegisterEntry, RetireEntry
from domain.lifecycle import ENTRY_RIGHTS, MANAGER
from tests.builders import entry, manager, member
from tests.domain.cases import Case, done, each, refused
from tests.given import Given, Outcome, given_commands

LEADS, IS_IN = {"is_manager": True}, {"is_manager": False}
# What the fields of each kind cannot do without.
FIELDS: dict[str, tuple[str, dict[str, Any]]] = {
    "policy": ("late-completion", {"value": "reject"}),
    "attribute": ("name", {"strategy": "CALLER_PROVIDED"}),
    "targeting": ("default", {"criteria": [{"type": "ANY"}]}),
    "dispatch": ("SMS", {"provider": "console"}),
    "outcome": ("sold", {"label": "Sold"}),
    "retention": ("active", {"label": "Active"}),
    "project": ("p", {}),
    "member": ("x", {"projects": {"p": {}}}),
}


def team(**projects: Any) -> Given:
    """Max manages p; of ann the projects are given; zed belongs to none."""
    people = [manager("max"), member("ann", email="ann@x.vn", projects=projects), member("zed")]
    return given_commands([*people, entry("project", "q")])


def change(person: str, fields: dict[str, Any], **projects: Any) -> Outcome:
    return team(**projects).when(ChangeEntry("member", person, fields), "max")


def same(projects: dict[str, Any]) -> dict[str, Any]:
    return {"email": "ann@x.vn", "account_id": 2, "projects": projects}


def retired(projects: dict[str, Any]) -> Given:
    scene = team(**projects)
    assert scene.state("member", "ann").fields == same(projects)
    return scene.and_commands([RetireEntry("member", "ann")])


def may(command: str, why: str, run: Any) -> Case:
    return done(command, why, run, run().events)


def may_not(command: str, why: str, run: Any, pointer: str) -> Case:
    return refused(command, "forbidden", why, run, pointer)


PROJECTS = "/fields/projects"
CASES: list[Case] = [
    may("directory.change", "a membership of his project", lambda: change("zed", {"projects": {"p": IS_IN}})),
    may("directory.change", "another manager of his project", lambda: change("zed", {"projects": {"p": LEADS}})),
    may(
        "directory.change",
        "out of his project, and the other stays",
        lambda: change("ann", {"projects": {"q": IS_IN}}, p=IS_IN, q=IS_IN),
    ),
    may(
        "directory.change",
        "the roles of who is in his project alone",
        lambda: change("ann", {"actor_roles": ["driver"]}, p=IS_IN),
    ),
    *(
        may_not(
            "directory.change",
            f"the {field} ({value}) of who is in his project alone",
            lambda field=field, value=value: change("ann", {field: value}, p=IS_IN),
            f"/fields/{field}",
        )
        for field, value in (("email", "b@x.vn"), ("email", None), ("account_id", 77), ("operator_id", "op-9"))
    ),
    may_not("directory.change", "who is in no project", lambda: change("zed", {"actor_roles": ["driver"]}), "/id"),
    may_not(
        "directory.change",
        "the e-mail of who is in no project, with a membership of his own",
        lambda: change("zed", {"email": "max2@x.vn", "projects": {"p": IS_IN}}),
        "/id",
    ),
    done(
        "directory.change",
        "by the system, who is in no project",
        lambda: team().when(ChangeEntry("member", "zed", {"actor_roles": ["driver"]})),
        [EntryChanged("member", "zed", {"actor_roles": None}, {"actor_roles": ["driver"]})],
    ),
    may_not(
        "directory.change",
        "himself a manager of another project",
        lambda: change("max", {"projects": {"p": LEADS, "q": LEADS}}),
        PROJECTS,
    ),
    may_not("directory.change", "himself into another", lambda: change("max", {"projects": {"q": IS_IN}}), PROJECTS),
    may_not(
        "directory.change", "a friend a manager of another", lambda: change("zed", {"projects": {"q": LEADS}}), PROJECTS
    ),
    may_not(
        "directory.change",
        "a manager of another project less",
        lambda: change("ann", {"projects": {"q": IS_IN}}, q=LEADS),
        PROJECTS,
    ),
    may_not("directory.change", "out of all", lambda: change("ann", {"projects": None}, p=IS_IN, q=IS_IN), PROJECTS),
    may_not(
        "directory.change",
        "what else somebody in another is",
        lambda: change("ann", {"actor_roles": ["driver"]}, q=IS_IN),
        "/id",
    ),
    may("directory.register", "a member", lambda: team().when(member("new"), "max")),
    may(
        "directory.register",
        "a member of his project",
        lambda: team().when(member("new", projects={"p": LEADS}), "max"),
    ),
    may_not(
        "directory.register",
        "a member of another project",
        lambda: team().when(member("new", projects={"p": LEADS, "q": IS_IN}), "max"),
        PROJECTS,
    ),
    may_not(
        "directory.register",
        "who was retired from another project",
        lambda: team(q=LEADS).and_commands([RetireEntry("member", "ann")]).when(member("ann"), "max"),
        "/id",
    ),
    may("directory.retire", "who is in his project", lambda: team(p=IS_IN).when(RetireEntry("member", "ann"), "max")),
    may_not("directory.retire", "who is in none", lambda: team().when(RetireEntry("member", "zed"), "max"), "/id"),
    done(
        "directory.retire",
        "by the system, who is in none",
        lambda: team().when(RetireEntry("member", "zed")),
        [EntryRetired("member", "zed")],
    ),
    *(
        may_not(
            "directory.register",
            f"who was retired and was in {where}, with the same fields",
            lambda projects=projects: retired(projects).when(member("ann", **same(projects)), "max"),
            "/id",
        )
        for where, projects in (("none", {}), ("another project", {"q": IS_IN}))
    ),
    may(
        "directory.register",
        "who was retired from his project",
        lambda: retired({"p": IS_IN}).when(member("ann", **same({"p": IS_IN})), "max"),
    ),
    may_not(
        "directory.retire",
        "who is in another as well",
        lambda: team(p=IS_IN, q=IS_IN).when(RetireEntry("member", "ann"), "max"),
        "/id",
    ),
    may("directory.register", "his project", lambda: team().when(entry("project", "p"), "max")),
    may_not("directory.register", "another project", lambda: team().when(entry("project", "r"), "max"), "/id"),
    may_not(
        "directory.change", "another project", lambda: team().when(ChangeEntry("project", "q", {"x": 1}), "max"), "/id"
    ),
    may_not("directory.retire", "another project", lambda: team().when(RetireEntry("project", "q"), "max"), "/id"),
]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


@pytest.mark.parametrize("kind", ENTRY_RIGHTS)
def test_what_the_whole_tenant_works_by_is_not_a_managers(kind: Any) -> None:
    entry_id, fields = FIELDS.get(kind, ("x", {}))
    register = RegisterEntry(kind, entry_id, fields)
    there = team().and_commands([register])
    commands: list[tuple[Given, Any]] = [
        (team(), register),
        (there, ChangeEntry(kind, entry_id, {"name": "Other"})),
        (team(), PutEntry(kind, entry_id, fields)),
        (there, PutEntry(kind, entry_id, {**fields, "name": "Other"})),
        (there, RetireEntry(kind, entry_id)),
    ]
    for scene, command in commands:
        refusal = scene.ask(command, "max").refusal
        assert (refusal is None) is (MANAGER in ENTRY_RIGHTS[kind]), command
        assert refusal is None or refusal.code == "forbidden"
        assert scene.ask(command, "zed").refusal is not None
        assert scene.ask(command).refusal is None


def test_the_same_again_is_ignored_whoever_the_entry_belongs_to() -> None:
    team(q=LEADS).when(member("ann", email="ann@x.vn", projects={"q": LEADS}), "max").then_nothing()
