"""Values against the limits of their types; what grows by merging is measured as JSON when it is decided.

Each type's check is made once, when the first value of it comes.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from operator import attrgetter
from typing import Any, Literal, Union, get_args, get_origin, is_typeddict

from domain.errors import Refusal, Rejected
from domain.left_out import LEFT_OUT
from domain.limits import MAX_KEY, Items, Json, Limit, Number, Text, hints_of, limits_of

# What a type must have to be part of a command at all.
# What an entity's map may become by merging.
_MERGED = Json()
_NEEDED: Mapping[Any, Any] = {str: Text, int: Number, Any: Json, tuple: Items, list: Items, dict: Items | Json}


class _Exceeded(Exception):
    """What exceeds its limit; `path` is where, innermost first."""

    def __init__(self, detail: str, code: str = "invalid") -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.path: list[str | int] = []


Check = Callable[[Any], None]


def refusal(command: Any) -> Refusal | None:
    """Return why a command is refused whatever its state, with the place of the first value beyond its limit."""
    try:
        demand(type(command), command, "")
    except Rejected as refused:
        return refused.refusal
    return None


def demand(hint: Any, value: Any, pointer: str) -> None:
    """Refuse a value, whose type is right already, when it exceeds the limits of its type."""
    check = check_of(hint)
    try:
        check(value)
    except _Exceeded as found:
        place = "".join(f"/{_escaped(part)}" for part in reversed(found.path))
        raise Rejected(found.code, found.detail, f"{pointer}{place}") from None


def demand_fits(fields: Mapping[str, Any], what: str, pointer: str) -> None:
    """Refuse `too-large` when what an entity would hold exceeds a map's limits: its bytes as JSON, keys or values."""
    limit = _MERGED
    try:
        exceeds = len(fields) > limit.fields or _exceeded(fields, limit) is not None
    except _Exceeded:
        # A key that was recorded before keys had a limit.
        exceeds = json_size(fields) > limit.most or _values(fields) > limit.values
    if exceeds:
        detail = f"more than {limit.most} bytes as JSON, {limit.fields} keys or {limit.values} values"
        raise Rejected("too-large", f"{what} would have {detail}", pointer)


def _escaped(part: str | int) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def _nothing(_: Any) -> None:
    """Check nothing."""


@cache
def check_of(hint: Any) -> Check:
    """Return the function that checks a value of a type, made once for each type."""
    bare, limits = limits_of(hint)
    needed = _NEEDED.get(get_origin(bare) or bare)
    if needed is not None and not any(isinstance(limit, needed) for limit in limits):
        raise TypeError(f"{hint} has no limit")
    checks = [_own_check(limit) for limit in limits]
    whole = bare == int | float or any(isinstance(limit, Json) for limit in limits)
    inner = _nothing if whole else _inner_check(bare)
    if inner is not _nothing:
        checks.append(inner)
    if len(checks) > 1:
        first, second = checks

        def both(value: Any) -> None:
            first(value)
            second(value)

        return both
    return checks[0] if checks else _nothing


def _own_check(limit: Limit) -> Check:
    match limit:
        case Text():
            return _text_check(limit)
        case Number(least, most):

            def number(value: float) -> None:
                if not least <= value <= most:
                    raise _Exceeded(limit.said)

            return number
        case Items(most, least, code):

            def items(value: Any) -> None:
                if not least <= len(value) <= most:
                    raise _Exceeded(f"there are {f'{least} to' if least else 'at most'} {most} of these", code)

            return items
        case Json():

            def free(value: Any) -> None:
                if type(value) is dict and len(value) > limit.fields:
                    raise _Exceeded(f"there are at most {limit.fields} keys")
                detail = _exceeded(value, limit)
                if detail is not None:
                    raise _Exceeded(detail, "too-large")

            return free


def _text_check(limit: Text) -> Check:
    least, most, said = limit.least, limit.most, limit.said
    if limit.pattern is None:

        def text(value: str) -> None:
            if not least <= len(value) <= most:
                raise _Exceeded(said)

        return text
    fits = re.compile(rf"(?:{limit.pattern})\Z").match

    def patterned(value: str) -> None:
        if fits(value) is None:
            raise _Exceeded(said)

    return patterned


def _inner_check(hint: Any) -> Check:
    if isinstance(hint, type) and is_dataclass(hint):
        return _fields_check(hint)
    if is_typeddict(hint):
        return _keys_check({name: check_of(part) for name, part in hints_of(hint).items()})
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _optional_check([check_of(part) for part in inner if part is not type(None)])
    if origin in (tuple, list):
        return _items_check(check_of(inner[0]))
    if origin is dict:
        return _map_check(check_of(inner[0]), check_of(inner[1]))
    if origin is Literal or hint in (bool, str, int):
        return _nothing
    raise TypeError(f"{hint} cannot be checked")


def _fields_check(kind: type) -> Check:
    hints = hints_of(kind)
    found = {each.name: check_of(_present(hints[each.name])) for each in fields(kind)}
    names = tuple(name for name, check in found.items() if check is not _nothing)
    if not names:
        return _nothing
    checks = tuple(found[name] for name in names)
    # One call for all fields; given one name alone, it returns no tuple.
    values_of: Callable[[Any], Any] = attrgetter(*names)
    single = len(names) == 1

    def check_all(value: Any) -> None:
        values = (values_of(value),) if single else values_of(value)
        index = 0
        try:
            for index, held in enumerate(values):
                if held is not None and held is not LEFT_OUT:
                    checks[index](held)
        except _Exceeded as error:
            error.path.append(names[index])
            raise

    return check_all


def _keys_check(checks: Mapping[str, Check]) -> Check:
    def check_all(value: Any) -> None:
        for name, check in checks.items():
            if value.get(name) is not None:
                try:
                    check(value[name])
                except _Exceeded as error:
                    error.path.append(name)
                    raise

    return check_all


def _present(hint: Any) -> Any:
    """Return the type of a value that is there, of one that may be None."""
    parts = [part for part in get_args(hint) if part is not type(None)]
    return parts[0] if get_origin(hint) in (Union, types.UnionType) and len(parts) == 1 else hint


def _optional_check(checks: list[Check]) -> Check:
    (check,) = checks
    if check is _nothing:
        return _nothing

    def optional(value: Any) -> None:
        if value is not None:
            check(value)

    return optional


def _items_check(check: Check) -> Check:
    if check is _nothing:
        return _nothing

    def each(value: Any) -> None:
        index = 0
        try:
            for index, item in enumerate(value):  # noqa: B007 - read when an item exceeds its limit
                check(item)
        except _Exceeded as error:
            error.path.append(index)
            raise

    return each


def _map_check(key_check: Check, check: Check) -> Check:
    def each(value: Any) -> None:
        for key, item in value.items():
            # A key that is too long would make a pointer that is.
            key_check(key)
            try:
                check(item)
            except _Exceeded as error:
                error.path.append(key)
                raise

    return each


def _exceeded(value: Any, limit: Json) -> str | None:
    """Return the limit that JSON exceeds by its bytes or values; keys are checked on the way.

    Only what may have more bytes is encoded, and only what may have more values is counted: each weighs 2 or more.
    """
    weight = _weight(value)
    if weight > limit.most and json_size(value) > limit.most:
        return f"at most {limit.most} bytes as JSON"
    if weight > 2 * limit.values and _values(value) > limit.values:
        return f"at most {limit.values} values, those further inside included"
    return None


def _values(value: Any) -> int:
    """Return the number of values inside a value, of all levels."""
    if type(value) is dict:
        return len(value) + sum(map(_values, value.values()))
    return len(value) + sum(map(_values, value)) if type(value) is list else 0


def json_size(value: Any) -> int:
    """Return the bytes of a value as JSON without spaces."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def _weight(value: Any) -> int:
    """Return a number that is not below the bytes of the value as JSON."""
    kind = type(value)
    if kind is str:
        # An escaped control character is six bytes, any other at most four.
        return 6 * len(value) + 3
    if kind is dict:
        weight = 2
        for key, item in value.items():
            if len(key) > MAX_KEY:
                raise _Exceeded(f"a key has at most {MAX_KEY} characters, and one has {len(key)}")
            weight += 6 * len(key) + 4 + _weight(item)
        return weight
    if kind is list:
        return 2 + sum(map(_weight, value))
    return 26
