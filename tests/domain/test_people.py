"""How people are named: references of every form wherever people stand, and which addresses and names are the same."""

from __future__ import annotations

from typing import Any

import pytest

from domain.decider import UniqueKey
from domain.directory import ChangeEntry, EntryRegistered, RetireEntry
from domain.errors import Rejected
from domain.references import Reference, is_email, is_operator, reference
from domain.steps import Step, stored_steps
from domain.task import AssignTask, ClaimTask, CreateTask, ReassignTask, TaskAssigned, TaskCreated
from domain.workflow import ChangeWorkflow, WorkflowChanged, WorkflowDefined
from tests.builders import activity, entry, member, task, workflow
from tests.domain.cases import Case, done, each, ignored, refused
from tests.given import Given, given_commands

COMPOSED, DECOMPOSED = "J\u00e9r\u00f4me@x.vn", "Je\u0301ro\u0302me@x.vn"
# Every form that names ann, and what names nobody, with the code that it is refused with.
ANNS = ("ann", "ann@x.vn", "ANN@X.vn", "account:7", "operator:op-1", "operator:OP-1")
NOBODYS = (
    ("zoe", "not-found"),
    ("zoe@x.vn", "not-found"),
    ("account:8", "not-found"),
    ("operator:op-2", "not-found"),
    ("gone", "not-found"),
    ("gone@x.vn", "not-found"),
    ("system", "not-found"),
    ("account:07", "invalid"),
    ("phone:112", "invalid"),
    ("", "invalid"),
)
LISTS = ("whitelist", "blacklist")


def people(*more: Any) -> Given:
    ann = member("ann", email="Ann@x.vn", account_id=7, operator_id="op-1")
    gone = (member("gone", email="gone@x.vn"), RetireEntry("member", "gone"))
    return given_commands([ann, member("bob"), *gone, *more])


def step(**rest: Any) -> tuple[Step, ...]:
    return (Step("A"), Step("B", **rest))


def listed(name: str, who: str) -> list[Case]:
    """The same reference in a list of a new task, of a new workflow, and of one that is changed."""
    ids: dict[str, Any] = {name: ("ann",)}
    given: dict[str, Any] = {name: (who, "ann", who)}
    why = f"{name} has {who!r}: the member's id is recorded, once"
    old, new = stored_steps(step()), stored_steps(step(**ids))
    return [
        done("task.create", why, lambda: people().when(task(**given)), [TaskCreated("t", **ids)], {}),
        done(
            "workflow.define",
            why,
            lambda: people().when(workflow(steps=step(**given))),
            [WorkflowDefined("w", "Visit", step(**ids), "none", "wait_all")],
        ),
        done(
            "workflow.change",
            why,
            lambda: people(workflow(steps=step())).when(ChangeWorkflow("w", steps=step(**given))),
            [WorkflowChanged("w", 2, {"steps": old}, {"steps": new})],
            {},
        ),
    ]


def nobody(name: str, who: str, code: str) -> list[Case]:
    given: dict[str, Any] = {name: ("ann", who)}
    why = f"{name} has {who!r}, who is nobody"
    return [
        refused("task.create", code, why, lambda: people().when(task(**given)), f"/{name}/1"),
        refused(
            "workflow.define", code, why, lambda: people().when(workflow(steps=step(**given))), f"/steps/1/{name}/1"
        ),
        refused(
            "workflow.change",
            code,
            why,
            lambda: people(workflow(steps=step())).when(ChangeWorkflow("w", steps=step(**given))),
            f"/steps/1/{name}/1",
        ),
    ]


CASES: list[Case] = [
    *(case for name in LISTS for who in ANNS for case in listed(name, who)),
    *(case for name in LISTS for who, code in NOBODYS for case in nobody(name, who, code)),
    done(
        "task.create",
        "somebody whom the command registers may stand in its lists",
        lambda: people().when(task(assignees=("new@x.vn",), whitelist=("NEW@x.vn", "ann"), blacklist=("bob",))),
        [
            EntryRegistered("member", "id-1", {"email": "new@x.vn", "account_id": 3}),
            TaskCreated("t", whitelist=("id-1", "ann"), blacklist=("bob",)),
            TaskAssigned("t", None, ("id-1",)),
        ],
    ),
    refused(
        "task.create",
        "not-eligible",
        "the blacklist names the new assignee",
        lambda: people().when(task(assignees=("new@x.vn",), blacklist=("new@x.vn",))),
        "/assignees/0",
    ),
    done(
        "workflow.define",
        "a new default person may stand in the step's lists",
        lambda: people().when(workflow(steps=step(assignees=("new@x.vn",), whitelist=("new@x.vn",)))),
        [
            EntryRegistered("member", "id-1", {"email": "new@x.vn", "account_id": 3}),
            WorkflowDefined("w", "Visit", step(assignees=("id-1",), whitelist=("id-1",)), "none", "wait_all"),
        ],
    ),
    done(
        "task.create",
        "addresses that fold to one are two people",
        lambda: people(member("sz", email="strau\u00df@x.vn")).when(
            task(assignees=("strauss@x.vn", "STRAU\u00df@x.vn"))
        ),
        [
            EntryRegistered("member", "id-1", {"email": "strauss@x.vn", "account_id": 4}),
            TaskCreated("t"),
            TaskAssigned("t", None, ("id-1", "sz")),
        ],
    ),
    done(
        "task.create",
        "an address in another normal form is the same; it is shown as it was written",
        lambda: people().when(task(assignees=(DECOMPOSED, COMPOSED), whitelist=(COMPOSED,))),
        [
            EntryRegistered("member", "id-1", {"email": DECOMPOSED, "account_id": 3}),
            TaskCreated("t", whitelist=("id-1",)),
            TaskAssigned("t", None, ("id-1",)),
        ],
        {
            UniqueKey("member-email", "j\u00e9r\u00f4me@x.vn"): "id-1",
            UniqueKey("member-account", "3"): "id-1",
        },
    ),
    refused(
        "directory.register",
        "taken",
        "an address in another normal form",
        lambda: people(member("jer", email=COMPOSED)).when(member("two", email=DECOMPOSED)),
        "/fields/email",
    ),
    done(
        "directory.register",
        "an address whose letters beyond ASCII have another case is another one",
        lambda: people(member("jer", email=COMPOSED)).when(member("two", email=COMPOSED.upper(), account_id=9)),
        [EntryRegistered("member", "two", {"email": COMPOSED.upper(), "account_id": 9})],
    ),
    refused(
        "directory.register",
        "taken",
        "an operator in another normal form",
        lambda: people(member("jer", operator_id="h\u00e9")).when(member("two", operator_id="he\u0301")),
        "/fields/operator_id",
    ),
    done(
        "task.create",
        "an operator in another normal form",
        lambda: people(member("jer", operator_id="h\u00e9")).when(task(assignees=("operator:He\u0301",))),
        [TaskCreated("t"), TaskAssigned("t", None, ("jer",))],
    ),
    *(
        refused(
            "directory.register",
            "invalid",
            f"the e-mail {email!r}",
            lambda email=email: people().when(member("two", email=email)),
            "/fields/email",
        )
        for email in (" a@x.vn", "a@x.vn ", "a\t@x.vn", "account:7@x.vn", "operator:a@b", "a@x.vn\u2028", "\u202ea@b")
    ),
    *(
        refused(
            "workflow.define",
            "name-taken",
            f"{other!r} is {name!r}",
            lambda name=name, other=other: people(workflow(name=name)).when(workflow(id="w2", name=other)),
            "/name",
        )
        for name, other in (
            ("Caf\u00e9", "CAFE\u0301"),
            ("Stra\u00dfe", "STRASSE"),
            ("\u0390x", "\u03aa\u0301X"),
        )
    ),
    refused(
        "workflow.define",
        "invalid",
        "a flow twice, in two normal forms",
        lambda: people().when(workflow(steps=(Step("A", flow_id="\u00e9"), Step("B", flow_id="e\u0301")))),
        "/steps/1/flow_id",
    ),
    done(
        "task.create",
        "a role in another normal form",
        lambda: people(member("jer", actor_roles=["H\u00e4ndler"])).when(
            task(assignees=("jer",), roles=("Ha\u0308ndler",))
        ),
        [TaskCreated("t", roles=("Ha\u0308ndler",)), TaskAssigned("t", None, ("jer",))],
    ),
    refused(
        "directory.register",
        "taken",
        "with a value that only Python holds for the same",
        lambda: people(entry("hub", "h", open={"at": [1]})).when(entry("hub", "h", open={"at": [True]})),
        "/id",
    ),
    ignored(
        "directory.register",
        "the same again, its number written otherwise",
        lambda: people(entry("hub", "h", at=[1, {"b": 2, "a": 0.5}])).when(
            entry("hub", "h", at=[1.0, {"a": 0.5, "b": 2}])
        ),
    ),
]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


@pytest.mark.parametrize("who", ANNS)
@pytest.mark.parametrize("name", LISTS)
def test_a_list_lets_in_and_shuts_out_whoever_it_names(name: str, who: str) -> None:
    rule: dict[str, Any] = {name: (who,)}
    for scene in (people(task(**rule)), people(workflow(steps=step(**rule)), activity())):
        of = "t" if scene.state("task", "t") is not None else "t2"
        let_in, shut_out = ("ann", "bob") if name == "whitelist" else ("bob", "ann")
        for command in (AssignTask(of, (shut_out,)), ClaimTask(of, shut_out)):
            scene.ask(command).then_rejected("not-eligible")
        scene.and_commands([AssignTask(of, (let_in,))])
        scene.ask(ReassignTask(of, (shut_out,))).then_rejected("not-eligible")


@pytest.mark.parametrize("who", ANNS)
def test_work_is_given_by_every_form(who: str) -> None:
    for command in (AssignTask("t", (who,)), ClaimTask("t", who)):
        people(task()).when(command).then([TaskAssigned("t", None, ("ann",))])
    people(task(assignees=("bob",))).when(ReassignTask("t", (who,)))
    defined = people(workflow(steps=step(assignees=(who,))))
    assert defined.state("workflow", "w").steps[1].assignees == ("ann",)


def test_lists_by_e_mail_cost_no_more_rounds_than_lists_by_id() -> None:
    scene = given_commands([member(f"m{n}", email=f"m{n}@x.vn") for n in range(20)])
    ids, mails = (tuple(form.format(n) for n in range(20)) for form in ("m{}", "m{}@x.vn"))

    def rounds(who: tuple[str, ...]) -> int:
        return scene.ask(CreateTask("t", assignees=who[:5], whitelist=who, blacklist=who[5:])).rounds

    # The holders of the addresses first, then the members themselves.
    assert rounds(mails) <= rounds(ids) + 1


def test_what_was_recorded_by_e_mail_before_is_still_there() -> None:
    old = given_commands([member("ann")]).and_events([TaskCreated("t", whitelist=("ann@x.vn",))])
    assert old.state("task", "t").eligibility.whitelist == ("ann@x.vn",)


def test_a_changed_address_is_found_by_the_new_one_alone() -> None:
    scene = people(ChangeEntry("member", "ann", {"email": DECOMPOSED}))
    scene.ask(task(whitelist=(COMPOSED,))).then([TaskCreated("t", whitelist=("ann",))])
    scene.ask(task(whitelist=("ann@x.vn",))).then_rejected("not-found", "/whitelist/0")
    scene.when(ChangeEntry("member", "ann", {"email": COMPOSED})).then_unique_keys(
        {UniqueKey("member-email", "j\u00e9r\u00f4me@x.vn"): "ann"}
    )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("ann", Reference("id", "ann")),
        ("7", Reference("id", "7")),
        ("Ann@X.vn", Reference("email", "ann@x.vn")),
        ("account:7", Reference("account", "7")),
        ("account:9007199254740991", Reference("account", "9007199254740991")),
        # The prefix decides: such an operator never looks like an address.
        ("operator:A@b", Reference("operator", "a@b")),
        ("operator:a:b", Reference("operator", "a:b")),
    ],
)
def test_reference(text: str, named: Reference) -> None:
    assert reference(text, "/at") == named


@pytest.mark.parametrize("text", ["account:7@x.vn", "Account:7", "OPERATOR:x", "a:b", "a@b:c", "a b", "a\0"])
def test_no_reference(text: str) -> None:
    with pytest.raises(Rejected) as refusal:
        reference(text, "/at")
    assert (refusal.value.code, refusal.value.pointer) == ("invalid", "/at")


def test_what_an_address_may_hold_does_not_depend_on_the_python() -> None:
    # A letter that newer Pythons know and older ones do not, and a code that none knows.
    assert is_email("\U0001c800@x.vn")
    assert is_email("\U000e0fff@x.vn")


def test_a_key_that_grows_is_measured() -> None:
    # Each of these is three characters in the normal form.
    grows = "\U0001d160"
    assert is_email(grows * 80 + "@x.vn")
    assert not is_email(grows * 100 + "@x.vn")
    assert is_operator(grows * 66)
    assert not is_operator(grows * 67)
