"""The group commit: each command as if it were alone, whoever else writes at the same time."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from domain import DECIDER_OF_COMMAND
from domain.activity import CancelActivity
from domain.directory import RetireEntry
from domain.task import FailTask, ProcessTask, RetryTask
from domain.workflow import RetireWorkflow
from services import messages
from services.intake import worker as workers
from services.intake.outcome import Outcome
from services.intake.worker import Worker
from services.messages import Incoming, Reply
from services.store.event_store import EventStore
from tests import builders
from tests.eventually import PATIENCE
from tests.given import COMMAND_NAMES
from tests.services.harness import TENANT, created, rows, stored

_numbers = itertools.count(1)


def incoming(command: Any, command_id: str | None = None, **rest: Any) -> Incoming:
    """Return a command as it comes from the wire; its fingerprint is that of its data."""
    name = rest.pop("name", None) or COMMAND_NAMES[type(command)]
    fingerprint = rest.pop("fingerprint", repr(command).encode())
    return Incoming(TENANT, command_id or f"made-{next(_numbers)}", name, command, fingerprint, **rest)


def create(task_id: str | None, command_id: str | None = None, **rest: Any) -> Incoming:
    data = b"{}" if task_id is None else b'{"id": "%s"}' % task_id.encode()
    command, fingerprint = messages.parse_data("task.create", data)
    return incoming(command, command_id, fingerprint=fingerprint, **rest)


def change(task_id: str, title: str, **rest: Any) -> Incoming:
    data = f'{{"id": "{task_id}", "title": "{title}"}}'.encode()
    command, fingerprint = messages.parse_data("task.change", data)
    return incoming(command, fingerprint=fingerprint, **rest)


@contextmanager
def a_worker(url: str, cache: int = 1000, on_decided: Callable[[], None] = lambda: None) -> Iterator[Worker]:
    """Give a worker with a connection of its own."""
    store = EventStore(url)
    drawn = (f"{threading.get_ident()}-{id(store)}-{number}" for number in itertools.count())
    numbers = itertools.count(id(store))
    try:
        yield Worker(store, lambda: datetime.now(UTC), drawn.__next__, numbers.__next__, cache, on_decided)
    finally:
        store.close()


@pytest.fixture
def worker(migrated_url: str) -> Iterator[Worker]:
    with a_worker(migrated_url) as made:
        yield made


def replies(outcomes: list[Outcome]) -> list[Reply]:
    found = [outcome.reply for outcome in outcomes]
    assert all(found)
    return found  # type: ignore[return-value]


def told(reply: Reply) -> tuple[str, bool, str | None]:
    return reply.outcome, reply.duplicate, reply.error.code if reply.error else None


ACCEPTED, AGAIN = ("accepted", False, None), ("accepted", True, None)


@pytest.mark.parametrize("together", [True, False])
def test_the_same_command_again_gets_the_first_answer(worker: Worker, migrated_url: str, together: bool) -> None:
    commands = [create("a", "c"), create("a", "c"), create("b", "c"), create("a", "d")]
    batches = [commands] if together else [[command] for command in commands]
    got = [reply for batch in batches for reply in replies(worker.run(batch))]
    assert [told(reply) for reply in got] == [
        ACCEPTED,
        AGAIN,
        ("rejected", False, "command-id-conflict"),
        ("rejected", False, "taken"),
    ]
    assert got[0].events == got[1].events
    assert created(migrated_url) == ["a"]


@pytest.mark.parametrize("together", [True, False])
def test_one_key_takes_effect_once(worker: Worker, migrated_url: str, together: bool) -> None:
    commands = [create(None, idempotency_key="k"), create(None, idempotency_key="k"), create("b", idempotency_key="k")]
    batches = [commands] if together else [[command] for command in commands]
    got = [reply for batch in batches for reply in replies(worker.run(batch))]
    assert [told(reply) for reply in got] == [ACCEPTED, AGAIN, ("rejected", False, "idempotency-conflict")]
    assert got[0].events == got[1].events
    again = replies(worker.run(commands))
    assert [told(reply)[1] for reply in again] == [True, True, True]
    assert len(created(migrated_url)) == 1


def given_by(actor: str, name: str, data: bytes, command_id: str, **rest: Any) -> Incoming:
    command, fingerprint = messages.parse_data(name, data, actor)
    return incoming(command, command_id, name=name, fingerprint=fingerprint, actor=actor, **rest)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(("name", "data"), [("task.process", b'{"id": "t"}'), ("tracker.pause", b"{}")])
def test_an_answer_is_for_its_asker(worker: Worker, together: bool, name: str, data: bytes) -> None:
    scene = [builders.member("m1"), builders.member("m2"), builders.task("t", assignees=("m1",))]
    start = [incoming(ProcessTask("t"), actor="m1")] if name == "tracker.pause" else []
    worker.run([incoming(command) for command in scene] + start)
    commands = [
        given_by("m1", name, data, "c1", idempotency_key="k"),
        given_by("m2", name, data, "c1"),
        given_by("m2", name, data, "c2", idempotency_key="k"),
        given_by("m1", name, data, "c1"),
        given_by("m1", name, data, "c3", idempotency_key="k"),
    ]
    batches = [commands] if together else [[command] for command in commands]
    assert [told(reply) for batch in batches for reply in replies(worker.run(batch))] == [
        ACCEPTED,
        ("rejected", False, "command-id-conflict"),
        ("rejected", False, "idempotency-conflict"),
        AGAIN,
        AGAIN,
    ]


def test_whoever_is_retired_while_his_command_is_decided_has_come_too_late(migrated_url: str) -> None:
    with a_worker(migrated_url) as first:
        first.run([incoming(builders.member("m1")), incoming(builders.task("t", assignees=("m1",)))])
        left = [incoming(RetireEntry("member", "m1"))]
        with a_worker(migrated_url, on_decided=lambda: first.run([left.pop()]) if left else None) as second:
            (reply,) = replies(second.run([incoming(ProcessTask("t"), actor="m1")]))
    assert told(reply) == ("rejected", False, "forbidden")


@pytest.mark.parametrize("first", ["retire", "create"])
def test_of_a_retirement_and_a_creation_at_once_one_is_refused(migrated_url: str, first: str) -> None:
    given = {"retire": RetireWorkflow("w"), "create": builders.activity()}
    with a_worker(migrated_url) as other:
        other.run([incoming(builders.workflow())])
        left = [incoming(given.pop(first))]
        with a_worker(migrated_url, on_decided=lambda: other.run([left.pop()]) if left else None) as late:
            (reply,) = replies(late.run([incoming(*given.values())]))
    assert told(reply) == ("rejected", False, "not-found" if first == "retire" else "in-use")


@pytest.mark.parametrize("first", ["task", "activity"])
def test_of_an_activity_and_a_task_with_one_id_at_once_one_is_made(migrated_url: str, first: str) -> None:
    made = {"task": builders.task("x"), "activity": builders.activity(id="x")}
    with a_worker(migrated_url) as other:
        other.run([incoming(builders.workflow())])
        left = [incoming(made.pop(first))]
        with a_worker(migrated_url, on_decided=lambda: other.run([left.pop()]) if left else None) as late:
            (reply,) = replies(late.run([incoming(*made.values())]))
    assert told(reply) == ("rejected", False, "taken")


@pytest.mark.parametrize("together", [True, False])
def test_a_refused_create_may_come_again_under_its_key(worker: Worker, migrated_url: str, together: bool) -> None:
    worker.run([create("taken")])
    commands = [create("taken", idempotency_key="k"), create("free", idempotency_key="k")]
    batches = [commands] if together else [[command] for command in commands]
    got = [reply for batch in batches for reply in replies(worker.run(batch))]
    assert [told(reply) for reply in got] == [("rejected", False, "taken"), ACCEPTED]
    assert created(migrated_url) == ["taken", "free"]


def test_a_key_outlives_the_ledger(worker: Worker, migrated_url: str) -> None:
    scene = [create("x"), create(None, idempotency_key="k"), create("y")]
    first = replies(worker.run(scene))[1]
    nothing = incoming(builders.member("ann", email="a@b.c"), idempotency_key="same")
    worker.run([nothing])
    empty = replies(worker.run([replace(nothing, command_id="other", idempotency_key="none")]))[0]
    assert empty.events == ()
    with psycopg.connect(migrated_url) as conn:
        conn.execute("DELETE FROM ledger")
    with a_worker(migrated_url) as later:
        again, conflict, none = replies(
            later.run(
                [
                    create(None, idempotency_key="k"),
                    create("z", idempotency_key="k"),
                    replace(nothing, command_id="third", idempotency_key="none"),
                ]
            )
        )
    assert (told(again), again.events) == (AGAIN, first.events)
    assert told(conflict) == ("rejected", False, "idempotency-conflict")
    assert (told(none), none.events) == (AGAIN, ())
    assert len(created(migrated_url)) == 3


def test_an_expected_version_is_compared_within_the_batch_too(worker: Worker, migrated_url: str) -> None:
    got = replies(
        worker.run(
            [
                create("a", expected_version=0),
                change("a", "one", expected_version=1),
                change("a", "two", expected_version=1),
                create("a", expected_version=0),
                create(None, expected_version=1),
            ]
        )
    )
    assert [told(reply) for reply in got[:2]] == [ACCEPTED, ACCEPTED]
    assert [told(reply)[2] for reply in got[2:]] == ["version-conflict"] * 3
    assert [version for _, version, _ in stored(migrated_url)] == [1, 2]


def test_a_refusal_and_a_failure_in_the_middle_change_nothing_for_the_rest(
    worker: Worker, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decider = DECIDER_OF_COMMAND["task.create"]

    def decide(command: Any, context: Any) -> Any:
        if command.id == "boom":
            context.state("task", "boom")
            raise ZeroDivisionError
        return decider.decide(command, context)

    monkeypatch.setitem(DECIDER_OF_COMMAND, "task.create", replace(decider, decide=decide))
    outcomes = worker.run([create("a"), create("boom"), create("a"), change("nobody", "x"), create("b")])
    assert isinstance(outcomes[1].failure, ZeroDivisionError)
    assert outcomes[1].reply is None
    rest = replies([outcomes[0], *outcomes[2:]])
    assert [told(reply)[2] for reply in rest] == [None, "taken", "not-found", None]
    assert created(migrated_url) == ["a", "b"]
    assert len(rows(migrated_url, "SELECT 1 FROM ledger")) == 4


def test_a_batch_reads_what_its_own_commands_did(worker: Worker, migrated_url: str) -> None:
    scene = [builders.workflow(), builders.member(), builders.activity(assignees=[("ann",)])]
    got = replies(worker.run([incoming(command) for command in scene]))
    assert [told(reply) for reply in got] == [ACCEPTED] * 3
    positions = [event.position for reply in got for event in reply.events]
    assert positions == list(range(1, len(positions) + 1)) == [row[0] for row in _positions(migrated_url)]
    assert got[-1].position == positions[-1]


def _positions(url: str) -> list[tuple[Any, ...]]:
    return rows(url, "SELECT notification_id FROM stored_events ORDER BY 1")


def interrupted(url: str, other: Callable[[], Any]) -> Any:
    """Give a worker of which another writer gets ahead, once, between its decisions and its commit."""
    came = threading.Event()

    def get_ahead() -> None:
        if not came.is_set():
            came.set()
            other()

    return a_worker(url, on_decided=get_ahead)


def test_two_workers_with_one_command_record_it_once(migrated_url: str) -> None:
    with a_worker(migrated_url) as winner:
        first: list[Reply] = []
        with interrupted(migrated_url, lambda: first.extend(replies(winner.run([create("a", "c")])))) as loser:
            got = replies(loser.run([create("x"), create("a", "c"), create("y")]))
    assert [told(reply) for reply in (*first, *got)] == [ACCEPTED, ACCEPTED, AGAIN, ACCEPTED]
    assert got[1].events == first[0].events
    assert created(migrated_url) == ["a", "x", "y"]


def test_two_workers_with_one_key_record_it_once(migrated_url: str) -> None:
    with a_worker(migrated_url) as winner:
        first: list[Reply] = []
        ahead = lambda: first.extend(replies(winner.run([create(None, idempotency_key="k")])))  # noqa: E731
        with interrupted(migrated_url, ahead) as loser:
            got = replies(loser.run([create(None, idempotency_key="k"), create("b", idempotency_key="k")]))
    assert [told(reply) for reply in got] == [AGAIN, ("rejected", False, "idempotency-conflict")]
    assert got[0].events == first[0].events
    assert len(created(migrated_url)) == 1


def test_two_workers_with_one_name_give_it_once(migrated_url: str) -> None:
    with a_worker(migrated_url) as winner:
        ahead = lambda: winner.run([incoming(builders.workflow(id="w1", name="Visit"))])  # noqa: E731
        with interrupted(migrated_url, ahead) as loser:
            got = replies(loser.run([incoming(builders.workflow(id="w2", name="Visit"))]))
    assert got[0].outcome == "rejected"
    assert [stream for stream, _, _ in stored(migrated_url)] == ["acme/workflow-w1"]


def test_the_rest_of_a_batch_stands_when_one_command_lost(migrated_url: str) -> None:
    decided: list[str] = []
    decider = DECIDER_OF_COMMAND["task.change"]

    def decide(command: Any, context: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            decided.append(command.id)
        return decider.decide(command, context)

    with a_worker(migrated_url) as winner, pytest.MonkeyPatch.context() as patch:
        winner.run([create(f"t{number}") for number in range(5)])
        with ThreadPoolExecutor(1) as elsewhere:
            ahead = lambda: elsewhere.submit(winner.run, [change("t2", "theirs")]).result()  # noqa: E731
            with interrupted(migrated_url, ahead) as loser:
                loser.run([change(f"t{number}", "warm") for number in range(5) if number != 2])
                patch.setitem(DECIDER_OF_COMMAND, "task.change", replace(decider, decide=decide))
                with interrupted(migrated_url, ahead) as loser:
                    winner.run([change("t2", "before")])
                    got = replies(loser.run([change(f"t{number}", "ours") for number in range(5)]))
    assert [told(reply) for reply in got] == [ACCEPTED] * 5
    again = [task for task in set(decided) if decided.count(task) > decided.count("t0")]
    assert again == ["t2"]
    assert {stream for stream, _, _ in stored(migrated_url)} == {f"acme/task-t{number}" for number in range(5)}


@pytest.mark.parametrize("retry_first", [True, False])
def test_cancel_against_retry_of_a_failed_child(migrated_url: str, retry_first: bool) -> None:
    """Of the two one comes first, and the other is decided on what that left, whatever it had read before."""
    scene = [builders.workflow(), builders.activity(), FailTask("t1")]
    retry, cancel = incoming(RetryTask("t1")), incoming(CancelActivity("a"))
    ahead, behind = (retry, cancel) if retry_first else (cancel, retry)
    with a_worker(migrated_url) as winner:
        assert all(reply.accepted for reply in replies(winner.run([incoming(each) for each in scene])))
        first: list[Reply] = []
        with interrupted(migrated_url, lambda: first.extend(replies(winner.run([ahead])))) as loser:
            second = replies(loser.run([behind]))[0]
    names = [name for _, _, name in stored(migrated_url)]
    assert first[0].accepted
    if retry_first:
        # The retried child is open again, so the cancel takes it along.
        assert second.accepted
        assert names.index("task.retried") < names.index("activity.canceled")
        assert ("acme/task-t1", 4, "task.canceled") in stored(migrated_url)
    else:
        assert second.error is not None
        assert "task.retried" not in names


def test_fifty_writers_on_one_stream_are_all_answered(migrated_url: str) -> None:
    each, writers = 4, 50
    with a_worker(migrated_url) as first:
        first.run([create("a")])
    start = threading.Barrier(writers)

    def write(number: int) -> list[Reply]:
        with a_worker(migrated_url) as own:
            start.wait(PATIENCE)
            return [
                reply
                for turn in range(each)
                for reply in replies(own.run([change("a", f"{number} {turn}", command_id=f"{number}-{turn}")]))
            ]

    with ThreadPoolExecutor(writers) as threads:
        answers = [reply for found in threads.map(write, range(writers)) for reply in found]
    assert [told(reply) for reply in answers] == [ACCEPTED] * (each * writers)
    assert len(stored(migrated_url)) == each * writers + 1
    assert sorted(reply.position or 0 for reply in answers) == list(range(2, each * writers + 2))


def test_a_small_memory_changes_no_answer(migrated_url: str) -> None:
    with a_worker(migrated_url, cache=2) as small:
        for turn in range(3):
            commands = [create(f"t{number}") for number in range(10)]
            commands += [change(f"t{number}", f"{turn}") for number in range(10)]
            got = replies(small.run(commands))
            assert [reply.accepted for reply in got[:10]] == [turn == 0] * 10
            assert all(reply.accepted for reply in got[10:])
    assert len(stored(migrated_url)) == 40


def test_a_batch_ends_with_the_command_whose_events_fill_it(
    worker: Worker, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "MAX_BATCH_BYTES", 5000)
    large = [incoming(builders.task(f"t{number}", fields={"x": "y" * 2000}), f"c{number}") for number in range(5)]
    alone = incoming(builders.task("alone", fields={"x": "y" * 9000}))
    rest = [*large, alone, large[0], create("t1"), create("last")]
    sizes, got = [], []
    while rest:
        outcomes = worker.run(rest)
        sizes.append(len(outcomes))
        got += replies(outcomes)
        rest = rest[len(outcomes) :]
    assert sizes == [3, 3, 3]
    assert [told(reply) for reply in got] == [ACCEPTED] * 6 + [AGAIN, ("rejected", False, "taken"), ACCEPTED]
    assert got[6].events == got[0].events
    assert [reply.position for reply in got[:6]] == [1, 2, 3, 4, 5, 6]
    assert created(migrated_url) == ["t0", "t1", "t2", "t3", "t4", "alone", "last"]


@pytest.mark.parametrize("kind", ["id", "key"])
def test_what_moved_under_a_batch_that_ends_early_is_decided_again(
    migrated_url: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(workers, "MAX_BATCH_BYTES", 1000)
    given: Any = {"idempotency_key": "k"} if kind == "key" else {"command_id": "c"}
    batch = [incoming(builders.task("a", fields={"x": "y" * 2000}), **given), create("b")]
    with a_worker(migrated_url) as winner, interrupted(migrated_url, lambda: winner.run(batch[:1])) as loser:
        # The first is done now, adds nothing, and leaves room for the second.
        got = replies(loser.run(batch))
        assert len(got) == 1
        got += replies(loser.run(batch[1:]))
    assert [told(reply) for reply in got] == [AGAIN, ACCEPTED]
    assert created(migrated_url) == ["a", "b"]


def test_tenants_do_not_meet(worker: Worker, migrated_url: str) -> None:
    ours = create("a", "c", idempotency_key="k")
    theirs = replace(create("a", "c", idempotency_key="k"), tenant="other")
    assert [told(reply) for reply in replies(worker.run([ours, theirs]))] == [ACCEPTED, ACCEPTED]
    assert [stream for stream, _, _ in stored(migrated_url)] == ["acme/task-a", "other/task-a"]


def test_a_repetition_of_a_repetition_is_answered_alike(worker: Worker) -> None:
    batch = [
        create("t", "a", idempotency_key="k"),
        create("t", "b", idempotency_key="k"),
        create("t", "b", idempotency_key="k"),
    ]
    first, second, third = replies(worker.run(batch))
    assert first.events == second.events == third.events != ()
    assert (second.duplicate, third.duplicate) == (True, True)


def test_what_brings_no_id_is_at_version_nought(worker: Worker) -> None:
    worker.run([incoming(builders.workflow())])
    data = b'{"workflow_id": "w", "tasks": [{}, {}]}'
    command, fingerprint = messages.parse_data("activity.create", data)
    (reply,) = replies(worker.run([incoming(command, fingerprint=fingerprint, expected_version=0)]))
    assert reply.error is None or reply.error.code != "version-conflict"


# What a version that is to come may have written: an event that is not known, and one of another shape.
LATER = {
    "unknown": "topic = 'task.invented-later'",
    "shape": "state = convert_to(replace(convert_from(state, 'UTF8'), '\"data\":', '\"data\":[1],\"was\":'), 'UTF8')",
}


@pytest.mark.parametrize("later", LATER.values(), ids=LATER)
def test_a_stream_of_a_newer_version_keeps_its_commands_until_the_upgrade(migrated_url: str, later: str) -> None:
    refused = ("rejected", False, "newer-version")
    with a_worker(migrated_url) as older:
        older.run([create("a"), create("b")])
    (kept,) = rows(migrated_url, "SELECT topic, state FROM stored_events WHERE originator_id = 'acme/task-a'")
    with psycopg.connect(migrated_url) as conn:
        conn.execute(f"UPDATE stored_events SET {later} WHERE originator_id = 'acme/task-a'")
    command = change("a", "T", command_id="c1")
    with a_worker(migrated_url) as worker:
        got = replies(worker.run([command, change("b", "T"), create("d"), command, create("a", "c2")]))
    assert [told(reply) for reply in got] == [refused, ACCEPTED, ACCEPTED, refused, refused]
    assert got[0].error is not None
    assert "task-a" in got[0].error.detail
    assert rows(migrated_url, "SELECT 1 FROM ledger WHERE command_id IN ('c1', 'c2')") == []
    with psycopg.connect(migrated_url) as conn:
        conn.execute("UPDATE stored_events SET topic = %s, state = %s WHERE originator_id = 'acme/task-a'", kept)
    with a_worker(migrated_url) as newer:
        assert told(replies(newer.run([command]))[0]) == ACCEPTED
