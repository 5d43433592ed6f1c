"""Dry runs: what the command itself would be answered next, and nothing that lasts.

`FOLDWORK_TEST_DRY_RUNS` (300) says how many random commands are tried and then sent.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import hypothesis
import msgspec
import psycopg
import pytest
from hypothesis import strategies as st

from domain.activity import CreateActivity, NewTask
from domain.directory import RegisterEntry
from domain.steps import Step
from domain.task import CreateTask
from services.commands import outcome as outcomes
from services.commands import wire
from services.commands import worker as workers
from services.commands.wire import Incoming, Reply
from services.commands.worker import Worker
from services.store import codec
from services.store.event_store import EventStore
from tests.builders import EMAIL, activity, entry, manager, member, plan, task, workflow
from tests.domain.test_state_machine import ACTORS, COMMANDS, CRITERIA, PAST, PEOPLE, RARE, SENDING, SOME, USERS
from tests.given import COMMAND_NAMES, NOW
from tests.services.commands.deciding import ACCEPTED, AGAIN, a_worker, change, create, incoming, replies, told
from tests.services.harness import created, rows

STEPS = 30
EXAMPLES = max(1, int(os.environ.get("FOLDWORK_TEST_DRY_RUNS", "300")) // STEPS)
# The ids and numbers that a decision makes up are others at every decision.
MADE_UP = re.compile(r"(?<=made-up-)\d+|99\d{13}")
# By row: the worker's clean-up of old rows runs in between, and finds none.
FORBID = """
CREATE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF current_setting('test.dry', true) = 'on' THEN RAISE 'a dry run writes to %', TG_TABLE_NAME; END IF;
    RETURN NULL;
END $$;
DO $$ DECLARE each regclass; BEGIN
    FOR each IN SELECT oid FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace LOOP
        EXECUTE format('CREATE TRIGGER forbid AFTER INSERT OR UPDATE OR DELETE ON %s'
                       ' FOR EACH ROW EXECUTE FUNCTION forbid()', each);
    END LOOP;
END $$"""
CREATING: st.SearchStrategy[Any] = st.one_of(
    st.builds(CreateTask, st.none() | st.sampled_from(["t1", "t5"]), assignees=st.just(()) | SOME),
    st.builds(CreateActivity, st.sampled_from(["w", "x"]), st.just((NewTask(), NewTask(), NewTask()))),
    st.builds(RegisterEntry, st.just("member"), st.none() | st.just("new"), st.just({"name": "New", "email": "n@x.y"})),
    st.builds(RegisterEntry, st.sampled_from(["hub", "commerce"]), st.none() | st.just("c"), st.just({"name": "A"})),
)
EVERYTHING = st.one_of(COMMANDS, COMMANDS, SENDING, RARE, CREATING)
# What comes around a command: the id and the key of an earlier one, or a version that it may have.
AROUND = st.fixed_dictionaries(
    {},
    optional={
        "command_id": st.sampled_from(["c1", "c2"]),
        "idempotency_key": st.sampled_from(["k1", "k2"]),
        "expected_version": st.integers(0, 6),
    },
)


def dry(command: Incoming) -> Incoming:
    return replace(command, dry_run=True)


@dataclass(slots=True)
class Bench:
    """A worker on a database in which nothing can be written while `dry` is on."""

    store: EventStore
    worker: Worker

    def run(self, batch: list[Incoming], dry: bool = False) -> list[Reply]:
        self.store.fetch("SELECT set_config('test.dry', %s, false)", ("on" if dry else "off",))
        return replies(self.worker.run(batch))

    def events(self, reply: Reply) -> list[tuple[str, str, int, Any]]:
        """Return what a reply says was recorded, or would be, without what a decision makes up."""
        if reply.tried:
            assert reply.would_record
            return [_plain(event.type, event.stream, event.version, event.data) for event in reply.would_record]
        query = "SELECT state FROM stored_events WHERE notification_id = %s"
        return [
            _plain(event.type, event.stream, event.version, codec.raw(state, event.type).data)
            for event in reply.events
            for (state,) in self.store.fetch(query, (event.position,))
        ]

    def says(self, reply: Reply) -> Any:
        """Return what a reply says, with its events if they are its own."""
        return (
            reply.command_id, reply.outcome, reply.duplicate, reply.error,
            reply.events if reply.duplicate else self.events(reply) if reply.events or reply.would_record else [],
        )  # fmt: skip


def _plain(name: str, stream: str, version: int, data: Any) -> tuple[str, str, int, Any]:
    made = wire.encode_reply(Reply("", "", would_record=(wire.TriedEvent(name, stream, version, data),)))
    (event,) = json.loads(MADE_UP.sub("0", made.decode()))["would_record"]
    return event["type"], event["stream"], event["version"], event["data"]


@contextmanager
def a_bench(url: str) -> Iterator[Bench]:
    with psycopg.connect(url) as conn:
        conn.execute(FORBID)
    store, ids, numbers = EventStore(url), itertools.count(), itertools.count(99 * 10**13)
    try:
        yield Bench(store, Worker(store, lambda: NOW, lambda: f"made-up-{next(ids)}", lambda: next(numbers)))
    finally:
        store.close()


def scene(gating: Any, users: list[dict[str, str]], scheduled_at: str | None) -> list[Any]:
    """Return the commands before: a team, an activity of three tasks and a task that stands alone."""
    people = [*(member(name) for name in (*PEOPLE, "zed")), manager("max"), EMAIL]
    tasks = (NewTask("t1", assignees=("ann",), end=PAST), NewTask("t2"), NewTask("t3", plan=plan(scheduled_at=None)))
    alone = task("t4", assignees=("ann",), commerce="c", plan=plan(scheduled_at=scheduled_at, criteria=CRITERIA))
    steps = (Step("Arrive"), Step("Do"), Step("Leave"))
    work = [workflow(steps=steps, gating=gating), activity(tasks=tasks), entry("commerce", "c", users=users), alone]
    return [*people, *work]


@pytest.mark.timeout(60 + 10 * EXAMPLES)
@pytest.mark.parametrize("together", [False, True])
def test_a_dry_run_is_answered_as_the_command_is_then(migrated_url: str, together: bool) -> None:
    numbers, tried = itertools.count(), 0
    met: set[str] = set()

    with a_bench(migrated_url) as bench:

        @hypothesis.settings(max_examples=EXAMPLES, database=None, derandomize=True, phases=[hypothesis.Phase.generate])
        @hypothesis.given(
            st.tuples(st.sampled_from(["none", "sequential"]), st.sampled_from(USERS), st.sampled_from([None, PAST])),
            st.lists(st.tuples(EVERYTHING, ACTORS, AROUND, st.integers(0, 5)), min_size=STEPS, max_size=STEPS),
        )
        def run(setting: Any, steps: list[tuple[Any, str, dict[str, Any], int]]) -> None:
            nonlocal tried
            tenant = f"tenant-{next(numbers)}"
            before = [replace(incoming(command), tenant=tenant) for command in scene(*setting)]
            assert {told(reply) for reply in bench.run(before)} == {ACCEPTED}
            earlier: list[Incoming] = []
            for command, actor, around, again in steps:
                command = replace(sent(command, actor, around), tenant=tenant)
                if earlier and again < 3:
                    last = earlier[-1]
                    other = replace(command, command_id="other", idempotency_key=last.idempotency_key)
                    command = (last, replace(last, command_id="another"), other)[again]
                if together:
                    first, second = bench.run([dry(command), command])
                else:
                    (first,) = bench.run([dry(command)], dry=True)
                    (second,) = bench.run([command])
                assert first.tried
                assert not second.tried
                assert first.position is None or first.duplicate
                assert bench.says(first) == bench.says(second), command
                if second.accepted and command.idempotency_key:
                    earlier.append(command)
                met.add(second.error.code if second.error else "again" if second.duplicate else second.outcome)
                tried += 1

        run()
    assert tried >= EXAMPLES * STEPS
    # What was tried was of every kind.
    assert {"accepted", "again", "command-id-conflict", "idempotency-conflict", "version-conflict"} <= met
    assert len(met) > 12


def sent(command: Any, actor: str, around: dict[str, Any]) -> Incoming:
    """Return a command as a worker reads it; what comes under the same id or key is the same command or another."""
    name = COMMAND_NAMES[type(command)]
    return replace(incoming(command, around.get("command_id"), name=name, actor=actor), **around)


def test_what_a_command_writes_would_be_noticed(migrated_url: str) -> None:
    with a_bench(migrated_url) as bench, pytest.raises(Exception, match="a dry run writes to"):
        bench.run([create("a")], dry=True)


def test_a_dry_run_sees_what_came_before_it_and_is_seen_by_nothing(worker: Worker, migrated_url: str) -> None:
    batch = [
        dry(create("a", "c1")),
        create("a", "c1"),
        dry(create("a", "c1")),
        dry(create("a", "c2")),
        create("b", "c3"),
    ]
    first, real, again, taken, _ = replies(worker.run([*batch]))
    assert [told(reply) for reply in (first, real, again)] == [ACCEPTED, ACCEPTED, AGAIN]
    assert told(taken) == ("rejected", False, "taken")
    assert (first.position, first.events, taken.position) == (None, (), None)
    assert (again.events, again.position, again.would_record) == (real.events, real.position, ())
    assert [reply.tried for reply in (first, real, again, taken)] == [True, False, True, True]
    assert created(migrated_url) == ["a", "b"]
    assert rows(migrated_url, "SELECT command_id FROM ledger ORDER BY 1") == [("c1",), ("c3",)]


def test_a_dry_run_uses_up_no_key(worker: Worker, migrated_url: str) -> None:
    batch = [dry(create(None, idempotency_key="k")), create(None, "c1", idempotency_key="k")]
    first, real = replies(worker.run(batch))
    assert [told(first), told(real)] == [ACCEPTED, ACCEPTED]
    again, other = replies(worker.run([dry(create(None, idempotency_key="k")), dry(create("b", idempotency_key="k"))]))
    assert (told(again), again.events) == (AGAIN, real.events)
    assert told(other) == ("rejected", False, "idempotency-conflict")
    assert len(created(migrated_url)) == 1
    assert rows(migrated_url, "SELECT count(*) FROM ledger") == [(1,)]


def test_a_dry_run_knows_what_another_worker_has_recorded(migrated_url: str) -> None:
    with a_worker(migrated_url) as one, a_worker(migrated_url) as other:
        one.run([create("a")])
        other.run([change("a", "New", command_id="c")])
        # The first worker has the task in its cache as it was.
        stale, again = replies(
            one.run([dry(change("a", "Newer", expected_version=1)), dry(change("a", "New", command_id="c"))])
        )
        assert told(stale) == ("rejected", False, "version-conflict")
        assert told(again) == AGAIN
        (late,) = replies(one.run([change("a", "Newer", expected_version=2)]))
        assert told(late) == ACCEPTED


def test_what_changes_while_a_dry_run_is_decided_is_seen(migrated_url: str) -> None:
    with a_worker(migrated_url) as other:
        left = [change("a", "New", command_id="c"), create("a")]

        def meanwhile() -> None:
            if left:
                other.run([left.pop()])

        with a_worker(migrated_url, on_decided=meanwhile) as one:
            # Each of the first two decisions is overtaken: by the creation, and by the same command.
            again, taken = replies(one.run([dry(change("a", "New", command_id="c")), dry(create("a"))]))
        assert left == []
    assert told(again) == AGAIN
    assert told(taken) == ("rejected", False, "taken")


def test_the_answer_has_the_data_of_as_many_events_as_fit(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    command = incoming(CreateTask("a", assignees=("ann",)))
    worker.run([incoming(member("ann"))])
    monkeypatch.setattr(outcomes, "MAX_SHOWN", 1)
    (reply,) = replies(worker.run([dry(command)]))
    assert reply.would_record
    shown, *others = reply.would_record
    assert (shown.type, others[0].type) == ("task.created", "task.assigned")
    assert shown.data is not msgspec.UNSET
    assert {event.data for event in others} == {msgspec.UNSET}


def test_a_dry_run_counts_towards_the_size_of_its_batch(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MAX_BATCH_EVENTS", 2)
    assert len(worker.run([dry(create("a")), dry(create("b")), create("c")])) == 2


def test_a_value_beyond_its_limit_is_refused_without_a_record(worker: Worker, migrated_url: str) -> None:
    command = wire.parse(properties("dry-run.task.create"), b'{"id": "' + b"x" * 65 + b'"}', 1 << 20)
    (reply,) = replies(worker.run([command]))
    assert (reply.tried, told(reply)) == (True, ("rejected", False, "invalid"))
    assert rows(migrated_url, "SELECT count(*) FROM ledger") == [(0,)]


def properties(message_type: Any, **headers: Any) -> SimpleNamespace:
    return SimpleNamespace(
        message_id="c", message_type=message_type, headers={"tenant": "acme", **headers}, reply_to=None,
        correlation_id=None, user_id=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("message_type", "headers", "code"),
    [
        ("dry-run.", {}, "unknown-type"),
        ("dry-run.dry-run.task.create", {}, "unknown-type"),
        ("dry-run.task.creat", {}, "unknown-type"),
        ("Dry-run.task.create", {}, "unknown-type"),
        ("dry-run task.create", {}, "unknown-type"),
        # It would be recorded if the header were not noticed.
        ("task.create", {"dry-run": True}, "bad-header"),
        ("task.create", {"dry-run": False}, "bad-header"),
        ("task.create", {"dry-run": None}, "bad-header"),
    ],
)
def test_what_is_nearly_a_dry_run_is_no_command(message_type: str, headers: dict[str, Any], code: str) -> None:
    with pytest.raises(wire.InvalidMessage) as refused:
        wire.parse(properties(message_type, **headers), b"{}", 1 << 20)
    assert refused.value.code == code


def test_a_dry_run_is_the_command_with_another_type() -> None:
    tried = wire.parse(properties("dry-run.task.create", **{"dry-run": True}), b"{}", 1 << 20)
    assert tried == dry(wire.parse(properties("task.create"), b"{}", 1 << 20))
