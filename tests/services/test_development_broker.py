"""What holds for the development broker alone: its refusals, its test hooks and its size."""

import asyncio
from pathlib import Path
from typing import Any

import aio_pika
import aiormq
import pytest
from pamqp import commands
from pamqp.commands import Basic

import services.dev.broker
from services.dev.broker import DevelopmentBroker
from tests.contracts.amqp.wire import Wire, content
from tests.eventually import PATIENCE

LIMIT, LIMIT_OF_A_FILE = 1600, 300
QUORUM = {"x-queue-type": "quorum"}


@pytest.fixture
async def started_broker() -> Any:
    started = DevelopmentBroker()
    await started.start()
    yield started
    await started.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])
def test_listens_on_loopback_only(host: str) -> None:
    with pytest.raises(ValueError, match="loopback"):
        DevelopmentBroker(host)


async def test_says_what_it_is(started_broker: DevelopmentBroker) -> None:
    connection = await aiormq.connect(started_broker.url)
    properties = connection.server_properties
    assert properties["product"] == "Foldwork development broker"
    assert "lost" in str(properties["information"])
    await connection.close()


async def test_a_port_that_is_taken(started_broker: DevelopmentBroker) -> None:
    with pytest.raises(OSError, match=str(started_broker.port)):
        await DevelopmentBroker(port=started_broker.port).start()


async def test_asks_for_the_credentials_it_was_given() -> None:
    broker = DevelopmentBroker(user="an:na", password="s/ecret")
    await broker.start()
    await (await aiormq.connect(broker.url)).close()
    with pytest.raises(aiormq.exceptions.AMQPConnectionError):
        await aiormq.connect(f"amqp://guest:guest@127.0.0.1:{broker.port}/")
    await broker.close()


REFUSED = {
    "transactions": lambda channel: channel.tx_select(),
    "headers exchange": lambda channel: channel.exchange_declare("x", exchange_type="headers"),
    "alternate exchange": lambda channel: channel.exchange_declare("x", arguments={"alternate-exchange": "y"}),
    "unknown queue argument": lambda channel: channel.queue_declare("q", arguments={"x-max-priority": 3}),
    "length limit": lambda channel: channel.queue_declare("q", arguments={"x-max-length-bytes": 3}),
    "stream": lambda channel: channel.queue_declare("q", durable=True, arguments={"x-queue-type": "stream"}),
    "prefetch for the channel": lambda channel: channel.basic_qos(prefetch_count=1, global_=True),
    "consumer priority": lambda channel: channel.basic_consume("", print, arguments={"x-priority": 1}),
    "carbon copies": lambda channel: channel.basic_publish(b"", properties=Basic.Properties(headers={"CC": ["a"]})),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
async def test_refuses_what_it_does_not_implement(started_broker: DevelopmentBroker, case: str) -> None:
    connection = await aiormq.connect(started_broker.url)
    channel: Any = await connection.channel()
    with pytest.raises(Exception, match="NOT_IMPLEMENTED"):
        await REFUSED[case](channel)


async def test_the_size_of_messages_has_a_limit_of_choice() -> None:
    broker = DevelopmentBroker(max_message_size=1000)
    await broker.start()
    connection = await aiormq.connect(broker.url)
    await (await connection.channel()).basic_publish(bytes(1000), routing_key="nobody")
    with pytest.raises(aiormq.exceptions.ChannelPreconditionFailed, match="larger than configured max size 1000"):
        await (await connection.channel()).basic_publish(bytes(1001), routing_key="nobody")
    await connection.close()
    await broker.close()


async def test_what_was_published_is_confirmed_before_its_channel_closes(started_broker: DevelopmentBroker) -> None:
    async with Wire(started_broker.url) as wire:
        await wire.open(channels=(1,))
        wire.send(commands.Confirm.Select(), channel=1)
        await wire.expect(commands.Confirm.SelectOk)
        message = [Basic.Publish(routing_key="nobody"), *content(None, b"x")]
        wire.send(*message * 3, commands.Channel.Close(200, "", 0, 0), channel=1)
        ack = await wire.expect(Basic.Ack)
        assert (ack.delivery_tag, ack.multiple) == (3, True)
        await wire.expect(commands.Channel.CloseOk)


async def test_what_expires_in_a_circle_ends(started_broker: DevelopmentBroker) -> None:
    connection = await aiormq.connect(started_broker.url)
    channel = await connection.channel()
    arguments: Any = {"x-message-ttl": 0, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q"}
    await channel.queue_declare("q", arguments=arguments)
    await channel.basic_publish(b"1", routing_key="q")
    assert (await channel.queue_declare("q", passive=True)).message_count == 0
    await connection.close()


async def test_virtual_hosts_know_nothing_of_each_other(started_broker: DevelopmentBroker) -> None:
    first, second = (
        await aiormq.connect(started_broker.url + "one"),
        await aiormq.connect(started_broker.url + "two"),
    )
    await (await first.channel()).queue_declare("q")
    with pytest.raises(aiormq.exceptions.ChannelNotFoundEntity):
        await (await second.channel()).queue_declare("q", passive=True)
    await first.close()
    await second.close()


async def test_clients_come_back_after_dropped_connections(started_broker: DevelopmentBroker) -> None:
    inbox: asyncio.Queue[bytes] = asyncio.Queue()
    back = asyncio.Event()

    async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        inbox.put_nowait(message.body)
        await message.ack()

    connection = await aio_pika.connect_robust(started_broker.url, reconnect_interval=0.01)
    connection.reconnect_callbacks.add(lambda *_: back.set())
    channel = await connection.channel()
    durable = await channel.declare_queue("durable", durable=True, arguments=QUORUM)
    mine = await channel.declare_queue("mine", exclusive=True)
    await durable.consume(take)
    await mine.consume(take)
    assert await started_broker.drop_connections() == 1
    await asyncio.wait_for(back.wait(), PATIENCE)
    await channel.ready()
    for name in ("durable", "mine"):
        await channel.default_exchange.publish(aio_pika.Message(name.encode()), name)
        assert await asyncio.wait_for(inbox.get(), PATIENCE) == name.encode()
    await connection.close()


async def test_leaves_nothing_behind_when_it_closes(started_broker: DevelopmentBroker) -> None:
    before = asyncio.all_tasks()
    reader, writer = await asyncio.open_connection("127.0.0.1", started_broker.port)
    writer.write(b"AMQP\0\0\x09\1")
    await reader.readexactly(7)
    await started_broker.close()
    assert asyncio.all_tasks() == before
    while await reader.read(4096):
        pass
    writer.close()
    with pytest.raises(OSError, match=str(started_broker.port)):
        await asyncio.open_connection("127.0.0.1", started_broker.port)


async def test_tells_its_clients_that_it_closes(started_broker: DevelopmentBroker) -> None:
    connection = await aiormq.connect(started_broker.url)
    await started_broker.close()
    with pytest.raises(aiormq.exceptions.ConnectionClosed, match=r"320|CONNECTION_FORCED"):
        await asyncio.wait_for(connection.closing, PATIENCE)


def test_stays_small() -> None:
    files = Path(services.dev.broker.__file__).parent.glob("*.py")
    sizes = {file.name: len(file.read_text().splitlines()) for file in files}
    assert sum(sizes.values()) <= LIMIT, sizes
    assert max(sizes.values()) < LIMIT_OF_A_FILE, sizes
