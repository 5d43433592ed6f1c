"""Keys: listing them, making one whose token is shown once, and revoking one that is named first."""

from __future__ import annotations

import httpx

from services import keys
from tests.console.browser import Browser
from tests.console.scene import HOSTILE
from tests.eventually import eventually
from tests.services.http.served import Served


def may(system: Served, token: str) -> int:
    answer = httpx.get(f"{system.url}/v1/tasks", headers={"Authorization": f"Bearer {token}"})
    return answer.status_code


def test_a_key_is_made_shown_once_and_revoked(person: Browser, system: Served) -> None:
    person.open("/console/keys")
    person.says("the key of this session")
    person.click("summary")
    person.fill("#name", HOSTILE)
    person.fill("#days", "many")
    person.press("Create")
    person.says("days are a whole number")
    person.fill("#days", "30")
    person.click('[name="permissions"][value="read"]')
    person.press("Create")
    person.says(HOSTILE, "is shown this once")
    token = person.find(".token").text
    assert may(system, token) == 200
    eventually(lambda: len(person.all("tbody tr")) == 2)
    person.sound()
    person.open("/console/keys")
    assert token not in person.driver.page_source
    assert person.driver.title != "owned"
    person.click("tbody tr:first-child a")
    person.says("read", "expires")
    person.press("Revoke…")
    person.says("would let nobody in any more", not_="you would be logged out")
    assert may(system, token) == 200
    person.press("Revoke it")
    person.says("is revoked, and lets nobody in any more")
    eventually(lambda: may(system, token) == 401)
    person.sound()
    person.open("/console/keys?state=revoked")
    person.says(HOSTILE, not_="the key of this session")


def test_revoking_the_key_of_the_session_says_so_and_logs_out(person: Browser, system: Served) -> None:
    person.open("/console/keys")
    person.click("tbody .danger")
    person.says("It is the key of this session: you would be logged out")
    person.press("Revoke it")
    eventually(lambda: person.path.startswith("/console/login"))
    eventually(lambda: httpx.get(f"{system.url}/console/keys").status_code == 303)


def test_a_key_makes_none_that_may_do_more(person: Browser, system: Served) -> None:
    person.log_in(system.api.key("acme", "ann", "read", "keys"))
    person.open("/console/keys")
    person.click("summary")
    person.click('[name="roles"][value="operator"]')
    person.press("Create")
    person.says("forbidden")
    assert not person.all(".token")
    # That of this session, and of the one before.
    assert len(person.all("tbody tr")) == 2


def test_without_the_permission_there_is_no_screen(person: Browser, system: Served) -> None:
    person.log_in(system.api.key("acme", "system", *(name for name in keys.PERMISSIONS if name != "keys")))
    person.open("/console/keys")
    person.says("Not allowed", "this needs the permission keys")
    assert not person.all('nav a[href="/console/keys"]')
