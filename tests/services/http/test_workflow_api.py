"""The workflow dialect: what its actions leave, and where their bodies are wrong."""

from __future__ import annotations

import pytest

from tests.services.http.api import Api
from tests.services.http.workflow_scene import (
    LIST,
    WRITES,
    furnish,
    ready,
    refused,
    send,
    shown,
)

set_scene = furnish


@pytest.mark.parametrize("name", WRITES)
async def test_an_action_answers_with_what_it_leaves(api: Api, name: str) -> None:
    write = WRITES[name]
    ready(api, write)
    response = await send(api, write)
    assert shown(response)["status"] == write.status
    if write.path.startswith("/activities"):
        assert response.json() == (await api.get(f"{LIST}/t")).json()


WRONG = {
    "save": [({}, "/data"), ({"data": None}, "/data"), ({"data": [1]}, "/data"), ({"data": "x"}, "/data")],
    "complete": [({}, "/data"), ({"data": 7}, "/data")],
    "assign": [
        ({}, "/start_working"),
        ({"account_id": 42}, "/start_working"),
        ({"account_id": 42, "start_working": None}, "/start_working"),
        ({"account_id": 42, "start_working": 1}, "/start_working"),
        ({"start_working": True}, "/account_id"),
        ({"start_working": True, "self_assigning": "yes"}, "/self_assigning"),
        ({"start_working": True, "self_assigning": True}, "/account_id"),
        *(
            ({"account_id": text, "start_working": True}, "/account_id")
            for text in ("", "042", "4.5", "-1", "x", " 42")
        ),
        ({"account_id": "999", "start_working": True}, "/account_id"),
        ({"account_id": True, "start_working": True}, "/account_id"),
        ({"account_id": 4.5, "start_working": True}, "/account_id"),
        ({"account_id": 0, "start_working": True}, "/account_id"),
        ({"account_id": 2**53, "start_working": True}, "/account_id"),
        ({"account_id": 999, "start_working": True}, "/account_id"),
        ({"account_id": 45, "start_working": True}, "/account_id"),
    ],
    "reassign": [({}, "/account_id"), ({"account_id": None}, "/account_id"), ({"account_id": 999}, "/account_id")],
    "error": [
        ({"data": []}, "/data"),
        ({"data": None}, "/data"),
        ({"data": {}}, "/data"),
        ({"data": {"comment": 1}}, "/data/comment"),
        ({"data": {"comment": "x", "more": 1}}, "/data"),
    ],
    "pause": [({}, "/account_id"), ({"account_id": 999}, "/account_id"), ({"account_id": {}}, "/account_id")],
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_value_is_told_at_its_place(api: Api, name: str) -> None:
    ready(api, WRITES[name])
    for body, pointer in WRONG[name]:
        response = await send(api, WRITES[name], body=body)
        assert response.status_code == 422, response.text
        assert response.json()["errors"][0]["source"] == {"pointer": pointer}


@pytest.mark.parametrize("name", WRITES)
async def test_a_body_may_repeat_the_id_of_the_path_and_no_other(api: Api, name: str) -> None:
    write = WRITES[name]
    ready(api, write)
    own = write.path.split("/")[2]
    # The path of the tracker has none.
    tracker = write.path.startswith("/tracker")
    for wrong in ("t" if tracker else "other", 7, [own]):
        refused(await send(api, write, body={**(write.body or {}), "id": wrong}), 422, "invalid", pointer="/id")
    if not tracker:
        refused(await send(api, write, body={**(write.body or {}), "id": None}), 422, "invalid", pointer="/id")
        assert shown(await send(api, write, body={**(write.body or {}), "id": own}))["id"] == own
