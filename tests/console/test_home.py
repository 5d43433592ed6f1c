"""The first screen: the figures of now with their chart, what is stuck, and both kept up to date."""

from __future__ import annotations

from services import keys
from services.broker.sender import Outgoing
from tests.console.browser import Browser
from tests.console.scene import HOSTILE, set_the_scene
from tests.eventually import eventually
from tests.services.http.served import Served
from tests.services.http.test_overview import append
from tests.services.http.test_tenants import with_letters


def test_figures_stand_above_what_is_stuck_and_follow_the_log(person: Browser, system: Served) -> None:
    set_the_scene(system.api)
    person.open("/console")
    person.says("events, last minute", "time to visible", "dead letters", "What is stuck", "7 active", "20 open")
    person.find("figure .plot canvas")
    person.sound()
    system.api.command("task.create", {"id": "new"})
    person.says("21 open")
    # The chart is drawn again with the page that has replaced it.
    assert len(person.all("figure .plot canvas")) == 1
    person.press("21")
    assert person.path == "/console/tasks?status=open"


def test_what_cannot_be_asked_is_said(person: Browser, system: Served) -> None:
    system.api.queue.away = True
    person.open("/console")
    person.says("broker not asked", "events, last minute")
    person.sound()


def test_dead_letters_are_a_link_for_operators_alone(person: Browser, system: Served) -> None:
    person.log_in(system.api.key("acme", "system", "read"))
    person.open("/console")
    person.says("dead letters")
    assert not person.all('main a[href="/console/dead-letters"]')


def test_the_load_by_tenant_is_for_who_may_see_all_tenants(person: Browser, system: Served) -> None:
    person.open("/console/tenants")
    person.says("Nothing was done for any tenant")
    set_the_scene(system.api)
    append(system.api, "floods", 400, age=20)
    refused = [Outgoing("task.process", b'{"id": "nobody"}', "floods") for _ in range(3)]
    assert not any(reply.accepted for reply in system.api.sender.work(refused))
    # No command can have such a tenant; a message of a broker may have had one.
    for tenant, count in ((HOSTILE, 7), *((f"quiet-{number}", 1) for number in range(4))):
        with_letters(system.api, tenant, count)
    person.open("/console")
    person.says("Load by tenant", "floods", "the one of this key", HOSTILE)
    assert person.driver.title == "Home · Foldwork"
    assert len(person.all("[data-label=Tenant]")) == 5
    person.sound()
    person.press("All tenants")
    person.says("floods", HOSTILE, "quiet-3", "3 refused")
    person.sound()
    person.press("last 1 min")
    assert person.path == "/console/tenants?minutes=1"
    person.open("/console/tenants?minutes=99")
    person.says("minutes is a whole number from 1 to 15")
    person.log_in(system.api.key("acme", "system", *[name for name in keys.PERMISSIONS if name != "tenants"]))
    person.open("/console")
    person.says("What is stuck", not_="floods")
    assert not person.all("a[href='/console/tenants']")
    person.open("/console/tenants")
    person.says("this needs the permission tenants", not_="floods")


def test_the_form_of_the_log_in_leads_to_what_was_wanted_and_the_session_ends_by_its_button(
    person: Browser, system: Served
) -> None:
    person.driver.delete_all_cookies()
    person.open("/console/tasks?status=open")
    person.fill("#key", system.api.key("acme", "system", "read"))
    person.press("Log in")
    eventually(lambda: person.path == "/console/tasks?status=open")
    person.press("Log out")
    eventually(lambda: person.path == "/console/login")
    person.open("/console")
    assert person.path == "/console/login?next=%2Fconsole"
