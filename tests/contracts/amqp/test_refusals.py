"""Every way to be refused: the same code, for the same method, on the same level."""

import struct
from collections.abc import Callable
from typing import Any

import pytest
from pamqp import body, commands, frame, header

from .wire import Wire, content

Basic, Channel, Exchange, Queue = commands.Basic, commands.Channel, commands.Exchange, commands.Queue
QUORUM = {"x-queue-type": "quorum"}
PUBLISH = Basic.Publish(exchange="amq.fanout", routing_key="nobody")


def publish(exchange: str, properties: commands.Basic.Properties | None = None, **options: Any) -> list[Any]:
    return [Basic.Publish(exchange=exchange, routing_key="nobody", **options), *content(properties, b"x")]


def raw(kind: int, payload: bytes, end: bytes = b"\xce") -> bytes:
    return struct.pack(">BHI", kind, 1, len(payload)) + payload + end


ON_THE_CHANNEL = {
    "passive queue": (lambda q: [Queue.Declare(queue=q, passive=True)], 404),
    "passive exchange": (lambda q: [Exchange.Declare(exchange=q, passive=True)], 404),
    "reserved queue": (lambda q: [Queue.Declare(queue="amq.mine")], 403),
    "reserved exchange": (lambda q: [Exchange.Declare(exchange="amq.mine")], 403),
    "default exchange": (lambda q: [Exchange.Declare(exchange="")], 403),
    "delete the default exchange": (lambda q: [Exchange.Delete(exchange="")], 403),
    "delete a system exchange": (lambda q: [Exchange.Delete(exchange="amq.topic")], 403),
    "system exchange of another type": (
        lambda q: [Exchange.Declare(exchange="amq.topic", exchange_type="direct", durable=True)], 406),
    "bind to no exchange": (
        lambda q: [Queue.Declare(queue=q, exclusive=True), Queue.Bind(queue=q, exchange=q)], 404),
    "bind no queue": (lambda q: [Queue.Bind(queue=q, exchange="amq.topic")], 404),
    "bind to the default exchange": (
        lambda q: [Queue.Declare(queue=q, exclusive=True), Queue.Bind(queue=q, exchange="")], 403),
    "bind before any declaration": (lambda q: [Queue.Bind(queue="", exchange="amq.topic")], 404),
    "bind no exchange": (lambda q: [Exchange.Bind(destination=q, source="amq.topic")], 404),
    "consume from no queue": (lambda q: [Basic.Consume(queue=q)], 404),
    "get from no queue": (lambda q: [Basic.Get(queue=q)], 404),
    "purge no queue": (lambda q: [Queue.Purge(queue=q)], 404),
    "publish to no exchange": (lambda q: publish(q), 404),
    "publish to an internal exchange": (
        lambda q: [Exchange.Declare(exchange=q, internal=True), *publish(q)], 403),
    "expiration that is no number": (lambda q: publish("amq.fanout", Basic.Properties(expiration="soon")), 406),
    "expiration below nothing": (lambda q: publish("amq.fanout", Basic.Properties(expiration="-1")), 406),
    "expiration with a fraction": (lambda q: publish("amq.fanout", Basic.Properties(expiration="1.5")), 406),
    "queue that expires at once": (lambda q: [Queue.Declare(queue=q, arguments={"x-expires": 0})], 406),
    "queue that expires by a text": (lambda q: [Queue.Declare(queue=q, arguments={"x-expires": "1"})], 406),
    "time to live below nothing": (lambda q: [Queue.Declare(queue=q, arguments={"x-message-ttl": -1})], 406),
    "time to live that is true": (lambda q: [Queue.Declare(queue=q, arguments={"x-message-ttl": True})], 406),
    "publish for someone else": (lambda q: publish("amq.fanout", Basic.Properties(user_id="nobody")), 406),
    "ask for direct replies without a consumer": (
        lambda q: publish("amq.fanout", Basic.Properties(reply_to="amq.rabbitmq.reply-to")), 406),
    "direct replies with acknowledgements": (lambda q: [Basic.Consume(queue="amq.rabbitmq.reply-to")], 406),
    "direct replies twice": (lambda q: [Basic.Consume(queue="amq.rabbitmq.reply-to", no_ack=True)] * 2, 406),
    "ack an unknown tag": (lambda q: [Basic.Ack(1)], 406),
    "ack up to an unknown tag": (lambda q: [Basic.Ack(3, multiple=True)], 406),
    "nack an unknown tag": (lambda q: [Basic.Nack(1)], 406),
    "reject an unknown tag": (lambda q: [Basic.Reject(1)], 406),
    "queue again but durable": (
        lambda q: [Queue.Declare(queue=q), Queue.Declare(queue=q, durable=True)], 406),
    "queue again with an argument": (
        lambda q: [Queue.Declare(queue=q), Queue.Declare(queue=q, arguments={"x-dead-letter-exchange": ""})], 406),
    "queue again of another type": (
        lambda q: [Queue.Declare(queue=q, durable=True), Queue.Declare(queue=q, durable=True, arguments=QUORUM)], 406),
    "queue again but exclusive": (
        lambda q: [Queue.Declare(queue=q), Queue.Declare(queue=q, exclusive=True)], 405),
    "exchange again but internal": (
        lambda q: [Exchange.Declare(exchange=q), Exchange.Declare(exchange=q, internal=True)], 406),
    "transient quorum queue": (lambda q: [Queue.Declare(queue=q, arguments=QUORUM)], 406),
    "exclusive quorum queue": (lambda q: [Queue.Declare(queue=q, durable=True, exclusive=True, arguments=QUORUM)], 406),
    "quorum queue without a name": (lambda q: [Queue.Declare(queue="", durable=True, arguments=QUORUM)], 406),
    "unknown queue type": (lambda q: [Queue.Declare(queue=q, arguments={"x-queue-type": "none"})], 406),
    "dead-letter key without an exchange": (
        lambda q: [Queue.Declare(queue=q, arguments={"x-dead-letter-routing-key": "a"})], 406),
    "unknown overflow": (lambda q: [Queue.Declare(queue=q, arguments={"x-overflow": "none"})], 406),
    "delivery limit of a classic queue": (
        lambda q: [Queue.Declare(queue=q, arguments={"x-delivery-limit": 2})], 406),
    "delete a queue in use": (
        lambda q: [Queue.Declare(queue=q), Basic.Consume(queue=q), Queue.Delete(queue=q, if_unused=True)], 406),
    "delete a queue with messages": (
        lambda q: [Queue.Declare(queue=q), Basic.Publish(routing_key=q), *content(None, b"x"),
                   Queue.Delete(queue=q, if_empty=True)], 406),
    "delete an exchange in use": (
        lambda q: [Exchange.Declare(exchange=q), Exchange.Bind(destination="amq.fanout", source=q),
                   Exchange.Delete(exchange=q, if_unused=True)], 406),
    "consume beside an exclusive consumer": (
        lambda q: [Queue.Declare(queue=q), Basic.Consume(queue=q, exclusive=True), Basic.Consume(queue=q)], 403),
    "consume exclusively beside another": (
        lambda q: [Queue.Declare(queue=q), Basic.Consume(queue=q), Basic.Consume(queue=q, exclusive=True)], 403),
    "get beside a single active consumer": (
        lambda q: [Queue.Declare(queue=q, durable=True, arguments=QUORUM | {"x-single-active-consumer": True}),
                   Basic.Get(queue=q)], 405),
}  # fmt: skip

ON_THE_CONNECTION = {
    "channel not open": (3, lambda q: [Basic.Qos()], 504),
    "channel opened twice": (1, lambda q: [Channel.Open()], 504),
    "content on a channel not open": (3, lambda q: [header.ContentHeader(0, 3)], 505),
    "queue method on channel 0": (0, lambda q: [Queue.Declare(queue=q)], 504),
    "channel 0 opened": (0, lambda q: [Channel.Open()], 504),
    "connection method on a channel": (1, lambda q: [commands.Connection.Close(200, "", 0, 0)], 503),
    "answer nobody asked for": (1, lambda q: [Channel.OpenOk()], 503),
    "header without a method": (1, lambda q: [header.ContentHeader(0, 3)], 505),
    "body without a method": (1, lambda q: [body.ContentBody(b"x")], 505),
    "method instead of a header": (1, lambda q: [PUBLISH, Basic.Qos()], 505),
    "body instead of a header": (1, lambda q: [PUBLISH, body.ContentBody(b"x")], 505),
    "method instead of a body": (1, lambda q: [PUBLISH, header.ContentHeader(0, 3), Basic.Qos()], 505),
    "header of another class": (1, lambda q: [PUBLISH, raw(2, struct.pack(">HHQH", 50, 0, 3, 0))], 505),
    "frame without its end": (1, lambda q: [raw(1, b"\0\x3c\0\x0a", b"\0")], 501),
    "unknown kind of frame": (1, lambda q: [raw(7, b"x")], 501),
    "frame too large": (1, lambda q: [raw(3, bytes(131073))], 501),
    "arguments cut short": (1, lambda q: [raw(1, b"\0\x3c\0\x28" + b"\0\0\x10a")], 501),
    "heartbeat on a channel": (1, lambda q: [raw(8, b"")], 505),
    "immediate": (1, lambda q: publish("amq.fanout", immediate=True), 540),
    "flow off": (1, lambda q: [Channel.Flow(False)], 540),
    "prefetch size": (1, lambda q: [Basic.Qos(prefetch_size=1)], 540),
    "recover without requeue": (1, lambda q: [Basic.Recover(False)], 540),
    "consumer tag used twice": (
        1, lambda q: [Queue.Declare(queue=q, exclusive=True), *[Basic.Consume(queue=q, consumer_tag="t")] * 2], 530),
    "delete a quorum queue if unused": (
        1, lambda q: [Queue.Declare(queue=q, durable=True, arguments=QUORUM),
                      Queue.Delete(queue=q, if_unused=True)], 540),
}  # fmt: skip


def last_method(frames: list[Any]) -> tuple[int, int]:
    methods = [one for one in frames if isinstance(one, frame.base.Frame)]
    return divmod(methods[-1].index, 65536)


@pytest.mark.parametrize("case", ON_THE_CHANNEL)
async def test_ends_the_channel_only(broker_url: str, fresh: Callable[[], str], case: str) -> None:
    make, code = ON_THE_CHANNEL[case]
    frames = make(fresh())
    async with Wire(broker_url) as wire:
        await wire.open(channels=(1,))
        wire.send(*frames, channel=1)
        while not isinstance((received := (await wire.receive())[1]), Channel.Close):
            assert not isinstance(received, commands.Connection.Close)
        assert (received.reply_code, received.class_id, received.method_id) == (code, *last_method(frames))
        wire.send(Queue.Declare(queue="not heard any more"), Channel.CloseOk(), Channel.Open(), channel=1)
        await wire.expect(Channel.OpenOk)


@pytest.mark.parametrize("case", ON_THE_CONNECTION)
async def test_ends_the_connection(broker_url: str, fresh: Callable[[], str], case: str) -> None:
    number, make, code = ON_THE_CONNECTION[case]
    async with Wire(broker_url) as wire:
        await wire.open(channels=(1,))
        wire.send(*make(fresh()), channel=number)
        while not isinstance((received := (await wire.receive())[1]), commands.Connection.Close):
            assert not isinstance(received, Channel.Close)
        assert received.reply_code == code


async def test_refuses_an_exchange_of_an_unknown_type(
    broker_url: str, fresh: Callable[[], str], version: tuple[int, int]
) -> None:
    async with Wire(broker_url) as wire:
        await wire.open(channels=(1,))
        wire.send(Exchange.Declare(exchange=fresh(), exchange_type="none"), channel=1)
        kind, code = (commands.Connection.Close, 503) if version < (4, 0) else (Channel.Close, 406)
        assert (await wire.expect(kind)).reply_code == code


async def test_limits_the_size_of_a_message(broker_url: str, version: tuple[int, int]) -> None:
    async with Wire(broker_url) as wire:
        await wire.open(channels=(1, 2))
        wire.send(commands.Confirm.Select(), channel=1)
        await wire.expect(commands.Confirm.SelectOk)
        most, step = 16 << 20, 131072 - 8
        wire.send(Basic.Publish(routing_key="nobody"), *content(None, bytes(most), step), channel=1)
        await wire.expect(Basic.Ack)
        wire.send(Basic.Publish(routing_key="nobody"), *content(None, bytes(most + 1), step), channel=1)
        if version < (4, 0):
            await wire.expect(Basic.Ack)
        else:
            assert (await wire.expect(Channel.Close)).reply_code == 406
        wire.send(Basic.Qos(prefetch_count=1), channel=2)
        await wire.expect(Basic.QosOk)


async def test_names_the_method_that_ended_the_connection(broker_url: str) -> None:
    async with Wire(broker_url) as wire:
        await wire.open(channels=(1,))
        wire.send(PUBLISH, Basic.Qos(), channel=1)
        assert await wire.closed() == (505, "UNEXPECTED_FRAME", 60, 40)


async def test_ignores_what_comes_before_close_ok(broker_url: str, fresh: Callable[[], str]) -> None:
    queue = fresh()
    async with Wire(broker_url) as wire:
        await wire.open(channels=(1, 2))
        wire.send(Basic.Ack(1), Queue.Declare(queue=queue), channel=1)
        await wire.expect(Channel.Close)
        wire.send(Queue.Declare(queue=queue), Channel.CloseOk(), channel=1)
        wire.send(Queue.Declare(queue=queue, passive=True), channel=2)
        assert (await wire.expect(Channel.Close)).reply_code == 404


async def test_answers_a_close_that_crosses_its_own(broker_url: str) -> None:
    async with Wire(broker_url) as wire:
        await wire.open(channels=(1,))
        wire.send(Basic.Ack(1), Channel.Close(200, "", 0, 0), channel=1)
        await wire.expect(Channel.Close)
        await wire.expect(Channel.CloseOk)
        wire.send(Channel.CloseOk(), Channel.Open(), channel=1)
        await wire.expect(Channel.OpenOk)
