"""The directory: whatever a command may refer to, and what a tenant configures."""

from __future__ import annotations

from domain.directory.eligibility import *  # noqa: F403
from domain.directory.entries import *  # noqa: F403
from domain.directory.entries import DECIDER as DECIDER
from domain.directory.lookup import *  # noqa: F403
