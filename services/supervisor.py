"""A parent process that starts another child at once when one is killed.

To import what a role needs takes seconds, to fork milliseconds. So the parent has imported everything, and each child
is a copy of it. The parent itself does nothing: before it forks, it has no thread, no event loop and no connection.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import threading
import time

import structlog

from services import metrics

# The parent gives up when so many children in a row are killed within so many seconds of their start. After the first
# of them it waits, twice as long each time.
GIVES_UP, SOON, FIRST_WAIT = 5, 2.0, 0.2
# Seconds after the grace period when a process that has not stopped is killed.
LATE = 2.0
_STOPPING = (signal.SIGTERM, signal.SIGINT)
_AWAITED = {*_STOPPING, signal.SIGCHLD, signal.SIGALRM}
_log = structlog.get_logger("supervisor")
_killed = 0


def killed() -> int:
    """Return how many children were killed before this one; 0 in a process that has no supervisor."""
    return _killed


def fork(grace: float, listening: socket.socket | None = None) -> None:
    """Return in a child, and again in another one whenever one is killed by a signal. The parent never returns.

    A child that ends by itself ends the parent, with the same status; `SystemExit` has 128 and the number of the signal
    when the parent gives up. SIGTERM and SIGINT are passed on once; a child that has not stopped `LATE` seconds after
    the grace period is killed. A child whose parent has ended stops as it does at SIGTERM.

    The parent keeps `listening` open until it stops: who connects while there is no child waits for the next one.
    """
    # Only the parent has the other end, so it is closed when the parent ends, however it ends.
    parent, held = os.pipe()
    # Signals are awaited, so none is handled between two statements. One whose default is to be ignored is only kept
    # for that, on some systems, if it has a handler.
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    # What has been imported stays, and a collection would write to its pages, which parent and children share.
    gc.collect()
    gc.freeze()
    family = _Family(grace, listening)
    while True:
        began = time.monotonic()
        pid = os.fork()
        if not pid:
            os.close(held)
            _become_child(parent, grace, family.killed)
            return
        family.started(pid)
        family.ended(family.wait(pid), time.monotonic() - began)


def _become_child(parent: int, grace: float, killed_before: int) -> None:
    global _killed
    _killed = killed_before
    metrics.RESTARTS.inc(killed_before)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # It begins while signals are blocked, and so never gets one.
    threading.Thread(target=_await_end, args=(parent, grace), name="supervisor", daemon=True).start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED)


def _await_end(parent: int, grace: float) -> None:
    """Stop this process when its parent ends."""
    os.read(parent, 1)
    _log.warning("the supervisor has ended, so this process stops")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace + LATE)
    os.kill(os.getpid(), signal.SIGKILL)


class _Family:
    """What the parent knows of its children."""

    def __init__(self, grace: float, listening: socket.socket | None) -> None:
        self.killed = 0
        self._grace = grace
        self._listening = listening
        self._stopping = False
        # Children in a row that were killed soon, and what is to be said of the last one.
        self._soon = 0
        self._last: dict[str, object] = {}

    def started(self, pid: int) -> None:
        """Log which child works instead of one that was killed."""
        if self._last:
            _log.error("a process was killed, and another one started", **self._last, started_pid=pid)

    def wait(self, pid: int) -> int:
        """Return the exit code of a child, negative for a signal."""
        while True:
            number = signal.sigwait(_AWAITED)
            if number == signal.SIGCHLD:
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    self._last = {"pid": pid}
                    return os.waitstatus_to_exitcode(status)
            elif number == signal.SIGALRM:
                _log.error("a process did not stop within the grace period and is killed", pid=pid)
                os.kill(pid, signal.SIGKILL)
            elif not self._stopping:
                self._stopping = True
                # From here on who connects is refused, instead of waiting for nobody.
                if self._listening is not None:
                    self._listening.close()
                signal.setitimer(signal.ITIMER_REAL, self._grace + LATE)
                os.kill(pid, number)

    def ended(self, code: int, lived: float) -> None:
        """Return when another child is due; raise `SystemExit` when there shall be none."""
        if code >= 0:
            sys.exit(code)
        self._last |= {"signal": _name(-code), "seconds": round(lived, 1)}
        self._soon = self._soon + 1 if lived < SOON else 0
        if self._soon == GIVES_UP:
            _log.error(f"{GIVES_UP} processes in a row were killed soon after their start: giving up", **self._last)
        if self._stopping or self._soon == GIVES_UP:
            sys.exit(128 - code)
        self.killed += 1
        if self._soon > 1:
            self._pause(FIRST_WAIT * 2 ** (self._soon - 2))

    def _pause(self, seconds: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        if signal.sigwait(_AWAITED - {signal.SIGCHLD}) != signal.SIGALRM:
            # There is no child to stop.
            sys.exit(0)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
