"""The workers of the role `policies`."""

from __future__ import annotations

from collections.abc import Sequence

from services.broker.dead_queue import DeadQueue
from services.broker.publisher import Publisher, command_sender
from services.crash import AFTER_CALL, AFTER_DELIVERY, AFTER_STORED_LETTERS, AFTER_WAKE, CrashPoints
from services.dead_letters import Rules
from services.follower_role import Threaded
from services.processors.dead_letters import Collector, Resender
from services.processors.dispatcher import Dispatcher
from services.processors.providers import Providers
from services.processors.receivers import Receivers
from services.processors.scheduler import Scheduler
from services.processors.webhook_follower import WebhookFollower
from services.processors.webhook_sender import WebhookSender
from services.settings import Settings


def workers(settings: Settings, publisher: Publisher, queue: DeadQueue) -> Sequence[Threaded]:
    """Return the workers that act on deadlines, those of dead letters, and those that deliver to webhooks."""
    send, crash, poll = command_sender(publisher), CrashPoints(settings), settings.follower_poll
    dispatcher = Dispatcher(lambda: Providers(settings), poll=poll, on_called=lambda: crash.reach(AFTER_CALL))
    scheduler = Scheduler(send, poll=poll, on_sent=lambda: crash.reach(AFTER_WAKE), on_hint=dispatcher.look)
    collector = Collector(
        queue, settings.broker_user, settings.may_send, on_stored=lambda: crash.reach(AFTER_STORED_LETTERS)
    )
    rules = Rules(settings.may_send, settings.command_limit)
    resender = Resender(send, rules, days=settings.receipts_days, poll=poll)
    batch, size = settings.follower_batch, settings.follower_batch_bytes
    sender = WebhookSender(lambda: Receivers(settings), poll=poll, on_sent=lambda: crash.reach(AFTER_DELIVERY))
    webhooks = WebhookFollower(batch=batch, batch_bytes=size, poll=poll, on_queued=sender.look)
    return [scheduler, dispatcher, collector, resender, webhooks, sender]
