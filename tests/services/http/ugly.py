"""What tests of the edge send: values that break parsers, databases and clocks, and the operations to send them to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx

Json = dict[str, Any]

DOCUMENT: Json = json.loads(Path("docs/openapi.json").read_text("utf-8"))
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
# Whole bodies that no command can be made from.
BODIES = (
    *(b"", b" ", b"{", b"{}x", b"[]", b"null", b"1", b'"x"', b"\xff", b"\xef\xbb\xbf{}", "{}".encode("utf-16")),
    *(b'{"a":1,"a":1}', b'{"a":NaN}', b'{"a":-Infinity}', b'{"a":1e999}', b'{"a":1e999,"a":1}'),
    *(b'{"a":%b}' % DIGITS.encode(), b'{"a":99999999999999999999,"b":%b}' % DIGITS.encode()),
    *(b'{"a":"\\u0000"}', b'{"\\u0000":1}', b'{"a":"\\ud800"}', b'{"\\ud800":1}', b'{"a":"\x00"}'),
    *(b'{"a":' * 3000, b"[" * 30_000, b'{"a":' + b"[" * 40 + b"]" * 40 + b"}"),
)


def operations(*methods: str) -> list[tuple[str, str, Json]]:
    """Return the documented operations of these methods that need a key: (method, path, what is said of it)."""
    return [
        (method, path, said)
        for path, item in DOCUMENT["paths"].items()
        for method, said in item.items()
        if method in methods and said.get("security")
    ]


def resolved(schema: Json) -> Json:
    """Return a schema with what it refers to in its place."""
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def bodies_of(said: Json) -> Iterator[Json]:
    """Give the documented bodies of an operation, each time with one of its values replaced by an ugly one."""
    media = said["requestBody"]["content"]["application/json"]
    examples = [media["example"]] if "example" in media else [each["value"] for each in media["examples"].values()]
    schema = resolved(media["schema"])
    forms = [schema, *(resolved(form) for form in (*schema.get("anyOf", ()), *schema.get("oneOf", ())))]
    known = dict.fromkeys((name,) for form in forms for name in form.get("properties", {}))
    done = set()
    for example in examples:
        for place in {**known, **dict.fromkeys(_places(example))}:
            # The items of a list are alike, and so are the examples of an operation where they share a field.
            field = tuple("[]" if isinstance(part, int) else part for part in place)
            if field in done and "type" not in example:
                continue
            done.add(field)
            for value in VALUES:
                body = deepcopy(example)
                inside = body
                for part in place[:-1]:
                    inside = inside[part]
                inside[place[-1]] = value
                yield body


def _places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*before, key)
        yield from _places(item, (*before, key))


def demand_envelope(path: str, response: httpx.Response) -> None:
    """Expect a refusal in the envelope of the dialect that is spoken below a path."""
    body = response.json()
    if path.startswith(("/api/v3/workflow/activities", "/api/v3/workflow/tracker", "/api/v3/workflow/work_units")):
        assert [error["status"] for error in body["errors"]] == [str(response.status_code)]
    elif path.startswith("/api/v3/"):
        assert list(body) == ["status", "message", "failedCode"]
    elif path.startswith("/api/"):
        assert body["statusCode"] == response.status_code
    else:
        assert (body["status"], bool(body["code"])) == (response.status_code, True)
