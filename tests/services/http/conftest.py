from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.services.http.house import House, opened


@pytest.fixture
async def house(migrated_url: str) -> AsyncIterator[House]:
    """The HTTP process on a database that holds this test's rows alone."""
    async with opened(migrated_url) as running:
        yield running
