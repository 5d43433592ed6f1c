from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest


@pytest.fixture(scope="module")
def module_conn(module_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A session that the tests of a module share, each of which rolls back what it has written."""
    with psycopg.connect(module_url) as session:
        session.execute("SET timezone = 'UTC'")
        yield session
        session.rollback()
