"""The sender of commands has its answers again after the broker was away."""

from __future__ import annotations

from services.broker.sender import CommandSender, NotSent, Outgoing
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
