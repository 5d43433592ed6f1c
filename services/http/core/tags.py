"""Entity tags of single resources, and requests that depend on them (RFC 9110).

A tag is made of the version of the resource's stream, the log position that the resource is folded up to, and a
checksum of what is shown beside it: its people, or the commands that the caller may send. The periods that grow while
nobody writes are no part of it. What is written is compared by the version alone, by the worker that decides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from zlib import crc32

import msgspec
from starlette.responses import Response

from services.http.core.call import Call
from services.http.core.errors import ApiError
from services.http.core.middleware import header

IF_MATCH, IF_NONE_MATCH = "If-Match", "If-None-Match"
# It may be kept by whoever asked, who asks again whether it is still so.
_CACHE_CONTROL = "private, no-cache"
_RAW_CACHE_CONTROL = (b"cache-control", _CACHE_CONTROL.encode())
_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_LIST = re.compile(rf"[ \t]*{_TAG}[ \t]*(?:,[ \t]*(?:{_TAG}[ \t]*)?)*\Z")
_EACH = re.compile(_TAG)
_OWN = re.compile(r'"([1-9][0-9]{0,18})\.[0-9]{1,19}\.[0-9a-f]{8}"\Z', re.ASCII)
_ANY = "*"
_encode = msgspec.json.Encoder(order="deterministic", enc_hook=repr).encode


def tag_of(resource: Mapping[str, Any], beside: Any) -> str:
    """Return the tag of a resource in the native shape; `beside` is what it is shown with."""
    return tag(f"{resource['version']}.{resource['position']}", _encode(beside) if beside else b"")


def tag(state: str, beside: bytes) -> str:
    """Return the tag of a resource's state, which is its version and its position."""
    return f'"{state}.{crc32(beside):08x}"'


def headers(tag: str) -> dict[str, str]:
    """Return the headers of a resource that was asked for."""
    return {"ETag": tag, "Cache-Control": _CACHE_CONTROL}


def raw_headers(tag: str) -> list[tuple[bytes, bytes]]:
    """Return `headers` as they are sent."""
    return [(b"etag", tag.encode()), _RAW_CACHE_CONTROL]


def unchanged(tag: str) -> Response | None:
    """Return the answer to a query for a resource that the caller has already, or None; refuse one that must match."""
    wanted, had = header(b"if-match"), header(b"if-none-match")
    if wanted is not None and wanted != _ANY and tag not in _listed(wanted, IF_MATCH):
        raise _failed("the resource has changed")
    if had is not None and (had == _ANY or tag in {each.removeprefix("W/") for each in _listed(had, IF_NONE_MATCH)}):
        return Response(status_code=304, headers=headers(tag))
    return None


def expected_version(version: int | None = None) -> int | None:
    """Return the version that a write demands by `If-Match`, or None; `version` is what it demands otherwise."""
    wanted = header(b"if-match")
    if wanted is None or wanted == _ANY:
        return None
    versions = {int(own[1]) for each in _listed(wanted, IF_MATCH) if (own := _OWN.match(each)) is not None}
    if not versions:
        # A weak tag, and one that was never given out, is nobody's.
        raise _failed("no resource has this tag")
    if len(versions) > 1:
        raise ApiError("bad-header", "a write demands one version of its resource", parameter=IF_MATCH)
    found = versions.pop()
    if version not in (None, found):
        raise _failed("the resource has changed, since the document is of another version than the tag")
    return found


def rephrased(refused: ApiError) -> ApiError:
    """Return the refusal of a command whose expected version came as a tag."""
    return _failed(refused.detail) if refused.code == "version-conflict" else refused


def demand_none(call: Call, conditional: bool) -> None:
    """Refuse a write that depends on what is not compared, since its condition would be ignored."""
    sent = [IF_NONE_MATCH] if conditional else [IF_NONE_MATCH, IF_MATCH]
    for name in sent:
        if header(name.lower().encode()) is not None:
            detail = f"{call.scope['method']} does not take {name} here"
            raise ApiError("bad-header", detail, parameter=name)


def _listed(text: str, name: str) -> list[str]:
    if not _LIST.match(text):
        raise ApiError("bad-header", "a tag stands in quotes, as ETag has it", parameter=name)
    return _EACH.findall(text)


def _failed(detail: str) -> ApiError:
    return ApiError("precondition-failed", detail, parameter=IF_MATCH)
