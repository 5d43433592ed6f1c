"""The roles of an episode, each with --supervise, and started again when it ends, as in production."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import psutil

from services.settings import Settings
from tests.eventually import eventually
from tests.faults.evidence import Ended
from tests.faults.processes import Group
from tests.services.processes import environment, free_port, has_ended

ROLES = ("commands", "projections", "relay", "policies", "http")
STANDBY = "-standby"
_GRACE = float(Settings.model_fields["shutdown_grace"].default)
_NOT_STOPPED = "not stopped within the grace"
_PERIOD = 0.05
# What a supervisor logs when it has started a process in the place of one that was killed.
_REPLACED = re.compile(r'"signal": "(SIG\w+)".*"started_pid"')


class Role(Group):
    """The supervisor of a role, and the process that works under it."""

    _worker: psutil.Process | None = None
    _counted = 0

    def worker(self) -> psutil.Process | None:
        """Return the process that works, None while there is none."""
        if self._worker is None or has_ended(self._worker):
            self._worker = None
            with suppress(psutil.Error):
                living = [each for each in psutil.Process(self.pid).children() if not has_ended(each)]
                self._worker = living[0] if living else None
        return self._worker

    def replaced(self) -> list[int]:
        """Return the exit codes of the processes that have had another one in their place since the last call."""
        found = _REPLACED.findall(self.said)
        new, self._counted = found[self._counted :], len(found)
        return [-signal.Signals[name] for name in new]

    def signal_worker(self, number: int) -> None:
        """Send a signal to the process that works, or to all of a role that has only begun to start."""
        worker = self.worker()
        if worker is None:
            self.signal(number)
        else:
            with suppress(psutil.Error):
                worker.send_signal(number)

    def await_start(self) -> None:
        """Wait until the process that works handles signals: Python itself ends by SIGTERM while it imports."""

        def started() -> bool:
            said = self.said
            return said.rfind('"event": "started"') > said.rfind('"started_pid"') or self.poll() is not None

        eventually(started)


class System:
    """The processes of the roles. A name is that of a role, or of the second process of one with `-standby`."""

    def __init__(self, folder: Path, database_url: str, amqp_url: str) -> None:
        self.http_port = free_port()
        self.memory: dict[str, int] = {}
        self.ended: list[Ended] = []
        self.restarts: list[tuple[str, int]] = []
        self._folder = folder
        self._env = {"DATABASE_URL": database_url, "AMQP_URL": amqp_url, "HTTP_PORT": str(self.http_port)}
        self._running: dict[str, Role] = {}
        # What the last process of a name printed until it ended.
        self._said: dict[str, str] = {}
        # What a process is given once, and after its end no more.
        self._once: dict[str, dict[str, str]] = {}
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def start(self, *names: str) -> None:
        """Start processes; the first call starts the supervisor, too."""
        with self._lock:
            for name in names:
                self._running[name] = self._begin(name)
        if not self._supervisor.is_alive():
            self._supervisor.start()

    def _begin(self, name: str) -> Role:
        role = name.removesuffix(STANDBY)
        env = {f"FOLDWORK_{key}": value for key, value in {**self._env, **self._once.pop(name, {})}.items()}
        command = [sys.executable, "-m", "services.cli", role, "--supervise"]
        return Role(command, self._folder / f"{name}.log", {**environment(), **env})

    def runs(self, name: str) -> bool:
        """Tell whether there is a process of this name."""
        with self._lock:
            return name in self._running

    def signal(self, name: str, number: int) -> None:
        """Send a signal to the process that works as a role; its supervisor starts another if it ends by it."""
        with self._lock:
            self._running[name].signal_worker(number)

    def kill_supervisor(self, name: str) -> psutil.Process | None:
        """Kill the supervisor of a role alone, and return the process that worked under it."""
        with self._lock:
            worker = self._running[name].worker()
            os.kill(self._running[name].pid, signal.SIGKILL)
            return worker

    def crash_at(self, name: str, point: str, timeout: float) -> bool:
        """Replace a process by one that kills itself at a point; tell whether it has come to that."""
        other = f"{name}{STANDBY}"
        # A standby would do the work.
        with self.away(other) if self.runs(other) else nullcontext():
            return self._crash_at(name, point, timeout)

    def _crash_at(self, name: str, point: str, timeout: float) -> bool:
        with self._lock:
            self._once[name] = {"TEST_BUILD": "1", "CRASH_AT": point}
            before = len(self.restarts)
            self._running[name].kill()
        deadline = time.monotonic() + timeout
        # The first restart is the one that was ordered here.
        while self._killed(name, before) < 2:
            if time.monotonic() > deadline:
                return False
            time.sleep(_PERIOD)
        return True

    def _killed(self, name: str, since: int) -> int:
        with self._lock:
            return sum(found == (name, -signal.SIGKILL) for found in self.restarts[since:])

    def terminate(self, name: str) -> Ended:
        """End a process by SIGTERM, note how it went, and leave the restart to the supervisor."""
        with self._lock:
            process = self._running.pop(name)
        process.await_start()
        ended = self._terminated(name, process)
        self.start(name)
        return ended

    def remove(self, *names: str) -> None:
        """End processes by SIGTERM for good, all at once, and note how it went."""
        with self._lock:
            leaving = [(name, self._running.pop(name)) for name in names if name in self._running]
        for _, process in leaving:
            process.await_start()
        began = time.monotonic()
        for _, process in leaving:
            process.terminate()
        for name, process in leaving:
            self._terminated(name, process, began)

    def _terminated(self, name: str, process: Role, began: float | None = None) -> Ended:
        if began is None:
            began = time.monotonic()
            process.terminate()
        code = process.wait(2 * _GRACE)
        if code is None:
            process.kill()
        complaint = _NOT_STOPPED if _NOT_STOPPED in process.said else None
        self.ended.append(Ended(name, code, time.monotonic() - began, _GRACE + 2, complaint))
        return self.ended[-1]

    @contextmanager
    def away(self, *names: str) -> Iterator[None]:
        """Kill processes, and start others at the end."""
        with self._lock:
            for name in names:
                self._running.pop(name).kill()
        try:
            yield
        finally:
            self.start(*names)

    def said(self, name: str) -> str:
        """Return what a process has printed since it was started last, and the one before it, if it has just ended."""
        with self._lock:
            return self._said.get(name, "") + self._running[name].said

    def stop(self) -> None:
        """End everything by SIGTERM."""
        self._stopped.set()
        if self._supervisor.is_alive():
            self._supervisor.join()
        with self._lock:
            names = list(self._running)
            for process in self._running.values():
                process.signal(signal.SIGCONT)
        self.remove(*names)

    def kill(self) -> None:
        """End whatever is left, by force."""
        self._stopped.set()
        if self._supervisor.is_alive():
            self._supervisor.join()
        for process in self._running.values():
            process.kill()

    def _supervise(self) -> None:
        turns = 0
        while not self._stopped.wait(_PERIOD):
            turns += 1
            with self._lock:
                for name, process in list(self._running.items()):
                    code = process.poll()
                    if code is not None:
                        self.restarts.append((name, code))
                        self._said[name] = process.said
                        self._running[name] = self._begin(name)
                        continue
                    self.restarts += [(name, code) for code in process.replaced()]
                    # To look for a process takes a while, while a role starts.
                    if turns % 10 == 0 and (worker := process.worker()) is not None:
                        self._measure(name, worker)

    def _measure(self, name: str, worker: psutil.Process) -> None:
        role = name.removesuffix(STANDBY)
        with suppress(psutil.Error):
            self.memory[role] = max(self.memory.get(role, 0), worker.memory_info().rss)
