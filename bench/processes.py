"""The contenders' processes: started together, watched, and stopped; no other process is ever ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

GRACE = 20.0


class Failed(Exception):
    """A run has no figure: a process ended, nothing moved any more, or an answer was wrong."""


class Processes:
    """Processes by name, each with its log in a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, commands: Mapping[str, Sequence[str]], environment: Mapping[str, str]) -> None:
        """Start processes; none of them inherits settings of Foldwork or of the naive peer from ours."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("FOLDWORK_", "POSTGRES_"))}
        for name, command in commands.items():
            with (self._folder / f"{name}.log").open("wb") as log:
                self._running[name] = subprocess.Popen(
                    [sys.executable, *command], env={**own, **environment}, stdout=log, stderr=subprocess.STDOUT
                )

    def demand_running(self) -> None:
        """Raise `Failed` when a process has ended by itself."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise Failed(f"{name} ended with {process.returncode}: {self._tail(name)}")

    def pid(self, name: str) -> int:
        """Return a process's id."""
        return self._running[name].pid

    def memory(self) -> dict[str, float]:
        """Return each process's resident memory, in MB."""
        return {name: psutil.Process(process.pid).memory_info().rss / 1e6 for name, process in self._running.items()}

    def stop(self) -> None:
        """Ask every process to end, and end those that do not."""
        for process in self._running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        for process in self._running.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()

    def _tail(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text("utf-8", "replace")[-800:].strip()


@contextmanager
def processes() -> Iterator[Processes]:
    """Give a set of processes that ends with the block."""
    with tempfile.TemporaryDirectory(prefix="foldwork-bench-") as folder:
        found = Processes(Path(folder))
        try:
            yield found
        finally:
            found.stop()


def until(
    reached: Callable[[], bool], what: str, timeout: float = 60.0, running: Processes | None = None, every: float = 0.05
) -> None:
    """Wait for something, and raise `Failed` when it does not come or a process ends."""
    deadline = time.monotonic() + timeout
    while not reached():
        if running is not None:
            running.demand_running()
        if time.monotonic() > deadline:
            raise Failed(f"{what} did not come within {timeout:.0f} s")
        time.sleep(every)


def free_port() -> int:
    """Return a port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening(port: int) -> bool:
    """Tell whether somebody listens on a port of the loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
