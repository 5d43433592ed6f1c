"""Authentication by API keys, compared by digest. A request has access to the tenant of its key only."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from domain import EVENT_NAMES
from domain.decider import actor_stream
from domain.directory import EntryRetired
from domain.streams import stream_of
from services import keys
from services.http.core.errors import ApiError, unavailable
from services.store import log
from services.store.pool import Pool

# Seconds that a check is cached, so a revocation, or the retirement of its member, takes effect within this time.
CACHE_SECONDS = 5.0
_MAX_CACHED_KEYS = 10_000
_RETIRED = EVENT_NAMES[EntryRetired]
# Tokens that are looked up at the same time.
MAX_ASKING = 200
_MAX_TOKEN = 256
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="foldwork"'}
_WRONG_TOKEN = {"WWW-Authenticate": 'Bearer realm="foldwork", error="invalid_token"'}


@dataclass(frozen=True, slots=True)
class Caller:
    """The key, tenant, actor and permissions of a request."""

    key_id: str
    tenant: str
    actor: str
    permissions: frozenset[str]

    def demand(self, permission: str) -> None:
        """Refuse a caller without this permission."""
        if permission not in self.permissions:
            raise ApiError("forbidden", f"this needs the permission {permission}")


# Who calls what needs no key.
NOBODY = Caller("", "", "", frozenset())


@dataclass(slots=True)
class _Check:
    """The cached result of checking a token."""

    caller: Caller | None
    until: float


@dataclass(slots=True)
class Authenticator:
    """Turns the headers that name a key into a caller, asking the database once in `cache_seconds` per key."""

    pool: Pool
    cache_seconds: float = CACHE_SECONDS
    _checks: dict[bytes, _Check] = field(default_factory=dict)
    _asking: dict[bytes, asyncio.Task[_Check]] = field(default_factory=dict)

    async def caller(self, authorization: bytes | None, api_key: bytes | None = None) -> Caller:
        """Return the caller of the key in `Authorization` or `X-API-Key`, or refuse with 401."""
        if authorization is None and api_key is None:
            detail = "send an API key as Authorization: Bearer … or as X-API-Key"
            raise ApiError("unauthorized", detail, headers=_CHALLENGE)
        scheme, _, token = (authorization or b"Bearer " + (api_key or b"")).decode("latin-1").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > _MAX_TOKEN:
            raise _wrong_token()
        if api_key is not None and api_key.decode("latin-1").strip() != token:
            raise ApiError("bad-header", "X-API-Key is another key than Authorization", parameter="X-API-Key")
        # By digest, so that no token stays in memory.
        digest = keys.digest(token)
        check = self._checks.get(digest)
        if check is None or check.until <= time.monotonic():
            check = await self._ask_once(keys.id_of(token), digest)
        if check.caller is None:
            raise _wrong_token()
        return check.caller

    async def _ask_once(self, key_id: str, digest: bytes) -> _Check:
        asking = self._asking.get(digest)
        if asking is None:
            # Whoever tries tokens must not fill the memory, nor keep the others waiting for longer than this.
            if len(self._asking) >= MAX_ASKING:
                raise unavailable("too many API keys are being checked", "overloaded")
            asking = asyncio.create_task(self._ask(key_id, digest))
            self._asking[digest] = asking
            asking.add_done_callback(lambda _: self._asking.pop(digest, None))
        # A request that ends early must not take the answer from the others that wait for it.
        return await asyncio.shield(asking)

    async def _ask(self, key_id: str, digest: bytes) -> _Check:
        rows = await self.pool.fetch(*keys.by_id(key_id))
        now, until = datetime.now(UTC), time.monotonic() + self.cache_seconds
        # One comparison for known and unknown ids alike.
        stored, *columns = rows[0] if rows else (bytes(32),)
        if not keys.matches(bytes(stored), digest) or not columns:
            # Not kept: whoever tries tokens must not fill the memory.
            return _Check(None, 0.0)
        key = keys.key_info(columns)
        if not key.usable(now) or await self._is_retired(key):
            return _Check(None, 0.0)
        if key.expires_at is not None:
            until = min(until, time.monotonic() + (key.expires_at - now).total_seconds())
        check = _Check(Caller(key.id, key.tenant, key.actor, keys.granted_by(key.permissions)), until)
        if len(self._checks) >= _MAX_CACHED_KEYS:
            self._checks.clear()
        self._checks[digest] = check
        return check

    async def _is_retired(self, key: keys.KeyInfo) -> bool:
        """Tell whether the key's member is retired, or was once since the key was made: a return revives no key."""
        for stream in actor_stream(key.actor):
            # From the log, so that neither a late read model nor one that is being built lets anybody in.
            rows = await self.pool.fetch(*log.last_event_named(stream_of(key.tenant, *stream), _RETIRED))
            return any(last or key.created_at <= recorded_at for recorded_at, last in rows)
        return False

    def forget(self, tenant: str, actor: str) -> None:
        """Ask anew for every token that speaks for this actor."""
        mine = [
            digest
            for digest, check in self._checks.items()
            if check.caller is not None and (check.caller.tenant, check.caller.actor) == (tenant, actor)
        ]
        for digest in mine:
            del self._checks[digest]


def _wrong_token() -> ApiError:
    detail = "this API key is unknown, expired or revoked, or its member was retired"
    return ApiError("unauthorized", detail, headers=_WRONG_TOKEN)
