"""The naive peer's command process: a FastStream handler for each command, and a publish with its confirm per event."""

from __future__ import annotations

import asyncio
import os
from typing import Any
from uuid import UUID

from faststream import FastStream
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange, RabbitMessage, RabbitQueue
from faststream.rabbit.schemas.queue import QueueType
from pydantic import BaseModel

from bench.naive.domain import Events, Work
from bench.naive.names import AMQP_VARIABLE, COMMAND_QUEUE, EVENT_EXCHANGE, SILENT_VARIABLE

broker = RabbitBroker(os.environ.get(AMQP_VARIABLE, "amqp://guest:guest@127.0.0.1:5672/"))
events = RabbitExchange(EVENT_EXCHANGE, type=ExchangeType.TOPIC, durable=True)
queue = RabbitQueue(COMMAND_QUEUE, queue_type=QueueType.QUORUM, durable=True)
commands = broker.subscriber(queue)
work: Work
silent = bool(os.environ.get(SILENT_VARIABLE))


class NewTask(BaseModel):
    """A task of a new activity."""

    id: UUID
    fields: dict[str, Any]
    start: str
    end: str


class CreateActivity(BaseModel):
    """The data of activity.create."""

    id: UUID
    workflow_id: str
    title: str
    tasks: list[NewTask]


class ProcessTask(BaseModel):
    """The data of task.process."""

    id: UUID


class CompleteTask(BaseModel):
    """The data of task.complete."""

    id: UUID
    data: dict[str, Any]


def _is(name: str) -> Any:
    async def named(message: RabbitMessage) -> bool:
        return message.raw_message.type == name

    return named


@commands(filter=_is("activity.create"))
async def create(command: CreateActivity) -> None:
    """Create an activity with its tasks."""
    tasks = [task.model_dump(mode="json") for task in command.tasks]
    await publish(work.create(command.id, command.workflow_id, command.title, tasks))


@commands(filter=_is("task.process"))
async def process(command: ProcessTask) -> None:
    """Start a task."""
    await publish(work.process(command.id))


@commands(filter=_is("task.complete"))
async def complete(command: CompleteTask) -> None:
    """Complete a task."""
    await publish(work.complete(command.id, command.data))


async def publish(recorded: Events) -> None:
    """Publish each event and await its confirm."""
    if silent:
        return
    for event in recorded:
        await broker.publish(
            {key: value for key, value in vars(event).items() if key != "originator_topic"},
            exchange=events,
            routing_key=type(event).__qualname__,
            message_id=f"{event.originator_id}-{event.originator_version}",
            persist=True,
        )


def main() -> None:
    """Handle commands until SIGTERM."""
    global work
    with Work() as work:
        asyncio.run(FastStream(broker).run())


if __name__ == "__main__":
    main()
