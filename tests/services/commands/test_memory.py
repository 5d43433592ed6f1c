"""A worker's cache is bounded by its bytes, however large the states of single streams are."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from domain.activity import NewTask
from domain.task import CreateTask, ProcessTask
from services.commands.memory import Memory, measured
from services.store.event_store import EventStore
from tests import builders
from tests.services.commands.deciding import AGAIN, a_worker, incoming, replies, told

SIZE = 1 << 20


def kept(memory: Memory, keys: Any) -> int:
    return sum(memory.get(key) is not None for key in list(keys))


def test_values_of_any_size_stay_within_the_bytes() -> None:
    memory = Memory(SIZE)
    tracemalloc.start()
    try:
        for number in range(2000):
            memory.put(number, {"x": chr(65 + number % 26) * 20_000})
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 2 * SIZE
    assert SIZE / 20_000 / 3 < kept(memory, range(2000)) <= SIZE / 20_000


def test_a_value_that_is_too_large_is_not_kept_and_displaces_nothing() -> None:
    memory = Memory(SIZE)
    memory.put("small", "x")
    memory.put("grows", "x")
    memory.put("grows", "x" * SIZE)
    assert [memory.get(key) for key in ("small", "grows")] == ["x", None]


def test_what_is_used_again_and_again_stays() -> None:
    memory = Memory(SIZE)
    memory.put("hot", "x")
    for number in range(2000):
        memory.put(number, "x" * 10_000)
        assert memory.get("hot") == "x"


def test_a_value_that_events_replace_again_and_again_does_not_count_as_all_of_them() -> None:
    memory = Memory(SIZE)
    for _ in range(1000):
        memory.put("hot", "x" * 5000, 5000)
        memory.put("cold", "y")
    assert (memory.get("hot"), memory.get("cold")) == ("x" * 5000, "y")


def test_a_value_that_grows_by_small_events_counts_as_what_it_became() -> None:
    memory, value = Memory(SIZE), ""
    while len(value) < SIZE:
        value += "x" * 1000
        memory.put("grown", value, 1000)
    assert memory.get("grown") is None


@pytest.mark.parametrize("value", [{("a", 1): "x" * 1000}, object(), None, {"x": [{}] * 1000}])
def test_everything_has_a_size(value: Any) -> None:
    assert measured(value) > 0
    assert measured({"x": [{}] * 1000}) > 64_000
    assert measured({"x": "null" * 1000}) > 4000


def test_a_worker_keeps_small_states_and_reads_large_ones_again(
    migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    load = EventStore.load

    def counted(store: EventStore, streams: Any) -> Any:
        names = list(streams)
        loads.extend(name for name in names if "/task-" in name)
        return load(store, names)

    monkeypatch.setattr(EventStore, "load", counted)
    with a_worker(migrated_url, cache=200_000) as worker:
        worker.run([incoming(CreateTask("small")), incoming(CreateTask("large", fields={"x": "x" * 150_000}))])
        loads.clear()
        worker.run([incoming(ProcessTask("small")), incoming(ProcessTask("large"))])
    assert loads == ["acme/task-large"]


def test_the_answer_to_a_repetition_does_not_read_what_the_events_hold(migrated_url: str) -> None:
    tasks = tuple(NewTask(f"t{number}", fields={"x": "x" * 200_000}) for number in range(30))
    scene = [builders.workflow(30), builders.activity(30, tasks=tasks)]
    with a_worker(migrated_url, cache=64 << 20) as worker:
        commands = [incoming(command) for command in scene]
        first = replies(worker.run(commands))
        tracemalloc.start()
        try:
            again = replies(worker.run(commands[1:]))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert [told(reply) for reply in again] == [AGAIN]
    assert again[0].events == first[1].events
    assert len(again[0].events) == 31
    # No more than the states of the tasks, once.
    assert peak < 1.2 * 30 * 200_000
