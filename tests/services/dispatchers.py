"""A dispatcher at work, and the outcomes that it has stored."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from services.processors.dispatcher import Dispatcher
from tests.eventually import PATIENCE


@contextmanager
def dispatching(url: str, answers: Any, **given: Any) -> Iterator[Dispatcher]:
    dispatcher = Dispatcher(lambda: answers, poll=0.05, **given)
    thread = threading.Thread(target=dispatcher.run, args=(url,), daemon=True)
    thread.start()
    try:
        yield dispatcher
    finally:
        dispatcher.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def reported(conn: psycopg.Connection[Any]) -> dict[str, Any]:
    found = conn.execute("SELECT task_id, outcome FROM deadlines WHERE todo = 'send'").fetchall()
    return {task_id: json.loads(outcome) for task_id, outcome in found}
