"""Read models: how far they are, what they hold back and trying it again, a rebuild and what it found."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

import projections
from projections.task import table as tasks
from services.processors.rebuilder import Rebuilder
from tests.console.browser import Browser
from tests.console.scene import HOSTILE, set_the_scene
from tests.eventually import PATIENCE
from tests.services.http.served import Served

TABLES = projections.follower_name(tasks, projections.suffix(tasks))


@contextmanager
def rebuilding(system: Served) -> Iterator[None]:
    """Run what takes rebuilds, as the role `projections` does."""
    worker = Rebuilder()
    thread = threading.Thread(target=worker.run, args=(system.api.url,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join(PATIENCE)


def test_all_are_listed_with_their_lag(person: Browser, system: Served) -> None:
    set_the_scene(system.api)
    system.api.sender.late = {"tasks"}
    system.api.command("task.create", {"id": "late"})
    person.open("/console/projections")
    person.says("Read models", *projections.BY_NAME, "behind", "up to date")
    person.sound()
    person.press("tasks")
    person.says("head of the log", "Nothing of acme")
    person.open("/console/projections/none")
    person.says("Not found")


def test_a_rebuild_is_seen_to_differ_in_nothing(person: Browser, system: Served) -> None:
    set_the_scene(system.api)
    person.open("/console/projections/tasks")
    person.press("Rebuild and compare…")
    person.says("tasks, of all tenants, is made again", "serve only if nothing differs")
    assert not person.all("main .is-waiting")
    person.press("Rebuild")
    person.says("waiting until a process of the role projections takes it")
    assert person.find("main .head button").get_attribute("disabled")
    with rebuilding(system):
        person.says("Nothing differs.", "27 rows are the same", "the new tables")
    person.sound()


def test_rows_that_differ_are_shown_and_the_old_tables_go_on(person: Browser, system: Served) -> None:
    set_the_scene(system.api)
    with psycopg.connect(system.api.url) as conn:
        conn.execute(f"UPDATE {TABLES} SET status = 'failed' WHERE id = 'a4-t0'")
    person.open("/console/projections/tasks")
    person.press("Rebuild and compare…")
    person.press("Rebuild")
    with rebuilding(system):
        person.says("Rows differ. The tables that served go on serving", "status 1", "a4-t0: different")
    person.sound()


def test_what_is_held_back_is_shown_and_tried_again(person: Browser, system: Served) -> None:
    with psycopg.connect(system.api.url) as conn:
        conn.execute(
            "INSERT INTO held_entities (follower, entity, position, error, retry_at)"
            " VALUES (%s, 'acme/task-t1', 7, %s, now() + interval '1 hour')",
            (TABLES, HOSTILE),
        )
    person.open("/console/projections/tasks")
    person.says("task-t1", HOSTILE)
    person.sound()
    person.press("Try again now")
    person.says("1 held-back entity is tried again")
    with psycopg.connect(system.api.url) as conn:
        assert conn.execute("SELECT retry_at <= now() FROM held_entities").fetchone() == (True,)


def test_a_member_or_a_reader_does_not_rebuild(person: Browser, system: Served) -> None:
    set_the_scene(system.api)
    for actor, permissions in (("ann", ("read", "operate")), ("system", ("read",))):
        person.log_in(system.api.key("acme", actor, *permissions))
        person.open("/console/projections/tasks")
        person.says("head of the log")
        assert not person.all("main [hx-post]")
