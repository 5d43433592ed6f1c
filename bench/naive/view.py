"""The naive peer's read model: a projection in a process of its own, one transaction for each event."""

from __future__ import annotations

import signal
from typing import Any
from uuid import UUID

from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresDatastore, PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg.sql import SQL, Composed

from bench.naive.domain import Activity, Task, Work

_ROLL_UP = """
UPDATE activities SET status = (
    SELECT CASE WHEN bool_and(status = 'completed') THEN 'completed' WHEN bool_and(status = 'open') THEN 'open'
                ELSE 'active' END
    FROM tasks WHERE tasks.activity_id = activities.id)
WHERE id = (SELECT activity_id FROM tasks WHERE id = %s)"""


class ActivityView(PostgresTrackingRecorder):
    """Activities with their rolled-up status, and their tasks."""

    def __init__(self, datastore: PostgresDatastore, **kwargs: Any) -> None:
        super().__init__(datastore, **kwargs)
        tables: tuple[Composed | SQL, ...] = (
            SQL("CREATE TABLE IF NOT EXISTS activities (id uuid PRIMARY KEY, title text, status text NOT NULL)"),
            SQL("CREATE TABLE IF NOT EXISTS tasks (id uuid PRIMARY KEY, activity_id uuid, status text NOT NULL)"),
            SQL("CREATE INDEX IF NOT EXISTS tasks_activity_id_idx ON tasks (activity_id)"),
        )
        self.sql_create_statements.extend(tables)  # type: ignore[arg-type]

    def add_activity(self, activity_id: UUID, title: str, tracking: Tracking) -> None:
        """Add an activity."""
        with self.datastore.transaction(commit=True) as curs:
            self._insert_tracking(curs, tracking)
            curs.execute("INSERT INTO activities VALUES (%s, %s, 'open')", (activity_id, title), prepare=True)

    def add_task(self, task_id: UUID, activity_id: UUID, tracking: Tracking) -> None:
        """Add a task."""
        with self.datastore.transaction(commit=True) as curs:
            self._insert_tracking(curs, tracking)
            curs.execute("INSERT INTO tasks VALUES (%s, %s, 'open')", (task_id, activity_id), prepare=True)

    def set_status(self, task_id: UUID, status: str, tracking: Tracking) -> None:
        """Set a task's status and roll its activity's up."""
        with self.datastore.transaction(commit=True) as curs:
            self._insert_tracking(curs, tracking)
            curs.execute("UPDATE tasks SET status = %s WHERE id = %s", (status, task_id), prepare=True)
            curs.execute(_ROLL_UP, (task_id,), prepare=True)


class ActivityProjection(Projection[ActivityView]):
    """Turns events into calls of the view."""

    name = "activities"

    @singledispatchmethod
    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        """Pass over what the view does not show."""
        self.view.insert_tracking(tracking)

    @process_event.register
    def _(self, domain_event: Activity.Created, tracking: Tracking) -> None:
        self.view.add_activity(domain_event.originator_id, domain_event.title, tracking)

    @process_event.register
    def _(self, domain_event: Task.Created, tracking: Tracking) -> None:
        self.view.add_task(domain_event.originator_id, domain_event.activity_id, tracking)

    @process_event.register
    def _(self, domain_event: Task.Started, tracking: Tracking) -> None:
        self.view.set_status(domain_event.originator_id, "active", tracking)

    @process_event.register
    def _(self, domain_event: Task.Completed, tracking: Tracking) -> None:
        self.view.set_status(domain_event.originator_id, "completed", tracking)


def runner(env: dict[str, str] | None = None) -> ProjectionRunner[Work, ActivityView]:
    """Return the runner, which makes the tables that are not there."""
    return ProjectionRunner(
        application_class=Work, projection_class=ActivityProjection, view_class=ActivityView, env=env
    )


def main() -> None:
    """Follow the log until SIGTERM."""
    with runner() as running:
        signal.signal(signal.SIGTERM, lambda *_: running.stop())
        running.run_forever()


if __name__ == "__main__":
    main()
