"""An e-mail that nobody has yet, in the commands that give work: its member is registered together with it."""

from __future__ import annotations

from typing import Any

from domain.decider import UniqueKey
from domain.directory import EntryRegistered
from domain.steps import Step, stored_steps
from domain.task import ClaimTask, ReassignTask, TaskAssigned, TaskReassigned
from domain.workflow import ChangeWorkflow, WorkflowChanged
from tests.builders import member, task, workflow
from tests.domain.cases import Case, done, each
from tests.given import Given, given_commands

REGISTERED = EntryRegistered("member", "id-1", {"email": "new@x.vn", "account_id": 2})
UNIQUE_KEYS = {UniqueKey("member-email", "new@x.vn"): "id-1", UniqueKey("member-account", "2"): "id-1"}
STEPS = (Step("A"), Step("B"))
CHANGED = (Step("A", assignees=("id-1",)), Step("B"))


def scene(*more: Any) -> Given:
    return given_commands([member("ann"), *more])


CASES: list[Case] = [
    done(
        "task.claim",
        "the system names somebody new by e-mail",
        lambda: scene(task()).when(ClaimTask("t", "new@x.vn")),
        [REGISTERED, TaskAssigned("t", None, ("id-1",))],
        UNIQUE_KEYS,
    ),
    done(
        "task.reassign",
        "to somebody new",
        lambda: scene(task(assignees=("ann",))).when(ReassignTask("t", ("new@x.vn",))),
        [REGISTERED, TaskReassigned("t", None, ("ann",), ("id-1",))],
        UNIQUE_KEYS,
    ),
    done(
        "workflow.change",
        "a step's default person is new",
        lambda: scene(workflow(steps=STEPS)).when(
            ChangeWorkflow("w", steps=(Step("A", assignees=("new@x.vn",)), Step("B")))
        ),
        [
            REGISTERED,
            WorkflowChanged("w", 2, {"steps": stored_steps(STEPS)}, {"steps": stored_steps(CHANGED)}),
        ],
        UNIQUE_KEYS,
    ),
]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()
