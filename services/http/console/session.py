"""Sessions of the console: an API key, encrypted in a cookie that only this service can read.

The service keeps nothing of a session. Whether its key is still valid is asked with every request, as of any caller.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import msgspec
from pydantic import SecretStr

from services.encryption import Keyring, NoKey, NotGenuine, Place

# Seconds without a request after which a session ends, and after which it ends in any case.
IDLE_SECONDS, LIFE_SECONDS = 1800, 12 * 3600
# Seconds for which a ticket opens a session.
TICKET_SECONDS = 900
# A session that is used gets a new cookie this often, in seconds.
_RENEWED = 60
_SESSION, _TICKET = (Place("", "console", "", use, "log-in") for use in ("session", "ticket"))
_Kept = TypeVar("_Kept")


@dataclass(frozen=True, slots=True)
class Session:
    """The token of the API key, what its forms prove themselves with, and its times in seconds since 1970."""

    token: str
    csrf: str
    began: float
    seen: float


@dataclass(frozen=True, slots=True)
class _Ticket:
    token: str
    until: float
    id: str


@dataclass(slots=True)
class Sessions:
    """Makes and reads the cookies. Without keys of the service, sessions end with the process."""

    keyring: Keyring
    clock: Callable[[], float] = time.time
    # Tickets that were redeemed, until they expire.
    _redeemed: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, keys: Sequence[SecretStr], clock: Callable[[], float] = time.time) -> Sessions:
        """Return sessions by the keys of the service, or by a random one."""
        own = keys or (SecretStr(base64.b64encode(secrets.token_bytes(32)).decode()),)
        return cls(Keyring(own), clock)

    def begin(self, token: str) -> Session:
        """Return a new session of a key."""
        now = self.clock()
        return Session(token, secrets.token_urlsafe(24), now, now)

    def seal(self, session: Session) -> str:
        """Return a session as the value of a cookie."""
        return self.keyring.encrypt(_SESSION, msgspec.json.encode(session).decode())

    def open(self, cookie: str) -> Session | None:
        """Return the session of a cookie; None if it is not genuine, or over."""
        session, now = self._read(_SESSION, cookie, Session), self.clock()
        if session is None or now - session.seen > IDLE_SECONDS or now - session.began > LIFE_SECONDS:
            return None
        return session

    def renewed(self, session: Session) -> Session | None:
        """Return the session as used now, None if its cookie need not be replaced yet."""
        now = self.clock()
        return replace(session, seen=now) if now - session.seen > _RENEWED else None

    def ticket(self, token: str) -> str:
        """Return what opens a session of a key once, within `TICKET_SECONDS`."""
        ticket = _Ticket(token, self.clock() + TICKET_SECONDS, secrets.token_hex(8))
        return self.keyring.encrypt(_TICKET, msgspec.json.encode(ticket).decode())

    def redeem(self, ticket: str) -> str | None:
        """Return the token of a ticket; None if it is not genuine, too old, or was redeemed in this process."""
        found, now = self._read(_TICKET, ticket, _Ticket), self.clock()
        for used in [used for used, until in self._redeemed.items() if until < now]:
            del self._redeemed[used]
        if found is None or found.until < now or found.id in self._redeemed:
            return None
        self._redeemed[found.id] = found.until
        return found.token

    def _read(self, place: Place, text: str, kind: type[_Kept]) -> _Kept | None:
        try:
            return msgspec.json.decode(self.keyring.decrypt(place, text), type=kind)
        except (NoKey, NotGenuine, msgspec.MsgspecError, UnicodeError):
            return None
