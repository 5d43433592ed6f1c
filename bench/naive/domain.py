"""The aggregates and the application of the naive peer; each command is one transaction."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event


class Activity(Aggregate):
    """A master; its status is rolled up in the read model."""

    class Created(Aggregate.Created):
        """An activity was created."""

        activity_id: UUID
        workflow_id: str
        title: str
        task_ids: list[UUID]

    @event(Created)
    def __init__(self, activity_id: UUID, workflow_id: str, title: str, task_ids: list[UUID]) -> None:
        self.workflow_id = workflow_id
        self.title = title
        self.task_ids = task_ids

    @staticmethod
    def create_id(activity_id: UUID) -> UUID:
        """Take the id that the command brings."""
        return activity_id


class Task(Aggregate):
    """A task of an activity."""

    class Created(Aggregate.Created):
        """A task was created."""

        task_id: UUID
        activity_id: UUID
        step: int
        fields: dict[str, Any]
        start: str
        end: str

    class Started(Aggregate.Event):
        """The task was started."""

    class Completed(Aggregate.Event):
        """The task was completed."""

        data: dict[str, Any]

    @event(Created)
    def __init__(
        self, task_id: UUID, activity_id: UUID, step: int, fields: dict[str, Any], start: str, end: str
    ) -> None:
        self.activity_id = activity_id
        self.step = step
        self.fields = fields
        self.start = start
        self.end = end
        self.status = "open"
        self.output: dict[str, Any] = {}

    @staticmethod
    def create_id(task_id: UUID) -> UUID:
        """Take the id that the command brings."""
        return task_id

    def process(self) -> None:
        """Start the task."""
        if self.status != "open":
            raise ValueError(f"task {self.id} is {self.status}")
        self._started()

    def complete(self, data: dict[str, Any]) -> None:
        """Complete the task."""
        if self.status != "active":
            raise ValueError(f"task {self.id} is {self.status}")
        self._completed(data)

    @event(Started)
    def _started(self) -> None:
        self.status = "active"

    @event(Completed)
    def _completed(self, data: dict[str, Any]) -> None:
        self.status = "completed"
        self.output = data


Events = list[Aggregate.Event]


class Work(Application[UUID]):
    """The commands, a method and a transaction each; each returns the events that it recorded."""

    name = "work"

    def create(self, activity_id: UUID, workflow_id: str, title: str, tasks: list[dict[str, Any]]) -> Events:
        """Create an activity with its tasks."""
        created = [
            Task(UUID(task["id"]), activity_id, step, task["fields"], task["start"], task["end"])
            for step, task in enumerate(tasks)
        ]
        return self._saved(Activity(activity_id, workflow_id, title, [task.id for task in created]), *created)

    def process(self, task_id: UUID) -> Events:
        """Start a task."""
        task: Task = self.repository.get(task_id)
        task.process()
        return self._saved(task)

    def complete(self, task_id: UUID, data: dict[str, Any]) -> Events:
        """Complete a task."""
        task: Task = self.repository.get(task_id)
        task.complete(data)
        return self._saved(task)

    def _saved(self, *aggregates: Aggregate) -> Events:
        return [recording.domain_event for recording in self.save(*aggregates)]  # type: ignore[misc]
