"""What a view needs is what is looked up for it, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from services.http.core.lookups import needed_by
from services.http.dispatch.errors import Accepted
from services.http.dispatch.integration import IntegrationTask
from services.http.dispatch.lists import page_of
from services.http.dispatch.models import Activity, NewActivity
from services.store.pool import Pool
from tests.services.http.api import Api
from tests.services.http.dispatch_scene import BODY, furnish


@pytest.mark.parametrize(
    ("view", "needed"),
    [
        (NewActivity, {"members"}),
        (Activity, {"members", "commerces"}),
        (page_of(Activity), {"members", "commerces"}),
        (page_of(IntegrationTask), {"commerces", "operators"}),
        (Accepted, set()),
    ],
)
def test_what_a_view_needs(view: type[BaseModel], needed: set[str]) -> None:
    assert needed_by(view) == needed


async def test_a_creation_does_not_look_up_the_commerce_that_it_does_not_show(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    furnish(api)
    asked: list[Any] = []
    fetch = Pool.fetch

    async def watched(pool: Pool, sql: str, params: Any = (), timeout: float | None = None) -> Any:
        asked.append(params)
        return await fetch(pool, sql, params, timeout)

    monkeypatch.setattr(Pool, "fetch", watched)
    created = await api.post("/api/activities/tasks", BODY)
    assert created.status_code == 201
    assert not [params for params in asked if "commerce" in params]
    assert (await api.get(f"/api/activities/{created.json()['id']}")).status_code == 200
    assert [params for params in asked if "commerce" in params]
