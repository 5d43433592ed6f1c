"""The history of a run: every call with its attempts and answers, written to disk line by line as it happens.

A call that times out, or whose connection is lost, is `info`: nobody knows whether it took effect, until a later
attempt under the same id says so. `ok` and `fail` are answers of the service, `fail` with the code of the refusal.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GOOD, REPEAT, OTHER_DATA, OTHER_DATA_OF_KEY, FOREIGN, BAD = "good", "repeat", "data", "data-of-key", "foreign", "bad"
# A command that asks for no answer.
UNANSWERED = "unanswered"
OK, FAIL, INFO = "ok", "fail", "info"
# The name of a call that is no command.
READ = "GET"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one attempt came to. `events` are the positions that the answer names."""

    kind: str
    at: float
    code: str | None = None
    position: int | None = None
    events: tuple[int, ...] = ()
    duplicate: bool = False


@dataclass(slots=True)
class Call:
    """One command, with all attempts at it. `kind` says what is expected of it; `payload` tells data apart."""

    number: int
    process: str
    via: str
    tenant: str
    id: str
    name: str
    kind: str
    payload: str
    key: str | None = None
    expected: str | None = None
    began: float = 0.0
    attempts: int = 0
    confirmed: bool = False
    answers: list[Answer] = field(default_factory=list)

    @property
    def known(self) -> Answer | None:
        """Return the first answer of the service, if there is one."""
        return next((answer for answer in self.answers if answer.kind != INFO), None)

    @property
    def command(self) -> tuple[str, str]:
        """Return what names a command in the ledger."""
        return self.tenant, self.id


class History:
    """Writes calls as they happen, and keeps them."""

    def __init__(self, path: Path) -> None:
        self.calls: list[Call] = []
        self._file = path.open("w", encoding="utf-8")

    def call(self, process: str, via: str, tenant: str, command_id: str, name: str, **rest: Any) -> Call:
        """Begin a call; its attempts are noted by `invoke`."""
        self.calls.append(Call(len(self.calls), process, via, tenant, command_id, name, **rest))
        return self.calls[-1]

    def invoke(self, call: Call) -> None:
        """Note that an attempt begins."""
        call.attempts += 1
        now = time.time()
        if call.attempts == 1:
            call.began = now
        names = ("number", "process", "via", "tenant", "id", "name", "kind", "payload", "key", "expected", "attempts")
        self._write({"type": "invoke", "at": now, **{name: getattr(call, name) for name in names}})

    def confirm(self, call: Call) -> None:
        """Note that the broker has confirmed the command."""
        call.confirmed = True
        self._write({"type": "confirm", "number": call.number, "at": time.time()})

    def answer(self, call: Call, kind: str, **rest: Any) -> Answer:
        """Note what an attempt came to."""
        answer = Answer(kind, time.time(), **rest)
        call.answers.append(answer)
        self._write({"type": kind, "number": call.number, "at": answer.at, **rest})
        return answer

    def note(self, kind: str, **rest: Any) -> None:
        """Write a line about something else, such as a fault."""
        self._write({"type": kind, "at": time.time(), **rest})

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read(lines: Iterable[str]) -> list[Call]:
    """Return the calls of a history that was written."""
    calls: dict[int, Call] = {}
    for text in lines:
        line = json.loads(text)
        kind, at, number = line.pop("type"), line.pop("at"), line.pop("number", None)
        if kind == "invoke":
            call = calls.setdefault(number, Call(number=number, began=at, **line))
            call.attempts = line["attempts"]
        elif kind == "confirm":
            calls[number].confirmed = True
        elif kind in (OK, FAIL, INFO):
            events = tuple(line.pop("events", ()))
            calls[number].answers.append(Answer(kind, at, events=events, **line))
    return list(calls.values())
