"""What holds for every operation that succeeds: the documented answer, late views, and repetitions."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

import projections
from tests.services.http.api import Api
from tests.services.http.contract import EXAMPLES, WAITING, Case, documented, name_of, refused, send
from tests.services.http.contract_scene import head, recorded, set_the_scene

set_scene = set_the_scene
# What says the time of its figures.
MOMENTARY = {"get_overview", "get_tenants"}
LATE = {model.NAME for model in projections.READ_MODELS}
KEY = {"Idempotency-Key": "key-1"}
# The body has the key, and a repetition is told what it made instead of being given it again.
KEYED = {"dispatch_create_task": "idempotency_key", "dispatch_create_activity": "idempotency_key"}
# Read from the log itself, which is never late.
NEVER_LATE = {"dispatch_get_status_events", "get_events", "list_acts"}
WRITES = [case for case in EXAMPLES if case.operation.writes]
POSITION = "Foldwork-Position"
REPEATING = ("register", "dispatch_create", "dispatch_put", "workflow_save")
# Others send several commands, each under a key of its own.
ONE_COMMAND = [
    case for case in WRITES if not case.name.startswith("field_bulk_") and "entries" not in (case.body or ())
]


def with_key(case: Case, **others: Any) -> dict[str, Any]:
    """Return what a request under the key differs in."""
    if case.name not in KEYED:
        return {"headers": KEY, **({"content": json.dumps({**case.body, **others})} if case.body else {})}
    return {"content": json.dumps({**case.body, KEYED[case.name]: KEY["Idempotency-Key"], **others})}


@pytest.mark.parametrize("case", EXAMPLES, ids=name_of)
async def test_it_succeeds_as_it_is_documented(api: Api, case: Case) -> None:
    before = head(api)
    first = await send(api, case)
    assert first.status_code in (case.operation.status, *case.operation.also), first.text
    assert first.status_code != 202 or case.operation.status == 202
    documented(case, first)
    sent = {command.name for command in api.sender.sent}
    if case.operation.commands:
        assert sent <= {*case.operation.commands}, "it gives commands that it does not name"
    assert bool(sent) is case.operation.writes
    if case.operation.writes:
        assert first.headers.get_list(POSITION) == [str(head(api))]
        # A few of the examples repeat what is there already.
        assert head(api) > before or case.name.startswith(REPEATING)
    if case.operation.method == "GET":
        again = await send(api, case)
        assert again.status_code == first.status_code
        assert again.content == first.content or case.name in MOMENTARY


@pytest.mark.parametrize("case", WRITES, ids=name_of)
async def test_a_repetition_under_one_key_takes_effect_once_and_gets_the_same_answer(api: Api, case: Case) -> None:
    # No view shows what the first one did, and every view what the second one did not.
    api.sender.late = LATE
    first = await send(api, case, **with_key(case))
    assert first.status_code in (case.operation.status, *case.operation.also), first.text
    documented(case, first)
    count, sent = recorded(api), len(api.sender.sent)
    api.sender.late = set()
    api.sender.follow()
    again = await send(api, case, **with_key(case))
    documented(case, again)
    if case.name in KEYED:
        assert again.status_code == 409
        assert first.json()["id"] in again.text
    else:
        assert (again.status_code, _shown(again)) == (first.status_code, _shown(first))
    assert recorded(api) == count
    if not case.parts:
        # What has no id yet goes to the same place.
        routes = [command.routing_key for command in api.sender.sent]
        assert routes[:sent] == routes[sent:]


def _shown(response: httpx.Response) -> Any:
    """Return what is shown of the effect, which is all but which command was the first to have it."""
    body = response.json() if response.content else None
    return {**body, "command_id": None, "duplicate": None} if isinstance(body, dict) else body


@pytest.mark.parametrize("case", ONE_COMMAND, ids=name_of)
async def test_a_key_that_was_used_for_another_request_is_refused(api: Api, case: Case) -> None:
    await api.post("/v1/commands", {"type": "task.create", "data": {"title": "Other"}}, headers=KEY)
    response = await send(api, case, **with_key(case))
    refused(response, case.operation.dialect.envelope, "idempotency-conflict")
    documented(case, response)


@pytest.mark.parametrize("case", ONE_COMMAND, ids=name_of)
async def test_without_an_answer_the_receipt_tells_later(api: Api, case: Case) -> None:
    api.sender.stopped = True
    response = await send(api, case)
    assert response.status_code == 202, response.text
    assert POSITION not in response.headers
    documented(case, response)
    await api.sender.catch_up()
    receipt = await api.get(response.headers["location"])
    assert (receipt.status_code, receipt.json()["outcome"]) == (200, "accepted")


async def test_a_view_that_is_late_is_said_and_then_waited_for(api: Api) -> None:
    api.sender.late = LATE
    position = api.command("task.create", {}).position
    responses = await asyncio.gather(*(send(api, case, f"{case.at()}?min_position={position}") for case in WAITING))
    for case, response in zip(WAITING, responses, strict=True):
        documented(case, response)
        if case.name in NEVER_LATE:
            assert response.status_code == 200
        else:
            refused(response, case.operation.dialect.envelope, "view-late")
            assert response.headers["retry-after"] == "1"
    api.sender.late = set()
    asking = [asyncio.create_task(send(api, case, f"{case.at()}?min_position={position}")) for case in WAITING]
    await asyncio.to_thread(api.sender.follow)
    assert {response.status_code for response in await asyncio.gather(*asking)} == {200}
