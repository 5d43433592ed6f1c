"""Pings: a signed test event is sent to a webhook at once, to see whether its receiver works.

It is no event of the log and no delivery: nothing waits for it, it is sent once, and whatever its answer, the webhook
goes on as before.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import NamedTuple

import uuid_utils

from services.cloud_events import ping_event
from services.processors.receivers import Delivered, Delivery, Receivers
from services.settings import Settings
from services.store import webhooks
from services.store.connect import connect
from services.store.operations import By, acting_for_long


class Ping(NamedTuple):
    """What came of a ping: whether it was taken, after how many seconds, and what the receiver answered."""

    event_id: str
    delivered: bool
    status: int | None
    seconds: float
    answer: str


def ping(settings: Settings, tenant: str, webhook: str, by: By) -> Ping:
    """Send a ping to a webhook, in bounded time, and record that; raises `RefusalError`."""
    url = settings.database_url.get_secret_value()
    with acting_for_long(url, by.operation(tenant, "webhook.ping", f"webhook/{webhook}")) as act:
        with connect(url, "ping", settings.statement_timeout, autocommit=True) as conn:
            address, secrets = webhooks.sent_to(conn, tenant, webhook)
        event_id, at = str(uuid_utils.uuid7()), datetime.now(UTC)
        body = ping_event(event_id, tenant, webhook, at)
        delivery = Delivery(tenant, webhook, address, secrets, event_id, int(at.timestamp()), body)
        began = time.monotonic()
        came = asyncio.run(_sent(settings, delivery))
        found = Ping(event_id, came.taken, came.status, round(time.monotonic() - began, 3), came.answer)
        act.details |= found._asdict()
    return found


async def _sent(settings: Settings, delivery: Delivery) -> Delivered:
    async with Receivers(settings) as receivers:
        return await receivers.send(delivery)
