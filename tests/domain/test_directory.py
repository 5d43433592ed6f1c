"""What the commands on directory entries answer: done, ignored, and each refusal; and who a person is to a task."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from domain.decider import UniqueKey
from domain.directory import ChangeEntry, EntryChanged, EntryRegistered, EntryRetired, RegisterEntry, RetireEntry
from domain.directory.eligibility import Eligibility, is_manager
from domain.directory.entries import Kind
from domain.directory.lookup import Entry
from domain.references import is_email
from domain.streams import ENTRY_KINDS
from tests.builders import admin, entry, member, task
from tests.domain.cases import Case, done, each, ignored, refused
from tests.given import Given, Outcome, given, given_commands

EMAIL = UniqueKey("member-email", "ann@x.vn")
KEPT = UniqueKey("retired-email", "ann@x.vn")


def ann(**fields: Any) -> Given:
    return given_commands([member("ann", **{"email": "Ann@x.vn", **fields})])


def register(fields: dict[str, Any], id: str = "ann") -> Outcome:  # noqa: A002
    return given().when(RegisterEntry("member", id, fields))


def change(fields: dict[str, Any]) -> Outcome:
    return ann(account_id=7).when(ChangeEntry("member", "ann", fields))


def bad_field(name: str, why: str, value: Any) -> Case:
    return refused("directory.register", "invalid", why, lambda: register({name: value}), f"/fields/{name}")


CASES: list[Case] = [
    done(
        "directory.register",
        "the first hub; from now on hubs are checked",
        lambda: given().when(entry("hub", "h", name="Hub")),
        [EntryRegistered("hub", "h", {"name": "Hub"})],
        {UniqueKey("registered", "hub"): "h"},
    ),
    done(
        "directory.register",
        "the second hub",
        lambda: given_commands([entry("hub", "h")]).when(entry("hub", "h2")),
        [EntryRegistered("hub", "h2", {})],
        {},
    ),
    done(
        "directory.register",
        "an id is given out",
        lambda: given().when(RegisterEntry("hub")),
        [EntryRegistered("hub", "id-1", {})],
    ),
    done(
        "directory.register",
        "a person, who gets an account number",
        lambda: register({"email": "Ann@x.vn", "operator_id": "Op-1", "name": None}),
        [EntryRegistered("member", "ann", {"email": "Ann@x.vn", "operator_id": "Op-1", "account_id": 1})],
        {
            EMAIL: "ann",
            UniqueKey("member-account", "1"): "ann",
            UniqueKey("member-operator", "op-1"): "ann",
            UniqueKey("registered", "member"): "ann",
        },
    ),
    done(
        "directory.register",
        "an account number in use is not given out",
        lambda: given_commands([member("bob", account_id=1), member("cid", account_id=2)]).when(member("ann")),
        [EntryRegistered("member", "ann", {"account_id": 3})],
    ),
    done(
        "directory.register",
        "one kind's id is free for another kind",
        lambda: given_commands([entry("hub", "x")]).when(entry("route", "x")),
        [EntryRegistered("route", "x", {})],
    ),
    done(
        "directory.register",
        "again after being retired, with the same e-mail",
        lambda: ann().and_commands([RetireEntry("member", "ann")]).when(member("ann", email="ann@x.vn", account_id=1)),
        [EntryRegistered("member", "ann", {"email": "ann@x.vn", "account_id": 1})],
        {EMAIL: "ann", KEPT: None, UniqueKey("member-account", "1"): "ann"},
    ),
    done(
        "directory.register",
        "a policy",
        lambda: given().when(entry("policy", "late-completion", value="reject")),
        [EntryRegistered("policy", "late-completion", {"value": "reject"})],
    ),
    done(
        "directory.register",
        "by a tenant-admin",
        lambda: given_commands([admin()]).when(entry("hub", "h"), "eve"),
        [EntryRegistered("hub", "h", {})],
    ),
    ignored("directory.register", "the same again", lambda: ann().when(member("ann", email="Ann@x.vn"))),
    ignored(
        "directory.register",
        "the same again, with the number given out",
        lambda: ann().when(member("ann", email="Ann@x.vn", account_id=1)),
    ),
    ignored(
        "directory.register",
        "the same again, with a null",
        lambda: given_commands([entry("hub", "h")]).when(entry("hub", "h", name=None)),
    ),
    refused("directory.register", "invalid", "an id with a slash", lambda: register({}, "a/b"), "/id"),
    refused("directory.register", "invalid", "an id with a NUL", lambda: register({}, "a\0"), "/id"),
    refused("directory.register", "invalid", "a person named as the system", lambda: register({}, "system"), "/id"),
    bad_field("name", "a name that is empty", ""),
    bad_field("name", "a name that is a number", 7),
    bad_field("email", "an e-mail without a host", "ann@"),
    bad_field("email", "an e-mail with two at signs", "ann@x@y"),
    bad_field("email", "an e-mail with a line end", "ann@x.vn\n"),
    bad_field("email", "an e-mail with a NUL", "a\0nn@x.vn"),
    bad_field("email", "an e-mail that is a list", ["ann@x.vn"]),
    bad_field("account_id", "account 0", 0),
    bad_field("account_id", "an account that is true", True),
    bad_field("account_id", "an account as text", "7"),
    bad_field("account_id", "an account beyond what JSON holds", 2**53),
    bad_field("operator_id", "an operator that is a number", 7),
    bad_field("actor_roles", "roles as text", "sales"),
    bad_field("actor_roles", "a role that is a number", ["sales", 7]),
    bad_field("projects", "projects as a list", ["p"]),
    bad_field("projects", "a membership that is true", {"p": True}),
    bad_field("projects", "a manager by text", {"p": {"is_manager": "yes"}}),
    refused(
        "directory.register",
        "invalid",
        "an unknown policy",
        lambda: given().when(entry("policy", "colour", value="red")),
        "/id",
    ),
    refused(
        "directory.register",
        "invalid",
        "an unknown value of a policy",
        lambda: given().when(entry("policy", "late-completion", value="maybe")),
        "/fields/value",
    ),
    refused(
        "directory.register",
        "invalid",
        "a policy without a value",
        lambda: given().when(entry("policy", "late-completion")),
        "/fields/value",
    ),
    refused("directory.register", "forbidden", "a member", lambda: ann().when(entry("hub", "h"), "ann")),
    refused(
        "directory.register",
        "forbidden",
        "a manager who was retired",
        lambda: given_commands([admin(), RetireEntry("member", "eve")]).when(entry("hub", "h"), "eve"),
    ),
    refused(
        "directory.register", "taken", "with other fields", lambda: ann().when(member("ann", email="b@x.vn")), "/id"
    ),
    refused(
        "directory.register",
        "taken",
        "an e-mail in another case",
        lambda: ann().when(member("bob", email="ANN@X.VN")),
        "/fields/email",
    ),
    refused(
        "directory.register",
        "taken",
        "an account number",
        lambda: ann(account_id=7).when(member("bob", account_id=7)),
        "/fields/account_id",
    ),
    refused(
        "directory.register",
        "taken",
        "an operator",
        lambda: ann(operator_id="op").when(member("bob", operator_id="OP")),
        "/fields/operator_id",
    ),
    done(
        "directory.change",
        "old and new of what differs; the old address is free",
        lambda: change({"email": "b@x.vn", "account_id": 7, "name": "Ann"}),
        [EntryChanged("member", "ann", {"email": "Ann@x.vn", "name": None}, {"email": "b@x.vn", "name": "Ann"})],
        {UniqueKey("member-email", "b@x.vn"): "ann", EMAIL: None},
    ),
    done(
        "directory.change",
        "an e-mail's case; it stays held",
        lambda: change({"email": "ann@x.vn"}),
        [EntryChanged("member", "ann", {"email": "Ann@x.vn"}, {"email": "ann@x.vn"})],
        {EMAIL: "ann"},
    ),
    done(
        "directory.change",
        "a null takes a field away",
        lambda: change({"email": None}),
        [EntryChanged("member", "ann", {"email": "Ann@x.vn"}, {"email": None})],
        {EMAIL: None},
    ),
    done(
        "directory.change",
        "one and true are two values",
        lambda: given_commands([entry("hub", "h", open=1)]).when(ChangeEntry("hub", "h", {"open": True})),
        [EntryChanged("hub", "h", {"open": 1}, {"open": True})],
        {},
    ),
    ignored("directory.change", "everything as it is", lambda: change({"email": "Ann@x.vn", "name": None})),
    ignored("directory.change", "nothing said", lambda: change({})),
    refused("directory.change", "invalid", "an e-mail that is none", lambda: change({"email": "b"}), "/fields/email"),
    refused(
        "directory.change",
        "invalid",
        "a member without account",
        lambda: change({"account_id": None}),
        "/fields/account_id",
    ),
    refused(
        "directory.change",
        "invalid",
        "a policy without value",
        lambda: given_commands([entry("policy", "late-completion", value="flag")]).when(
            ChangeEntry("policy", "late-completion", {"value": None})
        ),
        "/fields/value",
    ),
    refused(
        "directory.change", "invalid", "an id with a slash", lambda: given().when(ChangeEntry("hub", "a/b", {})), "/id"
    ),
    refused("directory.change", "not-found", "unknown", lambda: given().when(ChangeEntry("hub", "h", {})), "/id"),
    *(
        refused(
            "directory.change",
            code,
            what,
            lambda memberships=memberships, kind=kind: (
                ann().and_commands([entry("hub", "ann")]).when(ChangeEntry(kind, "ann", {}, memberships))
            ),
            "/memberships",
        )
        for code, what, kind, memberships in (
            ("invalid", "memberships of a hub", "hub", {"p": {}}),
            ("invalid", "a membership that is no object", "member", {"p": 7}),
            ("not-found", "leaving a project of others", "member", {"p": None}),
        )
    ),
    refused(
        "directory.change",
        "not-found",
        "retired",
        lambda: given_commands([entry("hub", "h"), RetireEntry("hub", "h")]).when(ChangeEntry("hub", "h", {})),
        "/id",
    ),
    refused(
        "directory.change",
        "forbidden",
        "a member, even of itself",
        lambda: ann().when(ChangeEntry("member", "ann", {"projects": {"p": {"is_manager": True}}}), "ann"),
    ),
    refused(
        "directory.change",
        "taken",
        "another's e-mail",
        lambda: ann().and_commands([member("bob")]).when(ChangeEntry("member", "bob", {"email": "aNN@x.vn"})),
        "/fields/email",
    ),
    done(
        "directory.retire",
        "a person; what was theirs is free, but the e-mail registers nobody else",
        lambda: ann(operator_id="op").when(RetireEntry("member", "ann")),
        [EntryRetired("member", "ann")],
        {EMAIL: None, KEPT: "ann", UniqueKey("member-account", "1"): None, UniqueKey("member-operator", "op"): None},
    ),
    done(
        "directory.retire",
        "a hub",
        lambda: given_commands([entry("hub", "h")]).when(RetireEntry("hub", "h")),
        [EntryRetired("hub", "h")],
        {},
    ),
    refused("directory.retire", "invalid", "an empty id", lambda: given().when(RetireEntry("hub", "")), "/id"),
    refused("directory.retire", "not-found", "unknown", lambda: given().when(RetireEntry("hub", "h")), "/id"),
    refused(
        "directory.retire",
        "not-found",
        "twice",
        lambda: ann().and_commands([RetireEntry("member", "ann")]).when(RetireEntry("member", "ann")),
        "/id",
    ),
    refused("directory.retire", "forbidden", "a member", lambda: ann().when(RetireEntry("member", "ann"), "ann")),
]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


def test_the_kinds_of_the_command_are_the_kinds_of_streams() -> None:
    assert get_args(Kind) == ENTRY_KINDS


def test_an_e_mail_of_a_retired_member_registers_nobody_until_somebody_is_registered_with_it() -> None:
    scene = ann().and_commands([RetireEntry("member", "ann")])
    scene.when(task(assignees=("ANN@x.vn",))).then_rejected("not-found", "/assignees/0")
    scene.and_commands([member("bob", email="ann@x.vn"), task(assignees=("ann@x.vn",))])
    assert scene.state("task", "t").assignees == ("bob",)
    # Both had it: the last who was retired keeps it, and the other's return takes nothing away.
    scene.and_commands([RetireEntry("member", "bob"), member("ann")])
    assert scene.holders[KEPT] == "bob"
    scene.ask(task("t2", assignees=("ann@x.vn",))).then_rejected("not-found", "/assignees/0")
    scene.and_commands([ChangeEntry("member", "ann", {"email": "ann@x.vn"}), task("t2", assignees=("ann@x.vn",))])
    assert scene.state("task", "t2").assignees == ("ann",)


def test_whoever_comes_back_without_the_e_mail_leaves_it_to_anybody() -> None:
    scene = ann().and_commands([RetireEntry("member", "ann"), member("ann"), task(assignees=("ann@x.vn",))])
    assert scene.state("task", "t").assignees == ("id-1",)
    assert KEPT not in scene.holders


def test_a_new_e_mail_never_takes_anothers_account_number() -> None:
    scene = given_commands([member("bob", account_id=1)])
    scene.when(task(assignees=("ann@x.vn", "cid@x.vn")))
    numbers = {unique.key: holder for unique, holder in scene.holders.items() if unique.kind == "member-account"}
    assert numbers == {"1": "bob", "2": "id-1", "3": "id-2"}


@pytest.mark.parametrize("text", ["a@b", "a.b+c@x.vn", "Ä@ü.vn", "x" * 249 + "@x.vn"])
def test_e_mail(text: str) -> None:
    assert is_email(text)


@pytest.mark.parametrize(
    "text", ["", "@", "a@", "@b", "a", "a b@c", "a@b,c", "<a@b>", "a@b;", "a@b@c", "x" * 250 + "@x.vn"]
)
def test_no_e_mail(text: str) -> None:
    assert not is_email(text)


@pytest.mark.parametrize(
    ("rule", "eligible"),
    [
        (Eligibility(), True),
        (Eligibility(roles=("driver", "sales")), True),
        (Eligibility(roles=("driver",)), False),
        (Eligibility(whitelist=("ann",)), True),
        (Eligibility(whitelist=("bob",)), False),
        (Eligibility(blacklist=("ann",)), False),
        (Eligibility(whitelist=("ann",), blacklist=("ann",)), False),
        (Eligibility(project="p"), True),
        (Eligibility(project="q"), False),
        (Eligibility("p", ("sales",), ("ann",), ("bob",)), True),
        (Eligibility("p", ("driver",), ("ann",), ("bob",)), False),
    ],
)
def test_eligible(rule: Eligibility, eligible: bool) -> None:
    person = Entry("member", "ann", {"actor_roles": ["sales"], "projects": {"p": {}}})
    assert (rule.refuses("ann", person) is None) is eligible


def test_somebody_new_has_neither_role_nor_project() -> None:
    assert Eligibility().refuses("id-1", None) is None
    assert Eligibility(roles=("sales",)).refuses("id-1", None)
    assert Eligibility(project="p").refuses("id-1", None)


def test_manager_of() -> None:
    fields = {"projects": {"p": {"is_manager": True}, "q": {"is_manager": False}, "r": {}}}
    assert [is_manager(fields, project) for project in ("p", "q", "r", "s", None)] == [True, False, False, False, True]
    assert not is_manager({}, None)
    assert not is_manager({"projects": None}, "p")
