"""What readiness says of each part: whether it is ready, degraded or not ready, why, and since when."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from services.broker.command_queue import Counts
from services.health.watch import Watch

READY, DEGRADED, NOT_READY = "ready", "degraded", "not ready"
Part = dict[str, Any]
# The most sessions that are listed.
_MAX_SESSIONS = 5
_STATES = {
    "idle": "has been silent",
    "idle in transaction": "has been idle in a transaction",
    "idle in transaction (aborted)": "has been idle in a transaction",
}


def ready(**more: Any) -> Part:
    return {"status": READY, **more}


def wrong(status: str, cause: str, **more: Any) -> Part:
    return {"status": status, "cause": cause, **more}


@dataclass(slots=True)
class Judge:
    """Judges what was counted by whether it progresses: `degraded` after some seconds without, later `not ready`."""

    degraded_after: float
    unready_after: float
    silent_after: float
    ready_lag: int
    watch: Watch = field(default_factory=Watch)
    _commands: tuple[int, int] = (0, 0)  # how many waited at the last look, and how often there were fewer than before

    def follower(
        self, name: str, position: int, head: int, halted_at: int | None, behind: float | None, moved: float | None
    ) -> Part:
        """Judge a follower by the age of its next event, and by how long it has not moved although there is one."""
        lag = max(0, head - position)
        facts: Part = {"position": position, "lag": lag, "lag_seconds": round(max(0.0, behind or 0.0), 1)}
        stalled = self.watch.age("follower", name, (position, behind is None), min(behind or 0.0, moved or 0.0))
        if halted_at is not None:
            return wrong(NOT_READY, f"halted at position {halted_at}", **facts, halted_at=halted_at)
        if behind is not None and stalled >= self.unready_after:
            return wrong(NOT_READY, "it does not move, although there are events", **facts, since=_ago(stalled))
        if lag > self.ready_lag:
            return wrong(NOT_READY, f"it is {lag} events behind", **facts)
        if behind is not None and stalled >= self.degraded_after:
            return wrong(DEGRADED, "it does not move, although there are events", **facts, since=_ago(stalled))
        if behind is not None and behind >= self.degraded_after:
            return wrong(DEGRADED, f"it is {behind:.0f} s behind", **facts)
        return ready(**facts)

    def commands(self, counts: Counts, head: int) -> Part:
        """Judge whether commands that wait are recorded: the log grows, or fewer wait than before."""
        before, fewer = self._commands
        self._commands = counts.waiting, fewer + (counts.waiting < before)
        stalled = self.watch.age("commands", "", (head, fewer, counts.waiting > 0))
        if not counts.waiting or stalled < self.degraded_after:
            return ready(waiting=counts.waiting)
        status = NOT_READY if stalled >= self.unready_after else DEGRADED
        return wrong(status, "commands wait, and none is recorded", since=_ago(stalled), waiting=counts.waiting)

    def answers(self, unanswered: float | None) -> Part:
        """Judge whether commands that this process sends are answered; a broker does not count what it has delivered.

        Only `degraded`: one command without an answer, if it is the only one, may be at fault itself.
        """
        if unanswered is None or unanswered < self.degraded_after:
            return ready()
        return wrong(DEGRADED, "commands that this process has sent are not answered", since=_ago(unanswered))

    def sessions(self, rows: Iterable[tuple[Any, ...]]) -> Part:
        """Judge the processes of the roles by their sessions in the database, which all do something all the time.

        A silent process, such as a frozen standby, is `degraded` only: what it holds up is `not ready` by itself.
        """
        found: list[Part] = []
        status, pids = READY, set[Hashable]()
        for role, pid, state, since, told, waits in rows:
            pids.add(pid)
            age = self.watch.age("session", pid, since, told)
            if age >= (self.silent_after if state == "idle" else self.degraded_after):
                what = "has been waiting for a lock" if waits else _STATES.get(state, "has been executing a statement")
                found.append({"role": role, "server_process": pid, "state": what, "since": _ago(age)})
                hangs = state != "idle" and age >= self.unready_after
                status = NOT_READY if hangs or status == NOT_READY else DEGRADED
        self.watch.keep("session", pids)
        if not found:
            return ready()
        first = min(found, key=lambda each: each["since"])
        cause = f"a session of {first['role']} {first['state']}"
        return wrong(status, cause, since=first["since"], sessions=found[:_MAX_SESSIONS])

    def deadlines(self, overdue: Mapping[str, float]) -> Part:
        """Judge whether deadlines are acted on; `overdue` has the seconds since the oldest of each sort was due."""
        late: dict[str, float] = {}
        for what, seconds in overdue.items():
            # When the clock is adjusted, much is overdue at once, and is not late yet.
            age = min(seconds, self.watch.age("deadlines", what, seconds > 0, seconds))
            if age >= self.degraded_after:
                late[what] = age
        if not late:
            return ready()
        return wrong(DEGRADED, f"{' and '.join(late)} are overdue", since=_ago(max(late.values())))


def _ago(seconds: float) -> datetime:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).replace(microsecond=0)
