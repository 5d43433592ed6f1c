"""The screen of the audit: who did what, found by act, actor, target, outcome and time."""

from __future__ import annotations

from services.store.operations import Operation
from tests.console.browser import Browser
from tests.console.scene import HOSTILE
from tests.services.http.served import Served
from tests.services.http.test_audit import add, numbered

AUDIT = "/console/audit"


def test_acts_are_shown_and_filtered(system: Served, person: Browser) -> None:
    failed = Operation(
        "acme", "ann", "webhook.change", "webhook/crm", "failed", {"host": HOSTILE}, HOSTILE, "0123456789"
    )
    add(system.api, *numbered(2), failed, Operation("other", "eve", "key.create", "key/secret"))
    person.open(AUDIT)
    person.says("cli:root", "key.create", "webhook.change", "ann", "failed", "<img src=x onerror=", not_="eve")
    person.click("details summary")
    person.says('"host": "<img')
    person.sound()
    assert "owned" not in person.driver.title
    person.press("ann")
    person.says("webhook.change", not_="key.create")
    assert "actor=ann" in person.path
    person.press("Clear")
    person.fill("input[name=target]", "key/")
    person.press("Filter")
    person.says("key.create", not_="webhook.change")
    person.script("document.querySelector('select[name=outcome]').value = 'failed'")
    person.press("Filter")
    person.says("Nothing fits.")
    person.sound()


def test_times_are_filters_and_refusals_are_said(system: Served, person: Browser) -> None:
    add(system.api, *numbered(1))
    person.open(f"{AUDIT}?since=2001-01-01T00:00:00Z")
    person.says("key.create")
    person.press("Filter")
    person.says("key.create")
    person.open(f"{AUDIT}?until=2001-01-01T00:00:00Z")
    person.says("Nothing fits.")
    person.open(f"{AUDIT}?since=yesterday")
    person.says("Refused", "since")


def test_pages_go_on_with_the_filter(system: Served, person: Browser) -> None:
    add(system.api, *numbered(3))
    person.open(f"{AUDIT}?act=key.create&limit=2")
    person.press("Next page")
    person.says("key 0", not_="key 2")
    assert "act=key.create" in person.path


def test_who_may_not_audit_has_no_menu_and_no_page(system: Served, person: Browser) -> None:
    add(system.api, *numbered(1))
    person.log_in(system.api.key("acme", "system", "read"))
    person.open("/console")
    assert person.all(f"nav a[href='{AUDIT}']") == []
    person.open(AUDIT)
    person.says("Not allowed", "this needs the permission audit", not_="key.create")
