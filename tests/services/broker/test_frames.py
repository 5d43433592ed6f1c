"""Reading frames in bulk gives what reading them one by one gives, wherever the socket cuts them."""

from __future__ import annotations

import asyncio
import hashlib
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from aiormq.connection import FrameReceiver
from aiormq.exceptions import AMQPConnectionError, InvalidFrameError
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import body, commands, encode, frame, header, heartbeat

from services.broker.frames import reader
from services.broker.frames.properties import MAX_HEADERS
from services.broker.frames.reader import KEPT_BODY, FrameReader, Frames, Message, Taker

NAMES = ("content_type", "correlation_id", "headers", "message_id", "message_type", "reply_to", "user_id")
SHORT = st.none() | st.text(min_size=1, max_size=20)  # pamqp leaves empty ones out
PROPERTIES = st.fixed_dictionaries(
    {
        "content_type": SHORT,
        "content_encoding": SHORT,
        "headers": st.none()
        | st.dictionaries(
            st.text(min_size=1, max_size=5), st.text(max_size=5) | st.integers(0, 9) | st.booleans(), min_size=1
        ),
        "delivery_mode": st.sampled_from([None, 1, 2]),
        "priority": st.none() | st.integers(0, 9),
        "correlation_id": SHORT,
        "reply_to": SHORT,
        "message_id": SHORT,
        "timestamp": st.none() | st.just(datetime(2026, 1, 1, tzinfo=UTC)),
        "message_type": SHORT,
        "user_id": SHORT,
        "app_id": SHORT,
    }
)
MESSAGES = st.lists(st.tuples(PROPERTIES, st.lists(st.binary(min_size=1, max_size=9), max_size=3)), max_size=5)


class Socket:
    """What a connection would give, in pieces."""

    def __init__(self, data: bytes, size: int) -> None:
        self._pieces = [data[at : at + size] for at in range(0, len(data), size)]

    async def read(self, _: int) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def delivery(
    number: int, tag: int, properties: dict[str, Any], parts: list[bytes], consumer: str = "ours"
) -> list[bytes]:
    """Return the frames of a delivery."""
    given_properties = commands.Basic.Properties(
        **{key: value for key, value in properties.items() if value is not None}
    )
    return [
        frame.marshal(commands.Basic.Deliver(consumer, tag, tag % 2 == 0, "an.exchange", "a.key"), number),
        frame.marshal(header.ContentHeader(0, sum(map(len, parts)), given_properties), number),
        *(frame.marshal(body.ContentBody(part), number) for part in parts),
    ]


def taker(take: Callable[[Message], None], limit: int = 1 << 30) -> Taker:
    room = asyncio.Event()
    room.set()
    return Taker(take, limit, room)


async def received(data: bytes, size: int, limit: int = 1 << 30) -> tuple[list[Message], list[Any]]:
    """Return the messages that were handed over, and the frames that were left for aiormq."""
    taken: list[Message] = []
    others = await left(Frames({b"ours": taker(taken.append, limit)}), data, size)
    return taken, others


async def left(frames: Frames, data: bytes, size: int) -> list[Any]:
    """Return the frames that aiormq reads, with their channels."""
    others = []
    receiver = aiormqs(frames, data, size)
    try:
        while True:
            _, number, got = await receiver.get_frame()
            if not isinstance(got, heartbeat.Heartbeat):
                others.append((number, got))
    except AMQPConnectionError:
        return others


def aiormqs(frames: Frames, data: bytes, size: int) -> FrameReceiver:
    """Return aiormq's own receiver of frames, over the reader that it is given."""
    given_reader: Any = FrameReader(Socket(data, size), frames)
    return FrameReceiver(given_reader)


@settings(max_examples=150, deadline=None, database=None)
@given(messages=MESSAGES, size=st.integers(1, 200), data=st.data())
def test_deliveries_arrive_whole_wherever_they_are_cut(messages: list[Any], size: int, data: st.DataObject) -> None:
    one = [piece for tag, (properties, parts) in enumerate(messages) for piece in delivery(1, tag, properties, parts)]
    # Another channel's frames may stand between those of a delivery.
    other = [frame.marshal(commands.Basic.Ack(tag, False), 2) for tag in range(data.draw(st.integers(0, 4)))]
    mixed, left = list(one), list(other)
    while left:
        mixed.insert(data.draw(st.integers(0, len(mixed))), left.pop())
    taken, others = asyncio.run(received(b"".join(mixed), size))
    assert [(message.delivery_tag, message.redelivered, message.routing_key) for message in taken] == [
        (tag, tag % 2 == 0, "a.key") for tag in range(len(messages))
    ]
    assert [message.body for message in taken] == [b"".join(parts) for _, parts in messages]
    for message, (properties, _) in zip(taken, messages, strict=True):
        assert {name: getattr(message.properties, name) for name in NAMES} == {name: properties[name] for name in NAMES}
    assert [number for number, _ in others] == [2] * len(other)


async def test_other_consumers_are_aiormqs_business() -> None:
    data = b"".join(delivery(3, 7, {"message_id": "m"}, [b"body"], consumer="another"))
    taken, others = await received(data, 10)
    assert taken == []
    assert [type(got) for _, got in others] == [commands.Basic.Deliver, header.ContentHeader, body.ContentBody]


async def test_deliveries_alone_keep_the_connection_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "ALIVE_SECONDS", -1.0)
    receiver = aiormqs(Frames({b"ours": taker(lambda _: None)}), b"".join(delivery(1, 1, {}, [b"x"])), 1000)
    assert isinstance((await receiver.get_frame())[2], heartbeat.Heartbeat)


@pytest.mark.parametrize("data", [b"AMQP\x00\x01\x00\x00", b"\x01\x00\x01\x00\x00\x00\x01xy"])
async def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidFrameError):
        await aiormqs(Frames(), data, 100).get_frame()


class Confirms:
    """Notes what a channel's confirms say."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def confirmed(self, tag: int, multiple: bool, accepted: bool) -> None:
        self.said.append((tag, multiple, accepted))

    def returned(self, exchange: str) -> None:
        self.said.append(exchange)

    def closed(self, code: int, text: str) -> None:
        self.said.append((code, text))


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_confirms_of_a_registered_channel_are_taken(size: int) -> None:
    confirms, closing = Confirms(), commands.Channel.Close(406, "no", 60, 40)
    frames = [
        commands.Basic.Ack(1, False),
        commands.Basic.Return(312, "NO_ROUTE", "an.exchange", "a.key"),
        header.ContentHeader(0, 4, commands.Basic.Properties(message_id="m")),
        body.ContentBody(b"body"),
        commands.Basic.Ack(7, True),
        commands.Basic.Nack(8, False, False),
        commands.Basic.Return(312, "NO_ROUTE", "empty", "a.key"),
        header.ContentHeader(0, 0, commands.Basic.Properties()),
        closing,
    ]
    for number, taken in ((3, True), (4, False)):
        confirms.said.clear()
        data = b"".join(frame.marshal(each, number) for each in frames)
        others = await left(Frames(confirms={3: confirms}), data, size)
        if taken:
            assert confirms.said == [
                (1, False, True),
                "an.exchange",
                (7, True, True),
                (8, False, False),
                "empty",
                (406, "no"),
            ]
            # aiormq has to answer the close, so it sees it too.
            assert [type(got) for _, got in others] == [commands.Channel.Close]
        else:
            assert confirms.said == []
            assert [type(got) for _, got in others] == [type(each) for each in frames]


async def test_the_close_of_the_connection_is_told_to_every_channel() -> None:
    confirms = Confirms()
    data = frame.marshal(commands.Connection.Close(501, "frame error", 0, 0), 0)
    others = await left(Frames(confirms={3: confirms}), data, 1000)
    assert confirms.said == [(501, "frame error")]
    assert [type(got) for _, got in others] == [commands.Connection.Close]


async def test_headers_that_cannot_be_read_do_not_end_the_connection() -> None:
    properties = commands.Basic.Properties(message_id="m", headers={"ab": "cd"})
    pieces = [
        frame.marshal(commands.Basic.Deliver("ours", 1, False, "", "k"), 1),
        frame.marshal(header.ContentHeader(0, 1, properties), 1).replace(b"\x02ab", b"\x02\xff\xfe"),
        frame.marshal(body.ContentBody(b"x"), 1),
    ]
    taken, _ = await received(b"".join(pieces), 50)
    assert [(message.properties.message_id, message.properties.headers, message.body) for message in taken] == [
        ("m", None, b"x")
    ]
    assert taken[0].properties.unreadable


def content(size: int, flags: int, payload: bytes, number: int = 1) -> bytes:
    """Return a content header's frame with any bytes as its properties."""
    head = struct.pack(">HHQH", 60, 0, size, flags) + payload
    return struct.pack(">BHI", 2, number, len(head)) + head + b"\xce"


DELIVER = frame.marshal(commands.Basic.Deliver("ours", 1, False, "", "k"), 1)
BODY = frame.marshal(body.ContentBody(b"x"), 1)


@settings(max_examples=300, deadline=None, database=None)
@given(flags=st.integers(0, 0xFFFF), payload=st.binary(max_size=60))
def test_whatever_the_properties_are_the_message_is_handed_over(flags: int, payload: bytes) -> None:
    after = b"".join(delivery(1, 2, {"message_id": "next"}, [b"y"]))
    taken, _ = asyncio.run(received(DELIVER + content(1, flags, payload) + BODY + after, 1000))
    assert [(message.delivery_tag, message.body) for message in taken] == [(1, b"x"), (2, b"y")]
    assert taken[1].properties.message_id == "next"


def nested(depth: int) -> bytes:
    """Return a table in a table in a table …"""
    table = b""
    for _ in range(depth):
        table = b"\x01aF" + len(table).to_bytes(4) + table
    return len(table).to_bytes(4) + table


@pytest.mark.parametrize(
    ("flags", "payload", "said"),
    [
        (1, b"", "flags"),
        (0x80, b"\x03\xff\xfe\xfd", "message_id is not UTF-8"),
        (0x80, b"\x09short", "longer"),
        (0x400, b"\x02\xc3\x28", "correlation_id is not UTF-8"),
        (0x2000, b"\x00\x00\x00\x04\x02\xff\xfeV", "headers"),
        (0x2000, b"\x00\x00\x00\x0b\x01aT" + b"\xff" * 8, "headers"),
        (0x2000, nested(3000), "headers"),
    ],
)
async def test_what_cannot_be_read_is_noted(flags: int, payload: bytes, said: str) -> None:
    taken, _ = await received(DELIVER + content(1, flags, payload) + BODY, 1000)
    assert said in (taken[0].properties.unreadable or "")


@pytest.mark.parametrize("size", [100, 10_000])
async def test_of_a_body_over_the_limit_the_beginning_is_kept_and_the_hash(size: int) -> None:
    parts = [bytes([number]) * 3000 for number in range(5)]
    data = b"".join([*delivery(1, 1, {}, parts), *delivery(1, 2, {}, [b"y" * 101]), *delivery(1, 3, {}, [b"y" * 100])])
    taken, _ = await received(data, size, limit=100)
    large, over, fits = taken
    whole = b"".join(parts)
    assert (large.body, large.size, large.sha256) == (whole[:KEPT_BODY], 15_000, hashlib.sha256(whole).hexdigest())
    assert (over.size, over.sha256) == (101, hashlib.sha256(b"y" * 101).hexdigest())
    assert (fits.body, fits.size, fits.sha256) == (b"y" * 100, 100, None)


async def test_nothing_is_read_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection lives meanwhile: aiormq is told of it, and closes none that has nothing to read."""
    monkeypatch.setattr(reader, "ALIVE_SECONDS", 0.01)
    taken: list[Message] = []
    ours = taker(taken.append)
    assert ours.room is not None
    one = b"".join(delivery(1, 1, {}, [b"x"]))
    ack = frame.marshal(commands.Basic.Ack(1, False), 2)
    receiver = aiormqs(Frames({b"ours": ours}), (one + ack) * 3, len(one + ack))
    ours.room.clear()
    await receiver.get_frame()
    for _ in range(5):
        assert isinstance((await receiver.get_frame())[2], heartbeat.Heartbeat)
    assert len(taken) == 1
    ours.room.set()
    for _ in range(2):
        await receiver.get_frame()
    assert len(taken) == 3


@pytest.mark.parametrize("tenant_first", [True, False])
async def test_of_large_headers_the_tenant_alone_is_read(tenant_first: bool) -> None:
    tenant = {"tenant": "acme"}
    # Of each kind that has a size of its own, so that the next one is found.
    others = {"bool": True, "long": 2**40, "float": 1.5, "at": datetime(2026, 1, 1, tzinfo=UTC), "none": None, "x": "y"}
    large = {"large": [[]] * 26_000}
    headers = {**tenant, **others, **large} if tenant_first else {**others, **large, **tenant}
    taken, _ = await received(b"".join(delivery(1, 1, {"headers": headers, "message_id": "m"}, [b"body"])), 1 << 18)
    (message,) = taken
    assert message.properties.headers == tenant
    assert "at most 16384 are read" in str(message.properties.unreadable)
    assert (message.properties.message_id, message.body) == ("m", b"body")
    assert message.held > 130_000


@pytest.mark.parametrize(
    "headers",
    [
        {"large": "x" * 20_000},
        {"large": "x" * 20_000, "tenant": ["acme"]},
        {"tenant": 5, "large": "x" * 20_000},
        {f"{n}": "x" * 200 for n in range(100)} | {"tenant": "a"},
    ],
)
async def test_large_headers_may_have_no_tenant_that_is_found(headers: dict[str, Any]) -> None:
    (message,) = (await received(b"".join(delivery(1, 1, {"headers": headers}, [b"body"])), 1 << 18))[0]
    assert message.properties.headers is None
    assert message.properties.unreadable


async def test_headers_up_to_the_limit_are_read() -> None:
    headers = {"tenant": "acme", "x": ""}
    headers["x"] = "y" * (MAX_HEADERS - len(encode.field_table(headers)))
    for missing in (0, 1):
        given_headers = {**headers, "x": headers["x"] + "y" * missing}
        (message,) = (await received(b"".join(delivery(1, 1, {"headers": given_headers}, [b"b"])), 1 << 18))[0]
        assert (message.properties.unreadable is None) == (not missing)


async def test_a_tenant_of_large_headers_that_is_not_utf_8_hides_no_other_property() -> None:
    good = b"".join(delivery(1, 1, {"headers": {"tenant": "acme", "large": "x" * 20_000}, "message_id": "m"}, [b"b"]))
    (message,) = (await received(good.replace(b"acme", b"\xff\xfe\xfd\xfc"), 1 << 18))[0]
    assert message.properties.headers is None
    assert (message.properties.message_id, bool(message.properties.unreadable)) == ("m", True)
