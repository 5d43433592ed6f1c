"""What came of a command, from the history of a task: deliveries, dispatches, and the commands that it has caused."""

from __future__ import annotations

import msgspec
import psycopg

from services.broker.sender import Outgoing
from services.commands.wire import Reply
from tests.console.browser import Browser
from tests.services.http.api import Api
from tests.services.http.served import Served

HOSTILE = "<img/src=x>?a=b#c/../d"


def give(api: Api, command_id: str, name: str, caused_by: int | None = None, **data: str) -> Reply:
    """Run a command under an id."""
    sent = Outgoing(name, msgspec.json.encode(data), "acme", command_id=command_id, caused_by=caused_by)
    (reply,) = api.sender.work([sent])
    return reply


def test_from_an_event_to_what_it_has_caused_and_back(system: Served, person: Browser) -> None:
    (created,) = give(system.api, "c1", "task.create", id="a", title="Fix it").events
    give(system.api, HOSTILE, "task.cancel", created.position, id="a", reason="late")
    give(system.api, "c3", "task.process", created.position, id="a")
    with psycopg.connect(system.api.url) as conn:
        conn.execute(
            "INSERT INTO webhooks (tenant, id, url, secret, created_by)"
            " VALUES ('acme', 'crm', 'https://example.com/', '', 'system')"
        )
        conn.execute(
            "INSERT INTO webhook_deliveries"
            " (tenant, webhook, position, entity, event_id, state, attempts, next_at, status)"
            " VALUES ('acme', 'crm', %s, 'acme/task-a', 'e', 'parked', 7, now(), 500)",
            (created.position,),
        )
    person.open("/console/tasks/a")
    # The newest event is on top.
    person.all(".events button")[1].click()
    person.says(
        "webhook crm: parked, attempts 7, status 500", f"command {HOSTILE}: task.canceled", "refused as terminal"
    )
    person.sound()
    person.press(HOSTILE)
    person.says("Command", "caused by", "task.created of task a, position", "recorded by c1", "task.canceled")
    assert person.all("main img") == []
    person.sound()
    person.press("c1")
    person.says("webhook crm")
    # Who may only read is not told of webhooks; and nobody of what is not kept any more.
    person.log_in(system.api.key("acme", "system", "read"))
    person.open("/console/commands/c1")
    person.says("to keys with the permission webhooks", not_="crm")
    with psycopg.connect(system.api.url) as conn:
        conn.execute("DELETE FROM ledger")
    person.open("/console/tasks/a")
    person.all(".events button")[1].click()
    person.says("is not kept any more")
    person.sound()
