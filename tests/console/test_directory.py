"""The directory: entries by kind, what refers to one, and registering, changing and retiring them."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.console.browser import Browser
from tests.console.scene import HOSTILE, set_the_scene
from tests.services.http.served import Served


def entry(system: Served, kind: str, entry_id: str) -> Any:
    address = f"{system.url}/v1/directory/{kind}/{entry_id}?retired=true"
    return httpx.get(address, headers=system.api.by()).json()


def write(person: Browser, fields: Any) -> None:
    text = fields if isinstance(fields, str) else json.dumps(fields)
    person.script("document.querySelector('#fields').value = arguments[0]", text)


def test_entries_are_listed_by_kind_with_what_refers_to_one(person: Browser, system: Served) -> None:
    set_the_scene(system.api)
    person.open("/console/directory")
    person.says("Ann Archer", HOSTILE)
    assert person.driver.title != "owned"
    person.sound()
    person.press("Ann Archer")
    person.says("Ann Archer", "ann@example.com", "12 tasks that have not ended")
    person.sound()
    person.open("/console/directory/hub")
    person.says("No hub is registered")
    for path in ("/console/directory/none", "/console/directory/member/none", "/console/directory/none/x"):
        person.open(path)
        person.says("Not found")


def test_an_entry_is_registered_changed_and_retired(person: Browser, system: Served) -> None:
    person.open("/console/directory/hub")
    person.click("summary")
    person.fill("#id", "north")
    write(person, "{not json")
    person.press("Register")
    person.says("not-json")
    write(person, {"name": "North", "gates": 4, "note": HOSTILE})
    person.press("Register")
    person.says("gates", HOSTILE)
    assert person.path == "/console/directory/hub/north"
    person.sound()
    person.click("summary")
    write(person, {"name": "North", "gates": 5})
    person.press("Change")
    person.says("Changed: gates, note")
    assert entry(system, "hub", "north")["fields"] == {"name": "North", "gates": 5}
    person.press("Retire")
    person.says("would record", "directory.entry-retired")
    assert not entry(system, "hub", "north")["retired"]
    person.press("Do it")
    person.says("recorded directory.entry-retired")
    assert entry(system, "hub", "north")["retired"]


def test_a_change_by_somebody_else_is_not_overwritten(person: Browser, system: Served) -> None:
    system.api.command("directory.register", {"kind": "hub", "id": "north", "fields": {"name": "North"}})
    person.open("/console/directory/hub/north")
    person.click("summary")
    system.api.command("directory.change", {"kind": "hub", "id": "north", "fields": {"name": "South"}})
    write(person, {"name": "East"})
    person.press("Change")
    person.says("the entry was changed since")
    assert entry(system, "hub", "north")["fields"]["name"] == "South"


def test_what_the_domain_refuses_changes_nothing(person: Browser, system: Served) -> None:
    set_the_scene(system.api)
    person.open("/console/directory/member/ann")
    person.click("summary")
    shown = json.loads(str(person.script("return document.querySelector('#fields').value")))
    write(person, {**shown, "email": 7})
    person.press("Change")
    person.says("/data/fields/email")
    assert entry(system, "member", "ann")["fields"]["email"] == "ann@example.com"


def test_who_may_only_read_sees_no_action(person: Browser, system: Served) -> None:
    set_the_scene(system.api)
    person.log_in(system.api.key("acme", "system", "read"))
    person.offers_nothing("Ann Archer", "/console/directory/member", "/console/directory/member/ann")
