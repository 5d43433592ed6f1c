"""When two values are the same: addresses, names and JSON; what callers wrote is stored and shown as it is.

Texts that Unicode calls canonically equivalent ("é" as one character, or as "e" with an accent) are the same
everywhere, by their NFC form.
"""

from __future__ import annotations

from typing import Any
from unicodedata import normalize

_ASCII_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def text_key(text: str) -> str:
    """Return what texts are compared by where upper and lower case differ."""
    return text if text.isascii() else normalize("NFC", text)


def address_key(text: str) -> str:
    """Return what e-mail addresses and operator ids are compared by: only ASCII letters have no case.

    Case folding would give one mailbox to two people: it turns "ß" into "ss".
    """
    return text.lower() if text.isascii() else normalize("NFC", text).translate(_ASCII_LOWER)


def name_key(text: str) -> str:
    """Return what names and titles are compared, searched and sorted by: no letter has a case."""
    # Folding can leave what NFC would compose, such as a Greek vowel with two marks.
    return text.lower() if text.isascii() else normalize("NFC", normalize("NFC", text).casefold())


def same_json(one: Any, other: Any) -> bool:
    """Tell whether two values are the same JSON: 1 and 1.0 are one number, true is none, objects have no order."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and one.keys() == other.keys()
            and all(same_json(value, other[key]) for key, value in one.items())
        )
    if isinstance(one, (list, tuple)):
        return isinstance(other, (list, tuple)) and len(one) == len(other) and all(map(same_json, one, other))
    return bool(one == other)
