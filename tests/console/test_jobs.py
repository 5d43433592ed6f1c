"""Jobs that people have to do, from the first screen on, and how many clicks each takes; a form that is sent is one."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from services import keys
from tests.console.browser import Browser
from tests.console.scene import set_the_scene
from tests.console.test_bulk import with_letters
from tests.console.test_projections import rebuilding
from tests.console.test_webhooks import delivered, made
from tests.eventually import eventually
from tests.services.http.served import Served
from tests.services.http.test_overview import append


@contextmanager
def clicks(person: Browser, most: int) -> Iterator[None]:
    """Begin at the first screen, and expect so many clicks at most."""
    person.open("/console")
    person.find("#main h1")
    person.clicks = 0
    yield
    assert person.clicks <= most, f"it took {person.clicks} clicks"


def search(person: Browser, text: str) -> None:
    person.find(".find input").send_keys(text + "\n")
    person.clicks += 1


@pytest.fixture
def company(system: Served) -> Served:
    set_the_scene(system.api)
    return system


def test_why_does_an_activity_hang(company: Served, person: Browser) -> None:
    with clicks(person, 3):
        person.press("a2")
        person.says("failed", "open the failed task again", "decides", "The gate was closed.")


def test_all_open_work_of_a_member_goes_to_another(company: Served, person: Browser) -> None:
    with clicks(person, 4):
        person.click("nav a[href='/console/board']")
        person.click("main a[href='/console/board/ben']")
        person.fill('[aria-label="Who is to have all open tasks"]', "ann")
        person.press("Reassign all…")
        person.press("Reassign 6")
        person.says("6 of 6 tasks reassigned")


def test_one_group_of_dead_letters_is_sent_again_gently(system: Served, person: Browser) -> None:
    with_letters(system.api, 3)
    with clicks(person, 4):
        person.click(".figures a[href='/console/dead-letters']")
        person.press("Retry…")
        person.fill("#data", '{"merge": {"title": "Water the plants"}}')
        person.press("Preview")
        person.says("3 would be done")
        assert person.script("return document.querySelector('select[name=rate]').value") == "ramp"
        person.press("Run")
        person.says("running")


def test_who_changed_a_field_and_what_was_it(company: Served, person: Browser) -> None:
    with clicks(person, 1):
        search(person, "a3-t1")
        person.says("By truck", "By train", "task.fields-changed", "system")
        changed = [
            (each.text, person.all(".changes ins")[at].text) for at, each in enumerate(person.all(".changes del"))
        ]
        assert ("By truck", "By train") in changed


def test_an_activity_as_of_a_time(company: Served, person: Browser) -> None:
    # A field for times has whole seconds.
    then = math.ceil(time.time())
    eventually(lambda: time.time() > then)
    company.api.command("task.change", {"id": "a3-t1", "title": "By ship"})
    with clicks(person, 2):
        search(person, "a3")
        person.says("By ship")
        local = "new Date(arguments[0] - new Date().getTimezoneOffset() * 60000).toISOString().slice(0, 19)"
        person.script(f"document.querySelector('[data-moment]').value = {local}", then * 1000)
        person.press("Go")
        person.says("As of position", "By train")
        assert "By ship" not in person.find(".lanes ~ .wide").text


def test_an_activity_is_found_by_a_customers_name(company: Served, person: Browser) -> None:
    company.api.command("task.change", {"id": "a5-t0", "fields": {"customer": "Jane Doe"}})
    with clicks(person, 2):
        search(person, "customer=Jane Doe")
        eventually(lambda: person.path == "/console/tasks/a5-t0")
        person.click(".under a[href='/console/activities/a5']")
        person.says("Order 4715")


def test_a_read_model_is_rebuilt_and_nothing_differs(company: Served, person: Browser) -> None:
    with clicks(person, 4):
        person.click("nav a[href='/console/projections']")
        person.press("tasks")
        person.press("Rebuild and compare…")
        person.press("Rebuild")
        with rebuilding(company):
            person.says("Nothing differs.")


def test_missed_deliveries_of_a_webhook_are_replayed(system: Served, person: Browser) -> None:
    made(system)
    delivered(system, ("parked", 500, "broken"), ("parked", None, "away"))
    with clicks(person, 4):
        person.click("nav a[href='/console/webhooks']")
        person.press("crm")
        person.press("Replay the 2 parked…")
        person.press("Send them again")
        person.says("2 deliveries are sent again.")


def test_a_key_is_revoked(system: Served, person: Browser) -> None:
    with psycopg.connect(system.api.url) as conn:
        keys.create(conn, "acme", "system", ["read"], name="leaver")
    with clicks(person, 3):
        person.click("nav a[href='/console/keys']")
        person.press("Revoke leaver")
        person.press("Revoke it")
        person.says("is revoked")


def test_which_tenant_loads_the_system(company: Served, person: Browser) -> None:
    append(company.api, "floods", 900, age=5)
    with clicks(person, 0):
        person.says("Load by tenant")
        first, second, *_ = (row.text for row in person.all("[data-label=Tenant]"))
        assert (first.split(), second.split()[0]) == (["floods"], "acme")
        assert float(person.find("[data-label=Share]").text.split()[0]) > 80
