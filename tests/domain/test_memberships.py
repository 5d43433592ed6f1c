"""What a member is in single projects: changed one by one, and the roles that are had there alone."""

from __future__ import annotations

from typing import Any

import pytest

from domain.directory import ChangeEntry, EntryChanged
from domain.directory.eligibility import Eligibility, roles_in
from domain.directory.lookup import Entry
from domain.limits import MAX_PROJECTS, MAX_ROLES
from tests.builders import entry, manager, member
from tests.given import Given, Outcome

ANN = member("ann", projects={"p": {"is_manager": True, "actor_roles": ["cook"]}, "q": {}}, actor_roles=["driver"])


def change(memberships: Any, actor: str = "system", **fields: Any) -> Outcome:
    given = Given().and_commands([ANN, manager(), manager("mia", "r"), entry("hub", "h")])
    return given.when(ChangeEntry("member", "ann", fields, memberships), actor)


def projects_after(outcome: Outcome) -> Any:
    assert outcome.refusal is None, outcome.refusal
    assert outcome.decision is not None
    ((_, event),) = outcome.decision.events
    assert isinstance(event, EntryChanged)
    return event.new["projects"]


@pytest.mark.parametrize(
    ("memberships", "found"),
    [
        ({"r": {"is_manager": True}}, {"p": ..., "q": {}, "r": {"is_manager": True}}),
        ({"r": {}}, {"p": ..., "q": {}, "r": {}}),
        ({"q": None}, {"p": ...}),
        ({"p": {"is_manager": False}}, {"p": {"is_manager": False, "actor_roles": ["cook"]}, "q": {}}),
        ({"p": {"actor_roles": None}}, {"p": {"is_manager": True}, "q": {}}),
        ({"p": {"actor_roles": []}, "q": None}, {"p": {"is_manager": True, "actor_roles": []}}),
    ],
)
def test_the_other_memberships_stay(memberships: Any, found: Any) -> None:
    whole = {**found, "p": {"is_manager": True, "actor_roles": ["cook"]}} if found.get("p") is ... else found
    assert projects_after(change(memberships)) == whole


def test_what_is_so_already_changes_nothing() -> None:
    for memberships in ({"p": {}}, {"q": {}}, {"p": {"is_manager": True}}, {}):
        outcome = change(memberships)
        assert outcome.decision is not None
        assert outcome.decision.events == ()


@pytest.mark.parametrize(
    ("memberships", "code", "pointer"),
    [
        ({"r": None}, "not-found", "/memberships"),
        ({"p": 7}, "invalid", "/memberships"),
        ({"p": []}, "invalid", "/memberships"),
        ({"p": {"is_manager": "yes"}}, "invalid", "/fields/projects"),
        ({"p": {"actor_roles": "cook"}}, "invalid", "/fields/projects"),
        ({"p": {"actor_roles": ["cook", None]}}, "invalid", "/fields/projects"),
        ({"p": {"actor_roles": ["x"] * (MAX_ROLES + 1)}}, "invalid", "/fields/projects/p/actor_roles"),
        ({f"p{number}": {} for number in range(MAX_PROJECTS)}, "invalid", "/fields/projects"),
        ({"a/b": {}}, "invalid", "/fields/projects"),
    ],
)
def test_what_cannot_be(memberships: Any, code: str, pointer: str) -> None:
    outcome = change(memberships)
    assert outcome.refusal is not None
    assert (outcome.refusal.code, outcome.refusal.pointer) == (code, pointer)


def test_memberships_are_a_members_and_come_alone() -> None:
    both = change({"p": None}, projects={})
    assert both.refusal is not None
    assert (both.refusal.code, both.refusal.pointer) == ("invalid", "/memberships")
    hub = Given().and_commands([entry("hub", "h")]).when(ChangeEntry("hub", "h", {}, {"p": {}}))
    assert hub.refusal is not None
    assert (hub.refusal.code, hub.refusal.pointer) == ("invalid", "/memberships")


def test_a_manager_changes_the_memberships_of_his_own_projects_alone() -> None:
    assert projects_after(change({"p": None}, "max")) == {"q": {}}
    assert projects_after(change({"r": {"actor_roles": ["lead"]}}, "mia"))["r"] == {"actor_roles": ["lead"]}
    for memberships, actor in (({"q": None}, "max"), ({"r": {}}, "max"), ({"q": {"is_manager": True}}, "ann")):
        outcome = change(memberships, actor)
        assert outcome.refusal is not None
        assert outcome.refusal.code == "forbidden"


def test_roles_in_a_project_are_had_there_alone() -> None:
    fields: dict[str, Any] = {
        "actor_roles": ["driver"],
        "projects": {"p": {"actor_roles": ["cook", "driver"]}, "q": {}},
    }
    assert roles_in(fields, "p") == ["driver", "cook"]
    assert roles_in(fields, "q") == roles_in(fields, None) == roles_in(fields, "r") == ["driver"]
    # What was recorded before memberships had roles.
    for old in (7, "cook", {"cook": 1}, [None, 3], None):
        assert roles_in({"projects": {"p": {"actor_roles": old}}}, "p") == []
    ann = Entry("member", "ann", fields)
    assert Eligibility("p", ("cook",)).refuses("ann", ann) is None
    assert Eligibility("q", ("cook",)).refuses("ann", ann) == "has none of the roles cook"
    assert Eligibility(None, ("cook",)).refuses("ann", ann) == "has none of the roles cook"
    assert Eligibility("q", ("driver",)).refuses("ann", ann) is None
