"""The screens of webhooks: created, changed, paused, with the deliveries that were missed sent again."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.console.browser import Browser
from tests.console.scene import HOSTILE
from tests.eventually import eventually
from tests.services.harness import rows
from tests.services.http.served import Served

LIST = "/console/webhooks"
URL = "https://example.com/hooks"


def hooks(system: Served) -> dict[str, Any]:
    """Return the webhooks by their ids, as the API shows them."""
    headers = system.api.by(system.api.key("acme", "system", "webhooks"))
    found = httpx.get(f"{system.url}/v1/webhooks", headers=headers).json()
    return {each["id"]: each for each in found["data"]}


def made(system: Served, **rest: Any) -> None:
    headers = system.api.by(system.api.key("acme", "system", "webhooks"))
    answer = httpx.post(f"{system.url}/v1/webhooks", headers=headers, json={"id": "crm", "url": URL, **rest})
    assert answer.status_code == 201, answer.text


def delivered(system: Served, *found: tuple[str, int | None, str]) -> list[int]:
    """Store a delivery in each of these states, all that is queued, and return the positions of their events."""
    positions = []
    for number, (state, status, answer) in enumerate(found):
        reply = system.api.command("task.create", {"id": f"d{number}"})
        (position,) = rows(
            system.api.url,
            "INSERT INTO webhook_deliveries (tenant, webhook, position, event_id, entity, state, attempts, tried_at,"
            " status, answer, next_at) SELECT 'acme', 'crm', notification_id, gen_random_uuid(), originator_id,"
            " %s, 3, now(), %s, %s, now() FROM stored_events WHERE notification_id = %s RETURNING position",
            state, status, answer, reply.position,
        )  # fmt: skip
        positions.append(position[0])
    rows(system.api.url, "UPDATE webhooks SET position = NULL RETURNING id")
    return positions


def states(system: Served) -> list[str]:
    return [state for (state,) in rows(system.api.url, "SELECT state FROM webhook_deliveries ORDER BY position")]


def test_a_webhook_is_created_and_its_secret_shown_once(system: Served, person: Browser) -> None:
    person.open(LIST)
    person.says("No webhook yet.")
    person.click("details summary")
    person.fill("#id", "crm")
    person.fill("#url", "ftp://example.com")
    person.press("Create")
    person.says("invalid", "/url")
    person.fill("#url", URL)
    person.script("document.querySelector('#types option[value=\"task.completed\"], #types option').selected = true")
    person.fill("#about-activities", "a1 a2")
    person.fill("#from_position", "0")
    person.press("Create")
    person.says("The webhook crm is created.", "whsec_")
    eventually(lambda: person.all("main tbody tr"))
    assert "whsec_" in person.find("#said").text
    person.sound()
    found = hooks(system)["crm"]
    assert (found["url"], len(found["types"]), found["filter"]["activities"]) == (URL, 1, ["a1", "a2"])
    person.press("crm")
    person.says("active", "No deliveries.", not_="whsec_")
    person.sound()


def test_a_webhook_is_changed_paused_resumed_and_deleted(system: Served, person: Browser) -> None:
    made(system, types=["task.created"])
    person.open(f"{LIST}/crm")
    person.fill("#url", f"{URL}/2")
    person.script("document.querySelectorAll('#types option').forEach((each) => { each.selected = false; })")
    person.press("Change")
    person.says("The webhook is changed.")
    assert (hooks(system)["crm"]["url"], hooks(system)["crm"]["types"]) == (f"{URL}/2", None)
    person.press("Pause")
    person.says("The webhook is paused.")
    person.press("Resume")
    person.says("The webhook is active.")
    person.press("Rotate…")
    person.says("The receiver needs the new secret", not_="whsec_")
    person.press("Rotate the secret")
    person.says("whsec_", "is shown here, and nowhere again", "signed with the secret before, too")
    person.press("Delete…")
    person.says("are deleted")
    assert list(hooks(system)) == ["crm"]
    person.press("Delete it")
    person.says("No webhook yet.")
    assert hooks(system) == {}


def test_missed_deliveries_are_sent_again(system: Served, person: Browser) -> None:
    made(system)
    answers = (("delivered", 200, "ok"), ("parked", 400, HOSTILE), ("parked", 500, "broken"), ("parked", None, "away"))
    positions = delivered(system, *answers)
    person.open(LIST)
    person.press("crm")
    person.says("<img src=x onerror=", "500", "away")
    person.sound()
    assert "owned" not in person.driver.title
    person.click(f"#p{positions[1]} button")
    person.says(f"The event {positions[1]} is sent again.")
    eventually(lambda: states(system) == ["delivered", "pending", "parked", "parked"])
    person.press("Replay the 2 parked…")
    person.says("2 deliveries that were given up")
    assert states(system).count("parked") == 2
    person.press("Send them again")
    person.says("2 deliveries are sent again.")
    assert states(system) == ["delivered", "pending", "pending", "pending"]


def test_a_webhook_is_replayed_from_a_delivery_or_a_position(system: Served, person: Browser) -> None:
    made(system)
    (first, second) = delivered(system, ("delivered", 200, "ok"), ("delivered", 200, "ok"))
    person.open(f"{LIST}/crm?state=delivered")
    person.click(f"#p{second} button:last-child")
    person.says("is sent again in order", str(second - 1))
    person.press("Send them again")
    person.says("are sent again.")
    assert hooks(system)["crm"]["position"] == second - 1
    person.fill("#from", "-1")
    person.press("Replay…")
    person.says("a whole number from 0 on is needed", "/from_position")
    person.fill("#from", str(first - 1))
    person.press("Replay…")
    person.press("Send them again")
    person.says("are sent again.")
    eventually(lambda: hooks(system)["crm"]["position"] == first - 1)


@pytest.mark.parametrize("verb", ["state", "delete", "rotate-secret", "replay", "replay-parked", "deliveries/1/replay"])
def test_who_has_no_permission_sees_and_does_nothing(system: Served, person: Browser, verb: str) -> None:
    made(system)
    person.log_in(system.api.key("acme", "system", "read", "write", "operate"))
    person.open("/console")
    assert person.all(f"nav a[href='{LIST}']") == []
    person.script(
        f"htmx.ajax('POST', '{LIST}/crm/{verb}', {{target: '#said', values: {{sure: 'yes', state: 'paused'}}}})"
    )
    eventually(lambda: "permission webhooks" in person.find("#said").text)
    assert hooks(system)["crm"]["state"] == "active"
    person.open(f"{LIST}/crm")
    person.says("Not allowed", not_=URL)
