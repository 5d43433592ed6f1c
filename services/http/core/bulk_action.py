"""A bulk that a process works on."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import msgspec

from services.broker.sender import Outgoing
from services.http.core.bulk_outcomes import Item
from services.http.core.bulk_states import LETTER_COMMANDS, PENDING, PREVIEWING, READY, SKIP, command_id

# Seconds that a process has a bulk for, unless it prolongs that.
LEASE = 30.0


@dataclass(frozen=True, slots=True)
class Action:
    """A bulk that this process works on; its columns."""

    tenant: str
    id: str
    command: str
    data: bytes
    seed: uuid.UUID
    actor: str
    traceparent: str | None
    on_change: str
    state: str
    reason: str | None
    rate: str | None

    @property
    def turn(self) -> str:
        """Return its name among all bulks."""
        return f"{self.tenant}/{self.id}"

    @property
    def of(self) -> str:
        """Return the state of the items that are worked on."""
        return PENDING if self.state == PREVIEWING else READY

    @property
    def values(self) -> dict[str, Any]:
        """Return the named parameters of the statements on it."""
        return {"tenant": self.tenant, "id": self.id, "state": self.state, "of": self.of, "lease": LEASE}

    @property
    def of_letters(self) -> bool:
        """Tell whether its items are dead letters."""
        return self.command in LETTER_COMMANDS

    def outgoing(self, item: Item) -> Outgoing:
        """Return the command of an item."""
        return Outgoing(
            self.command,
            msgspec.json.encode({**msgspec.json.decode(self.data), "id": item.entity_id}),
            self.tenant,
            item.routing_key,
            self.actor,
            str(uuid.uuid4()) if self.state == PREVIEWING else command_id(self.seed, item.number),
            expected_version=item.version if self.on_change == SKIP else None,
            traceparent=self.traceparent,
            dry_run=self.state == PREVIEWING,
        )
