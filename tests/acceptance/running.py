"""Running the command line as its user does: a process of its own, in a folder of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from services.dev.postgres import EmbeddedPostgres
from tests.eventually import eventually
from tests.services.processes import ROOT as ROOT
from tests.services.processes import environment as environment
from tests.services.processes import nursery

FOLDWORK = [sys.executable, "-m", "services.cli"]


def foldwork(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return nursery().run(folder, *arguments, env={})


class Dev:
    """A running `foldwork dev`."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self._file = folder / ".foldwork" / "dev.json"
        log = folder / "dev.log"
        log.write_bytes(b"")
        self._running = ExitStack()
        running = nursery().running(
            "dev", *(arguments or ("--http-port", "0", "--amqp-port", "0")),
            files=["/dev/null", log, log], folder=folder, environ={},
        )  # fmt: skip
        self.process = self._running.enter_context(running)

    @property
    def said(self) -> str:
        """Return what it has printed."""
        return (self.folder / "dev.log").read_text("utf-8")

    @property
    def where(self) -> dict[str, Any]:
        """Return what it has left for other commands."""
        found: dict[str, Any] = json.loads(self._file.read_text("utf-8"))
        return found

    def until_ready(self) -> Dev:
        """Wait until it tells where it is."""

        def ready() -> None:
            assert self.process.poll() is None, self.said
            assert self._file.exists()
            assert self.where["pid"] == self.process.pid
            assert "Ctrl-C stops it" in self.said

        eventually(ready)
        return self

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it and return its exit code."""
        with self._running:
            self.process.signal(number)
            return self.process.wait()


@contextmanager
def dev(folder: Path, *arguments: str) -> Iterator[Dev]:
    """Give a running system in a folder, and end it."""
    started = Dev(folder, *arguments)
    try:
        yield started.until_ready()
    finally:
        started.end()
        # Under root the cluster lies outside of the folder, where nobody would clear it away.
        EmbeddedPostgres(folder / ".foldwork" / "postgres").remove()
