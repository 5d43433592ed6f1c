"""Full batches of any commands by few people do what the same commands do one by one, and no batch fails for them.

`FOLDWORK_TEST_SEED` adds a run of that seed.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain import COMMANDS
from domain.task import (
    CancelTask,
    CompleteTask,
    FailTask,
    PauseTask,
    ProcessTask,
    ReassignTask,
    SubmitResult,
    UnassignTask,
)
from services.commands import wire
from services.commands import worker as workers
from services.commands.wire import Incoming, InvalidMessage, Reply
from services.commands.worker import MAX_BATCH_BYTES, Worker
from services.store.event_store import EventStore
from tests import builders
from tests.databases import Databases
from tests.given import COMMAND_NAMES
from tests.services.harness import TENANT, rows

SEEDS = [*range(1, 7), *([int(os.environ["FOLDWORK_TEST_SEED"])] if "FOLDWORK_TEST_SEED" in os.environ else [])]
START = datetime(2025, 10, 31, 1, 0, tzinfo=UTC)
PEOPLE = ("ann", "ben", "max")
PERSONS = (*PEOPLE, *PEOPLE, "ann@example.com", "new@example.com", "account:7", "operator:op", "nobody")
WORKFLOWS = ("w1", "w2")
TIMES = ("2025-10-31T08:50:00.000+07:00", "2025-10-31T01:30:00Z", "2025-11-01T08:55:00.000+07:00")
DAY = timedelta(hours=1)


class Mix:
    """Commands of every kind, as the wire carries them, from one seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._numbers = itertools.count(1)
        self._names = sorted(COMMANDS)
        # What people do all day comes more often than what is set up once.
        work = ["task.process", "task.complete", "task.claim", "task.pause", "tracker.pause", "tracker.resume"]
        self._names += 4 * [*work, "task.assign", "task.reassign"] + 15 * ["task.create", "activity.create"]
        self._sent: list[Incoming] = []

    def command(self) -> Incoming:
        """Return the next command; some come again, under their id or another one."""
        if self._sent and self._random.random() < 0.05:
            return self._random.choice(self._sent)
        while True:
            name = self._random.choice(self._names)
            if name.endswith(("retire", "cancel")) and self._random.random() < 0.7:
                continue
            data = self._data(name)
            try:
                command, fingerprint = wire.parse_data(name, json.dumps(data).encode())
            except InvalidMessage as malformed:
                raise AssertionError(f"{name} {data}") from malformed
            key = f"k{self._random.randrange(20)}" if self._random.random() < 0.1 else None
            expected = self._random.randrange(3) if self._random.random() < 0.05 else None
            actor = self._random.choice(("system", *PEOPLE, *PEOPLE))
            command_id = f"c{next(self._numbers)}"
            made = Incoming(TENANT, command_id, name, command, fingerprint, actor, key, expected)
            self._sent.append(made)
            return made

    def _data(self, name: str) -> dict[str, Any]:
        pick, some = self._random.choice, self._some
        category, _, verb = name.partition(".")
        if category == "tracker":
            return some(member=pick(PERSONS))
        if category == "directory":
            return self._entry(verb)
        if category == "workflow":
            data: dict[str, Any] = {"id": pick(WORKFLOWS)}
            if verb == "retire":
                return data
            steps = [some(name=f"Step {n}", flow="f", assignees=self._people(), roles=["driver"]) for n in (1, 2)]
            for number, step in enumerate(steps, 1):
                step["name"] = f"Step {number}"
            data |= some(gating=pick(("none", "sequential")), failure=pick(("wait_all", "fail_fast")))
            return data | (
                {"name": pick(("Visit", "Other")), "steps": steps} if verb == "define" else some(steps=steps)
            )
        if category == "activity":
            if verb == "create":
                tasks = [some(id=self._recent("t", 6), assignees=self._people()) for _ in (1, 2)]
                return {"workflow_id": pick(WORKFLOWS), "tasks": tasks, **some(id=self._recent("a", 2), hub="h")}
            rest = some(title="T", fields={"x": pick((1, None, "y"))}) if verb == "change" else {}
            return {"id": self._recent("a", 2), **rest}
        return self._task(verb)

    def _task(self, verb: str) -> dict[str, Any]:
        pick, some, flag = self._random.choice, self._some, self._random.random() < 0.5
        if verb == "create":
            plan = {"channel": "EMAIL", **some(scheduled_at=pick(TIMES), criteria=[{"type": "ANY"}])}
            return some(
                id=self._recent("t", 6),
                assignees=self._people(),
                start=TIMES[0],
                end=pick(TIMES[1:]),
                project="p",
                whitelist=["ann"] if self._random.random() < 0.2 else None,
                commerce="c",
                plan=plan if self._random.random() < 0.3 else None,
            )
        rest: dict[str, Any] = {
            "assign": {"assignees": self._people() or ["ann"], "start": flag},
            "reassign": {"assignees": self._people() or ["ben"]},
            "claim": some(member=pick(PERSONS)) | {"start": flag},
            "save": {"data": {"x": pick((1, 2, "é"))}},
            "complete": some(data={"y": 1}),
            "change": some(title="T", assignees=self._people(), end=pick(TIMES[1:]), complete=flag),
            "resolve-target": {"target": "x", "user": pick(PERSONS)},
            "report-dispatch": {"attempt": pick((1, 2)), "succeeded": flag},
            "submit-result": {
                "result": pick(("PENDING", "COMPLETED", "TRANSFERRED", "NOT_EXECUTED", "CANCELED")),
                "hard_override": flag,
            },
            "wake": {"kind": pick(("overdue", "dispatch", "resolution")), "due": pick(TIMES)},
        }.get(verb, {})
        return {"id": self._recent("t", 6), **rest}

    def _entry(self, verb: str) -> dict[str, Any]:
        kind = self._random.choice(("member", "member", "hub", "project", "commerce", "operator", "dispatch"))
        own = {"member": PEOPLE, "dispatch": ("EMAIL",)}.get(kind, (kind[0],))
        data: dict[str, Any] = {"kind": kind, "id": self._random.choice(own)}
        if verb == "retire":
            return data
        fields: dict[str, Any] = {}
        if kind == "member":
            fields = self._some(email=self._random.choice(PERSONS[6:8]), account_id=7, operator_id="op")
            fields |= self._some(projects={"p": {"is_manager": True}})
        elif kind == "dispatch":
            fields = {"provider": "console"}
        return data | {"fields": fields}

    def _recent(self, prefix: str, count: int) -> str:
        """Return one of a few ids, others after a while: what has ended makes room for what can still move."""
        return f"{prefix}{len(self._sent) // (8 * count) + self._random.randrange(count)}"

    def _people(self) -> list[str]:
        return list(dict.fromkeys(self._random.choices(PERSONS[:8], k=self._random.randrange(3))))

    def _some(self, **given: Any) -> dict[str, Any]:
        return {key: value for key, value in given.items() if value is not None and self._random.random() < 0.6}


SCENE: list[Any] = [
    *(builders.member(each, projects={"p": {"is_manager": each == "max"}}) for each in PEOPLE),
    builders.entry("hub", "h"),
    builders.entry("project", "p"),
    builders.entry("commerce", "c"),
    builders.EMAIL,
    builders.workflow(id="w1"),
    *(builders.task(each, assignees=("ann", "ben")) for each in ("t1", "t2", "t3", "t4")),
]


def scene() -> list[Incoming]:
    """Return the commands that set the scene."""
    names = [COMMAND_NAMES[type(command)] for command in SCENE]
    return [Incoming(TENANT, f"s{n}", names[n], command, repr(command).encode()) for n, command in enumerate(SCENE)]


@contextmanager
def a_worker(url: str, now: list[datetime], cache: int) -> Iterator[Worker]:
    store = EventStore(url)
    drawn, numbers = (f"drawn-{number}" for number in itertools.count(1)), itertools.count(7_000_000_000)
    try:
        yield Worker(store, lambda: now[0], drawn.__next__, numbers.__next__, cache)
    finally:
        store.close()


def run(url: str, batches: list[list[Incoming]], size: int, cache: int) -> tuple[list[Reply], list[Any], list[Any]]:
    """Run batches in parts of a size, and return the answers, the log and the unique keys."""
    now, answers = [START], []
    with a_worker(url, now, cache) as worker:
        for batch in batches:
            for at in range(0, len(batch), size):
                rest = batch[at : at + size]
                while rest:
                    outcomes = worker.run(rest)
                    assert outcomes
                    assert [outcome.failure for outcome in outcomes if outcome.failure is not None] == []
                    answers += [outcome.reply for outcome in outcomes]
                    rest = rest[len(outcomes) :]
            now[0] += DAY
    assert all(answers)
    log = rows(
        url, "SELECT originator_id, originator_version, topic, state FROM stored_events ORDER BY notification_id"
    )
    events = [(*row[:3], json.loads(row[3])) for row in log]
    for *_, state in events:
        del state["meta"]["id"]
    unique_keys = rows(url, "SELECT tenant, kind, key, holder FROM claims ORDER BY kind, key")
    return answers, events, unique_keys  # type: ignore[return-value]


def told(reply: Reply) -> Any:
    """Return what an answer says beside the log's end, at which a refusal came."""
    error = reply.error
    return (
        reply.command_id,
        reply.outcome,
        reply.duplicate,
        [(event.position, event.type, event.stream, event.version) for event in reply.events],
        (error.code, error.detail, error.pointer) if error else None,
    )


def named(value: Any) -> Any:
    """Return it with what was drawn named by the order in which it appears: decisions made anew draw anew."""
    names: dict[str, str] = {}

    def name(found: re.Match[str]) -> str:
        return names.setdefault(found[0], f"new-{len(names)}" if found[0].startswith("drawn") else f"{len(names)}")

    return json.loads(re.sub(r"drawn-\d+|\b70000\d{5}\b", name, json.dumps(value, default=str)))


@pytest.mark.parametrize(
    ("seed", "most"), [*((seed, MAX_BATCH_BYTES) for seed in SEEDS), *((seed, 2000) for seed in SEEDS[:3]), (4, 1)]
)
def test_full_batches_of_anything_do_what_the_commands_do_one_by_one(
    databases: Databases, monkeypatch: pytest.MonkeyPatch, seed: int, most: int
) -> None:
    monkeypatch.setattr(workers, "MAX_BATCH_BYTES", most)
    mix = Mix(seed)
    batches = [scene(), *([mix.command() for _ in range(100)] for _ in range(5))]
    urls = [databases.create_migrated() for _ in range(2)]
    try:
        # A small memory makes each batch read again, which is where batches differ from single commands.
        together, apart = run(urls[0], batches, 100, 1000 if seed % 2 else 5), run(urls[1], batches, 1, 1000)
    finally:
        for url in urls:
            databases.drop(url)
    left, right = ([told(reply) for reply in answers] for answers in (together[0], apart[0]))
    sent = [command for batch in batches for command in batch]
    different = [
        (command.name, command.command, command.actor, *pair)
        for command, *pair in zip(sent, named(left), named(right), strict=True)
        if pair[0] != pair[1]
    ]
    assert not different, f"seed {seed}: {different[0]}"
    assert named(together[1]) == named(apart[1])
    # An idempotency key's holder says where the log ended before its batch.
    unique_keys = [sorted(named([row for row in side[2] if row[1] != "idempotency"])) for side in (together, apart)]
    assert unique_keys[0] == unique_keys[1]
    assert len(together[1]) > 60


@pytest.mark.parametrize(
    ("leave", "actor"),
    [
        (CompleteTask("t1"), "ann"),
        (FailTask("t1"), "ann"),
        (PauseTask("t1"), "ann"),
        (UnassignTask("t1"), "ann"),
        (ReassignTask("t1", ("ben",)), "ann"),
        (CancelTask("t1"), "system"),
        (SubmitResult("t1", "COMPLETED"), "ann"),
    ],
    ids=lambda each: type(each).__name__ if not isinstance(each, str) else each,
)
def test_to_leave_one_task_and_start_another_is_no_failure(migrated_url: str, leave: Any, actor: str) -> None:
    """The unique key that leaving gives up unread is what starting reads."""
    now = [START]
    work = [incoming(ProcessTask("t1"), "ann")]
    batch = [incoming(leave, actor), incoming(ProcessTask("t2"), "ann")]
    with a_worker(migrated_url, now, 1000) as first:
        first.run(scene())
        first.run(work)
    with a_worker(migrated_url, now, 1000) as cold:
        outcomes = cold.run(batch)
    assert [outcome.failure for outcome in outcomes] == [None, None]
    assert [outcome.reply and outcome.reply.accepted for outcome in outcomes] == [True, True]
    assert rows(migrated_url, "SELECT key, holder FROM claims WHERE kind = 'running'") == [("ann", "t2")]


_ids = itertools.count(1)


def incoming(command: Any, actor: str) -> Incoming:
    return Incoming(TENANT, f"x{next(_ids)}", COMMAND_NAMES[type(command)], command, repr(command).encode(), actor)
