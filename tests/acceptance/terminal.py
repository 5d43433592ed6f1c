"""Running the command line as a person does, on a terminal of its own, and as a script does, through pipes."""

from __future__ import annotations

import os
import select
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.cli import app as command_line
from tests.eventually import eventually
from tests.services.processes import Process, nursery

INTERRUPT = b"\x03"


@dataclass
class Run:
    """A command that runs. On a terminal `out` has what it says on standard error, too."""

    process: Process
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
            self.process.signal(signal.SIGINT)

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


# A terminal belongs to the session whose leader has taken it, which then has Ctrl-C.
_TAKE_TERMINAL = "import fcntl, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0)"
# Tests may run with a variable that a command is not to have. `opened` tells that the files of the process are open.
_BEGIN = """
[os.environ.pop(name, None) for name in ("NO_COLOR",) if name not in {given}]
open({opened}, "w").close()
{more}
"""


@contextmanager
def typed(
    *arguments: str, folder: Path, on_terminal: bool, env: Mapping[str, str] = {}, stdin: bytes = b""
) -> Iterator[Run]:
    """Run a command, on a terminal or through pipes, and kill it at the end if it has not ended."""
    with tempfile.TemporaryDirectory(prefix="foldwork-typed-") as own, ExitStack() as stack:
        opened = Path(own) / "opened"

        def begin(more: str = "") -> str:
            return _BEGIN.format(given=list(env), opened=repr(str(opened)), more=more)

        if on_terminal:
            master, slave = os.openpty()
            ends, kept = {master: "out"}, [slave]
            files, before = [os.ttyname(slave)] * 3, begin(_TAKE_TERMINAL)
        else:
            (Path(own) / "in").write_bytes(stdin)
            ends, kept = {}, []
            for name in ("out", "err"):
                os.mkfifo(Path(own) / name)
                ends[os.open(Path(own) / name, os.O_RDONLY | os.O_NONBLOCK)] = name
                # Without anybody who writes, what reads would be at its end before the command has begun.
                kept.append(os.open(Path(own) / name, os.O_WRONLY))
            files, before = [str(Path(own) / name) for name in ("in", "out", "err")], begin()
        for end in ends:
            stack.callback(os.close, end)
        surroundings = {"TERM": "xterm-256color", **env}
        with nursery().running(*arguments, files=files, folder=folder, environ=surroundings, before=before) as process:
            eventually(lambda: opened.exists() or process.poll() is not None)
            for end in kept:
                os.close(end)
            yield Run(process, dict(ends), next(iter(ends)) if on_terminal else None)


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
