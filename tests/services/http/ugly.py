"""What tests of the edge send: values that break parsers, databases and clocks, and how they are dealt to places."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

P = TypeVar("P")
V = TypeVar("V")
DIGITS = "9" * 5000
# Texts for parameters and parts of paths.
TEXTS = (
    *("", " ", "\0", "a\0b", "\u00e9", "\U0001f600", "x" * 1001, "x" * 20_000, "%", "'", '"', "\\", ",", "a,b", "a/b"),
    *("-1", "0", "1", "1.5", "0x10", "\u0661", "1e999", "nan", "inf", "infinity", "-infinity", "null", "true"),
    *("2147483648", "9223372036854775807", "9223372036854775808", "1" + "0" * 30, DIGITS, f"-{DIGITS}"),
    *("now", "epoch", "2025-01-01", "2025-01-01T00:00:00", "2025-02-30T00:00:00Z", "2025-10-31T24:00:00Z"),
    *("0000-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "10000-01-01T00:00:00Z"),
    *("2025-10-31T01:00:00+23:59", "2025-10-31T01:00:00+23:59:59.999999", "2025-W01-1T00:00:00+00:00"),
    *("[]", "{}", '{"a":"\\u0000"}', '{"a":"\\ud800"}', '{"a":1e999}', '{"a":1e999,"a":1}'),
    *('{"a":99999999999999999999,"b":' + DIGITS + "}", "[" * 6000, '{"a":' * 3000, "a" + ",a" * 1200),
)
# Parts of an address as they are sent, which are no text in UTF-8 or no escape at all.
RAW = ("%ff", "%ed%a0%80", "%c0%80", "%zz", "a%00b")
# Values for the fields of a body.
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**63 - 1, -(2**63), 1.5, 1e308, "", " ", "\u0007", "x" * 300, "x" * 20_000),
    *("\U0001f600" * 300, "account:1", f"account:{DIGITS}", "operator:\u00e9", "a@b", "infinity", "a/b", "id\n"),
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", f"2025-01-01T00:00:00.{'1' * 5000}Z"),
    *([], [None], [[]], ["x"] * 3000, [{}], {}, {"": 1}, {"x" * 3000: 1}, {"a": {"b": [[[[1]]]]}}),
)
# Whole bodies that no command can be made from, by what they are refused with: the code, and the place.
BODIES: dict[tuple[str, str], tuple[bytes, ...]] = {
    ("not-json", ""): (*(b" ", b"{", b"{}x", b"\xef\xbb\xbf{}", b'{"a":NaN}', b'{"a":-Infinity}', b'{"a":"\x00"}'),),
    ("not-utf-8", ""): (b"\xff", b'{"a":"\xff"}', "{}".encode("utf-16")),
    ("wrong-shape", ""): (b"[]", b"null", b"1", b'"x"'),
    ("duplicate-key", "/a"): (b'{"a":1,"a":1}', b'{"a":1e999,"a":1}'),
    ("number-out-of-range", "/a"): (
        *(b'{"a":1e999}', b'{"a":%b}' % DIGITS.encode()),
        b'{"a":99999999999999999999,"b":%b}' % DIGITS.encode(),
    ),
    ("nul", "/a"): (b'{"a":"\\u0000"}',),
    ("nul", ""): (b'{"\\u0000":1}',),
    ("lone-surrogate", "/a"): (b'{"a":"\\ud800"}',),
    ("lone-surrogate", ""): (b'{"\\ud800":1}',),
    ("too-deep", ""): (b'{"a":' * 3000, b"[" * 30_000, b'{"a":' + b"[" * 40 + b"]" * 40 + b"}"),
    ("too-large", ""): (b'{"a":"' + b"x" * 70_000 + b'"}',),
}


def dealt(
    places: Iterable[P], kind: Callable[[P], Hashable], values: Sequence[V], least: int = 8
) -> Iterator[tuple[P, Sequence[V]]]:
    """Give each place at least so many of the values; the places of one kind are given all values together."""
    grouped: dict[Hashable, list[P]] = defaultdict(list)
    for place in places:
        grouped[kind(place)].append(place)
    for group in grouped.values():
        share = max(1, min(len(group), len(values) // least))
        for number, place in enumerate(group):
            yield place, values[number % share :: share]
