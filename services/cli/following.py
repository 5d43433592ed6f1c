"""`foldwork tail --since`: the events of the log from a position or a time on, and then those that are recorded."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import typer

from services.cli.common import say
from services.errors import OperatorError

if TYPE_CHECKING:
    from datetime import datetime

    from services.store.log import LogReplaced, LogRow

# Seconds after which the log is read without a notification.
_POLL = 1.0


def start(text: str) -> int | datetime:
    """Return the position, or the time, that an option names."""
    from domain.decider import instant
    from domain.errors import Rejected
    from domain.limits import MAX_WHOLE

    if text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= MAX_WHOLE:
        return int(text)
    try:
        return instant(text, "")
    except (Rejected, OverflowError):
        raise typer.BadParameter("--since is a position, or a time such as 2026-01-31T09:00:00Z.") from None


def matcher(pattern: str) -> Callable[[str], bool]:
    """Return what tells whether a routing key fits a topic pattern: `*` is a word, `#` any number of them."""
    parts = {"*": r"\.[^.]*", "#": r"(?:\.[^.]*)*"}
    # Several `#` in a row say the same as one.
    words = re.sub(r"(?<![^.])#(\.#)+(?![^.])", "#", pattern).split(".")
    fits = re.compile("".join(parts.get(word) or rf"\.{re.escape(word)}" for word in words)).fullmatch
    return lambda key: fits(f".{key}") is not None


def follow(
    database_url: str, since: int | datetime, pattern: str, count: int | None, show: Callable[[str, Any], None]
) -> None:
    """Call `show` with each event as JSON, and decoded, until there were so many, or without end."""
    from services.cloud_events import cloud_event, event_key
    from services.store import identity, log
    from services.store.connect import connect
    from services.store.log_tail import LogTail

    with connect(database_url, "tail", autocommit=True) as conn:
        identity.demand_own(conn)
        after = since if isinstance(since, int) else log.position_before(conn, since)
        if after > (end := log.head(conn)):
            raise OperatorError(f"the log ends at position {end}")
    say(f"following the log after position {after}", err=True)
    fits, left = matcher(pattern), count
    ended: list[Exception] = []

    def take(rows: Sequence[LogRow]) -> None:
        nonlocal left
        try:
            for row in rows:
                if left != 0 and row.is_published and fits(event_key(row)):
                    text = cloud_event(row).decode()
                    show(text, json.loads(text))
                    left = None if left is None else left - 1
        except Exception as error:
            # The reader would try again; what cannot be shown ends the command.
            ended.append(error)
        if ended or left == 0:
            tail.stop()

    def replaced(error: LogReplaced) -> None:
        ended.append(OperatorError(str(error)))

    tail = LogTail("tail", take, lambda _: None, replaced, _POLL, after)
    tail.run(database_url)
    if ended:
        raise ended[0]
