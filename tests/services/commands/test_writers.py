"""Two writers at once: what moved under a batch is decided again, and nothing is recorded twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from domain import DECIDER_OF_COMMAND
from domain.activity import CancelActivity
from domain.directory import RetireEntry
from domain.task import FailTask, ProcessTask, RetryTask
from domain.workflow import RetireWorkflow
from services.commands import worker as workers
from services.commands.wire import Reply
from tests import builders
from tests.eventually import PATIENCE
from tests.services.commands.deciding import ACCEPTED, AGAIN, a_worker, change, create, incoming, replies, told
from tests.services.harness import created, stored


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
