"""What a form sends: the body of a request, as fields of text."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request

_TYPE = "application/x-www-form-urlencoded"
_BYTES, _FIELDS, _SECONDS = 1 << 20, 2000, 10.0
# Without a session a form only logs in.
ANONYMOUS_BYTES = 4096


class BadForm(Exception):
    """The body is no form, too large, or does not arrive."""


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form, each with all its values, in their order."""

    fields: dict[str, list[str]]

    def one(self, name: str, default: str = "") -> str:
        """Return the first value of a field, without white space around it."""
        values = self.fields.get(name)
        return values[0].strip() if values else default

    def all(self, name: str) -> list[str]:
        """Return the values of a field."""
        return self.fields.get(name, [])


async def read(request: Request, limit: int = _BYTES) -> Form:
    """Return the form in the body of a request; raises `BadForm`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = bytearray()
    try:
        async with asyncio.timeout(_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise BadForm(f"a form has at most {limit} bytes")
    except TimeoutError:
        raise BadForm(f"a form arrives within {_SECONDS:g} seconds") from None
    except ClientDisconnect:
        raise BadForm("the request ended before its form") from None
    if body and kind != _TYPE:
        raise BadForm(f"a form is sent as {_TYPE}")
    return parsed(bytes(body))


def parsed(text: bytes) -> Form:
    """Return the fields of an encoded form, or of a query; raises `BadForm`."""
    fields: dict[str, list[str]] = {}
    try:
        for name, value in parse_qsl(text.decode("ascii"), True, max_num_fields=_FIELDS, errors="strict"):
            fields.setdefault(name, []).append(value.replace("\r\n", "\n"))
    except ValueError:
        raise BadForm(f"a form has at most {_FIELDS} fields of UTF-8") from None
    return Form(fields)
