"""The estimate of a document's size in memory, against what it takes."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import pytest

from projections.support.weight import weight

DOCUMENTS: dict[str, Any] = {
    "one text": "x" * 100_000,
    "texts": [f"some text {number}" for number in range(5000)],
    "empty lists": [[]] * 5000,
    "numbers": list(range(1000, 6000)),
    "a map": {f"key{number}": number / 7 for number in range(5000)},
    "maps": [{"a": number, "b": None} for number in range(2000)],
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_estimate_is_about_right_whatever_the_document_is_made_of(name: str) -> None:
    text = msgspec.json.encode(DOCUMENTS[name])
    tracemalloc.start()
    try:
        decoded = msgspec.json.decode(text)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert decoded == DOCUMENTS[name]
    assert 0.5 < weight(text) / taken < 3
    assert weight(text.decode()) == weight(text)
