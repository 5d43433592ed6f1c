"""Three characters in a row: whatever has a text in it has all of the text's, and no tenant's are another's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from domain.compare import name_key
from projections.support.grams import LENGTH, containing, gram_array, grams

_TEXTS = st.text(max_size=60)


@given(before=_TEXTS, text=st.text(min_size=LENGTH, max_size=60), after=_TEXTS)
def test_what_has_a_text_in_it_has_its_grams(before: str, text: str, after: str) -> None:
    within = set(grams("acme", before + text + after))
    assert set(grams("acme", text)) <= within
    _, params = containing("acme", text)
    assert set(params[0]) <= within
    assert len(params[0]) <= 16
    assert all(-(1 << 31) <= number < 1 << 31 for number in within)


def test_a_text_of_fewer_characters_has_none() -> None:
    for text in ("", "a", "ab", "日本"):
        assert grams("acme", text) == []
        assert gram_array("acme", text) is None
        assert containing("acme", text).params == (text,)
    assert len(grams("acme", "日本語")) == len(grams("acme", "ßü☃")) == len(grams("acme", "aaaa")) == 1


def test_each_tenant_has_its_own() -> None:
    text = name_key("Visit at Jane's, 07:30")
    assert not set(grams("acme", text)) & set(grams("acme2", text))
    assert gram_array("acme", text) == "{" + ",".join(map(str, grams("acme", text))) + "}"
