"""The group commit: each command as if it were alone, whoever else writes at the same time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg
import pytest

from domain import DECIDER_OF_COMMAND
from domain.task import ProcessTask
from services.commands import wire
from services.commands import worker as workers
from services.commands.wire import Incoming
from services.commands.worker import Worker
from tests import builders
from tests.services.commands.deciding import ACCEPTED, AGAIN, a_worker, change, create, incoming, replies, told
from tests.services.harness import created, rows, stored


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
    command, fingerprint = wire.parse_data(name, data, actor)
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


def _positions(url: str) -> list[tuple[Any, ...]]:
    return rows(url, "SELECT notification_id FROM stored_events ORDER BY 1")


def test_a_batch_reads_what_its_own_commands_did(worker: Worker, migrated_url: str) -> None:
    scene = [builders.workflow(), builders.member(), builders.activity(assignees=[("ann",)])]
    got = replies(worker.run([incoming(command) for command in scene]))
    assert [told(reply) for reply in got] == [ACCEPTED] * 3
    positions = [event.position for reply in got for event in reply.events]
    assert positions == list(range(1, len(positions) + 1)) == [row[0] for row in _positions(migrated_url)]
    assert got[-1].position == positions[-1]


def test_a_small_memory_changes_no_answer(migrated_url: str) -> None:
    with a_worker(migrated_url, cache=8000) as small:
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
    command, fingerprint = wire.parse_data("activity.create", data)
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
