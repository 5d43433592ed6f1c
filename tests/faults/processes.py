"""Processes that a run starts, each the leader of a group of its own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.services.processes import ROOT


class Unavailable(Exception):
    """A server is not installed, or cannot do what a fault needs."""


class Group:
    """A process that leads a group of its own."""

    def __init__(
        self, command: Sequence[str], log: Path, env: dict[str, str], folder: Path = ROOT,
        account: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self._begins = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, cwd=folder,
                start_new_session=True, **account or {},
            )  # fmt: skip
        self.pid = self._process.pid
        self.log = log

    @property
    def said(self) -> str:
        """Return what it has printed."""
        return self.log.read_bytes()[self._begins :].decode("utf-8", "replace")

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while it runs."""
        return self._process.poll()

    def signal(self, number: int) -> None:
        """Send a signal to the group, unless its leader has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def terminate(self) -> None:
        """Ask the leader alone to end, as whoever runs a service does."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)

    def wait(self, timeout: float) -> int | None:
        """Return the exit code, or None when it has not ended in time."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout)
        return None

    def end(self, grace: float = 20.0) -> None:
        """End it, by force if it does not end in time."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        if self.wait(grace) is None:
            self.kill()

    def kill(self) -> None:
        """Kill the group."""
        self.signal(signal.SIGKILL)
        self._process.wait()
