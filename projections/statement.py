"""A statement of SQL with its values, as the read models and the store give it to whoever has a connection."""

from __future__ import annotations

from typing import Any, NamedTuple


class Query(NamedTuple):
    """A statement and its values, for a synchronous or an asynchronous connection: `execute(*query)`."""

    sql: str
    params: tuple[Any, ...]
