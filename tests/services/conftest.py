from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.services.answering import Answering
from tests.services.following import SEEN
from tests.services.webhook_scene import Scene


@pytest.fixture
def seen_table(conn: psycopg.Connection[Any]) -> None:
    """The table in which the handlers of `following` note what they have handled."""
    conn.execute(SEEN)


@pytest.fixture
def no_followers(conn: psycopg.Connection[Any]) -> None:
    """Only the followers that a test makes itself: those of the read models do not run here."""
    conn.execute("DELETE FROM followers")


@pytest.fixture
def provider() -> Iterator[Answering]:
    """A provider of dispatches over HTTP, which answers as the test says."""
    answering = Answering()
    yield answering
    answering.close()


@pytest.fixture
def hooks(migrated_url: str) -> Scene:
    """A database for webhooks, with what queues and delivers."""
    return Scene(migrated_url)
