"""A task: one step of an activity, or a piece of work that stands alone; commands, events, state and decisions."""

from __future__ import annotations

from domain.plan import *  # noqa: F403
from domain.task.commands import *  # noqa: F403
from domain.task.events import *  # noqa: F403
from domain.task.state import *  # noqa: F403
