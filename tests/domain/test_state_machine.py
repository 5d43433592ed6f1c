"""Random commands by random people on an activity of three tasks; whatever they do, what must always hold does hold."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import domain
from domain.activity import CancelActivity, ChangeActivity
from domain.directory import ChangeEntry, RetireEntry
from domain.lifecycle import ACTIVE, CANCELED, COMPLETED, FAILED, OPEN, TERMINAL
from domain.task import (
    AssignTask,
    CancelTask,
    ChangeTask,
    ClaimTask,
    CompleteTask,
    FailTask,
    PauseTask,
    ProcessTask,
    ReassignTask,
    RetryTask,
    SaveTask,
    Task,
    UnassignTask,
)
from domain.workflow import RetireWorkflow, Step
from tests.builders import activity, manager, member, task, workflow
from tests.domain.cases import CONTRACT, IGNORED, REFUSALS
from tests.given import Given, Outcome, given, given_commands

PEOPLE = ("ann", "bob", "cid")
TASKS = ("t1", "t2", "t3", "t4")
ACTORS = st.sampled_from(("system", "max", "zed", *PEOPLE))
SOME = st.lists(st.sampled_from((*PEOPLE, "max", "nobody")), min_size=1, max_size=3).map(tuple)
TASK = st.sampled_from(TASKS)
FIELDS = st.dictionaries(
    st.sampled_from(["a", "b"]), st.sampled_from([None, 0, 1, True, "x", [1], {"c": 1}]), max_size=2
)
COMMANDS: st.SearchStrategy[Any] = st.one_of(
    st.builds(AssignTask, TASK, SOME, st.booleans()),
    st.builds(ClaimTask, TASK, st.none() | st.sampled_from(PEOPLE), st.booleans()),
    st.builds(ReassignTask, TASK, SOME),
    st.builds(UnassignTask, TASK),
    # The commands that move a task on come up more often, so that the runs get somewhere.
    st.builds(ProcessTask, TASK),
    st.builds(ProcessTask, TASK),
    st.builds(PauseTask, TASK),
    st.builds(CompleteTask, TASK, FIELDS),
    st.builds(SaveTask, TASK, FIELDS),
    st.builds(ChangeTask, TASK, st.none() | st.just("New"), FIELDS, st.none() | st.just("2025-10-31T08:00:00Z")),
    st.builds(FailTask, TASK),
    st.builds(RetryTask, TASK),
    st.builds(CancelTask, TASK),
)
RARE: st.SearchStrategy[Any] = st.one_of(
    st.builds(CancelActivity, st.just("a")),
    st.builds(ChangeActivity, st.just("a"), st.none() | st.just("New"), st.none(), FIELDS),
    st.builds(RetireEntry, st.just("member"), st.sampled_from((*PEOPLE, "max"))),
    st.builds(ChangeEntry, st.just("member"), st.just("max"), st.sampled_from([{"projects": None}, {"name": "Max"}])),
    st.builds(RetireWorkflow, st.just("w")),
)


def replayed(log: list[Any]) -> Given:
    """Build the states again from events that went through the store's form."""
    kinds = domain.EVENT_NAMES
    stored = [(kinds[type(event)], msgspec.json.encode(event)) for event in log]
    return given(msgspec.json.decode(data, type=domain.EVENTS[name]) for name, data in stored)


class Team(RuleBasedStateMachine):
    """An activity of three tasks, a fourth task that stands alone, and a team that does what it likes."""

    scene: Given

    @initialize(
        gating=st.sampled_from(["none", "sequential"]),
        shut_out=st.sampled_from([(), ("cid",)]),
        assignees=st.lists(st.lists(st.sampled_from(PEOPLE[:2]), max_size=2), max_size=3),
    )
    def begin(self, gating: Any, shut_out: tuple[str, ...], assignees: list[list[str]]) -> None:
        steps = tuple(Step(name, blacklist=shut_out) for name in ("One", "Two", "Three"))
        people = [*(member(name) for name in (*PEOPLE, "zed")), manager("max")]
        work = [workflow(steps=steps, gating=gating), activity(3, assignees=assignees), task("t4", assignees=("ann",))]
        self.scene = given_commands([*people, *work])

    @rule(command=COMMANDS, actor=ACTORS)
    def somebody_does_something(self, command: Any, actor: str) -> None:
        self.give(command, actor)

    @rule(command=st.builds(ProcessTask, TASK) | st.builds(CompleteTask, TASK))
    def an_assignee_works(self, command: Any) -> None:
        self.give(command, next(iter(self.task(command.id).assignees), "system"))

    @rule(person=st.sampled_from(PEOPLE[:2]), order=st.permutations(TASKS))
    def somebody_starts_all_that_is_theirs(self, person: str, order: list[str]) -> None:
        for name in order:
            if person in self.task(name).assignees:
                self.give(ProcessTask(name), person)

    @rule(command=RARE, actor=ACTORS, often=st.integers(0, 3))
    def somebody_does_something_rare(self, command: Any, actor: str, often: int) -> None:
        if often == 0:
            self.give(command, actor)

    @rule(first=COMMANDS | RARE, second=COMMANDS | RARE, actors=st.tuples(ACTORS, ACTORS))
    def two_at_once(self, first: Any, second: Any, actors: tuple[str, str]) -> None:
        """What the second read is compared with what the first wrote; only where both meet is it decided again."""
        winner, other = self.scene.ask(first, actors[0]), self.scene.ask(second, actors[1])
        if winner.decision is None:
            return
        self.scene.record(winner.decision)
        written = {stream for stream, _ in winner.decision.events}
        if written & set(other.context.streams_read) or set(winner.decision.claims) & set(other.context.claims_read):
            other = self.scene.ask(second, actors[1])
        if other.decision is not None:
            self.scene.record(other.decision)

    def give(self, command: Any, actor: str) -> Outcome:
        before = (dict(self.scene.states), dict(self.scene.holders), list(self.scene.log))
        got = self.scene.when(command, actor)
        if got.refusal is not None:
            assert got.refusal.code in REFUSALS[got.name], f"{got.name} may not be refused as {got.refusal.code}"
        elif not got.events:
            assert IGNORED in CONTRACT[got.name]
        if got.refusal is not None or not got.events:
            assert before == (self.scene.states, self.scene.holders, self.scene.log)
        self.check_that_what_ended_stays(before[0], command)
        return got

    def check_that_what_ended_stays(self, before: dict[str, Any], command: Any) -> None:
        for name in TASKS:
            was: Task = before[f"acme/task-{name}"]
            now = self.task(name)
            if was.lifecycle in (COMPLETED, CANCELED):
                assert now == was
            elif was.lifecycle is FAILED and now != was:
                assert (type(command), now.lifecycle) in {(RetryTask, OPEN), (CancelActivity, CANCELED)}

    def task(self, name: str) -> Task:
        state: Task = self.scene.state("task", name)
        return state

    @invariant()
    def one_running_task_per_person_and_the_claims_say_which(self) -> None:
        running = [(state.runner, name) for name in TASKS if (state := self.task(name)).runner is not None]
        assert len(dict(running)) == len(running)
        claims = {claim.key: holder for claim, holder in self.scene.holders.items() if claim.kind == "running"}
        assert claims == dict(running)

    @invariant()
    def whoever_is_at_work_has_the_task_and_works_on_it(self) -> None:
        for name in TASKS:
            state = self.task(name)
            if state.runner is not None:
                assert state.lifecycle is ACTIVE
                assert state.runner in state.assignees
            assert len(set(state.assignees)) == len(state.assignees)
            assert not set(state.assignees) & set(state.created.blacklist)

    @invariant()
    def a_cancelled_activity_has_no_open_or_failed_task(self) -> None:
        if self.scene.state("activity", "a").canceled:
            children = [self.task(name) for name in self.scene.state("activity", "a").children]
            assert all(child.lifecycle in TERMINAL and child.lifecycle is not FAILED for child in children)

    @invariant()
    def no_task_is_ahead_of_an_earlier_one_that_it_waits_for(self) -> None:
        for name in TASKS:
            state = self.task(name)
            if state.lifecycle in (ACTIVE, COMPLETED):
                assert all(self.task(each).lifecycle in (COMPLETED, CANCELED) for each in state.created.after)

    @invariant()
    def a_workflow_in_use_is_not_retired(self) -> None:
        assert not self.scene.state("workflow", "w").retired

    def teardown(self) -> None:
        if hasattr(self, "scene"):
            assert replayed(self.scene.log).states == self.scene.states


Team.TestCase.settings = settings(max_examples=120, stateful_step_count=30, deadline=None, database=None)
TestTeam = Team.TestCase
