"""Strict parsing of JSON from outside: only values that every reader interprets alike, and PostgreSQL can store."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from domain.errors import RefusalError

MAX_DEPTH = 32
# Values of a body, of which lists and objects count as two. Parsing takes about 1 us for each.
MAX_VALUES = 200_000


class InvalidMessage(RefusalError):
    """A message that is not a valid command: it is dead-lettered with this code, and nothing is recorded."""

    def __init__(self, code: str, detail: str, pointer: str = "") -> None:
        # They quote keys of the sender, and a lone surrogate cannot be encoded in a header or an answer.
        super().__init__(code, _writable(detail), _writable(pointer))


def _writable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def load_json(body: bytes) -> Any:
    """Parse JSON; raises `InvalidMessage` for what PostgreSQL cannot store or readers interpret differently."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _other_encoding(body) or InvalidMessage("not-utf-8", f"byte {error.start} is no UTF-8") from None
    demand_shallow(body, text)
    _demand_few(body, text)
    try:
        try:
            value = _strict_json(text)
        except _OutOfRange:
            # Parse again with a mark at each such number, to find its position.
            raise _out_of_range(_marking_json(text)) from None
    except (ValueError, RecursionError) as error:
        if (refused := _other_encoding(body)) is not None:
            raise refused from None
        raise InvalidMessage("not-json", f"the body is no JSON: {str(error)[:200]}") from None
    if "\\u" in text or "\\U" in text or "\0" in text:
        _demand_text(value, "")
    return value


def _other_encoding(body: bytes) -> InvalidMessage | None:
    """Return the refusal of JSON in another encoding, or with a byte order mark."""
    found = json.detect_encoding(body)
    if found == "utf-8-sig":
        return InvalidMessage("not-json", "the body begins with a byte order mark, which JSON does not have")
    if found.startswith(("utf-16", "utf-32")):
        return InvalidMessage("not-utf-8", f"the body is in {found[:6].upper()}; JSON is sent in UTF-8")
    return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise InvalidMessage(
                    "duplicate-key", f"the key {key[:100]!r} stands twice in one object", f"/{_escape(key)}"
                )
            seen.add(key)
    return fields


def _no_constant(name: str) -> Any:
    raise InvalidMessage("not-json", f"{name} is no JSON number")


def _demand_few(body: bytes, text: str) -> None:
    """Refuse JSON of too many values before it is parsed."""
    if body.count(b",") + body.count(b"[") + body.count(b"{") < MAX_VALUES:
        return
    # Each value but the first one follows a comma or a bracket; what stands in strings does not count.
    marks = re.finditer(r'"(?:[^"\\]++|\\.)*+"?|[\[{,]', text, re.DOTALL)
    if next(islice((mark for mark in marks if mark[0] in "[{,"), MAX_VALUES, None), None) is not None:
        raise _too_many()


def _too_many() -> InvalidMessage:
    return InvalidMessage("too-large", f"a body has at most {MAX_VALUES} values; lists and objects count as two")


def demand_shallow(body: bytes, text: str | None = None) -> None:
    """Refuse JSON that nests too deep, or has too many lists and objects.

    `text` is the body decoded, where that was done already.
    """
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    text = body.decode("utf-8") if text is None else text
    depth = opened = 0
    # Possessive quantifiers, so that a long string needs no memory for backtracking.
    for mark in re.finditer(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', text, re.DOTALL):
        if mark[0] in "[{":
            depth += 1
            opened += 1
            if opened > MAX_VALUES:
                raise _too_many()
            if depth > MAX_DEPTH:
                raise InvalidMessage("too-deep", f"a body nests at most {MAX_DEPTH} levels")
        elif mark[0] in "]}":
            depth -= 1


def _demand_text(value: Any, pointer: str) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise InvalidMessage("nul", "a text cannot hold NUL", pointer)
        if not value.isascii() and any("\ud800" <= mark <= "\udfff" for mark in value):
            raise InvalidMessage("lone-surrogate", "a text holds half of a surrogate pair", pointer)
    elif isinstance(value, dict):
        for key, item in value.items():
            _demand_text(key, pointer)
            _demand_text(item, f"{pointer}/{_escape(key)}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _demand_text(item, f"{pointer}/{index}")


class _OutOfRange(Exception):
    """A number that cannot be stored; its position is determined afterwards."""


class _Mark:
    """Takes the place of a number that cannot be stored."""

    def __init__(self, detail: str) -> None:
        self.detail = detail


_NO_WHOLE, _NO_REAL = _Mark("a whole number fits into 64 bits"), _Mark("a number fits into a double")
# A longer number does not fit into 64 bits, and Python refuses to parse one with thousands of digits.
_MAX_WHOLE = len(str(-(2**63)))


def _marked_whole(text: str) -> int | _Mark:
    if len(text) > _MAX_WHOLE or not -(2**63) <= (value := int(text)) < 2**63:
        return _NO_WHOLE
    return value


def _marked_real(text: str) -> float | _Mark:
    value = float(text)
    return _NO_REAL if value in (float("inf"), float("-inf")) else value


def _whole(text: str) -> int:
    value = int(text) if len(text) <= 18 else _marked_whole(text)
    if isinstance(value, _Mark):
        raise _OutOfRange
    return value


def _real(text: str) -> float:
    value = _marked_real(text)
    if isinstance(value, _Mark):
        raise _OutOfRange
    return value


def _decoder(whole: Callable[[str], Any], real: Callable[[str], Any]) -> Callable[[str], Any]:
    return json.JSONDecoder(
        object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=whole, parse_float=real
    ).decode


_strict_json, _marking_json = _decoder(_whole, _real), _decoder(_marked_whole, _marked_real)


def _out_of_range(value: Any) -> InvalidMessage:
    pointer, mark = next(_marks(value, ""))
    return InvalidMessage("number-out-of-range", mark.detail, pointer)


def _marks(value: Any, pointer: str) -> Iterator[tuple[str, _Mark]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _marks(item, f"{pointer}/{_escape(key)}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _marks(item, f"{pointer}/{index}")
    elif isinstance(value, _Mark):
        yield pointer, value


def _escape(part: Any) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def pointer_of(location: Iterable[Any]) -> str:
    """Return the JSON pointer (RFC 6901) of the location of a validation error."""
    return "".join(f"/{_escape(part)}" for part in location)
