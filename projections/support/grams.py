"""Texts by all that stands in them: an index over each three characters in a row finds a text anywhere in a title.

PostgreSQL's own trigrams (pg_trgm) are an extension, which an installation may not be allowed to make, and keep no
tenants apart; here each three characters are a number that depends on the tenant, in an index over arrays.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from functools import lru_cache

from projections.support.conditions import Where

LENGTH = 3
# What is found by so many is compared anyway; more of a long text would make the question no quicker.
_MAX_ASKED = 16
# Characters of a text whose array is kept.
_SHORT = 80


def grams(tenant: str, text: str) -> list[int]:
    """Return a number of 32 bits for each three characters of a text, sorted; of two that are equal, one."""
    seed = _seed(tenant)
    found = {zlib.crc32(text[at : at + LENGTH].encode(), seed) for at in range(len(text) - LENGTH + 1)}
    return sorted(number - (1 << 32) if number >> 31 else number for number in found)


def gram_array(tenant: str, text: str) -> str | None:
    """Return the same as the literal of an array; None for a text of fewer characters."""
    return _short_array(tenant, text) if len(text) <= _SHORT else _array(tenant, text)


def _array(tenant: str, text: str) -> str | None:
    found = grams(tenant, text)
    return "{" + ",".join(map(str, found)) + "}" if found else None


# A row is written many times with the same title, and many rows have it. What is kept has a few megabytes at most.
_short_array = lru_cache(maxsize=4096)(_array)


def containing(tenant: str, text: str) -> Where:
    """Return that a title has this text in it, which is in the form of a title's key.

    A text of fewer than three characters is looked for in every title that the other conditions leave.
    """
    holds = Where("strpos(title_key, %s) > 0", (text,))
    asked = _spread(grams(tenant, text))
    return Where(f"(grams @> %s::integer[] AND {holds.sql})", (asked, *holds.params)) if asked else holds


def _spread(numbers: Iterable[int]) -> list[int]:
    every = list(numbers)
    return every[:: max(1, -(-len(every) // _MAX_ASKED))]


@lru_cache(maxsize=1024)
def _seed(tenant: str) -> int:
    return zlib.crc32(f"{tenant}/".encode())
