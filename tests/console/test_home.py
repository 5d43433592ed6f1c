"""The first screen: the figures of now with their chart, what is stuck, and both kept up to date."""

from __future__ import annotations

from tests.console.browser import Browser
from tests.console.scene import set_the_scene
from tests.eventually import eventually
from tests.services.http.served import Served


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
