"""What `services/broker` relies on of aio-pika and aiormq beyond their documentation; these tests fail if it changes.

`frames/reader.py` stands in for a stream reader, `connection.py` gives it to aiormq, `publisher.py` puts frames into a
channel's queue, and `subscriber.py` consumes on the channel below the robust one.
"""

from __future__ import annotations

import ast
import inspect
import tomllib
from importlib.metadata import version

import aio_pika
import aiormq
import pytest
from aiormq.abc import ChannelFrame
from aiormq.connection import FrameReceiver

from services.broker.connection import connect_robust
from services.broker.frames.reader import FrameReader, Frames
from tests.documents import ROOT


@pytest.mark.parametrize("name", ["aio-pika", "aiormq", "pamqp"])
def test_the_exact_version_is_pinned_and_installed(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert f"{name}=={version(name)}" in project["project"]["dependencies"]


def test_aiormq_asks_no_more_of_its_reader_than_ours_does() -> None:
    tree = ast.parse(inspect.getsource(FrameReceiver))
    asked = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and (node.value.attr, getattr(node.value.value, "id", "")) == ("reader", "self")
    }
    assert asked
    assert asked <= {name for name in vars(FrameReader) if not name.startswith("_")}


def test_aiormq_takes_a_transport_and_asks_it_for_the_streams() -> None:
    assert "transport_factory" in inspect.signature(aiormq.Connection).parameters
    assert "connection_class" in inspect.signature(aio_pika.connect_robust).parameters
    assert "self._transport_factory.create(" in inspect.getsource(aiormq.Connection.connect)


async def test_a_robust_connection_reads_through_the_frames_again_after_it_was_lost(amqp_url: str) -> None:
    frames, returned = Frames(), list[str]()

    class Confirms:
        def confirmed(self, tag: int, multiple: bool, accepted: bool) -> None:
            returned.append("confirmed")

        def returned(self, exchange: str) -> None:
            returned.append("returned")

        def closed(self, code: int, text: str) -> None:
            returned.append("closed")

    connection = await connect_robust(amqp_url, "test", frames)
    try:
        robust = await connection.channel(publisher_confirms=False)
        for _ in range(2):
            await robust.ready()
            channel = await robust.get_underlay_channel()
            frames.confirms = {channel.number: Confirms()}
            # Nobody has this queue, so the message comes back.
            await channel.basic_publish(b"", routing_key="nobody", mandatory=True)
            await channel.basic_qos(prefetch_count=1)
            assert returned == ["returned"]
            returned.clear()
            assert connection.transport is not None
            await connection.transport.connection.close(ConnectionError("lost"))
    finally:
        await connection.close()


async def test_a_channel_has_what_the_publisher_and_the_subscriber_use(amqp_url: str) -> None:
    connection = await aiormq.connect(amqp_url)
    try:
        channel = await connection.channel()
        assert isinstance(channel, aiormq.Channel)
        used = ("number", "max_content_size", "lock", "write_queue", "create_future", "on_consumer_cancel_callbacks")
        assert [name for name in used if not hasattr(channel, name)] == []
        assert channel.write_queue is connection.write_queue
        assert not ChannelFrame(payload=b"", should_close=False).should_drain
    finally:
        await connection.close()
