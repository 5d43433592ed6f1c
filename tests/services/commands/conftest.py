"""The fixtures of the way of a command."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.commands.worker import Worker
from tests.services.commands.deciding import a_worker


@pytest.fixture
def worker(migrated_url: str) -> Iterator[Worker]:
    with a_worker(migrated_url) as made:
        yield made
