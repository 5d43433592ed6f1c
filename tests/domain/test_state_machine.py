"""Random commands by random people on an activity of three tasks; whatever they do, what must always hold does hold."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import domain
from domain.activity import STATUS_CATEGORY, CancelActivity, ChangeActivity, NewTask
from domain.decider import ANYBODY, UniqueKey
from domain.directory import ChangeEntry, RetireEntry
from domain.left_out import LEFT_OUT
from domain.lifecycle import ACTIVE, CANCELED, COMPLETED, FAILED, OPEN, PAUSED, TERMINAL
from domain.plan import Criterion
from domain.steps import FieldMapping, Step
from domain.task import (
    AssignTask,
    CancelTask,
    ChangeTask,
    ClaimTask,
    CompleteTask,
    Dispatch,
    DispatchRequested,
    DispatchTask,
    FailTask,
    PauseTask,
    PauseTracker,
    ProcessTask,
    ReassignTask,
    ReportDispatch,
    Resolution,
    ResolveTarget,
    ResumeTracker,
    RetryResolution,
    RetryTask,
    SaveTask,
    SubmitResult,
    Task,
    UnassignTask,
    WakeTask,
)
from domain.task.scheduling import RESOLUTION_WAITS
from domain.workflow import RetireWorkflow
from tests.builders import EMAIL, activity, entry, manager, member, plan, task, workflow
from tests.domain.cases import CONTRACT, IGNORED, REFUSALS
from tests.given import Given, Outcome, given, given_commands

PEOPLE = ("ann", "bob", "cid")
TASKS = ("t1", "t2", "t3", "t4")
PAST = "2025-10-30T08:00:00Z"
RESULTS = ("PENDING", "COMPLETED", "TRANSFERRED", "NOT_EXECUTED", "CANCELED")
# The users that the commerce may have: none, one, one who is locked, both.
USERS: tuple[list[dict[str, str]], ...] = (
    [],
    [{"id": "u-1", "role": "owner"}],
    [{"id": "u-2", "role": "owner", "locked": "no calls"}],
    [{"id": "u-1"}, {"id": "u-2", "locked": ""}],
)
CRITERIA = (Criterion("LAST_CONTACTED_ALL_CHANNELS"), Criterion("ROLE_MATCH", 1, "owner"))
ACTORS = st.sampled_from(("system", "max", "zed", *PEOPLE))
SOME = st.lists(st.sampled_from((*PEOPLE, "max", "nobody")), min_size=1, max_size=3).map(tuple)
TASK = st.sampled_from(TASKS)
LEFT = st.just(LEFT_OUT)
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
    st.builds(
        ChangeTask,
        TASK,
        LEFT | st.none() | st.just("New"),
        FIELDS,
        LEFT | st.none() | st.just("2025-10-31T08:00:00Z"),
        LEFT | st.none() | st.just("2025-10-31T09:00:00Z"),
        LEFT | st.none() | st.just("h"),
        assignees=LEFT | st.none() | st.just(()) | SOME,
        complete=st.booleans(),
    ),
    st.builds(FailTask, TASK),
    st.builds(RetryTask, TASK),
    st.builds(CancelTask, TASK),
    st.builds(PauseTracker, st.none() | st.sampled_from((*PEOPLE, "account:1", "nobody"))),
    st.builds(ResumeTracker, st.none() | st.sampled_from((*PEOPLE, "account:1", "nobody"))),
)
SENDING: st.SearchStrategy[Any] = st.one_of(
    st.builds(DispatchTask, TASK),
    st.builds(ReportDispatch, TASK, st.integers(0, 5), st.booleans()),
    st.builds(SubmitResult, TASK, st.sampled_from(RESULTS), st.booleans(), FIELDS),
    st.builds(RetryResolution, TASK),
    st.builds(ResolveTarget, TASK, st.sampled_from(["t1", "t2", "t9"]), st.sampled_from(["u-1", "u-2", "a b"])),
    st.builds(WakeTask, TASK, st.sampled_from(["overdue", "dispatch", "resolution"]), st.just(PAST)),
    st.builds(ChangeEntry, st.just("commerce"), st.just("c"), st.builds(dict, users=st.sampled_from(USERS))),
)
RARE: st.SearchStrategy[Any] = st.one_of(
    st.builds(CancelActivity, st.just("a")),
    st.builds(ChangeActivity, st.just("a"), LEFT | st.just("New"), LEFT | st.none() | st.just("h"), FIELDS),
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
    """An activity of three tasks, a fourth task that stands alone, and a team that does what it likes.

    The third and the fourth are to be sent out, the fourth to a user of a commerce.
    """

    scene: Given
    # Somebody overrode how a task ended, so a step may be ahead of an earlier one.
    overridden = False

    @initialize(
        gating=st.sampled_from(["none", "sequential"]),
        shut_out=st.sampled_from([(), ("cid",)]),
        assignees=st.lists(st.lists(st.sampled_from(PEOPLE[:2]), max_size=2), min_size=3, max_size=3),
        users=st.sampled_from(USERS),
        scheduled_at=st.sampled_from([None, PAST, "2030-01-01T00:00:00Z"]),
    )
    def begin(
        self,
        gating: Any,
        shut_out: tuple[str, ...],
        assignees: list[list[str]],
        users: list[dict[str, str]],
        scheduled_at: str | None,
    ) -> None:
        mapping = ((), (FieldMapping(0, "a", "b"),), (FieldMapping(1, "b", "a"), FieldMapping(0, "a", "b")))
        steps = tuple(Step(f"Step {n}", blacklist=shut_out, field_mapping=each) for n, each in enumerate(mapping))
        people = [*(member(name) for name in (*PEOPLE, "zed")), manager("max"), EMAIL]
        plans = (None, None, plan(scheduled_at=scheduled_at))
        tasks = tuple(
            NewTask(f"t{n}", assignees=tuple(who), plan=each, end=PAST if n == 1 else None)
            for n, who, each in zip((1, 2, 3), assignees, plans, strict=True)
        )
        alone = task("t4", assignees=("ann",), commerce="c", plan=plan(scheduled_at=scheduled_at, criteria=CRITERIA))
        work = [workflow(steps=steps, gating=gating), activity(tasks=tasks), entry("commerce", "c", users=users), alone]
        self.scene = given_commands([*people, *work])

    @rule(command=COMMANDS, actor=ACTORS)
    def somebody_does_something(self, command: Any, actor: str) -> None:
        self.give(command, actor)

    @rule(command=SENDING, actor=ACTORS)
    def something_is_sent_out(self, command: Any, actor: str) -> None:
        self.give(command, actor)

    @rule(name=TASK, result=st.sampled_from(RESULTS), override=st.booleans())
    def somebody_begins_what_is_done_elsewhere(self, name: str, result: Any, override: bool) -> None:
        self.give(ProcessTask(name), "system")
        self.give(SubmitResult(name, result, override), "system")

    @rule(name=TASK, paused=st.booleans())
    def somebody_begins_and_gives_it_back(self, name: str, paused: bool) -> None:
        self.give(ProcessTask(name), "system")
        if paused:
            self.give(PauseTask(name), "system")
        self.what_is_due_comes_due(name)
        self.give(UnassignTask(name), "system")

    @rule(name=TASK, late=st.booleans())
    def it_fails_while_it_is_sent_out_and_is_retried(self, name: str, late: bool) -> None:
        self.give(DispatchTask(name), "system")
        self.give(FailTask(name), "system")
        attempt = self.task(name).attempt
        self.give(RetryTask(name), "system")
        if late:
            self.give(ReportDispatch(name, attempt, succeeded=True), "system").then_nothing()

    @rule(name=TASK)
    def a_deadline_comes_due(self, name: str) -> None:
        self.what_is_due_comes_due(name)

    def what_is_due_comes_due(self, name: str) -> None:
        state = self.task(name)
        deadlines: list[tuple[Any, str | None]] = [state.wake or ("dispatch", None), ("overdue", state.end)]
        for kind, due in deadlines:
            if due is not None:
                again = WakeTask(name, kind, due)
                self.give(again, "system")
                if self.task(name).wake != (kind, due):
                    self.give(again, "system").then_nothing()

    @rule(name=TASK, succeeded=st.booleans())
    def a_provider_answers(self, name: str, succeeded: bool) -> None:
        answer = ReportDispatch(name, self.task(name).attempt, succeeded)
        self.give(answer, "system")
        self.give(answer, "system").then_nothing()

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

    @rule(first=COMMANDS | SENDING | RARE, second=COMMANDS | SENDING | RARE, actors=st.tuples(ACTORS, ACTORS))
    def two_at_once(self, first: Any, second: Any, actors: tuple[str, str]) -> None:
        """What the second read is compared with what the first wrote; only where both meet is it decided again."""
        winner, other = self.scene.ask(first, actors[0]), self.scene.ask(second, actors[1])
        self.overridden |= any(getattr(command, "hard_override", False) for command in (first, second))
        if winner.decision is None:
            return
        self.check_that_what_is_in_use_stays(winner, self.scene.states)
        self.scene.record(winner.decision)
        written = {stream for stream, _ in winner.decision.events}
        keys = {*winner.decision.unique_keys, *(UniqueKey(ANYBODY, each.kind) for each in winner.decision.unique_keys)}
        if written & set(other.context.streams_read) or keys & set(other.context.unique_keys_read):
            other = self.scene.ask(second, actors[1])
        self.check_that_what_is_in_use_stays(other, self.scene.states)
        if other.decision is not None:
            self.scene.record(other.decision)

    def give(self, command: Any, actor: str) -> Outcome:
        self.overridden |= getattr(command, "hard_override", False)
        before = (dict(self.scene.states), dict(self.scene.holders), list(self.scene.log))
        got = self.scene.when(command, actor)
        actor_state = before[0].get(f"acme/member-{actor}")
        if actor_state is not None and actor_state.retired:
            got.then_rejected("forbidden")
        elif got.refusal is not None:
            assert got.refusal.code in REFUSALS[got.name], f"{got.name} may not be refused as {got.refusal.code}"
        elif not got.events:
            assert IGNORED in CONTRACT[got.name]
        if got.refusal is not None or not got.events:
            assert before == (self.scene.states, self.scene.holders, self.scene.log)
        self.check_that_what_ended_stays(before[0], command)
        self.check_that_what_is_in_use_stays(got, before[0])
        return got

    def check_that_what_is_in_use_stays(self, got: Outcome, before: dict[str, Any]) -> None:
        if got.name == "workflow.retire" and got.decision is not None:
            assert before["acme/activity_status-a"] in TERMINAL

    def check_that_what_ended_stays(self, before: dict[str, Any], command: Any) -> None:
        for name in TASKS:
            was: Task = before[f"acme/task-{name}"]
            now = self.task(name)
            if isinstance(command, SubmitResult) and command.hard_override and command.id == name:
                assert now.lifecycle in TERMINAL or now == was
            elif was.lifecycle in (COMPLETED, CANCELED):
                assert now == was
            elif was.lifecycle is FAILED and now != was:
                assert (type(command), now.lifecycle) in {(RetryTask, OPEN), (CancelActivity, CANCELED)}

    def task(self, name: str) -> Task:
        state: Task = self.scene.state("task", name)
        return state

    @invariant()
    def one_running_task_per_person_and_the_unique_keys_say_which(self) -> None:
        running = [(state.runner, name) for name in TASKS if (state := self.task(name)).runner is not None]
        assert len(dict(running)) == len(running)
        unique_keys = {unique.key: holder for unique, holder in self.scene.holders.items() if unique.kind == "running"}
        assert unique_keys == dict(running)

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
        for name in TASKS if not self.overridden else ():
            state = self.task(name)
            if state.lifecycle in (ACTIVE, COMPLETED):
                assert all(self.task(each).lifecycle in (COMPLETED, CANCELED) for each in state.created.after)

    @invariant()
    def the_status_is_that_of_the_tasks(self) -> None:
        assert list(self.scene.stale()) == []

    @invariant()
    def the_workflow_is_in_use_until_the_activity_has_ended(self) -> None:
        ended = self.scene.state(STATUS_CATEGORY, "a") in TERMINAL
        assert (UniqueKey("workflow-use/w", "a") in self.scene.holders) is not ended

    @invariant()
    def nobody_works_on_what_is_not_resolved(self) -> None:
        for name in TASKS:
            state = self.task(name)
            assert state.lifecycle not in (ACTIVE, PAUSED) or state.resolution is not Resolution.FAILED

    @invariant()
    def the_attempts_are_those_that_were_recorded(self) -> None:
        for name in TASKS:
            state = self.task(name)
            requests = [event for event in self.scene.log if isinstance(event, DispatchRequested) and event.id == name]
            assert [event.attempt for event in requests] == list(range(1, state.attempt + 1))
            assert state.first_attempt <= state.attempt
            assert not state.in_flight or state.dispatch is Dispatch.REQUESTED

    @invariant()
    def what_has_a_wake_can_use_it_and_what_waits_has_one(self) -> None:
        for name in TASKS:
            state = self.task(name)
            unresolved = state.resolution is Resolution.FAILED
            if state.wake is not None:
                assert state.lifecycle not in TERMINAL
                assert not state.in_flight
                assert (state.wake[0] == "resolution") is unresolved
                assert unresolved or state.dispatch in (Dispatch.NONE, Dispatch.REQUESTED)
            elif state.lifecycle is OPEN and unresolved:
                assert state.tries > len(RESOLUTION_WAITS)
            elif state.lifecycle is OPEN and state.created.plan is not None and state.created.plan.scheduled_at:
                assert state.in_flight or state.dispatch in (Dispatch.DISPATCHED, Dispatch.GAVE_UP)

    @invariant()
    def what_ended_is_not_overdue(self) -> None:
        assert not any(state.overdue and state.lifecycle in TERMINAL for state in map(self.task, TASKS))

    def teardown(self) -> None:
        if hasattr(self, "scene"):
            assert replayed(self.scene.log).states == self.scene.states


Team.TestCase.settings = settings(max_examples=120, stateful_step_count=30, deadline=None, database=None)
TestTeam = Team.TestCase
