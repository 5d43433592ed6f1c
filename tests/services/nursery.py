"""The process that commands are forked from: it has imported everything, which costs seconds, and a fork costs none.

Orders are lines of JSON on standard input, each with an answer on standard output. The program of `client` runs as
`foldwork` in a shell: it hands over its arguments, files, folder and environment at a Unix socket, and ends as the
command does.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

_CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
nursery = socket.socket(socket.AF_UNIX)
nursery.connect({address!r})
order = json.dumps({{"arguments": sys.argv[1:], "folder": os.getcwd(), "env": dict(os.environ)}}).encode()
socket.send_fds(nursery, [b"%12d" % len(order)], [0, 1, 2])
nursery.sendall(order)
answer = nursery.makefile()
pid = int(answer.readline())
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: os.kill(pid, number))
code = int(answer.readline())
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


def client(python: str, address: str) -> str:
    """Return the text of the program."""
    return _CLIENT.format(python=python, address=address)


def _become(arguments: Sequence[str], folder: str, files: Sequence[int], before: str = "") -> NoReturn:
    """Run the command line in a child."""
    import services.cli

    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.chdir(folder)
    sys.argv = ["foldwork", *arguments]
    # In one namespace, so that functions of it see what it imports.
    exec(before, dict(globals()))
    services.cli.main()
    sys.exit(0)


class Nursery:
    """What was forked, and those who wait for its end."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._ended, wake = os.pipe()
        for end in (self._ended, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._started: set[int] = set()
        self._clients: dict[int, socket.socket] = {}

    def serve(self) -> None:
        """Do what is ordered until there is nobody who could order more, then kill what is left."""
        while True:
            for source in select.select([0, self._listener, self._ended], [], [])[0]:
                if source == 0:
                    line = sys.stdin.buffer.readline()
                    if not line:
                        for pid in (*self._started, *self._clients):
                            os.kill(pid, signal.SIGKILL)
                        return
                    print(json.dumps(self._ordered(json.loads(line))), flush=True)
                elif source == self._ended:
                    os.read(self._ended, 4096)
                    self._tell()
                else:
                    self._greet(self._listener.accept()[0])

    def _ordered(self, order: Mapping[str, Any]) -> int | None:
        if order["do"] == "ready":
            return None
        if order["do"] == "start":
            pid = self._fork(lambda: self._start(order))
            self._started.add(pid)
            return pid
        pid, status = os.waitpid(order["pid"], os.WNOHANG)
        if not pid:
            return None
        self._started.discard(pid)
        return os.waitstatus_to_exitcode(status)

    def _start(self, order: Mapping[str, Any]) -> NoReturn:
        written = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        files = [
            os.open(name, mode, 0o600)
            for name, mode in zip(order["files"], (os.O_RDONLY, written, written), strict=True)
        ]
        os.environ.update(order["env"])
        _become(order["arguments"], order["folder"], files, order["before"])

    def _greet(self, asking: socket.socket) -> None:
        """Start what a client asks for."""
        length, files, *_ = socket.recv_fds(asking, 12, 3)
        text = b""
        while len(text) < int(length):
            text += asking.recv(1 << 16)
        order = json.loads(text)

        def start() -> NoReturn:
            os.environ.clear()
            os.environ.update(order["env"])
            _become(order["arguments"], order["folder"], files)

        pid = self._fork(start)
        self._clients[pid] = asking
        for file in files:
            os.close(file)
        asking.sendall(b"%d\n" % pid)

    def _tell(self) -> None:
        """Tell the clients whose commands have ended."""
        for pid, asking in list(self._clients.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._clients[pid]
                # Who asked may have been killed, such as a shell that took too long.
                with asking, suppress(OSError):
                    asking.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))

    @staticmethod
    def _fork(become: Callable[[], NoReturn]) -> int:
        pid = os.fork()
        if pid == 0:
            become()
        return pid


def main(address: str) -> None:
    import services.cli.app
    import services.http.core.app
    import services.logs
    import services.roles  # noqa: F401

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    # A process that ends would search all that was imported here for garbage.
    gc.collect()
    gc.freeze()
    Nursery(listener).serve()
    Path(address).unlink()


if __name__ == "__main__":
    main(sys.argv[1])
