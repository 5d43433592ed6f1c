"""A day's work of the original's client against a server that listens on a port."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.field_client import FieldClient
from tests.services.http.served import served

DRIVER, OTHER = "driver@example.com", "leandro@mile.app"
HUB = {"name": "Neo Soho", "address": "Jl. Letjen S. Parman", "lat": -6.17434, "lng": 106.79028}


@pytest.fixture
def client(migrated_url: str) -> Iterator[FieldClient]:
    """A client of an organization with a hub and two users."""
    with served(migrated_url) as running:
        for kind, own, fields in (
            ("hub", "h1", HUB),
            ("member", "u1", {"email": DRIVER, "name": "Driver"}),
            ("member", "u2", {"email": OTHER, "name": "Leandro"}),
        ):
            running.api.command("directory.register", {"kind": kind, "id": own, "fields": fields})
        yield FieldClient(running.url, running.api.key("acme", "u2"))


def test_tasks_are_created(client: FieldClient) -> None:
    sent = {
        "flow": "Visit",
        "hubId": "h1",
        "startTime": "2022-07-13 03:16:40",
        "endTime": "2022-07-13T10:16:40+07:00",
        "assignee": [DRIVER],
        "field1": "Jack",
    }
    task = client.create_task(sent)
    assert {name: task[name] for name in ("flow", "hubId", "assignee", "field1")} == {
        name: sent[name] for name in ("flow", "hubId", "assignee", "field1")
    }
    assert (task["startTime"], task["status"]) == ("2022-07-13T03:16:40+00:00", "ONGOING")
    assert client.task(task["_id"]) == task
    client.create_tasks([{"flow": "Visit", "hubId": "h1"}, {"flow": "Visit", "hubId": "h1", "refId": "66544e"}])
    assert client.refused("GET", "/task/nobody", 404)
