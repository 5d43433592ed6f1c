"""Every query waits for the position that a header says, which is that of the answer to a write."""

from __future__ import annotations

import asyncio

import pytest

import projections
from tests.services.http.api import Api
from tests.services.http.contract import READS, WAITING, Case, documented, name_of, refused, send
from tests.services.http.contract_scene import head, set_the_scene

set_scene = set_the_scene
POSITION = "Foldwork-Position"
# On the process that the tests of this module share.
SHARED = pytest.mark.asyncio(loop_scope="module")
EVERY_READ = pytest.mark.parametrize("case", READS, ids=name_of)
# What no read model has a part in is read from the log and the ledger, which are never late.
FROM_THE_LOG = {
    *("dispatch_get_status_events", "get_events", "stream_events", "get_receipt", "get_bulk"),
    *("list_acts", "list_stuck", "list_dead_letters", "group_dead_letters", "get_dead_letter"),
    *("list_bulks", "get_bulk_action", "list_bulk_items", "watch_bulk"),
    *("list_webhooks", "get_webhook", "list_webhook_deliveries", "list_keys", "get_key"),
    *("list_projections", "get_projection", "get_overview", "get_tenants"),
}


async def test_a_refused_write_says_how_far_the_log_was(api: Api) -> None:
    response = await api.post("/v1/commands", {"type": "task.process", "data": {"id": "nobody"}})
    assert response.status_code == 404
    assert response.headers[POSITION] == str(head(api)) == str(response.json()["position"])


async def test_every_query_waits_for_the_header(api: Api) -> None:
    api.sender.late = {model.NAME for model in projections.READ_MODELS}
    position = api.command("task.create", {}).position
    asked = {POSITION: str(position)}
    answers = await asyncio.gather(*(send(api, case, headers=asked) for case in READS))
    for case, late in zip(READS, answers, strict=True):
        documented(case, late)
        if case.name in FROM_THE_LOG:
            assert (late.status_code, late.headers[POSITION]) == (200, str(position)), case.name
        else:
            refused(late, case.operation.dialect.envelope, "view-late")
            assert late.headers["retry-after"] == "1"
    api.sender.late = set()
    asking = [asyncio.create_task(send(api, case, headers=asked)) for case in READS]
    await asyncio.to_thread(api.sender.follow)
    for case, found in zip(READS, await asyncio.gather(*asking), strict=True):
        assert (found.status_code, found.headers[POSITION]) == (200, str(position)), (case.name, found.text)


@EVERY_READ
@SHARED
async def test_a_header_that_is_no_position_is_refused(scene_api: Api, case: Case) -> None:
    api, spoken = scene_api, case.operation.dialect.envelope
    for given in ("", "x", "-1", "1.5", "1 2", "9" * 20, "\u0661".encode(), b"\xff"):
        response = await send(api, case, headers={POSITION: given})
        refused(response, spoken, "bad-header", parameter=POSITION)
        documented(case, response)
    beyond = await send(api, case, headers={POSITION: "999999"})
    refused(beyond, spoken, "position-beyond-head", parameter=POSITION)
    documented(case, beyond)


@pytest.mark.parametrize("case", WAITING, ids=name_of)
@SHARED
async def test_the_header_and_the_parameter_say_the_same(scene_api: Api, case: Case) -> None:
    api = scene_api
    path = f"{case.at()}?min_position=2"
    same = await send(api, case, path, headers={POSITION: "2"})
    assert (same.status_code, int(same.headers[POSITION]) >= 2) == (200, True)
    other = await send(api, case, path, headers={POSITION: "3"})
    refused(other, case.operation.dialect.envelope, "bad-header", parameter=POSITION)
    documented(case, other)


async def test_a_write_that_repeats_what_a_client_last_saw_is_no_query(api: Api) -> None:
    # A client that sends the last position with all that it sends need not tell writes from queries.
    response = await api.post("/v1/commands", {"type": "task.create", "data": {}}, headers={POSITION: "999999"})
    assert response.status_code == 200


async def test_a_query_shows_what_a_write_through_another_dialect_said(api: Api) -> None:
    written = await api.post("/api/v3/task", {"flow": "Visit", "title": "Read it"})
    found = await api.get("/v1/tasks?sort=-created_at", headers={POSITION: written.headers[POSITION]})
    assert written.json()["task"]["_id"] in {task["id"] for task in found.json()["data"]}
    assert int(found.headers[POSITION]) >= int(written.headers[POSITION])
