"""API keys, each bound to a tenant, an actor and permissions; only the SHA-256 of a token is stored."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import psycopg

from domain.decider import SYSTEM
from domain.streams import ID, TENANT
from projections.statement import Query

# `read` allows queries, `write` commands; `impersonate` lets a key of `system` name another actor for a command.
# `operate` allows the acts of an operator (on dead letters, on many commands, on what is held back), `webhooks` those
# on webhooks, `audit` reading what operators did, `keys` listing, creating and revoking the tenant's keys, `tenants`
# figures of all tenants; no other permission implies these. The rest is of the dispatch API.
PERMISSIONS = (
    "read",
    "write",
    "impersonate",
    "operate",
    "webhooks",
    "audit",
    "keys",
    "tenants",
    "CREATE_ACTIVITY",
    "VIEW_ACTIVITIES",
    "CANCEL_ACTIVITY",
    "DISPATCH_ACTIVITY",
    "SUBMIT_ACTIVITY_RESULT",
    "OVERRIDE_ACTIVITY_RESULT",
    "MANAGE_ACTIVITY_CONFIG",
)
# What reaches beyond a tenant is given on the command line alone, whoever has it already.
NOT_OVER_HTTP = frozenset({"tenants"})
# The permissions of the dispatch API that `read` and `write` imply.
_GRANTS: Mapping[str, frozenset[str]] = {
    "read": frozenset({"VIEW_ACTIVITIES"}),
    "write": frozenset(
        {
            "CREATE_ACTIVITY",
            "CANCEL_ACTIVITY",
            "DISPATCH_ACTIVITY",
            "SUBMIT_ACTIVITY_RESULT",
            "OVERRIDE_ACTIVITY_RESULT",
            "MANAGE_ACTIVITY_CONFIG",
        }
    ),
}
# What of a command needs a permission beside that of its endpoint, whoever the actor is; the parts are those of
# `domain.lifecycle.PARTS`. That a task failed may be reported by whoever may submit a result.
PART_PERMISSIONS: Mapping[str, str] = {
    "task.submit-result CANCELED": "CANCEL_ACTIVITY",
    "task.submit-result hard_override": "OVERRIDE_ACTIVITY_RESULT",
}
# A role names a set of permissions; a key stores the permissions, so that a later change of a role does not affect it.
ROLES: Mapping[str, tuple[str, ...]] = {
    "viewer": ("VIEW_ACTIVITIES",),
    "integration": ("VIEW_ACTIVITIES", "SUBMIT_ACTIVITY_RESULT"),
    "agent": ("VIEW_ACTIVITIES", "CREATE_ACTIVITY", "SUBMIT_ACTIVITY_RESULT"),
    "dispatcher": (
        "VIEW_ACTIVITIES",
        "CREATE_ACTIVITY",
        "CANCEL_ACTIVITY",
        "DISPATCH_ACTIVITY",
        "SUBMIT_ACTIVITY_RESULT",
    ),
    "manager": (
        "VIEW_ACTIVITIES",
        "CREATE_ACTIVITY",
        "CANCEL_ACTIVITY",
        "DISPATCH_ACTIVITY",
        "SUBMIT_ACTIVITY_RESULT",
        "OVERRIDE_ACTIVITY_RESULT",
        "MANAGE_ACTIVITY_CONFIG",
    ),
    "operator": ("read", "operate", "audit"),
    "administrator": ("read", "write", "operate", "webhooks", "audit", "keys"),
}
KEY_ID = re.compile(r"[0-9a-f]{16}\Z")
# The longest life of a key in days; a date further ahead could overflow.
MAX_DAYS = 36_500
State = Literal["active", "expired", "revoked"]
_IN_STATE: Mapping[State, str] = {
    "active": " AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())",
    "expired": " AND revoked_at IS NULL AND expires_at <= now()",
    "revoked": " AND revoked_at IS NOT NULL",
}
_COLUMNS = "id, tenant, actor, permissions, name, created_at, expires_at, revoked_at"
TOKEN = re.compile(r"fw_([0-9a-f]{16})_([A-Za-z0-9_-]{43})\Z")


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A key without its token."""

    id: str
    tenant: str
    actor: str
    permissions: tuple[str, ...]
    name: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    def usable(self, now: datetime) -> bool:
        """Whether the key is neither revoked nor expired."""
        return self.state(now) == "active"

    def state(self, now: datetime) -> State:
        """Return what lets the key in, or does not."""
        if self.revoked_at is not None:
            return "revoked"
        return "active" if self.expires_at is None or now < self.expires_at else "expired"


class NotGranted(ValueError):
    """A key that its maker may not give; `what` is the parameter of `create` at fault."""

    def __init__(self, what: str, detail: str) -> None:
        super().__init__(detail)
        self.what = what


def create(
    conn: psycopg.Connection[Any],
    tenant: str,
    actor: str = SYSTEM,
    permissions: Iterable[str] = ("read", "write"),
    name: str | None = None,
    expires_at: datetime | None = None,
) -> tuple[KeyInfo, str]:
    """Create a key and return it with its token, which cannot be retrieved later; raises `ValueError`."""
    wanted = set(permissions)
    demand_valid(tenant, actor, wanted, expires_at)
    token = new_token()
    granted = [permission for permission in PERMISSIONS if permission in wanted]
    with conn.transaction():
        row = conn.execute(
            "INSERT INTO api_keys (id, digest, tenant, actor, permissions, name, expires_at)"  # noqa: S608
            f" VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING {_COLUMNS}",
            (id_of(token), digest(token), tenant, actor, granted, name, expires_at),
        ).fetchone()
    assert row is not None  # noqa: S101
    return key_info(row), token


def demand_valid(tenant: str, actor: str, permissions: Iterable[str], expires_at: datetime | None = None) -> None:
    """Raise `ValueError` for what no key can have."""
    wanted = set(permissions)
    if not TENANT.match(tenant):
        raise ValueError("a tenant is 1 to 63 characters of a-z 0-9 -")
    if not ID.match(actor):
        raise ValueError("an actor is a member's id or `system`")
    if not wanted or not wanted <= set(PERMISSIONS):
        raise ValueError(f"permissions are {', '.join(PERMISSIONS)}")
    if "impersonate" in wanted and actor != SYSTEM:
        raise ValueError("only a key of `system` may name other actors")
    if expires_at is not None and (expires_at.tzinfo is None or expires_at <= datetime.now(UTC)):
        raise ValueError("the expiry of a key must be in the future and have a UTC offset")


def demand_granted(maker: KeyInfo, actor: str, permissions: Iterable[str], expires_at: datetime | None) -> None:
    """Raise `NotGranted` for a key with which more may be done, or for longer, than with the key that makes it."""
    if local := NOT_OVER_HTTP.intersection(permissions):
        raise NotGranted("permissions", f"{', '.join(sorted(local))} is given by `foldwork keys create` alone")
    beyond = granted_by(permissions) - granted_by(maker.permissions)
    if beyond:
        raise NotGranted("permissions", f"this key does not have {', '.join(sorted(beyond))} itself")
    if maker.actor not in (SYSTEM, actor):
        raise NotGranted("actor", f"a key of {maker.actor} makes keys for {maker.actor} alone")
    if maker.expires_at is not None and (expires_at is None or expires_at > maker.expires_at):
        raise NotGranted("expires_at", f"a key cannot outlast the one that makes it, until {maker.expires_at:%FT%TZ}")


def after_days(days: int) -> datetime:
    """Return when a key expires that is to live for so many days from now on; raises `ValueError`."""
    if not 1 <= days <= MAX_DAYS:
        raise ValueError(f"a key lives for 1 to {MAX_DAYS} days")
    return datetime.now(UTC) + timedelta(days=days)


def granted_by(permissions: Iterable[str]) -> frozenset[str]:
    """Return the permissions and those that they imply."""
    held = frozenset(permissions)
    return held.union(*(_GRANTS.get(permission, frozenset()) for permission in held))


def new_token() -> str:
    """Return a new token: a random id and 32 random bytes."""
    return f"fw_{secrets.token_hex(8)}_{secrets.token_urlsafe(32)}"


def list_keys(conn: psycopg.Connection[Any], tenant: str | None = None) -> list[KeyInfo]:
    """Return the keys of one tenant, or of all, the oldest first."""
    rows = conn.execute(
        f"SELECT {_COLUMNS} FROM api_keys WHERE %s::text IS NULL OR tenant = %s ORDER BY created_at, id",  # noqa: S608
        (tenant, tenant),
    )
    return [key_info(row) for row in rows.fetchall()]


def page(tenant: str, state: State | None, after: str | None, limit: int) -> Query:
    """The keys of a tenant that come after one, the newest first: rows for `key_info`."""
    conditions = _IN_STATE[state] if state is not None else ""
    values: tuple[Any, ...] = (tenant,)
    if after is not None:
        conditions += " AND (created_at, id) < (SELECT created_at, id FROM api_keys WHERE tenant = %s AND id = %s)"
        values = (tenant, tenant, after)
    return Query(
        f"SELECT {_COLUMNS} FROM api_keys WHERE tenant = %s{conditions} ORDER BY created_at DESC, id DESC LIMIT %s",  # noqa: S608
        (*values, limit),
    )


def of_tenant(tenant: str, key_id: str, *, lock: bool = False) -> Query:
    """A key of a tenant: a row for `key_info`; locked for the caller's transaction, if wanted."""
    locked = " FOR UPDATE" if lock else ""
    return Query(f"SELECT {_COLUMNS} FROM api_keys WHERE tenant = %s AND id = %s{locked}", (tenant, key_id))  # noqa: S608


def by_id(key_id: str) -> Query:
    """The digest of a key, followed by the columns for `key_info`."""
    return Query(f"SELECT digest, {_COLUMNS} FROM api_keys WHERE id = %s", (key_id,))  # noqa: S608


def tenant_of(conn: psycopg.Connection[Any], key_id: str) -> str | None:
    """Return the tenant of a key, None if there is no such key."""
    row = conn.execute("SELECT tenant FROM api_keys WHERE id = %s", (key_id,)).fetchone()
    return None if row is None else str(row[0])


def revoke(conn: psycopg.Connection[Any], key_id: str) -> bool:
    """Revoke a key, which takes effect within 5 s; False if there is none, or it was revoked before."""
    with conn.transaction():
        done = conn.execute("UPDATE api_keys SET revoked_at = now() WHERE id = %s AND revoked_at IS NULL", (key_id,))
    return done.rowcount == 1


def key_info(row: Sequence[Any]) -> KeyInfo:
    """Return the key of a row, which is given without the digest."""
    key_id, tenant, actor, permissions, name, created_at, expires_at, revoked_at = row
    return KeyInfo(key_id, tenant, actor, tuple(permissions), name, created_at, expires_at, revoked_at)


def digest(token: str) -> bytes:
    """Return the digest that is stored; SHA-256 suffices, because a token has 32 random bytes."""
    return hashlib.sha256(token.encode()).digest()


def matches(stored: bytes, presented: bytes) -> bool:
    """Compare two digests in constant time."""
    return hmac.compare_digest(stored, presented)


def adopt(
    conn: psycopg.Connection[Any], token: str, tenant: str, actor: str, permissions: Sequence[str], name: str
) -> None:
    """Create or replace a key with a given token, for development."""
    with conn.transaction():
        conn.execute(
            "INSERT INTO api_keys (id, digest, tenant, actor, permissions, name) VALUES (%s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (id) DO UPDATE SET digest = excluded.digest, tenant = excluded.tenant,"
            " actor = excluded.actor, permissions = excluded.permissions, revoked_at = NULL, expires_at = NULL",
            (id_of(token), digest(token), tenant, actor, list(permissions), name),
        )


def id_of(token: str) -> str:
    """Return the id in a token; for one chosen by a developer, the first 16 digits of its digest."""
    found = TOKEN.match(token)
    return found[1] if found is not None else digest(token).hex()[:16]
