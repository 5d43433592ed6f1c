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
from services.http.field.models import HUBS, Master, Task
from services.store.pool import Pool
from tests.services.http.api import Api, with_workflow
from tests.services.http.dispatch_scene import BODY, furnish


@pytest.mark.parametrize(
    ("view", "needed"),
    [
        (NewActivity, {"members"}),
        (Activity, {"members", "commerces"}),
        (page_of(Activity), {"members", "commerces"}),
        (page_of(IntegrationTask), {"commerces", "operators"}),
        (Accepted, set()),
        (Task, {HUBS}),
        (Master, {HUBS}),
    ],
)
def test_what_a_view_needs(view: type[BaseModel], needed: set[str]) -> None:
    assert needed_by(view) == needed


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The parameters of all that is asked of the database."""
    found: list[Any] = []
    fetch = Pool.fetch

    async def watched(pool: Pool, sql: str, params: Any = (), timeout: float | None = None) -> Any:
        found.append(params)
        return await fetch(pool, sql, params, timeout)

    monkeypatch.setattr(Pool, "fetch", watched)
    return found


async def test_a_creation_does_not_look_up_the_commerce_that_it_does_not_show(api: Api, asked: list[Any]) -> None:
    furnish(api)
    created = await api.post("/api/activities/tasks", BODY)
    assert created.status_code == 201
    assert not [params for params in asked if "commerce" in params]
    assert (await api.get(f"/api/activities/{created.json()['id']}")).status_code == 200
    assert [params for params in asked if "commerce" in params]


async def test_a_creation_does_not_look_up_the_hub_that_it_does_not_show(api: Api, asked: list[Any]) -> None:
    with_workflow(api)
    api.command("directory.register", {"kind": "hub", "id": "h1", "fields": {"name": "North"}})
    body = {"workflowId": "w1", "hubId": "h1", "tasks": [{}, {}]}
    created = await api.post("/api/v3/activity", body)
    assert created.status_code == 201, created.text
    assert not [params for params in asked if "hub" in params]
    shown = (await api.get(f"/api/v3/task/{created.json()['data']['_id']}")).json()
    assert shown["task"]["hub"]["name"] == "North"
    assert [params for params in asked if "hub" in params]
