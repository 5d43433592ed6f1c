"""Dry runs over HTTP that leave everything as it was: how they are asked for, and what takes none."""

from __future__ import annotations

from typing import Any

import pytest

from services.broker.sender import NotSent, Outgoing, Unconfirmed
from services.commands.wire import Reply
from tests.services.http.api import Api, problem
from tests.services.http.contract import CASES, EXAMPLES, READS, Case, name_of, refused, send
from tests.services.http.test_dry_runs import CREATE, DRY, WRITES, tried

pytestmark = pytest.mark.asyncio(loop_scope="module")
BULKS = [case for case in EXAMPLES if case.operation.writes and case not in WRITES]


@pytest.mark.parametrize("case", [case for case in CASES if case.operation.tries], ids=name_of)
async def test_it_needs_the_same_permission(scene_api: Api, case: Case) -> None:
    token = scene_api.key("acme", "system", "read")
    answered = await send(scene_api, case, headers={**DRY, **scene_api.by(token)})
    refused(answered, case.operation.dialect.envelope, "forbidden")
    assert scene_api.sender.sent == []


@pytest.mark.parametrize("case", [*READS, *BULKS], ids=name_of)
async def test_what_takes_no_dry_run_refuses_it(scene_api: Api, case: Case) -> None:
    answered = await send(scene_api, case, headers=DRY)
    assert answered.status_code == 400
    refused(answered, case.operation.dialect.envelope, "bad-header", parameter="Prefer")
    assert "preference-applied" not in answered.headers
    assert scene_api.sender.sent == []


async def test_the_log_in_takes_no_dry_run(scene_api: Api) -> None:
    answered = await scene_api.client.post("/api/v3/iam/auth/api/login", json={}, headers=DRY)
    assert answered.status_code == 400
    assert "Prefer" in answered.text


@pytest.mark.parametrize(
    "value",
    [
        "dry-run=true", "dry-run=false", "dry-run=1", 'dry-run="no"', "dry_run", "dryrun", "Dry Run", 'dry-run"',
        "wait=1, dry_run", "respond-async; a=b, DRYRUN",
    ],
)  # fmt: skip
async def test_what_may_be_meant_as_a_dry_run_is_not_done(scene_api: Api, value: str) -> None:
    answered = await scene_api.post("/v1/commands", CREATE, headers={"Prefer": value})
    problem(answered, 400, "bad-header", parameter="Prefer")
    assert scene_api.sender.sent == []


@pytest.mark.parametrize(
    "value",
    [
        "dry-run", "DRY-RUN", " dry-run ", 'dry-run=""', "dry-run=", "dry-run; why=test", "respond-async, dry-run",
        "dry-run,wait=10", 'a="b, c", dry-run', ",dry-run,", 'a="x\\", y", dry-run',
    ],
)  # fmt: skip
async def test_a_dry_run_is_preferred_in_every_form(scene_api: Api, value: str) -> None:
    tried(await scene_api.post("/v1/commands", CREATE, headers={"Prefer": value}))


async def test_a_preference_in_a_second_header_counts(scene_api: Api) -> None:
    headers = [*scene_api.by().items(), ("Prefer", "wait=1"), ("Prefer", "dry-run")]
    tried(await scene_api.client.post("/v1/commands", json=CREATE, headers=headers))


async def test_the_query_of_a_command_asks_for_a_dry_run(scene_api: Api) -> None:
    body = tried(await scene_api.post("/v1/commands?dry_run=true", CREATE))
    (event,) = body.pop("would_record")
    assert (event["type"], event["stream"], event["version"]) == ("task.created", "task-new", 1)
    assert event["data"]["title"] == "Water"
    assert body == {
        "command_id": "c-1", "outcome": "accepted", "duplicate": False, "position": None, "events": [], "error": None,
        "dry_run": True,
    }  # fmt: skip
    problem(await scene_api.get("/v1/commands/c-1"), 404, "unknown-or-undecided")
    again = {**CREATE, "data": {"id": "t1"}}
    answered = await scene_api.post("/v1/commands?dry_run=true", again)
    problem(answered, 409, "taken", pointer="/data/id")
    assert answered.headers["preference-applied"] == "dry-run"


@pytest.mark.parametrize("value", ["", "1", "True", "yes", "dry", "true&dry_run=true", "true&dry_run=false"])
async def test_a_value_of_dry_run_is_true_or_false(scene_api: Api, value: str) -> None:
    answered = await scene_api.post(f"/v1/commands?dry_run={value}", CREATE)
    problem(answered, 400, "bad-filter", parameter="dry_run")
    assert scene_api.sender.sent == []


@pytest.mark.parametrize("name", ["dryrun", "dry-run", "DRY_RUN", "Dry_run"])
async def test_another_parameter_is_not_passed_over(scene_api: Api, name: str) -> None:
    problem(await scene_api.post(f"/v1/commands?{name}=true", CREATE), 400, "unknown-parameter", parameter=name)
    assert scene_api.sender.sent == []


async def test_header_and_query_must_not_differ(scene_api: Api) -> None:
    tried(await scene_api.post("/v1/commands?dry_run=true", CREATE, headers=DRY))
    answered = await scene_api.post("/v1/commands?dry_run=false", CREATE, headers=DRY)
    problem(answered, 400, "bad-filter", parameter="dry_run")
    assert len(scene_api.sender.sent) == 1


async def test_without_an_answer_in_time_it_is_asked_again(scene_api: Api) -> None:
    scene_api.sender.stopped = True
    problem(await scene_api.post("/v1/commands", CREATE, headers=DRY), 503, "unavailable")


@pytest.mark.parametrize("error", [Unconfirmed, NotSent])
async def test_one_that_may_have_been_taken_did_nothing(
    scene_api: Api, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    async def send(*_: Any, **__: Any) -> None:
        raise error("no confirm")

    monkeypatch.setattr(scene_api.sender, "send", send)
    answered = await scene_api.post("/v1/commands", CREATE, headers=DRY)
    problem(answered, 503, "unavailable")
    assert "location" not in answered.headers


async def test_workers_without_dry_runs_do_nothing(scene_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Outgoing] = []

    async def send(outgoing: Outgoing, *_: Any, **__: Any) -> Reply:
        # As they answer a type that they do not know.
        sent.append(outgoing)
        return Reply(outgoing.command_id, "rejected")

    monkeypatch.setattr(scene_api.sender, "send", send)
    problem(await scene_api.post("/v1/commands", CREATE, headers=DRY), 503, "unavailable")
    assert [outgoing.type for outgoing in sent] == ["dry-run.task.create"]
