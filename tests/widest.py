"""Values at the limits of their types, and beyond them, made from the types themselves, for all fields of commands."""

from __future__ import annotations

import json
import random
import types
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, is_typeddict

from domain import limits
from domain.checks import json_size
from domain.limits import INSTANT, Items, Json, Limit, Number, Text

LEAST_INSTANT, WIDEST_INSTANT = "2025-10-31T08:55:00Z", "2025-10-31T08:55:00.123456789+07:00"
# Letters of four bytes that no compression makes shorter in bulk, and that no case folding changes.
_WIDE = range(0x20000, 0x2A6DF)


class Place(NamedTuple):
    """Where a limited value stands in a command's data."""

    path: tuple[str | int, ...]
    hint: Any
    limit: Limit

    @property
    def pointer(self) -> str:
        return "".join(f"/{part}" for part in self.path)


def places(kind: Any, path: tuple[str | int, ...] = ()) -> Iterator[Place]:
    """Yield every limited value of a type, however deep it stands."""
    bare, marks = limits.limits_of(present(kind))
    for mark in marks:
        yield Place(path, kind, mark)
    if any(isinstance(mark, Json) for mark in marks):
        return
    if is_dataclass(bare) or is_typeddict(bare):
        for name, hint in limits.hints_of(bare).items():
            yield from places(hint, (*path, name))
    elif get_origin(bare) in (tuple, list):
        yield from places(get_args(bare)[0], (*path, 0))
    elif get_origin(bare) is dict:
        yield from places(get_args(bare)[1], (*path, "DONE"))


def present(hint: Any) -> Any:
    """Return the type of a value that is there."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint
    (found,) = (part for part in get_args(hint) if part is not type(None))
    return found


def least(hint: Any) -> Any:
    """Return the smallest value of a type."""
    bare, marks = limits.limits_of(present(hint))
    for mark in marks:
        if isinstance(mark, Text):
            if mark.pattern is None:
                return "x" * mark.least
            return LEAST_INSTANT if mark.pattern == INSTANT else "x"
        if isinstance(mark, Number):
            return max(mark.least, 0)
        if isinstance(mark, Json):
            return {} if bare is not Any else None
        if get_origin(bare) is dict:
            return {}
        return [least(get_args(bare)[0]) for _ in range(mark.least)]
    if get_origin(bare) is Literal:
        return get_args(bare)[0]
    if bare is bool:
        return False
    hints = limits.hints_of(bare)
    if is_typeddict(bare):
        return {}
    needed = (each for each in fields(bare) if each.default is MISSING and each.default_factory is MISSING)
    return {each.name: least(hints[each.name]) for each in needed}


def built(hint: Any, path: tuple[str | int, ...], value: Any, base: Any = None) -> Any:
    """Return a small value of a type, or `base`, in which this value stands at this place."""
    if not path:
        return value
    bare, _ = limits.limits_of(present(hint))
    made = least(hint) if base is None else base
    name, *rest = path
    if isinstance(name, int):
        inner = get_args(bare)[0]
        return [built(inner, tuple(rest), value, made[0] if made else None), *made[1:]]
    inner = get_args(bare)[1] if get_origin(bare) is dict else limits.hints_of(bare)[name]
    return {**made, name: built(inner, tuple(rest), value, made.get(name))}


def wide(length: int, seed: object = 0) -> str:
    """Return a text of so many characters of four bytes each."""
    return "".join(map(chr, random.Random(str(seed)).choices(_WIDE, k=length)))


def widest(place: Place, seed: object = 0) -> Any:
    """Return a value at its limit."""
    limit = place.limit
    match limit:
        case Text(pattern=None):
            return wide(limit.most, seed)
        case Text():
            return WIDEST_INSTANT if limit.pattern == INSTANT else identifier(seed)
        case Number():
            return limit.most
        case Json():
            return widest_json(limit, seed)
        case Items():
            inner = get_args(limits.limits_of(present(place.hint))[0])
            if len(inner) > 1 and inner[1] is not Ellipsis:
                return {_key(inner[0], number): least(inner[1]) for number in range(limit.most)}
            return [least(inner[0]) for _ in range(limit.most)]


def _key(hint: Any, number: int) -> str:
    (limit,) = limits.limits_of(hint)[1]
    assert isinstance(limit, Text)
    return identifier(f"k{number}") if limit.pattern is not None else f"{number:03}{wide(limit.most - 3, number)}"


def identifier(seed: object = 0) -> str:
    """Return an id of the greatest length."""
    return f"{seed}".replace(" ", "")[:32].ljust(64, "Z")


def widest_json(limit: Json, seed: object = 0) -> dict[str, Any]:
    """Return a map of exactly the most bytes and values: wide keys, escapes, numbers at their ends, deep values."""
    deep: Any = "end"
    for _ in range(12):
        deep = {"in": [deep]}
    value: dict[str, Any] = {
        "": None,
        "escapes": '\x01\x1e\x1f"\\/\b\f\n\r\t\x7f' * 50,
        "numbers": [2**63 - 1, -(2**63), 2**53 + 1, 1e308, -1e308, 5e-324, -0.0, 0, -1, 0.1, 1e15, 1e22],
        "kinds": [True, False, None, {}, [], "", "\U0010ffff\ud7ff\ue000\ufffe", "\u2028"],
        "deep": deep,
        **{wide(limits.MAX_KEY, (seed, number)): wide(20, number) for number in range(30)},
    }
    value["values"] = [[] for _ in range(limit.values - values_in(value) - 2)]
    missing = limit.most - json_size({**value, "rest": ""})
    rest = wide(missing // 4, (seed, "rest")) + "x" * (missing % 4)
    value["rest"] = rest
    assert (json_size(value), values_in(value)) == (limit.most, limit.values)
    return value


def values_in(value: Any) -> int:
    """Return the number of values inside a value, of all levels."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(1 + values_in(each) for each in inner)


def beyond(place: Place) -> Iterator[tuple[Any, str]]:
    """Yield values beyond a limit, each with the code that it is refused with."""
    limit = place.limit
    match limit:
        case Text():
            if limit.pattern == INSTANT:
                yield "2025-10-31T08:55:00.1234567891Z", "invalid"
            elif limit.pattern is not None:
                yield "x" * (limit.most + 1), "invalid"
                yield "a b", "invalid"
            else:
                yield "x" * (limit.most + 1), "invalid"
            if limit.least:
                yield "x" * (limit.least - 1), "invalid"
        case Number():
            for number in (limit.least - 1, limit.most + 1):
                if -(2**63) <= number < 2**63:
                    yield number, "invalid"
        case Json():
            yield {"a": "x" * (limit.most - 7)}, "too-large"
            yield {f"{number}": 1 for number in range(limit.fields + 1)}, "invalid"
            yield {"a": [[] for _ in range(limit.values)]}, "too-large"
            yield {"a": {"b": [{}, [0]] * (limit.values // 3 + 1)}}, "too-large"
            yield {"a": [{"x" * (limits.MAX_KEY + 1): 1}]}, "invalid"
        case Items():
            inner = get_args(limits.limits_of(present(place.hint))[0])
            if len(inner) > 1 and inner[1] is not Ellipsis:
                yield {f"{number}": least(inner[1]) for number in range(limit.most + 1)}, limit.code
            else:
                yield [least(inner[0])] * (limit.most + 1), limit.code
                if limit.least:
                    yield [least(inner[0])] * (limit.least - 1), limit.code


def encoded(data: Any) -> bytes:
    """Return JSON as most clients write it, whose escapes are not the service's."""
    return json.dumps(data).encode()
