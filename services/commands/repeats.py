"""What is known of a command before it is decided: it is a duplicate of one, or ordered and behind one that waits.

A duplicate has the id, or the idempotency key, of a command of this batch or of an earlier one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from domain.decider import UniqueKey
from domain.errors import Refusal
from services.commands.outcome import IDEMPOTENCY, Outcome, row_of_key
from services.commands.wire import Incoming
from services.store.append import CommandKey, LedgerRow, TenantUniqueKey
from services.store.dead_letter_order import Order
from services.store.dead_letters import UNORDERED


class Repeats:
    """The ledger's rows of a batch's commands, and the first outcome under each id and key of the batch itself."""

    def __init__(self) -> None:
        self.ledger: dict[CommandKey, LedgerRow] = {}
        self._first: dict[CommandKey, Outcome] = {}
        self.keys: dict[TenantUniqueKey, Outcome] = {}
        self._failed: dict[Order, str] = {}

    def clear(self) -> None:
        """Forget the batch's own outcomes before it is decided again."""
        self._first.clear()
        self.keys.clear()
        self._failed.clear()

    def add(self, outcome: Outcome) -> None:
        """Note an outcome that later commands of the batch may repeat."""
        command = outcome.incoming
        if outcome.failure is not None and not command.dry_run and command.routing_key not in UNORDERED:
            self._failed[command.tenant, command.routing_key] = f"the command {command.command_id}"
        if not outcome.recorded:
            return
        self._first[command.tenant, command.command_id] = outcome
        if command.idempotency_key and outcome.refusal is None and outcome.row is None and outcome.first is None:
            self.keys[command.tenant, IDEMPOTENCY, command.idempotency_key] = outcome

    def find(self, command: Incoming, held: Mapping[TenantUniqueKey, str | None]) -> Outcome | None:
        """Return the outcome of a duplicate, or None; `held` are the unique keys that are loaded."""
        key = (command.tenant, command.command_id)
        row, first = self.ledger.get(key), self._first.get(key)
        known = row.fingerprint if row else first.incoming.fingerprint if first else None
        if known is not None:
            if known == command.fingerprint:
                if first is not None:
                    # The first may itself repeat another command's key; then the answer is that command's.
                    row, first = row or first.row, first.first or first
                return Outcome(command, row=row, first=first, recorded=False)
            refusal = Refusal("command-id-conflict", "another command came under this id")
            return Outcome(command, refusal=refusal, recorded=False)
        if command.idempotency_key is None:
            return None
        return self._of_key(command, (command.tenant, IDEMPOTENCY, command.idempotency_key), held)

    def waits(self, command: Incoming) -> Outcome | None:
        """Return the outcome of an ordered command that must not overtake another one, or None."""
        failed = self._failed.get((command.tenant, command.routing_key)) if command.ordered else None
        behind = command.behind or failed
        return Outcome(replace(command, behind=behind), waits=True, recorded=False) if behind else None

    def _of_key(
        self, command: Incoming, key: TenantUniqueKey, held: Mapping[TenantUniqueKey, str | None]
    ) -> Outcome | None:
        first, row = self.keys.get(key), None
        if first is not None:
            known = first.incoming.fingerprint
        else:
            holder = held[key]
            if holder is None:
                return None
            row = row_of_key(command.tenant, holder)
            known = row.fingerprint
        read = (UniqueKey(key[1], key[2]),)
        if known == command.fingerprint:
            return Outcome(command, row=row, first=first, unique_keys_read=read)
        refusal = Refusal("idempotency-conflict", "another command took this idempotency key")
        return Outcome(command, refusal=refusal, unique_keys_read=read)
