"""What readiness says of each part, by a clock of the test: work that stands still goes red, nothing else does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.broker.command_queue import Counts
from services.health.parts import Judge
from services.health.watch import Watch

HOUR = 3600.0
SINCE = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """The clock of the process that judges."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.judge = Judge(5.0, 30.0, 5.0, 100, Watch(lambda: self.now))

    def later(self, seconds: float) -> Judge:
        self.now += seconds
        return self.judge


@pytest.fixture
def clock() -> Clock:
    return Clock()


def follower(judge: Judge, position: int, head: int, behind: float | None, moved: float = 0.0) -> str:
    return str(judge.follower("tasks_v1", position, head, None, behind, moved)["status"])


def session(state: str = "idle", since: datetime = SINCE, told: float = 0.0, waits: bool = False) -> tuple[Any, ...]:
    return "commands", 4711, state, since, told, waits


def test_a_follower_with_nothing_to_do_is_ready_however_long(clock: Clock) -> None:
    for _ in range(10):
        assert follower(clock.later(HOUR), 7, 7, None, 100 * HOUR) == "ready"
    # After a long quiet night the first event has just come.
    assert follower(clock.later(HOUR), 7, 8, 0.1, 100 * HOUR) == "ready"


def test_a_follower_that_does_not_move_before_an_event(clock: Clock) -> None:
    assert follower(clock.judge, 7, 8, 1.0, 1.0) == "ready"
    part = clock.later(6).follower("tasks_v1", 7, 9, None, 7.0, 7.0)
    assert (part["status"], part["cause"]) == ("degraded", "it does not move, although there are events")
    assert timedelta(seconds=6) < datetime.now(UTC) - part["since"] < timedelta(seconds=9)
    assert follower(clock.later(25), 7, 9, 32.0, 32.0) == "not ready"
    assert follower(clock.later(1), 8, 9, 33.0, 0.1) == "degraded"  # it moves, and is behind
    assert follower(clock.later(1), 9, 9, None, 1.0) == "ready"


def test_what_stands_still_since_long_is_seen_at_the_first_look(clock: Clock) -> None:
    assert follower(clock.judge, 7, 8, 40.0, HOUR) == "not ready"


def test_a_follower_that_moves_is_not_red_until_it_is_too_many_events_behind(clock: Clock) -> None:
    for position in range(10):
        assert follower(clock.later(60), position, 90, HOUR, 0.1) == "degraded"
    assert follower(clock.later(60), 11, 190, HOUR, 0.1) == "not ready"


def test_a_clock_of_the_database_that_jumps_makes_nothing_red(clock: Clock) -> None:
    assert follower(clock.judge, 7, 8, 0.1, 0.1) == "ready"
    # An hour forward: the next event and the last move seem to be an hour old.
    assert follower(clock.later(1), 8, 9, HOUR, HOUR) == "degraded"
    assert follower(clock.later(1), 9, 10, 0.1, 0.1) == "ready"
    # An hour backward.
    assert follower(clock.later(1), 10, 11, -HOUR, -HOUR) == "ready"
    assert clock.later(1).sessions([session(told=0.5)])["status"] == "ready"
    assert clock.later(1).sessions([session(since=SINCE + timedelta(1), told=HOUR)])["status"] == "ready"
    assert clock.later(1).deadlines({"commands of deadlines": 0.0})["status"] == "ready"
    assert clock.later(1).deadlines({"commands of deadlines": HOUR})["status"] == "ready"
    # A follower that stands still is found although the clock went back.
    assert follower(clock.later(1), 10, 12, -HOUR, -HOUR) == "degraded"
    assert follower(clock.later(40), 10, 12, -HOUR, -HOUR) == "not ready"


def test_commands_that_wait_and_are_not_recorded(clock: Clock) -> None:
    assert clock.judge.commands(Counts(1, 0), 5) == {"status": "ready", "waiting": 0}
    for _ in range(5):
        assert clock.later(HOUR).commands(Counts(1, 0), 5)["status"] == "ready"
    assert clock.later(HOUR).commands(Counts(1, 10), 5)["status"] == "ready"
    assert clock.later(6).commands(Counts(1, 20), 5)["status"] == "degraded"
    part = clock.later(25).commands(Counts(1, 30), 5)
    assert (part["status"], part["cause"]) == ("not ready", "commands wait, and none is recorded")
    assert clock.later(1).commands(Counts(1, 30), 6)["status"] == "ready"


def test_a_backlog_of_which_commands_are_taken_is_ready(clock: Clock) -> None:
    for waiting in range(1000, 0, -100):
        # All are refused, so the log does not grow.
        assert clock.later(20).commands(Counts(1, waiting), 5)["status"] in ("ready", "degraded")
    for head in range(10):
        assert clock.later(20).commands(Counts(1, 5000), head)["status"] == "ready"


def test_a_session_that_does_nothing_or_hangs(clock: Clock) -> None:
    assert clock.judge.sessions([session(told=0.9)])["status"] == "ready"
    part = clock.later(6).sessions([session(told=6.9)])
    assert (part["status"], part["cause"]) == ("degraded", "a session of commands has been silent")
    assert clock.later(HOUR).sessions([session(told=HOUR)])["status"] == "degraded"
    held = session("idle in transaction", SINCE + timedelta(1), 8.0)
    part = clock.later(10).sessions([held, ("scheduler", 4712, "active", SINCE, 7.0, True)])
    assert part["cause"] == "a session of commands has been idle in a transaction"
    assert [each["state"] for each in part["sessions"]] == [
        "has been idle in a transaction",
        "has been waiting for a lock",
    ]
    assert clock.later(30).sessions([held])["status"] == "not ready"
    assert clock.later(1).sessions([session(since=SINCE + timedelta(2), told=0.1)])["status"] == "ready"
    assert clock.later(1).sessions([])["status"] == "ready"


def test_deadlines_that_nobody_acts_on(clock: Clock) -> None:
    # Under load something is always overdue, but not for long.
    for _ in range(20):
        assert clock.later(2).deadlines({"commands of deadlines": 0.3, "dispatch attempts": 0.1})["status"] == "ready"
    part = clock.later(2).deadlines({"commands of deadlines": 9.0, "dispatch attempts": 0.1})
    assert (part["status"], part["cause"]) == ("degraded", "commands of deadlines are overdue")
