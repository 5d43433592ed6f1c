"""Processes of Foldwork that a test starts and may kill."""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from tests.eventually import PATIENCE, eventually, eventually_async
from tests.services import nursery as nursery_process

ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """Return the process's environment without anything of Foldwork's, and with this checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FOLDWORK_")}
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def has_ended(process: psutil.Process) -> bool:
    """Tell whether a process has ended. Whoever inherits one whose parent has gone may leave it a zombie."""
    with suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True


class Process:
    """A process of the nursery."""

    def __init__(self, nursery: Nursery, pid: int, log: Path) -> None:
        self._nursery = nursery
        self._log = log
        self.pid = pid
        self.code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while it runs."""
        if self.code is None:
            self.code = self._nursery.order(do="poll", pid=self.pid)
        return self.code

    def signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Return the exit code, when it has ended."""
        eventually(lambda: self.poll() is not None, timeout)
        assert self.code is not None
        return self.code

    async def ended(self, timeout: float = PATIENCE) -> int:
        """Do as `wait`, and let the event loop go on."""
        await eventually_async(lambda: self.poll() is not None, timeout)
        assert self.code is not None
        return self.code

    @property
    def output(self) -> str:
        """Return what it has printed."""
        return self._log.read_text("utf-8")

    def said(self, text: str) -> bool:
        """Tell whether it has printed something; fail when it has ended without."""
        if text in self.output:
            return True
        if self.poll() is not None and text not in self.output:
            raise RuntimeError(f"ended with {self.code} before it said {text!r}:\n{self.output}")
        return text in self.output


class Nursery:
    """Processes of the command line, forked from one that has imported everything."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="foldwork-test-")
        self._lock = threading.Lock()
        self._address = f"{self._folder.name}/nursery"
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.services.nursery", self._address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment(),
        )

    def order(self, **order: Any) -> Any:
        """Have something done, and return the answer."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        with self._lock:
            self._parent.stdin.write(json.dumps(order) + "\n")
            self._parent.stdin.flush()
            return json.loads(self._parent.stdout.readline())

    @contextmanager
    def start(self, *arguments: str, before: str = "", env: Mapping[str, str]) -> Iterator[Process]:
        """Run the command line in a process of its own, which is killed at the end if it has not ended."""
        log = self._file()
        with self._started(arguments, ("/dev/null", log, log), Path(self._folder.name), env, before) as process:
            yield process

    def run(
        self, folder: Path, *arguments: str, stdin: str = "", before: str = "", env: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run the command line in a folder to its end."""
        given, out, err = files = (self._file(), self._file(), self._file())
        given.write_text(stdin, "utf-8")
        with self._started(arguments, files, folder, env, before) as process:
            code = process.wait()
        return subprocess.CompletedProcess(arguments, code, out.read_text("utf-8"), err.read_text("utf-8"))

    @contextmanager
    def _started(
        self,
        arguments: Sequence[str],
        files: Sequence[Path | str],
        folder: Path,
        env: Mapping[str, str],
        before: str = "",
    ) -> Iterator[Process]:
        given = {f"FOLDWORK_{name.upper()}": value for name, value in env.items()}
        with self.running(*arguments, files=files, folder=folder, environ=given, before=before) as process:
            yield process

    @contextmanager
    def running(
        self, *arguments: str, files: Sequence[Path | str], folder: Path, environ: Mapping[str, str], before: str = ""
    ) -> Iterator[Process]:
        """Run the command line on three files, with more in its environment."""
        pid = self.order(
            do="start",
            arguments=arguments,
            before=before,
            env=dict(environ),
            files=[*map(str, files)],
            folder=str(folder),
        )
        process = Process(self, pid, Path(files[1]))
        try:
            yield process
        finally:
            process.signal(signal.SIGKILL)
            process.wait()

    def install(self, script: Path) -> None:
        """Write a program that runs the command line for a shell."""
        # The parent listens when it has answered.
        assert self.order(do="ready") is None
        script.write_text(nursery_process.client(sys.executable, self._address))
        script.chmod(0o755)

    def _file(self) -> Path:
        made = Path(self._folder.name) / uuid.uuid4().hex
        made.touch()
        return made

    def close(self) -> None:
        """End the parent, which ends whatever is left."""
        if self._parent.stdin is not None:
            self._parent.stdin.close()
        self._parent.wait(PATIENCE)
        self._folder.cleanup()


@functools.cache
def nursery() -> Nursery:
    """Return this test process's nursery."""
    made = Nursery()
    atexit.register(made.close)
    return made


@contextmanager
def worker_process(database_url: str, amqp_url: str, before: str = "", **env: str) -> Iterator[Process]:
    """Give a process of the commands role."""
    given = {"database_url": database_url, "amqp_url": amqp_url, **env}
    with nursery().start("commands", before=before, env=given) as process:
        yield process
