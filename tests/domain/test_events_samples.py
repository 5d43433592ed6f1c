"""Every event ever released must still load: stored samples, to which files are only ever added."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import msgspec
import pytest

import domain
from domain.streams import split_stream
from tests.given import stream_of_event

SAMPLES = Path(__file__).parent / "samples"
# `<event name>.json`; a shape that came later stands beside it as `<event name>.2.json` and so on.
FILES = sorted(SAMPLES.glob("*.json"))
PLAIN = [path for path in FILES if path.stem in domain.EVENTS]


def name_of(path: Path) -> str:
    return re.sub(r"\.[0-9]+\Z", "", path.stem)


def test_every_event_has_a_sample() -> None:
    assert {name_of(path) for path in FILES} == set(domain.EVENTS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_sample_loads_and_is_written_again_as_it_was(path: Path) -> None:
    stored = path.read_bytes()
    event = msgspec.json.decode(stored, type=domain.EVENTS[name_of(path)])
    assert msgspec.json.decode(msgspec.json.encode(event)) == msgspec.json.decode(stored)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_sample_is_understood_by_its_aggregate(path: Path) -> None:
    event = msgspec.json.decode(path.read_bytes(), type=domain.EVENTS[name_of(path)])
    assert domain.EVENT_NAMES[type(event)] == name_of(path)
    category = split_stream(stream_of_event(event))[1]
    if category != domain.STATUS_CATEGORY:
        evolve = domain.DECIDER_OF_CATEGORY[category].evolve
        state = evolve(None, event)
        # Only what opens a stream gives a state; whatever else comes first gives none, and never an error.
        assert (state is not None) is name_of(path).endswith(("created", "defined", "registered"))


@pytest.mark.parametrize("path", PLAIN, ids=lambda path: path.stem)
def test_a_sample_says_something_in_every_field(path: Path) -> None:
    values = msgspec.json.decode(path.read_bytes())
    kind = domain.EVENTS[path.stem]
    assert list(values) == [field.name for field in dataclasses.fields(kind)]
    assert all(value not in (None, "", [], {}) for value in values.values())
