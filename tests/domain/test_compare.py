"""Which texts are the same address or name, and which values are the same JSON."""

from __future__ import annotations

import json
from typing import Any
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.compare import address_key, name_key, same_json, text_key
from domain.decider import changes

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 0.5, "", "a", "1", "true"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)


@given(TEXTS)
def test_every_normal_form_has_one_key(text: str) -> None:
    for key in (text_key, address_key, name_key):
        assert key(normalize("NFD", text)) == key(normalize("NFC", text)) == key(text)
        assert key(key(text)) == key(text)


@given(TEXTS)
def test_an_address_has_the_case_of_its_letters_beyond_ascii(text: str) -> None:
    letters = "".join(chr(ord(mark) + 32) if "A" <= mark <= "Z" else mark for mark in normalize("NFC", text))
    assert address_key(text) == letters


@pytest.mark.parametrize(
    ("one", "other", "same_address", "same_name"),
    [
        ("Ann@X.vn", "aNN@x.VN", True, True),
        ("straße", "strasse", False, True),
        ("straße", "STRAẞE", False, True),
        ("É", "é", False, True),
        # The Kelvin sign is a K to every normal form.
        ("\u212a", "k", True, True),
        ("\u212b", "\u00c5", True, True),
        ("I", "\u0131", False, False),
        ("e\u0301", "\u00e9", True, True),
        ("\u0390", "\u03aa\u0301", False, True),
        ("ﬁ", "fi", False, True),
        ("\uff41", "a", False, False),
        ("a", "b", False, False),
    ],
)
def test_same(one: str, other: str, same_address: bool, same_name: bool) -> None:
    assert (address_key(one) == address_key(other)) is same_address
    assert (name_key(one) == name_key(other)) is same_name


@given(VALUES, VALUES)
def test_values_are_the_same_if_their_json_is(one: Any, other: Any) -> None:
    def plain(value: Any) -> Any:
        """Give a whole number the one text that it has."""
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list):
            return [plain(item) for item in value]
        return int(value) if isinstance(value, float) and value.is_integer() else value

    texts = [json.dumps(plain(value), sort_keys=True) for value in (one, other)]
    assert same_json(one, other) is (texts[0] == texts[1])
    assert same_json(other, one) is same_json(one, other)
    assert same_json(one, one)


def test_only_what_differs_is_a_change() -> None:
    before = {"a": 1, "b": [True], "c": {"d": 0}, "e": None}
    wanted = {"a": 1.0, "b": [1], "c": {"d": False}, "e": None, "f": None}
    assert changes(before, wanted) == ({"b": [True], "c": {"d": 0}}, {"b": [1], "c": {"d": False}})
