"""The browser of a test process, and a console with a server of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium import webdriver

from services import keys
from tests.console import browser
from tests.console.browser import Browser
from tests.services.http.served import Served, served


@pytest.fixture(scope="session")
def chromium() -> Iterator[webdriver.Chrome]:
    if browser.programs() is None:
        pytest.skip(browser.MISSING)
    with browser.running() as driver:
        yield driver


@pytest.fixture
def system(migrated_url: str) -> Iterator[Served]:
    with served(migrated_url, streams=True) as running:
        yield running


@pytest.fixture
def person(chromium: webdriver.Chrome, system: Served) -> Iterator[Browser]:
    """Somebody who has logged in with a key that may do everything."""
    someone = Browser(chromium, system.url)
    someone.log_in(system.api.key("acme", "system", *keys.PERMISSIONS))
    yield someone
    # A server does not end while a page follows its stream.
    chromium.get("about:blank")
