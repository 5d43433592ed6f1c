"""The sender of commands has its answers again after the broker was away."""

from __future__ import annotations

from unittest.mock import AsyncMock

import aio_pika
import pytest

from services.broker.sender import CommandSender, NotSent, Outgoing, Unconfirmed
from services.commands.wire import Reply
from tests.eventually import PATIENCE, eventually_async
from tests.services.harness import TENANT, working
from tests.services.proxy import broker_proxy


async def test_answers_come_again_on_a_new_connection(migrated_url: str, amqp_url: str) -> None:
    with broker_proxy(amqp_url) as (proxy, through):
        async with working(migrated_url, amqp_url):
            sender = CommandSender(through)
            await sender.start()
            try:
                for number in range(3):
                    proxy.cut()

                    async def answered(own: str = f"t{number}") -> bool:
                        try:
                            reply = await sender.send(
                                Outgoing("task.create", b'{"id": "%b"}' % own.encode(), TENANT, command_id=own),
                                PATIENCE,
                            )
                        except NotSent:
                            return False
                        return reply is not None and reply.accepted

                    assert await eventually_async(answered)
            finally:
                await sender.close()


async def test_whatever_a_confirm_ends_in_the_command_may_have_been_taken(
    amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = CommandSender(amqp_url)
    await sender.start()
    try:
        # aiormq ends some calls so when their connection is lost.
        monkeypatch.setattr(aio_pika.RobustExchange, "publish", AsyncMock(side_effect=Exception()))
        with pytest.raises(Unconfirmed, match="did not confirm"):
            await sender.send(Outgoing("task.create", b'{"id":"t1"}', TENANT), PATIENCE)
        assert sender.unanswered is not None
    finally:
        await sender.close()


async def test_for_how_long_nothing_was_answered(migrated_url: str, amqp_url: str) -> None:
    sender = CommandSender(amqp_url)
    await sender.start()

    async def send(own: str, timeout: float) -> Reply | None:
        data = b'{"id": "%b"}' % own.encode()
        return await sender.send(Outgoing("task.create", data, TENANT, command_id=own), timeout)

    try:
        assert sender.unanswered is None
        assert await send("t1", 0.1) is None
        first = sender.unanswered
        assert first is not None
        assert first >= 0.1
        assert await send("t2", 0.1) is None
        # Since the first of them, not the last.
        assert (sender.unanswered or 0.0) >= first + 0.1
        async with working(migrated_url, amqp_url):
            assert await send("t3", PATIENCE) is not None
            assert sender.unanswered is None
    finally:
        await sender.close()
