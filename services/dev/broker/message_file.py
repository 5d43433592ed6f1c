"""A file of records, each with its length and its checksum; what is not needed any more is left out of a new file."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from struct import Struct
from typing import Any

import msgspec

from services.errors import OperatorError

MAGIC, HEAD = b"foldwork messages 1\n", Struct(">II")
GROWTH, FACTOR = 16 * 1024 * 1024, 4  # a new file is wanted at so many bytes and so many times the last new one


class Stored(msgspec.Struct, array_like=True, tag="m"):
    id: int
    vhost: str
    queue: str
    deliveries: int
    expires: float | None  # in seconds since the epoch
    died: bool
    exchange: str
    key: str
    properties: bytes
    body: bytes


class Delivered(msgspec.Struct, array_like=True, tag="d"):
    ids: list[int]


class Gone(msgspec.Struct, array_like=True, tag="g"):
    ids: list[int]


class Defined(msgspec.Struct, array_like=True, tag="t"):
    """The exchanges (type, auto-delete, internal, bindings) and the queues (auto-delete, arguments) of each host."""

    exchanges: dict[str, dict[str, tuple[str, bool, bool, list[tuple[bool, str, str, str]]]]]
    queues: dict[str, dict[str, tuple[bool, dict[str, Any]]]]


Record = Stored | Delivered | Gone | Defined
_decoder = msgspec.msgpack.Decoder(Record)
_encoder = msgspec.msgpack.Encoder()


def encoded(records: Iterable[Record]) -> bytes:
    payloads = map(_encoder.encode, records)
    return b"".join(HEAD.pack(len(each), zlib.crc32(each)) + each for each in payloads)


def decoded(data: bytes) -> Iterator[tuple[Record, int]]:
    """Each record with the position behind it, up to the first one that is not whole."""
    position = len(MAGIC)
    while position + HEAD.size < len(data):
        size, checksum = HEAD.unpack_from(data, position)
        payload = data[position + HEAD.size : (position := position + HEAD.size + size)]
        # A record is never empty; a tail of zeros, as a lost write leaves it, would look like empty ones.
        if not size or len(payload) < size or zlib.crc32(payload) != checksum:
            return
        yield _decoder.decode(payload), position


class MessageFile:
    """Records that are appended; a write that fails leaves none of its records behind."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file, self._size, self._limit = -1, 0, 0

    @property
    def grown(self) -> bool:
        return self._file < 0 or self._size >= self._limit

    def read(self) -> tuple[list[Record], int]:
        """The records, and how many bytes at the end belong to none. Raises `OperatorError`."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return [], 0
        except OSError as error:
            raise OperatorError(f"the messages in {self.path} cannot be read: {error.strerror}") from None
        if not data.startswith(MAGIC[: len(data)]):
            raise OperatorError(f"{self.path} has no messages of this version; move it away to start without them")
        found = list(decoded(data))
        self._size = found[-1][1] if found else min(len(MAGIC), len(data))
        return [record for record, _ in found], len(data) - self._size

    def append(self, records: Iterable[Record], *, sync: bool) -> None:
        if self._file < 0:
            self._file = os.open(self.path, os.O_RDWR)
            os.ftruncate(self._file, self._size)
        data = encoded(records)
        try:
            _write(self._file, data, self._size)
            if sync:
                os.fsync(self._file)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)

    def replace(self, records: Iterable[Record]) -> None:
        """Writes a new file with these records only; if that fails, the old one stays."""
        fresh, data = self.path.with_suffix(".new"), MAGIC + encoded(records)
        file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            _write(file, data, 0)
            os.fsync(file)
            fresh.replace(self.path)
        except OSError:
            os.close(file)
            with suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise
        self.close()
        self._file, self._size, self._limit = file, len(data), len(data) * FACTOR + GROWTH
        folder = os.open(self.path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def put_off(self) -> None:
        """Wants no new file before this one has grown again."""
        self._limit = self._size + GROWTH

    def doubt(self) -> None:
        """Wants a new file: nobody knows what a file has whose fsync failed."""
        self._limit = 0

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


def _write(file: int, data: bytes, position: int) -> None:
    left = memoryview(data)
    while left:
        written = os.pwrite(file, left, position)
        left, position = left[written:], position + written
