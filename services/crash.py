"""Named points at which a test build kills its own process, to test recovery."""

from __future__ import annotations

import os
import signal

from services import supervisor
from services.settings import Settings

AFTER_DECIDE = "after-decide"
AFTER_COMMIT = "after-commit"
BEFORE_ACK = "before-ack"
AFTER_PUBLISH = "after-publish"
AFTER_WAKE = "after-wake"
AFTER_CALL = "after-call"
AFTER_STORED_LETTERS = "after-stored-letters"
AFTER_DELIVERY = "after-delivery"


class CrashPoints:
    """Kills the process at one named point, in a test build only; the one that takes its place goes on."""

    def __init__(self, settings: Settings) -> None:
        self._at = settings.crash_at if settings.test_build and not supervisor.killed() else None

    def reach(self, point: str) -> None:
        """Kill the process by SIGKILL if this is the configured point."""
        if self._at == point:
            os.kill(os.getpid(), signal.SIGKILL)
