"""A tenant-admin has the directory and what overrides results; nobody becomes one but by another, or by the system."""

from __future__ import annotations

from typing import Any

import pytest

from domain.directory import ChangeEntry, EntryChanged, EntryRetired, PutEntry, RetireEntry
from domain.task import CancelTask, CompleteTask, PauseTracker, ProcessTask, SubmitResult
from tests.builders import EMAIL, admin, entry, manager, member, task
from tests.given import Given, given_commands

IN_P = {"p": {"is_manager": False}}
GRANT = {"tenant_admin": True}


def tenant(*more: Any) -> Given:
    """Max manages p, where ann works and eve, a tenant-admin, is as well; adam is a tenant-admin in no project."""
    people = [manager("max"), member("ann", projects=IN_P), admin("eve", email="eve@x.vn", projects=IN_P)]
    return given_commands([*people, admin("adam"), EMAIL, entry("hub", "h"), entry("commerce", "c"), *more])


FIELD = "/fields/tenant_admin"
ATTACKS: dict[str, tuple[Any, str]] = {
    "makes himself a tenant-admin": (ChangeEntry("member", "max", GRANT), FIELD),
    "makes himself one by replacing his entry": (
        PutEntry("member", "max", {"projects": {"p": {"is_manager": True}}, **GRANT}),
        FIELD,
    ),
    "makes a friend one": (ChangeEntry("member", "ann", GRANT), FIELD),
    "registers a new one": (member("new", projects=IN_P, **GRANT), FIELD),
    "registers a new one by putting it": (PutEntry("member", "new", {"projects": IN_P, **GRANT}), FIELD),
    "takes the right from one": (ChangeEntry("member", "eve", {"tenant_admin": None}), "/id"),
    "takes the right from one by leaving it out": (PutEntry("member", "eve", {"projects": IN_P}), "/id"),
    "renames one": (ChangeEntry("member", "eve", {"name": "Eve"}), "/id"),
    "takes the e-mail of one": (ChangeEntry("member", "eve", {"email": "max@x.vn"}), "/id"),
    "retires one": (RetireEntry("member", "eve"), "/id"),
    "retires one of no project": (RetireEntry("member", "adam"), "/id"),
    "sets a provider's URL": (ChangeEntry("dispatch", "EMAIL", {"provider": "http", "url": "https://x.example"}), ""),
    "changes who is called": (ChangeEntry("commerce", "c", {"users": [{"id": "max"}]}), ""),
    "retires a hub of all": (RetireEntry("hub", "h"), ""),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_manager_gets_no_power_over_the_tenant(attack: str) -> None:
    command, pointer = ATTACKS[attack]
    tenant().when(command, "max").then_rejected("forbidden", pointer)
    # Who has the right may do the same.
    assert tenant().ask(command, "adam").refusal is None
    assert tenant().ask(command).refusal is None


@pytest.mark.parametrize("attack", ATTACKS)
def test_nor_does_anybody_else(attack: str) -> None:
    command, _ = ATTACKS[attack]
    tenant().when(command, "ann").then_rejected("forbidden")


def test_a_manager_still_has_a_tenant_admins_membership_of_his_project() -> None:
    tenant().when(ChangeEntry("member", "eve", {}, {"p": None}), "max").then(
        [EntryChanged("member", "eve", {"projects": {"p": {"is_manager": False}}}, {"projects": {}})]
    )


def test_a_manager_does_not_bring_a_tenant_admin_back() -> None:
    gone = tenant(RetireEntry("member", "eve"))
    gone.when(member("eve", projects=IN_P), "max").then_rejected("forbidden", "/id")
    gone.when(PutEntry("member", "eve", {"projects": IN_P, **GRANT}), "max").then_rejected("forbidden", "/id")


def test_the_right_is_granted_and_taken_and_ends_with_a_retirement() -> None:
    hub = entry("hub", "new")
    scene = tenant()
    scene.when(hub, "ann").then_rejected("forbidden")
    granted = scene.and_commands([ChangeEntry("member", "ann", GRANT)])
    assert granted.ask(hub, "ann").refusal is None
    for end in (ChangeEntry("member", "ann", {"tenant_admin": False}), RetireEntry("member", "ann")):
        granted.and_commands([end]).when(hub, "ann").then_rejected("forbidden")


def test_the_last_one_may_go_since_the_system_stays() -> None:
    scene = given_commands([admin("eve")])
    scene.when(RetireEntry("member", "eve"), "eve").then([EntryRetired("member", "eve")])
    again = scene.and_commands([member("ann"), ChangeEntry("member", "ann", GRANT)])
    assert again.ask(entry("hub", "h"), "ann").refusal is None


@pytest.mark.parametrize("value", ["yes", 1, [], {}])
def test_the_field_is_true_or_false(value: Any) -> None:
    tenant().when(ChangeEntry("member", "ann", {"tenant_admin": value})).then_rejected("invalid", FIELD)


def test_an_agent_neither_cancels_nor_overrides_by_a_result_but_a_tenant_admin_does() -> None:
    scene = tenant(task(assignees=("ann",)), ProcessTask("t"))
    scene.when(SubmitResult("t", "CANCELED"), "ann").then_rejected("forbidden")
    ended = scene.and_commands([CompleteTask("t")])
    override = SubmitResult("t", "NOT_EXECUTED", hard_override=True)
    for actor in ("ann", "max"):
        ended.when(override, actor).then_rejected("forbidden")
    assert ended.ask(override, "adam").refusal is None


def test_a_tenant_admin_leads_every_project_also_with_a_task_of_his_own() -> None:
    scene = tenant(entry("project", "q"), task(assignees=("adam",), project=None))
    assert scene.ask(CancelTask("t"), "adam").refusal is None
    at_work = tenant(task(assignees=("ann",)), ProcessTask("t"))
    assert at_work.ask(PauseTracker("ann"), "adam").refusal is None
    at_work.when(PauseTracker("ann"), "ann2").then_rejected("forbidden")
