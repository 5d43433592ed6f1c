"""Random commands through random dialects, read back through all of them: they agree with the model at every step."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

import domain
from domain.activity import CancelActivity
from domain.lifecycle import TERMINAL, Lifecycle
from domain.rollup import Child, rollup
from domain.steps import Step
from domain.task import (
    AssignTask,
    CancelTask,
    ChangeTask,
    ClaimTask,
    CompleteTask,
    Dispatch,
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
)
from services.commands import wire
from tests.builders import activity, entry, manager, member, workflow
from tests.given import COMMAND_NAMES, Given, given_commands
from tests.services.http.api import NOW, Api, opened

# Each person's account number; operators have the ids of their people, with `op-` before.
PEOPLE = {"ann": 1, "bob": 2, "max": 3}
ACTORS = ("system", "ann", "bob", "max")
TASKS = ("t1", "t2", "sent", "lost")
WORKFLOW, FIELD, DISPATCH = "/api/v3/workflow/activities", "/api/v3/task", "/api/activities"
PLAN = {"channel": "SALESMAN", "reason": "Visit"}

# What each lifecycle is called, per dialect; a task that is open or at work is told apart below.
SAID = {
    Lifecycle.CANCELED: ("CANCELED", "CANCELED", "canceled"),
    Lifecycle.FAILED: ("FAILED", "FAILED", "errored"),
    Lifecycle.COMPLETED: ("DONE", "COMPLETED", "completed"),
}


def said_of(task: Task) -> tuple[str, str, str]:
    """Return a task's status as field, dispatch and workflow must say it."""
    if task.lifecycle in SAID:
        return SAID[task.lifecycle]
    dispatched = task.dispatch is Dispatch.DISPATCHED
    if task.lifecycle is not Lifecycle.OPEN:
        workflow = "paused" if task.lifecycle is Lifecycle.PAUSED else "in-progress"
        return "ONGOING", "DISPATCHED" if dispatched else "READY", workflow
    by_people = "ONGOING" if task.assignees else "UNASSIGNED"
    if task.resolution is Resolution.FAILED:
        return by_people, "UNRESOLVED", "pending"
    return ("ONGOING", "DISPATCHED", "pending") if dispatched else (by_people, "READY", "pending")


@dataclass(frozen=True)
class Move:
    """A request of one dialect, and the command that it stands for."""

    method: str
    path: str
    body: Any
    command: Any


def moves(name: str) -> list[Move]:
    """Return what the dialects can do to one task."""

    def at(method: str, action: str, body: Any, command: Any) -> Move:
        return Move(method, f"{WORKFLOW}/{name}{action}", body, command)

    def put(body: dict[str, Any], **changed: Any) -> Move:
        return Move("PUT", f"{FIELD}/{name}", body, ChangeTask(name, **changed))

    def sent(method: str, path: str, command: Any, body: Any = None) -> Move:
        return Move(method, f"{DISPATCH}{path}", body if body is not None else {}, command)

    def wire(command: Any) -> Move:
        data = {field: getattr(command, field) for field in command.__dataclass_fields__}
        body = {"type": COMMAND_NAMES[type(command)], "data": {k: v for k, v in data.items() if v is not None}}
        return Move("POST", "/v1/commands", body, command)

    people = [(f"{who}@example.com", f"account:{number}", number) for who, number in PEOPLE.items()]
    results: list[Any] = ["PENDING", "COMPLETED", "TRANSFERRED", "NOT_EXECUTED", "CANCELED"]
    values: list[dict[str, Any]] = [{}, {"a": 1}, {"a": "x", "b": [1]}, {"a": None}]
    return [
        *(
            at("PATCH", "/assign", {"account_id": number, "start_working": go}, AssignTask(name, (account,), go))
            for _, account, number in people
            for go in (False, True)
        ),
        *(
            at("PATCH", "/assign", {"self_assigning": True, "start_working": go}, ClaimTask(name, None, go))
            for go in (False, True)
        ),
        *(
            at("PATCH", "/reassign", {"account_id": number}, ReassignTask(name, (account,)))
            for _, account, number in people
        ),
        at("PATCH", "/unassign", {}, UnassignTask(name)),
        at("PATCH", "/process", {}, ProcessTask(name)),
        *(at("PATCH", "", {"data": value}, SaveTask(name, value)) for value in values),
        *(at("PATCH", "/complete", {"data": value}, CompleteTask(name, value)) for value in values),
        at("POST", "/error", {"data": {"comment": "no"}}, FailTask(name, "no")),
        at("POST", "/cancel", {}, CancelTask(name)),
        *(put(value, fields=value) for value in values),
        *(put({"assignee": [email]}, assignees=(email,)) for email, *_ in people),
        put({"assignee": []}, assignees=()),
        put({"assignee": None, "title": None, "endTime": None}, assignees=None, title=None, end=None),
        put({"title": "Else", "endTime": "2030-01-01T00:00:00Z"}, title="Else", end="2030-01-01T00:00:00Z"),
        put({"status": "DONE"}, complete=True),
        *(put({"status": "DONE", "assignee": [email]}, complete=True, assignees=(email,)) for email, *_ in people),
        sent("PATCH", f"/{name}/cancel", CancelTask(name)),
        sent("POST", f"/tasks/{name}/dispatch", DispatchTask(name)),
        sent("PATCH", f"/{name}/retry-resolution", RetryResolution(name)),
        sent("PATCH", f"/{name}/target-users/t1/resolve", ResolveTarget(name, "t1", "u2"), {"user_id": "u2"}),
        *(
            Move(
                "POST",
                "/api/activity-results/tasks",
                {"activity_id": name, "result": result, "hard_override": hard},
                SubmitResult(name, result, hard),
            )
            for result in results
            for hard in (False, True)
        ),
        wire(RetryTask(name)),
        wire(PauseTask(name)),
        *(wire(ReportDispatch(name, number, went)) for number in (1, 2, 3, 4) for went in (False, True)),
    ]


RARE = [
    Move("POST", "/api/v3/workflow/work_units/a/cancel", {}, CancelActivity("a")),
    Move("DELETE", f"{FIELD}/a", None, CancelActivity("a")),
    Move("DELETE", f"{FIELD}/sent", None, CancelTask("sent")),
]
TRACKER = [
    Move("POST", "/api/v3/workflow/tracker/pause", {}, PauseTracker()),
    Move("POST", "/api/v3/workflow/tracker/resume", {}, ResumeTracker()),
]
MOVES = [*(each for name in TASKS for each in moves(name)), *TRACKER]
# These end things, so a run that is to get somewhere makes them seldom.
ENDS = (CancelTask, CompleteTask, FailTask, SubmitResult, ReportDispatch)


def scene() -> list[Any]:
    """Return the commands that set the scene: two children, a task to be sent out, and one whose targets fail."""
    people = [
        member(name, email=f"{name}@example.com", account_id=number, operator_id=f"op-{name}")
        for name, number in PEOPLE.items()
        if name != "max"
    ]
    lost = {**PLAN, "criteria": ({"type": "ROLE_MATCH", "role": "OWNER"},)}
    return [
        *people,
        manager("max", email="max@example.com", account_id=PEOPLE["max"], operator_id="op-max"),
        entry("commerce", "shop", users=[{"id": "u2", "role": "CLERK"}]),
        entry("dispatch", "SALESMAN", provider="console"),
        workflow(steps=(Step("One"), Step("Two"))),
        activity(2),
        _planned("sent", PLAN),
        _planned("lost", lost),
    ]


def _planned(name: str, plan: dict[str, Any]) -> Any:
    data = {"id": name, "commerce": "shop", "plan": plan}
    return wire.parse_data("task.create", msgspec.json.encode(data))[0]


class Dialects(RuleBasedStateMachine):
    """A tenant of its own for each run, in an API that all runs share."""

    api: Api
    call: Callable[[Coroutine[Any, Any, Any]], Any]
    numbers: Iterator[int]
    accepted: set[type]

    @initialize()
    def begin(self) -> None:
        self.tenant = f"run-{next(self.numbers)}"
        self.had: set[str] = set()
        self.model: Given = given_commands(scene(), now=NOW)
        self.keys = {actor: self.api.key(self.tenant, actor, "read", "write") for actor in ACTORS}
        for command in scene():
            data = msgspec.json.decode(msgspec.json.encode(command))
            self.api.command(COMMAND_NAMES[type(command)], data, self.tenant)

    @rule(step=st.sampled_from(MOVES), actor=st.sampled_from(ACTORS))
    def somebody_does_something(self, step: Move, actor: str) -> None:
        self.take(step, actor)

    @rule(data=st.data(), may_end=st.integers(0, 2))
    def somebody_does_what_can_be_done(self, data: st.DataObject, may_end: int) -> None:
        """Of all that the model would accept, first a kind of command is drawn, so that the rare ones come up too."""
        possible: dict[str, list[tuple[Move, str]]] = {}
        for step in MOVES:
            if may_end and isinstance(step.command, ENDS):
                continue
            for actor in ACTORS:
                if self.model.ask(step.command, actor, NOW).refusal is None:
                    possible.setdefault(COMMAND_NAMES[type(step.command)], []).append((step, actor))
        if possible:
            # What this run has not had yet comes before what it has.
            fresh = sorted(set(possible) - self.had)
            kind = data.draw(st.sampled_from(fresh or sorted(possible)))
            step, actor = data.draw(st.sampled_from(possible[kind]))
            self.take(step, actor)

    @rule(name=st.sampled_from(TASKS), who=st.sampled_from(sorted(PEOPLE)))
    def somebody_has_a_break(self, name: str, who: str) -> None:
        """A person begins something, and the tracker pauses it and goes on with it."""
        self.take(Move("PATCH", f"{WORKFLOW}/{name}/process", {}, ProcessTask(name)), who)
        for step in TRACKER:
            self.take(step, who)

    @rule(step=st.sampled_from(RARE), actor=st.sampled_from(ACTORS), often=st.integers(0, 5))
    def something_rare(self, step: Move, actor: str, often: int) -> None:
        if often == 0:
            self.take(step, actor)

    def task(self, name: str) -> Task:
        found: Task | None = self.model.state("task", name)
        assert found is not None
        return found

    def take(self, step: Move, actor: str) -> None:
        outcome = self.model.when(step.command, actor, NOW)
        answer: httpx.Response = self.call(
            self.api.client.request(
                step.method, step.path, json=step.body, headers={"Authorization": f"Bearer {self.keys[actor]}"}
            )
        )
        where = f"{step.method} {step.path} {step.body} by {actor}: {answer.status_code} {answer.text}"
        if outcome.refusal is None:
            assert answer.status_code < 300, where
            self.accepted.add(type(step.command))
            self.had.add(COMMAND_NAMES[type(step.command)])
        else:
            assert 400 <= answer.status_code < 500, f"{where}; the model says {outcome.refusal}"
        # What else a request has changed by mistake is seen at the end.
        touched = getattr(step.command, "id", None)
        self.compare(where, (touched,) if touched in TASKS else TASKS)

    def teardown(self) -> None:
        self.compare("everything")

    def compare(self, where: str, names: Sequence[str] = TASKS) -> None:
        for name in names:
            task = self.task(name)
            said = self.read(f"{FIELD}/{name}")["task"]
            sent = self.read(f"{DISPATCH}/{name}")
            done = self.read(f"{WORKFLOW}/{name}")["data"]["attributes"]
            assert (said["status"], sent["status"], done["status"]) == said_of(task), f"{name} after {where}"
            assert said["assignee"] == [f"{who}@example.com" for who in task.assignees], where
            account = PEOPLE[task.assignees[0]] if task.assignees else None
            assert done["assigned_account_id"] == account, where
            operator = f"op-{task.assignees[0]}" if task.assignees else None
            assert sent["taskDetails"]["assignedOperatorId"] == operator, where
            assert done["output"] == (task.data if task.lifecycle is Lifecycle.COMPLETED else None), where
        if {"t1", "t2"} & {*names}:
            self.compare_master(where)

    def compare_master(self, where: str) -> None:
        tasks = [self.task(name) for name in ("t1", "t2")]
        children = [
            Child(
                step,
                task.lifecycle,
                task.assignees,
                task.dispatch is Dispatch.DISPATCHED,
                task.resolution is Resolution.FAILED,
            )
            for step, task in enumerate(tasks)
        ]
        canceled = self.model.state("activity", "a").canceled
        whole = rollup(children, canceled)
        said = self.read(f"{FIELD}/a")["task"]
        ended = {Lifecycle.COMPLETED: "DONE", Lifecycle.FAILED: "FAILED", Lifecycle.CANCELED: "CANCELED"}
        moving = "UNASSIGNED" if whole.lifecycle is Lifecycle.OPEN else "ONGOING"
        assert said["status"] == (ended[whole.lifecycle] if whole.lifecycle in TERMINAL else moving), where
        assert said["assignee"] == [f"{who}@example.com" for who in whole.assignees], where

    def read(self, path: str) -> Any:
        answer = self.call(self.api.client.get(path, headers={"Authorization": f"Bearer {self.keys['system']}"}))
        assert answer.status_code == 200, answer.text
        return answer.json()


def test_all_dialects_say_what_the_model_says(migrated_url: str) -> None:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        api = runner.run(stack.enter_async_context(opened(migrated_url)))
        numbers, accepted = itertools.count(1), set[type]()

        def machine() -> Dialects:
            made = Dialects()
            made.api, made.call, made.numbers, made.accepted = api, runner.run, numbers, accepted
            return made

        try:
            run_state_machine_as_test(  # type: ignore[no-untyped-call]
                machine,
                settings=settings(
                    max_examples=9,
                    stateful_step_count=30,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    derandomize=True,
                ),
            )
        finally:
            runner.run(stack.aclose())
    # What no run ever led to was never compared: all that is done to a task, but what the service does by itself.
    wanted = {name for name in domain.COMMANDS if name.startswith(("task.", "tracker."))}
    assert wanted - {COMMAND_NAMES[kind] for kind in accepted} == {"task.create", "task.wake"}
