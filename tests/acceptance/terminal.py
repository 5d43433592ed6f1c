"""Running the command line as a person does, on a terminal of its own, and as a script does, through pipes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.cli import app as command_line
from tests.acceptance.running import FOLDWORK, environment

INTERRUPT = b"\x03"


@dataclass
class Run:
    """A command that runs. On a terminal `out` has what it says on standard error, too."""

    process: subprocess.Popen[bytes]
    sources: dict[int, str]
    terminal: int | None
    out: str = ""
    err: str = ""
    _left: dict[int, bytes] = field(default_factory=dict)

    @property
    def said(self) -> str:
        """Return all that it has said."""
        return self.out + self.err

    def until(self, text: str, timeout: float = 120) -> None:
        """Read until it has said something."""
        self._read(lambda: text in self.said, timeout)
        assert text in self.said, self.said

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        if self.terminal is not None:
            os.write(self.terminal, INTERRUPT)
        else:
            self.process.send_signal(signal.SIGINT)

    def end(self, timeout: float = 120) -> int:
        """Read all that it says to its end, and return the exit status."""
        self._read(lambda: not self.sources, timeout)
        return self.process.wait(timeout)

    def _read(self, done: Any, timeout: float) -> None:
        until = time.monotonic() + timeout
        while not done() and self.sources and time.monotonic() < until:
            for source in select.select(list(self.sources), [], [], 0.2)[0]:
                try:
                    data = os.read(source, 1 << 16)
                except OSError:  # A terminal that its last user has left.
                    data = b""
                if not data:
                    del self.sources[source]
                    continue
                text = data.decode("utf-8", "replace")
                setattr(self, name := self.sources[source], getattr(self, name) + text)


@contextmanager
def typed(
    *arguments: str, folder: Path, on_terminal: bool, env: Mapping[str, str] = {}, stdin: bytes = b""
) -> Iterator[Run]:
    """Run a command, on a terminal or through pipes, and kill it at the end if it has not ended."""
    surroundings = {**environment(), "TERM": "xterm-256color", **env}
    surroundings.pop("NO_COLOR", None) if "NO_COLOR" not in env else None
    opened: list[int] = []
    if on_terminal:
        master, slave = os.openpty()
        process = subprocess.Popen(
            [*FOLDWORK, *arguments],
            cwd=folder,
            env=surroundings,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
        )
        os.close(slave)
        run = Run(process, {master: "out"}, master)
        opened = [master]
    else:
        process = subprocess.Popen(
            [*FOLDWORK, *arguments],
            cwd=folder,
            env=surroundings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(stdin)
        process.stdin.close()
        run = Run(process, {process.stdout.fileno(): "out", process.stderr.fileno(): "err"}, None)
    try:
        yield run
    finally:
        process.kill()
        process.wait()
        for each in opened:
            os.close(each)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def commands() -> dict[str, set[str]]:
    """Return the options of each command that there is, by what is typed for it."""
    import typer.main

    found: dict[str, set[str]] = {}

    def walk(command: Any, path: tuple[str, ...]) -> None:
        options = {name for parameter in command.params for name in parameter.opts}
        children = getattr(command, "commands", {})
        if path and (not children or command.invoke_without_command):
            found[" ".join(path)] = options
        for name, child in children.items():
            walk(child, (*path, name))

    walk(typer.main.get_command(command_line.app), ())
    return found
