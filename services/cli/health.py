"""`foldwork health`, with the standard library only: health checks run it every few seconds."""

from __future__ import annotations

import os
import sys
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from services.cli.lines import safe
from services.cli.where import BROKER, DATABASE, configured, development
from services.errors import OperatorError
from services.urls import HTTP_PORT, MAX_PORT

_TIMEOUT = 4.0
_ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def health() -> int:
    """Print the answer of /readyz, and return the exit status: 0 when everything is ready."""
    host, port = _address()
    connection = HTTPConnection(host, port, timeout=_TIMEOUT)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = answer.read().decode("utf-8", "replace")
    except (OSError, HTTPException) as error:
        raise OperatorError(f"{host}:{port} cannot be reached: {str(error) or type(error).__name__}") from None
    finally:
        connection.close()
    print(safe(body), flush=True)
    if answer.status != 200:
        print(f"not ready: {host}:{port} answered {answer.status}", file=sys.stderr)
    return 0 if answer.status == 200 else 1


def _address() -> tuple[str, int]:
    """Return the address of the probes: the probe port if there is one, otherwise that of the HTTP API."""
    for kind in ("PROBE", "HTTP"):
        text = os.environ.get(f"FOLDWORK_{kind}_PORT")
        if text or (kind == "HTTP" and configured()):
            host = os.environ.get(f"FOLDWORK_{kind}_HOST", "")
            return _ANYWHERE.get(host, host), _port(f"FOLDWORK_{kind}_PORT", text or str(HTTP_PORT))
    here = urlsplit(str(development().get("http_url", "")))
    if here.hostname is None or here.port is None:
        raise OperatorError(
            f"Set FOLDWORK_PROBE_PORT, FOLDWORK_HTTP_PORT, or {DATABASE} and {BROKER},"
            " or start `foldwork dev` in this folder."
        )
    return here.hostname, here.port


def _port(variable: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= MAX_PORT):
        raise OperatorError(f"{variable}: must be a number from 1 to {MAX_PORT}")
    return int(text)
