"""Opening and keeping a connection."""

import pytest
from pamqp import commands, encode

from .wire import Wire, content

Connection = commands.Connection


async def test_says_who_it_is_and_what_it_can(broker_url: str) -> None:
    async with Wire(broker_url) as wire:
        started = await wire.start()
        tuned = await wire.expect(Connection.Tune)
    assert (started.version_major, started.version_minor) == (0, 9)
    assert {"PLAIN", "AMQPLAIN"} <= set(started.mechanisms.split())
    able = started.server_properties["capabilities"]
    assert all(able[name] for name in ("publisher_confirms", "exchange_exchange_bindings", "basic.nack"))
    assert all(able[name] for name in ("consumer_cancel_notify", "direct_reply_to", "per_consumer_qos"))
    assert (tuned.channel_max, tuned.frame_max, tuned.heartbeat) == (2047, 131072, 60)


@pytest.mark.parametrize("greeting", [b"AMQP\0\0\x08\0", b"AMQP\0\1\0\0", b"HTTP/1.1"])
async def test_answers_another_protocol_with_its_own(broker_url: str, greeting: bytes) -> None:
    async with Wire(broker_url) as wire:
        wire.send(greeting)
        # RabbitMQ 4 would rather speak AMQP 1.0.
        assert await wire.reader.readexactly(8) in (b"AMQP\0\0\x09\1", b"AMQP\3\1\0\0")
        assert await wire.hung_up()


def login(user: str, password: str, mechanism: str) -> str:
    """What a client says to be let in; AMQPLAIN has a table without its length."""
    if mechanism == "PLAIN":
        return f"\0{user}\0{password}"
    return encode.field_table({"LOGIN": user, "PASSWORD": password})[4:].decode()


async def test_lets_in_by_a_table(broker_url: str) -> None:
    async with Wire(broker_url) as wire:
        await wire.start(mechanism="AMQPLAIN", response=login(wire.user, wire.password, "AMQPLAIN"))
        await wire.expect(Connection.Tune)


@pytest.mark.parametrize("mechanism", ["PLAIN", "AMQPLAIN"])
async def test_refuses_a_wrong_password(broker_url: str, mechanism: str) -> None:
    async with Wire(broker_url) as wire:
        await wire.start(mechanism=mechanism, response=login(wire.user, "wrong", mechanism))
        assert await wire.closed() == (403, "ACCESS_REFUSED", 0, 0)


@pytest.mark.parametrize(
    ("mechanism", "response"), [("NONE", "\0guest\0guest"), ("PLAIN", "guest"), ("AMQPLAIN", "guest"), ("AMQPLAIN", "")]
)
async def test_hangs_up_on_what_is_no_login(broker_url: str, mechanism: str, response: str) -> None:
    async with Wire(broker_url) as wire:
        await wire.start(mechanism=mechanism, response=response)
        assert await wire.hung_up()


async def test_takes_a_new_secret(broker_url: str) -> None:
    async with Wire(broker_url) as wire:
        await wire.open(channels=(1,))
        wire.send(Connection.UpdateSecret("another", "the token has expired"))
        await wire.expect(Connection.UpdateSecretOk)
        wire.send(commands.Basic.Qos(prefetch_count=1), channel=1)
        await wire.expect(commands.Basic.QosOk)


async def test_hangs_up_on_a_wrong_password_for_clients_that_know_no_better(broker_url: str) -> None:
    async with Wire(broker_url, capabilities={}) as wire:
        await wire.start(response=f"\0{wire.user}\0wrong")
        assert await wire.hung_up()


@pytest.mark.parametrize("tuned", [(2047, 100), (60000, 131072)])
async def test_hangs_up_on_limits_that_were_not_offered(broker_url: str, tuned: tuple[int, int]) -> None:
    async with Wire(broker_url) as wire:
        await wire.start()
        await wire.expect(Connection.Tune)
        wire.send(Connection.TuneOk(*tuned, 0), Connection.Open(wire.vhost))
        assert await wire.hung_up()


async def test_hangs_up_on_a_channel_before_the_connection_is_open(broker_url: str) -> None:
    async with Wire(broker_url) as wire:
        wire.send(b"AMQP\0\0\x09\1")
        await wire.expect(Connection.Start)
        wire.send(commands.Channel.Open(), channel=1)
        assert await wire.hung_up()


async def test_opens_no_more_channels_than_agreed(broker_url: str) -> None:
    async with Wire(broker_url) as wire:
        await wire.open(channel_max=2, channels=(1, 2))
        wire.send(commands.Channel.Open(), channel=3)
        code, name, *_ = await wire.closed()
        assert (code, name) == (530, "NOT_ALLOWED")


async def test_answers_a_close(broker_url: str) -> None:
    async with Wire(broker_url) as wire:
        await wire.open(channels=(1,))
        wire.send(Connection.Close(200, "", 0, 0))
        await wire.expect(Connection.CloseOk)


async def test_answers_a_close_with_data_under_way(broker_url: str) -> None:
    async with Wire(broker_url) as wire:
        await wire.open(channels=(1,))
        message = [commands.Basic.Publish(routing_key="nobody"), *content(None, bytes(4000))]
        wire.send(Connection.Close(200, "", 0, 0))
        for _ in range(1000):
            wire.send(*message, channel=1)
        await wire.writer.drain()
        await wire.expect(Connection.CloseOk)


async def test_sends_heartbeats_and_drops_a_silent_client(broker_url: str) -> None:
    async with Wire(broker_url) as wire:
        await wire.open(beat=1)
        head = await wire.reader.readexactly(8)
        assert head == b"\x08\0\0\0\0\0\0\xce"
        assert await wire.hung_up()
