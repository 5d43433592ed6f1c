from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.services.http.api import Api, opened
from tests.services.http.contract_scene import recorded, set_the_scene
from tests.services.http.streaming import Streaming, streaming


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def furnished_api(module_url: str) -> AsyncIterator[Api]:
    """The HTTP process in the scene of the contract, which the tests of a module share."""
    async with opened(module_url) as running:
        set_the_scene(running)
        yield running


@pytest.fixture
def scene_api(furnished_api: Api) -> Iterator[Api]:
    """The shared process, for a test that records nothing."""
    api, sender = furnished_api, furnished_api.sender
    before = recorded(api)
    yield api
    sender.stopped = sender.unreachable = False
    sender.sent.clear()
    sender.waiting.clear()
    assert recorded(api) == before


@pytest.fixture
async def live(migrated_url: str) -> AsyncIterator[Streaming]:
    """The HTTP process, served over a real socket, whose streams last."""
    async with streaming(migrated_url) as running:
        yield running
