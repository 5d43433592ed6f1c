"""Scenes of an activity, as the tests of its commands share them."""

from __future__ import annotations

from typing import Any

from domain.decider import UniqueKey
from tests.builders import activity, member, workflow
from tests.given import Given, given_commands

IN_USE = UniqueKey("workflow-use/w", "a")


def ready(*more: Any, **rest: Any) -> Given:
    return given_commands([member("ann"), member("bob"), workflow(**rest), *more])


def running(*more: Any, **rest: Any) -> Given:
    return ready(activity(assignees=(("ann",), ("bob",)), **rest), *more)
