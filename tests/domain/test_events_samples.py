"""Every event ever released must still load: stored samples, to which files are only ever added."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

import domain
from domain.streams import split_stream
from tests.given import stream_of_event

SAMPLES = Path(__file__).parent / "samples"
# `<event name>.json`; a shape that came later stands beside it as `<event name>.2.json` and so on.
_NUMBER = re.compile(r"\.([0-9]+)\Z")
FILES = sorted(SAMPLES.glob("*.json"))


def name_of(path: Path) -> str:
    return _NUMBER.sub("", path.stem)


def number_of(path: Path) -> int:
    number = _NUMBER.search(path.stem)
    return int(number[1]) if number else 1


NEWEST = list({name_of(path): path for path in sorted(FILES, key=number_of)}.values())


def keeps(stored: Any, written: Any) -> bool:
    """Tell whether what was stored is all there: keys may have been added, and nothing else is different."""
    if isinstance(stored, dict) and isinstance(written, dict):
        return all(key in written and keeps(value, written[key]) for key, value in stored.items())
    if isinstance(stored, list) and isinstance(written, list):
        return len(stored) == len(written) and all(map(keeps, stored, written))
    return type(stored) is type(written) and stored == written


def test_every_event_has_a_sample() -> None:
    assert {name_of(path) for path in FILES} == set(domain.STORED_EVENTS)


def again(path: Path) -> Any:
    """Return a sample as the event that it holds is written today."""
    event = msgspec.json.decode(path.read_bytes(), type=domain.STORED_EVENTS[name_of(path)])
    return msgspec.json.decode(msgspec.json.encode(event))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_sample_loads_and_keeps_every_value_when_it_is_written_again(path: Path) -> None:
    assert keeps(msgspec.json.decode(path.read_bytes()), again(path))


@pytest.mark.parametrize("path", NEWEST, ids=lambda path: path.stem)
def test_the_newest_sample_is_written_again_as_it_was(path: Path) -> None:
    assert again(path) == msgspec.json.decode(path.read_bytes())


@pytest.mark.parametrize(
    ("stored", "written"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": 1}, {"b": 1}),
        ([1], [1, 2]),
        ({"a": [{"b": 1}]}, {"a": [{}]}),
    ],
)
def test_what_is_lost_is_seen(stored: Any, written: Any) -> None:
    assert keeps(stored, stored)
    assert not keeps(stored, written)


OF_AGGREGATES = [path for path in FILES if name_of(path) in domain.EVENTS]


@pytest.mark.parametrize("path", OF_AGGREGATES, ids=lambda path: path.stem)
def test_a_sample_is_understood_by_its_aggregate(path: Path) -> None:
    event = msgspec.json.decode(path.read_bytes(), type=domain.EVENTS[name_of(path)])
    assert domain.EVENT_NAMES[type(event)] == name_of(path)
    category = split_stream(stream_of_event(event))[1]
    state = domain.DECIDER_OF_CATEGORY[category].evolve(None, event)
    # Only what opens a stream gives a state; whatever else comes first gives none, and never an error.
    assert (state is not None) is name_of(path).endswith(("created", "defined", "registered", "status-changed"))


@pytest.mark.parametrize("path", NEWEST, ids=lambda path: path.stem)
def test_the_newest_sample_says_something_in_every_field(path: Path) -> None:
    values = msgspec.json.decode(path.read_bytes())
    kind = domain.STORED_EVENTS[name_of(path)]
    assert list(values) == [field.name for field in dataclasses.fields(kind)]
    assert all(value not in (None, "", [], {}) for value in values.values())
