"""The directory: whatever a command may refer to, and what a tenant configures."""

from __future__ import annotations

from domain.directory.entries import (
    DECIDER,
    ChangeEntry,
    EntryChanged,
    EntryRegistered,
    EntryRetired,
    PutEntry,
    RegisterEntry,
    RetireEntry,
)

__all__ = [
    "DECIDER",
    "ChangeEntry",
    "EntryChanged",
    "EntryRegistered",
    "EntryRetired",
    "PutEntry",
    "RegisterEntry",
    "RetireEntry",
]
