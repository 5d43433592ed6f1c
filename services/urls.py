"""Validation of the URLs of database and broker; errors do not quote a URL, which may contain a password."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import parse_qs, urlsplit

_ENCODE = "characters such as @ / # ? % in a user or a password are percent-encoded (@ is %40)"
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
MAX_PORT = 65535
LOOPBACK = ("127.0.0.1", "localhost", "::1", "")
# What may be unencrypted off loopback if it is allowed by name.
PLAINTEXT = ("broker", "database", "providers")
_ENCRYPTED_MODES = ("require", "verify-ca", "verify-full")
# The default port of the HTTP API.
HTTP_PORT = 8000


def database_url(text: str) -> str:
    """Return a valid libpq URL without surrounding white space; raises `ValueError`."""
    url = _plain(text)
    scheme, found, rest = url.partition("://")
    if not found or scheme not in ("postgresql", "postgres"):
        raise ValueError("must be a postgresql:// URL")
    # As libpq parses it: the user part ends at the first @ or /, so the rest of a password would become the host name.
    until_at, at, behind = rest.partition("@")
    authority, _, path = (behind if at and "/" not in until_at else rest).partition("/")
    if "@" in authority.partition("?")[0] or "@" in path.partition("?")[0]:
        raise ValueError(f"cannot be read: {_ENCODE}")
    # Imported here, because some commands do not need psycopg.
    from psycopg import Error
    from psycopg.conninfo import conninfo_to_dict

    try:
        given = conninfo_to_dict(url)
    except Error:
        raise ValueError(f"cannot be read as a libpq URL: {_ENCODE}") from None
    for port in str(given.get("port") or "").split(","):
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) <= MAX_PORT):
            raise ValueError(f"has a port that is no number from 1 to {MAX_PORT}: {_ENCODE}")
    return url


def amqp_url(text: str) -> str:
    """Return a valid AMQP URL without surrounding white space; raises `ValueError`."""
    url = _plain(text)
    if url.partition("://")[0] not in ("amqp", "amqps"):
        raise ValueError("must be an amqp:// or amqps:// URL")
    try:
        parts = urlsplit(url)
        port = parts.port
        readable = port != 0 and parts.netloc.count("@") <= 1 and "@" not in parts.path + parts.query + parts.fragment
    except ValueError:
        readable = False
    if not readable:
        raise ValueError(f"cannot be read: its port is no number from 1 to {MAX_PORT}, or {_ENCODE}")
    return url


def _plain(text: str) -> str:
    url = text.strip()
    if _PERCENT.search(url):
        raise ValueError(f"cannot be read: {_ENCODE}")
    if any(mark.isspace() or not mark.isprintable() for mark in url):
        raise ValueError(f"cannot be read: it holds white space or control characters; {_ENCODE}")
    return url


def allowed_plaintext(text: str) -> frozenset[str]:
    """Return the names of `FOLDWORK_ALLOW_PLAINTEXT`, separated by commas; raises `ValueError`."""
    names = frozenset(name for part in text.split(",") if (name := part.strip()))
    if not names <= {*PLAINTEXT}:
        raise ValueError(f"must be names separated by commas, of {', '.join(PLAINTEXT)}")
    return names


def is_local(url: str) -> bool:
    """Tell whether a broker is on loopback."""
    return (urlsplit(url).hostname or "") in LOOPBACK


def host_name(text: str) -> str:
    """Return the name or address in a Host header, in lower case and without the port."""
    name, bracket, _ = text.removeprefix("[").partition("]")
    return (name if bracket else text.partition(":")[0]).lower().removesuffix(".")


def demand_encryption(database: str | None, broker: str | None, allowed: Collection[str]) -> None:
    """Refuse URLs of servers off loopback to which connections may be unencrypted; raises `ValueError`."""
    if broker is not None and "broker" not in allowed and not is_local(broker):
        if urlsplit(broker).scheme == "amqp":
            raise ValueError("amqp_url: off loopback use amqps://, or name `broker` in FOLDWORK_ALLOW_PLAINTEXT")
        if any(value != "0" for value in parse_qs(urlsplit(broker).query, True).get("no_verify_ssl", ())):
            # Whoever is on the way could answer with a certificate of its own, and read all.
            detail = "name the authority by `cafile` instead, or `broker` in FOLDWORK_ALLOW_PLAINTEXT"
            raise ValueError(f"amqp_url: off loopback no_verify_ssl is refused: {detail}")
    if database is not None and "database" not in allowed and not _is_safe(database):
        modes = ", ".join(_ENCRYPTED_MODES)
        raise ValueError(
            f"database_url: off loopback set sslmode ({modes}), or name `database` in FOLDWORK_ALLOW_PLAINTEXT"
        )


def _is_safe(database: str) -> bool:
    """Tell whether all hosts of a libpq URL are local, or connections to them are encrypted."""
    from psycopg.conninfo import conninfo_to_dict
    from psycopg.pq import Conninfo

    # What the URL leaves out libpq takes from variables such as PGHOST.
    given = {each.keyword.decode(): each.val.decode() for each in Conninfo.get_defaults() if each.val is not None}
    given |= {name: str(value) for name, value in conninfo_to_dict(database).items() if value is not None}
    hosts = f"{given.get('host', '')},{given.get('hostaddr', '')}".split(",")
    # A service is an entry of a file, with hosts of its own.
    local = "service" not in given and all(host.startswith(("/", "@")) or host in LOOPBACK for host in hosts)
    return local or given.get("sslmode") in _ENCRYPTED_MODES
