"""The states of bulks that are previewed, and of their items, and the ids of their commands."""

from __future__ import annotations

import uuid

# The states of a bulk that is worked on, and of the items that are worked on in them.
PREVIEWING, RUNNING, ABORTING = "previewing", "running", "aborting"
PENDING, READY, ACCEPTED, REFUSED, SKIPPED, UNKNOWN = "pending", "ready", "accepted", "refused", "skipped", "unknown"
ITEM_STATES = (PENDING, READY, ACCEPTED, REFUSED, SKIPPED, UNKNOWN)
WAITING = (PENDING, READY)
# Why an item was not executed, or its outcome is not known, and why a bulk is paused.
CHANGED, ANNOUNCED, NO_ANSWER = "changed", "refused-in-preview", "no-answer"
# Of a dead letter: one before it with the same key was not accepted, or is still parked.
KEY_STOPPED = "key-stopped"
# Nothing has the id of an item.
NOT_FOUND = "not-found"
NEW_FAILURE, ASKED = "new-failure", "asked"
# Why an aborted bulk is, unless it has a reason of its own, and so its items.
ABORTED = "aborted"
# That an item is not executed if it has changed since its preview.
SKIP = "skip"
# The commands of a bulk of dead letters.
RETRY, DISCARD = "dead-letter.retry", "dead-letter.discard"
LETTER_COMMANDS = (RETRY, DISCARD)


def command_id(seed: uuid.UUID, number: int) -> str:
    """Return the id of an item's command; nobody can take it who does not know the seed."""
    return str(uuid.uuid5(seed, str(number)))
