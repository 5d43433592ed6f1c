"""The pictures in README and docs show what the console shows, and are small."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium import webdriver

from tests.console import pictures
from tests.console.browser import Browser
from tests.services.http.served import Served, served

PNG = b"\x89PNG\r\n"


@pytest.fixture
def present(migrated_url: str) -> Iterator[Served]:
    with served(migrated_url, streams=True, clock=pictures.now) as running:
        yield running


def test_each_picture_can_be_taken_again(chromium: webdriver.Chrome, present: Served) -> None:
    person = Browser(chromium, present.url)
    taken = dict(pictures.take(person, present))
    assert len(taken) == 2 * len(pictures.PICTURES)
    assert len({*taken.values()}) == len(taken), "light and dark differ, and no page is another one"
    kept = {path.name: path.read_bytes() for path in pictures.FOLDER.iterdir()}
    assert kept.keys() == taken.keys()
    for name, picture in (*taken.items(), *kept.items()):
        assert picture.startswith(PNG), name
        assert len(picture) < pictures.MOST, name
    person.open("/console/login")
    person.driver.get("about:blank")
