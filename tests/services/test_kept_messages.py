"""The development broker with a file for its messages: what it confirmed is there again, whenever it was killed."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiormq
import pytest
import structlog
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp.commands import Basic

from services.dev.broker import DevelopmentBroker, message_file
from services.errors import OperatorError

QUORUM: dict[str, Any] = {"x-queue-type": "quorum"}
LASTING = Basic.Properties(delivery_mode=2)


@asynccontextmanager
async def broker(messages: Path) -> AsyncIterator[AbstractChannel]:
    """Run the broker on a file, and give a channel with confirms."""
    started = DevelopmentBroker(messages=messages)
    await started.start()
    connection = await aiormq.connect(started.url)
    try:
        yield await connection.channel(publisher_confirms=True)
    finally:
        await connection.close()
        await started.close()


async def killed(messages: Path) -> Path:
    """Return what a broker that is killed now leaves: the file as it is."""
    left = messages.with_name("left")
    shutil.copy(messages, left)
    return left


async def put(channel: AbstractChannel, body: bytes, queue: str = "q", **more: Any) -> Any:
    return await channel.basic_publish(body, routing_key=queue, properties=LASTING, **more)


async def take(channel: AbstractChannel, queue: str = "q") -> DeliveredMessage | None:
    message = await channel.basic_get(queue)
    return None if isinstance(message.delivery, Basic.GetEmpty) else message


async def bodies(channel: AbstractChannel, queue: str = "q") -> list[bytes]:
    found = []
    while (message := await take(channel, queue)) is not None:
        found.append(message.body)
    return found


async def test_what_was_confirmed_is_there_after_a_kill(tmp_path: Path) -> None:
    messages = tmp_path / "messages"
    async with broker(messages) as channel:
        await channel.queue_declare("q", durable=True, arguments=QUORUM)
        await channel.queue_declare("transient")
        await channel.exchange_declare("x", exchange_type="topic", durable=True)
        await channel.queue_bind("q", "x", "a.#")
        sent = [f"{number}".encode() for number in range(300)]
        await asyncio.gather(*(put(channel, body) for body in sent))
        await channel.basic_publish(b"transient", routing_key="transient")
        left = await killed(messages)
    async with broker(left) as channel:
        first = await take(channel)
        assert first is not None
        assert first.delivery.redelivered  # nobody knows whether it was delivered before
        assert "x-delivery-count" not in (first.header.properties.headers or {})
        assert [first.body, *await bodies(channel)] == sent
        await channel.basic_publish(b"bound", exchange="x", routing_key="a.b", properties=LASTING)
        assert await bodies(channel) == [b"bound"]
        with pytest.raises(aiormq.exceptions.ChannelNotFoundEntity):
            await channel.queue_declare("transient", passive=True)


async def test_what_was_settled_is_gone_and_what_was_not_is_delivered_again(tmp_path: Path) -> None:
    messages = tmp_path / "messages"
    async with broker(messages) as channel:
        await channel.queue_declare("q", durable=True, arguments=QUORUM | {"x-delivery-limit": 1})
        for body in (b"acknowledged", b"rejected", b"open", b"twice"):
            await put(channel, body)
        taken = [message for _ in range(4) if (message := await take(channel)) is not None]
        await channel.basic_ack(taken[0].delivery.delivery_tag)
        await channel.basic_reject(taken[1].delivery.delivery_tag, requeue=False)
        await channel.basic_reject(taken[3].delivery.delivery_tag, requeue=True)
        assert await take(channel) is not None
        await channel.queue_declare("other", durable=True)
        await put(channel, b"", "other")  # confirmed when all before it is written
        left = await killed(messages)
    async with broker(left) as channel:
        # "twice" was delivered for the second time when the broker was killed, which is over the limit.
        message = await take(channel)
        assert message is not None
        assert (message.body, message.header.properties.headers) == (b"open", {"x-delivery-count": 1})
        assert await bodies(channel) == []


async def test_a_clean_stop_and_a_dead_letter(tmp_path: Path) -> None:
    messages = tmp_path / "messages"
    dead: dict[str, Any] = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    async with broker(messages) as channel:
        await channel.queue_declare("q", durable=True, arguments=QUORUM | dead)
        await channel.queue_declare("dead", durable=True)
        await put(channel, b"bad")
        message = await take(channel)
        assert message is not None
        await channel.basic_reject(message.delivery.delivery_tag, requeue=False)
    async with broker(messages) as channel:
        buried = await take(channel, "dead")
        assert buried is not None
        headers: Any = buried.header.properties.headers
        assert (headers["x-death"][0]["reason"], headers["x-death"][0]["count"]) == ("rejected", 1)
        await put(channel, b"expires", mandatory=True)
        await channel.basic_publish(
            b"soon", routing_key="q", properties=Basic.Properties(delivery_mode=2, expiration="3600000")
        )
        await channel.queue_delete("dead")
    async with broker(messages) as channel:
        assert await bodies(channel) == [b"expires", b"soon"]
        with pytest.raises(aiormq.exceptions.ChannelNotFoundEntity):
            await channel.queue_declare("dead", passive=True)


@pytest.mark.parametrize("tail", [b"\0" * 100, b"\0\0\0\x09torn", b"\xff" * 30, b"\0"])
async def test_a_record_that_was_not_written_completely_is_cut(tmp_path: Path, tail: bytes) -> None:
    messages = tmp_path / "messages"
    async with broker(messages) as channel:
        await channel.queue_declare("q", durable=True)
        await put(channel, b"whole")
    with messages.open("ab") as file:
        file.write(tail)
    with structlog.testing.capture_logs() as logs:
        async with broker(messages) as channel:
            await put(channel, b"next")
    assert [line["bytes"] for line in logs if "is cut" in line["event"]] == [len(tail)]
    async with broker(messages) as channel:
        assert await bodies(channel) == [b"whole", b"next"]


async def test_a_last_record_that_is_damaged_is_cut(tmp_path: Path) -> None:
    messages = tmp_path / "messages"
    async with broker(messages) as channel:
        await channel.queue_declare("q", durable=True)
        await put(channel, b"first")
        await put(channel, b"second")
        left = await killed(messages)
    data = bytearray(left.read_bytes())
    data[-1] ^= 1
    left.write_bytes(data)
    async with broker(left) as channel:
        assert await bodies(channel) == [b"first"]


async def test_another_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "messages").write_text("letters")
    with pytest.raises(OperatorError, match="move it away"):
        await DevelopmentBroker(messages=tmp_path / "messages").start()
    assert (tmp_path / "messages").read_text() == "letters"


async def test_publishes_are_refused_while_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = tmp_path / "messages"
    real = os.pwrite

    def full(file: int, data: Any, position: int) -> int:
        real(file, data[: len(data) // 2], position)
        raise OSError(errno.ENOSPC, "No space left on device")

    with structlog.testing.capture_logs() as logs:
        async with broker(messages) as channel:
            await channel.queue_declare("q", durable=True, arguments=QUORUM)
            await put(channel, b"before")
            monkeypatch.setattr(os, "pwrite", full)
            for _ in range(3):
                with pytest.raises(aiormq.exceptions.DeliveryError):
                    await put(channel, b"refused")
            await channel.basic_publish(b"nobody", routing_key="nobody")
            assert (await channel.queue_declare("q", passive=True)).message_count == 1
            monkeypatch.setattr(os, "pwrite", real)
            await put(channel, b"after")
            left = await killed(messages)
    said = [line["event"] for line in logs if line["log_level"] in ("error", "warning")]
    assert [text.split(";")[0] for text in said] == ["messages cannot be written", "messages are written again"]
    async with broker(left) as channel:
        assert await bodies(channel) == [b"before", b"after"]


async def test_publishes_are_refused_in_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    async with broker(tmp_path / "nowhere" / "messages") as channel:
        await channel.queue_declare("q", durable=True)
        with pytest.raises(aiormq.exceptions.DeliveryError):
            await put(channel, b"refused")
        await channel.basic_publish(b"transient", routing_key="q")
        assert await bodies(channel) == [b"transient"]
        (tmp_path / "nowhere").mkdir()
        await put(channel, b"kept")
        assert (tmp_path / "nowhere" / "messages").stat().st_mode & 0o77 == 0


async def test_a_doubtful_file_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = tmp_path / "messages"
    async with broker(messages) as channel:
        await channel.queue_declare("q", durable=True)
        await put(channel, b"before")
        before = messages.stat().st_ino

        def failing(_: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", failing)
            with pytest.raises(aiormq.exceptions.DeliveryError):
                await put(channel, b"refused")
        await put(channel, b"after")
        assert messages.stat().st_ino != before
        left = await killed(messages)
    async with broker(left) as channel:
        assert await bodies(channel) == [b"before", b"after"]


async def test_many_publishes_share_an_fsync_and_the_file_stays_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages, real, calls = tmp_path / "messages", os.fsync, []
    monkeypatch.setattr(message_file, "GROWTH", 20_000)
    # As slow as a disk: on a faster one there is less to share.
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append(file), threading.Event().wait(0.05), real(file)))
    async with broker(messages) as channel:
        await channel.queue_declare("q", durable=True, arguments=QUORUM)
        await put(channel, b"stays")
        for _ in range(5):
            before = len(calls)
            await asyncio.gather(*(put(channel, bytes(100)) for _ in range(200)))
            # Acknowledgements come one after another, and have as many of them as the disk is fast.
            assert len(calls) - before < 100
            kept = await take(channel)
            assert kept is not None
            for _ in range(200):
                message = await take(channel)
                assert message is not None
                await channel.basic_ack(message.delivery.delivery_tag)
            await channel.basic_reject(kept.delivery.delivery_tag, requeue=True)
        assert messages.stat().st_size < 120_000
        left = await killed(messages)
    async with broker(left) as channel:
        first = await take(channel)
        assert first is not None
        assert first.body == b"stays"
