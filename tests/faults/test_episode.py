"""One short episode in every run of the tests: roles killed, and an answer of the database that never comes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults import server_faults
from tests.faults.episode import Plan, run
from tests.faults.faults import FAULTS
from tests.faults.servers import servers

# Importing it adds its faults to the catalogue.
__all__ = ["server_faults"]
SHORT = ("kill-commands", "kill-relay", "kill-projections", "commit-unanswered")


@pytest.mark.faults
def test_nothing_is_lost_and_nothing_happens_twice_when_roles_are_killed(tmp_path: Path) -> None:
    plan = Plan("short", [FAULTS[name] for name in SHORT], seed=1, rate=40, processes=3, pause=0.3, scale=0.1)
    with servers("development") as made:
        outcome = asyncio.run(run(plan, made, tmp_path / "short"))
    assert outcome.broken == []
    assert outcome.restarts == {"commands": 1, "relay": 1, "projections": 1}
    assert len([fault for fault in outcome.faults if fault.recovery is not None]) == len(SHORT)
    assert outcome.answered == outcome.sent > 100
