"""Opening and keeping a connection."""

import pytest
from pamqp import commands

from .wire import Wire

Connection = commands.Connection


async def test_says_who_it_is_and_what_it_can(amqp_url: str) -> None:
    async with Wire(amqp_url) as wire:
        started = await wire.start()
        tuned = await wire.expect(Connection.Tune)
    assert (started.version_major, started.version_minor) == (0, 9)
    assert "PLAIN" in started.mechanisms.split()
    able = started.server_properties["capabilities"]
    assert all(able[name] for name in ("publisher_confirms", "exchange_exchange_bindings", "basic.nack"))
    assert all(able[name] for name in ("consumer_cancel_notify", "direct_reply_to", "per_consumer_qos"))
    assert (tuned.channel_max, tuned.frame_max, tuned.heartbeat) == (2047, 131072, 60)


@pytest.mark.parametrize("greeting", [b"AMQP\0\0\x08\0", b"AMQP\0\1\0\0", b"HTTP/1.1"])
async def test_answers_another_protocol_with_its_own(amqp_url: str, greeting: bytes) -> None:
    async with Wire(amqp_url) as wire:
        wire.send(greeting)
        assert await wire.reader.readexactly(8) == b"AMQP\0\0\x09\1"
        assert await wire.hung_up()


async def test_refuses_a_wrong_password(amqp_url: str) -> None:
    async with Wire(amqp_url) as wire:
        await wire.start(response=f"\0{wire.user}\0wrong")
        assert await wire.closed() == (403, "ACCESS_REFUSED", 0, 0)


async def test_hangs_up_on_a_wrong_password_for_clients_that_know_no_better(amqp_url: str) -> None:
    async with Wire(amqp_url, capabilities={}) as wire:
        await wire.start(response=f"\0{wire.user}\0wrong")
        assert await wire.hung_up()


@pytest.mark.parametrize("tuned", [(2047, 100), (60000, 131072)])
async def test_hangs_up_on_limits_that_were_not_offered(amqp_url: str, tuned: tuple[int, int]) -> None:
    async with Wire(amqp_url) as wire:
        await wire.start()
        await wire.expect(Connection.Tune)
        wire.send(Connection.TuneOk(*tuned, 0), Connection.Open(wire.vhost))
        assert await wire.hung_up()


async def test_hangs_up_on_a_channel_before_the_connection_is_open(amqp_url: str) -> None:
    async with Wire(amqp_url) as wire:
        wire.send(b"AMQP\0\0\x09\1")
        await wire.expect(Connection.Start)
        wire.send(commands.Channel.Open(), channel=1)
        assert await wire.hung_up()


async def test_opens_no_more_channels_than_agreed(amqp_url: str) -> None:
    async with Wire(amqp_url) as wire:
        await wire.open(channel_max=2, channels=(1, 2))
        wire.send(commands.Channel.Open(), channel=3)
        code, name, *_ = await wire.closed()
        assert (code, name) == (530, "NOT_ALLOWED")


async def test_answers_a_close(amqp_url: str) -> None:
    async with Wire(amqp_url) as wire:
        await wire.open(channels=(1,))
        wire.send(Connection.Close(200, "", 0, 0))
        await wire.expect(Connection.CloseOk)


async def test_sends_heartbeats_and_drops_a_silent_client(amqp_url: str) -> None:
    async with Wire(amqp_url) as wire:
        await wire.open(beat=1)
        head = await wire.reader.readexactly(8)
        assert head == b"\x08\0\0\0\0\0\0\xce"
        assert await wire.hung_up()
