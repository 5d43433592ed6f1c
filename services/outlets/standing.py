"""How the followers stand: how far each is, where it is halted, and what it holds back until it is tried again."""

from __future__ import annotations

from dataclasses import dataclass

from services.errors import OperatorError
from services.store import held, log
from services.store.connect import connect
from services.store.held import HeldEntity


class UnknownFollower(OperatorError):
    """There is no follower of this name."""


@dataclass(frozen=True, slots=True)
class Status:
    """How one follower stands, of a set of tables if it fills some. `lag` is the number of events behind the head."""

    name: str
    suffix: str
    serving: bool
    position: int
    head: int
    halted_at: int | None
    error: str | None
    held: list[HeldEntity]

    @property
    def lag(self) -> int:
        """Return the number of events still to be read."""
        return self.head - self.position


def status(database_url: str) -> list[Status]:
    """Return how each read model stands, a line for the serving tables and one for those being built; then the rest."""
    with connect(database_url, "projections", autocommit=True) as conn:
        head, waiting = log.head(conn), held.status(conn)
        rows = conn.execute(
            "WITH tables AS (SELECT r.name, s.suffix, s.suffix = r.serving AS serving,"
            " r.name || '_' || s.suffix AS follower FROM read_models AS r"
            " CROSS JOIN LATERAL (VALUES (r.serving), (r.building)) AS s (suffix) WHERE s.suffix IS NOT NULL)"
            " SELECT coalesce(t.name, f.name), coalesce(t.suffix, ''), coalesce(t.serving, true),"
            " coalesce(f.position, 0), f.halted_at, f.error, coalesce(t.follower, f.name)"
            " FROM tables AS t FULL JOIN followers AS f ON f.name = t.follower"
            " ORDER BY t.name IS NULL, 1, 2"
        ).fetchall()
    return [
        Status(name, suffix, serving, position, max(head, position), halted_at, error, waiting.get(follower, []))
        for name, suffix, serving, position, halted_at, error, follower in rows
    ]


def retry(database_url: str, name: str | None = None) -> int:
    """Let what is held back be tried again now, of all followers or of one; return how many entities those are.

    A read model goes by its own name, whichever tables it has.
    """
    wanted = [line for line in status(database_url) if name in (None, line.name)]
    if name is not None and not wanted:
        known = ", ".join(dict.fromkeys(line.name for line in status(database_url)))
        raise UnknownFollower(f"there is no follower {name}; the followers are {known}")
    followers = [f"{line.name}_{line.suffix}" if line.suffix else line.name for line in wanted]
    with connect(database_url, "projections", autocommit=True) as conn:
        count = 0
        for follower in followers:
            with conn.transaction():
                count += held.retry_now(conn, follower)
    return count
