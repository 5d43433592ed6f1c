"""Waiting for what happens elsewhere: the one place in the tests that sleeps, so that no test guesses how long.

`PATIENCE` is how many seconds any test waits for what has to happen: a shorter wait would test the machine, not the
code. On a slow machine, `FOLDWORK_TEST_PATIENCE=4` waits four times as long. Where a test is about how soon something
comes, what it must not wait for, such as the next poll, comes `LATE`: after all patience is over.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")

SLOWNESS = float(os.environ.get("FOLDWORK_TEST_PATIENCE", "1"))
PATIENCE = 120.0 * SLOWNESS
LATE = 10 * PATIENCE
_PAUSE = 0.01


def eventually(fn: Callable[[], T], timeout: float = 0.0) -> T:
    """Call `fn` until it passes, and return its result; fail with what it said last when it does not in time.

    `timeout` is for what may take longer than `PATIENCE`; a shorter one changes nothing.

    It passes when it returns something true. A function that asserts returns nothing, so there None passes as well;
    a lambda cannot assert, so its None means "not there yet".
    """
    timeout = max(timeout * SLOWNESS, PATIENCE)
    deadline = time.monotonic() + timeout
    while True:
        late = time.monotonic() >= deadline
        try:
            result = fn()
        except AssertionError:
            if late:
                raise
        else:
            if _passes(fn, result):
                return result
            assert not late, f"after {timeout} s it still returned {result!r}"
        time.sleep(_PAUSE)


async def eventually_async(fn: Callable[[], T | Awaitable[T]], timeout: float = 0.0) -> T:
    """Do as `eventually` does, without blocking the event loop; `fn` may be a coroutine function."""
    timeout = max(timeout * SLOWNESS, PATIENCE)
    deadline = time.monotonic() + timeout
    while True:
        late = time.monotonic() >= deadline
        try:
            result: Any = fn()
            if inspect.isawaitable(result):
                result = await result
        except AssertionError:
            if late:
                raise
        else:
            if _passes(fn, result):
                returned: T = result
                return returned
            assert not late, f"after {timeout} s it still returned {result!r}"
        await asyncio.sleep(_PAUSE)


def _passes(fn: Callable[[], Any], result: Any) -> bool:
    if result is None:
        return getattr(fn, "__name__", "") != "<lambda>"
    return bool(result)
