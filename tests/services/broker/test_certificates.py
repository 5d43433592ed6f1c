"""Encrypted connections to the broker: its certificate and its name are verified before anything is sent."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiormq.exceptions import AMQPConnectionError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.broker.command_queue import BrokerAway, CommandQueue
from services.broker.connection import connect, connect_robust
from services.broker.frames.reader import Frames
from services.broker.sender import CommandSender, Outgoing
from services.dev.broker import DevelopmentBroker
from tests.services.harness import TENANT, declare

# Each way in which a connection is made: robust with and without taken frames, and plain.
WAYS: dict[str, Callable[[str], Awaitable[object]]] = {
    "frames": lambda url: connect_robust(url, "test", Frames()),
    "robust": lambda url: connect_robust(url, "test"),
    "plain": lambda url: connect(url, "test"),
}


def certificate(folder: Path, name: str) -> ssl.SSLContext:
    """Return the side of a server whose certificate is for a name and signed by itself; `ca.pem` trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context


class Encrypted:
    """The development broker behind TLS; `received` counts the bytes that clients have sent after the handshake."""

    def __init__(self, broker: DevelopmentBroker, context: ssl.SSLContext) -> None:
        self._broker = broker
        self._context = context
        self.received = 0
        self.port = 0

    def url(self, **parameters: object) -> str:
        """Return its URL."""
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"amqps://guest:guest@localhost:{self.port}/?{query}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the block runs."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", self._broker.port)

        async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter, *, count: bool) -> None:
            while data := await source.read(1 << 16):
                self.received += len(data) if count else 0
                target.write(data)
            target.close()

        await asyncio.gather(
            pass_on(reader, outer, count=True), pass_on(inner, writer, count=False), return_exceptions=True
        )


@asynccontextmanager
async def encrypted(folder: Path, name: str) -> AsyncIterator[Encrypted]:
    """Give a broker whose certificate is for a name."""
    broker = DevelopmentBroker("127.0.0.1", 0)
    await broker.start()
    await declare(broker.url)
    try:
        found = Encrypted(broker, certificate(folder, name))
        async with found.running():
            yield found
    finally:
        await broker.close()


@pytest.mark.parametrize("way", WAYS)
async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path, way: str) -> None:
    async with encrypted(tmp_path, "localhost") as broker:
        with pytest.raises(AMQPConnectionError, match=r"(?i)certificate verify failed"):
            await WAYS[way](broker.url())
        # Not even the name of a user was sent.
        assert broker.received == 0


@pytest.mark.parametrize("way", WAYS)
async def test_a_certificate_for_another_name_is_refused(tmp_path: Path, way: str) -> None:
    async with encrypted(tmp_path, "broker.example") as broker:
        with pytest.raises(AMQPConnectionError, match=r"(?i)hostname mismatch"):
            await WAYS[way](broker.url(cafile=tmp_path / "ca.pem"))
        assert broker.received == 0


async def test_a_certificate_that_is_vouched_for_is_accepted(tmp_path: Path) -> None:
    async with encrypted(tmp_path, "localhost") as broker:
        url = broker.url(cafile=tmp_path / "ca.pem")
        sender = CommandSender(url)
        await sender.start()
        await sender.send(Outgoing("task.create", b'{"id":"t1","title":"x"}', TENANT), 10.0, wait=False)
        await sender.close()
        queue = CommandQueue(url)
        assert (await queue.counts()).waiting == 1
        await queue.close()
        doubting = CommandQueue(broker.url())
        with pytest.raises(BrokerAway):
            await doubting.counts()
