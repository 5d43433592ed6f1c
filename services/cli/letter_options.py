"""The options of `dead-letters`, checked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from services.cli.where import database_url
from services.errors import OperatorError

if TYPE_CHECKING:
    import psycopg

    from services.dead_letters import Edit
    from services.store.dead_letters import Filter


def connected() -> psycopg.Connection[Any]:
    """Return a connection in autocommit mode."""
    from services.store.connect import connect

    return connect(database_url(), "dead-letters-cli", autocommit=True)


def filtered(
    tenant: str | None,
    reason: str | None,
    fingerprint: str | None,
    kind: str | None,
    key: str | None,
    since: str | None,
    state: str,
) -> Filter:
    """Return a filter; raises `OperatorError`."""
    from services.store.dead_letters import STATES, Filter

    if state not in (*STATES, "all"):
        raise OperatorError(f"a state is one of {', '.join(STATES)}, or all")
    for text in (tenant, reason, fingerprint, kind, key):
        checked(text or "")
    return Filter(tenant, reason, fingerprint, kind, key, _time(since), None if state == "all" else state)


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise OperatorError(f"{text} is no time, such as 2026-01-31T08:55:00Z") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def edited(data: str | None, merge: str | None) -> Edit:
    """Return what is to be edited; raises `OperatorError`."""
    from services.cli.data import read_data
    from services.commands import wire
    from services.dead_letters import Edit

    if data is not None and merge is not None:
        raise OperatorError("A letter is given other data, or a change of it.")
    found: list[dict[str, Any] | None] = []
    for text in (data, merge):
        try:
            value = None if text is None else wire.load_json(read_data(text))
        except wire.InvalidMessage as error:
            raise refused_by(error) from None
        if text is not None and not isinstance(value, dict):
            raise OperatorError("The data of a command is an object of JSON.")
        found.append(value)
    return Edit(*found)


def checked(text: str) -> str:
    """Return a text that the database takes; raises `OperatorError`."""
    if "\0" in text:
        raise OperatorError("a value has no NUL")
    return text


def refused_by(error: Any) -> OperatorError:
    """Return how a refusal is said."""
    why = error.refusal
    return OperatorError(f"{why.code}: {why.detail} {why.pointer}".rstrip())
