"""Whatever arrives, nothing ends the consumer and nothing is lost: random bodies, headers and properties.

`FOLDWORK_FUZZ_SECONDS` (6) says how long all cases take together, `FOLDWORK_TEST_SEED` repeats a run.
"""

from __future__ import annotations

import asyncio
import os
import random
import struct
import time
import uuid
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import aiormq
import pytest

from domain import COMMANDS
from services import metrics
from services.broker import names
from tests.eventually import eventually_async
from tests.services.harness import TENANT, Client, dead_letters, rows, working
from tests.services.proxy import Proxy, broker_proxy

CASES = ("bodies", "headers", "properties", "everything")
SECONDS = float(os.environ.get("FOLDWORK_FUZZ_SECONDS", "6")) / len(CASES)
LIMIT, BURST = 4096, 40
# A message with it is mangled on its way to the worker, by the number that follows.
MARK = b"mangle-"
NUMBERS = ["0", "-0", "1.5", "1e999", "-1e999", "9" * 19, "9" * 20, "9" * 5000, "1e-999", "NaN", "Infinity", "-", "01"]
TEXTS = ["a", "é", "😀", "\\u0000", "\\ud800", "\\ud83d\\ude00", "\\x", "a/b~c", "x" * 300, "\\\\", '\\"', "\n", "null"]
KEYS = ["id", "title", "fields", "start", "assignees", "a", "a", "é", "\\ud800", "x" * 200]
IDS = [None, "", "c 1", "c\x7f", "é" * 60, "x" * 129, "x" * 255, "😀" * 63]


class Mangler(Proxy):
    """A proxy that changes the properties of marked messages as no client would write them, and nothing else."""

    async def _read(self, source: asyncio.StreamReader, outward: bool) -> bytes:
        if outward:
            return await super()._read(source, outward)
        head = await source.readexactly(7)
        kind, _, size = struct.unpack(">BHI", head)
        rest = await source.readexactly(size + 1)
        at = rest.find(MARK) if kind == 2 else -1
        if at >= 0:
            rest = mangled(rest[:-1], int(rest[at + len(MARK) : at + len(MARK) + 9])) + rest[-1:]
        return head + rest


def mangled(payload: bytes, number: int) -> bytes:
    """Return a content header of the same size, and for a body of the same size, with other properties."""
    chosen, changed = random.Random(number), bytearray(payload)
    # Class, weight and the body's size are the broker's; the flags and all behind them are the sender's.
    for _ in range(chosen.choice((1, 1, 3, 20, 200))):
        at = chosen.randrange(12, len(changed))
        for place in range(at, min(len(changed), at + chosen.choice((1, 2, 60, 300)))):
            changed[place] = chosen.choice((0xFF, 0xC3, 0x80, 0, chosen.randrange(256)))
    return bytes(changed)


class Sender:
    """What senders send, from one seed."""

    def __init__(self, seed: int, case: str) -> None:
        self._random = random.Random(f"{seed} {case}")
        self._odd = {case} if case != "everything" else set(CASES)

    def message(self) -> tuple[bytes, dict[str, Any]]:
        """Return a body and properties."""
        pick, number = self._random.choice, self._random.randrange(10**8, 10**9)
        body, headers = b'{"id": "f%d"}' % number, {"tenant": TENANT}
        given: dict[str, Any] = {"message_id": uuid.UUID(int=self._random.getrandbits(128)).hex}
        given["message_type"] = "task.create"
        if "bodies" in self._odd:
            body = self._body()
            given["message_type"] = pick(("task.create", *COMMANDS))
        if "headers" in self._odd:
            headers = self._headers()
        if "properties" in self._odd:
            given |= {
                "message_id": pick((given["message_id"], *IDS)),
                "correlation_id": pick(IDS),
                "reply_to": pick(IDS),
            }
            given["message_type"] = pick(("task.create", None, "", "x" * 255, "é"))
            given["content_type"] = pick(IDS)
            if self._random.random() < 0.7:
                given["app_id"] = f"{MARK.decode()}{number}"
        return body, {**{key: value for key, value in given.items() if value is not None}, "headers": headers}

    def _body(self) -> bytes:
        pick = self._random.choice
        match self._random.randrange(6):
            case 0:
                return self._random.randbytes(self._random.choice((0, 1, 50, LIMIT, LIMIT + 1, 300_000)))
            case 1:
                return pick((b"[", b'{"a":')) * pick((1, 33, 5000))
            case _:
                body = bytearray(self._json(0).encode("utf-8", "surrogatepass"))
                if self._random.random() < 0.3:
                    body[self._random.randrange(len(body))] = self._random.randrange(256)
                return bytes(body)

    def _json(self, depth: int) -> str:
        pick, count = self._random.choice, self._random.randrange(4)
        if depth == 0 or (depth < 4 and self._random.random() < 0.4):
            return "{" + ", ".join(f'"{pick(KEYS)}": {self._json(depth + 1)}' for _ in range(count)) + "}"
        if depth < 4 and self._random.random() < 0.3:
            return "[" + ",".join(self._json(depth + 1) for _ in range(count)) + "]"
        return pick((pick(NUMBERS), f'"{pick(TEXTS)}"', "null", "true"))

    def _headers(self) -> dict[str, Any]:
        pick = self._random.choice
        odd: list[Any] = [
            bytearray(b"\xff\xfe"),
            "ACME",
            "",
            "x" * 20_000,
            7,
            -1,
            2**62,
            1.5,
            True,
            None,
            [],
            {"a": {"b": [bytearray(b"\xff"), None]}},
        ]
        odd += [datetime(2100, 1, 1, tzinfo=UTC), "é" * 255, "\x00"]
        names = ["tenant", "actor", "idempotency-key", "expected-version", "traceparent", "x-foldwork-code", "é" * 60]
        headers = {pick(names): pick(odd) for _ in range(self._random.randrange(5))}
        if self._random.random() < 0.1:
            # All of them travel in one frame of 128 KiB.
            headers = {"tenant": TENANT, "large": "x" * self._random.randrange(60_000, 128_000)}
        return headers if self._random.random() < 0.3 else {**headers, "tenant": TENANT}


def total(counter: Any) -> int:
    return int(
        sum(sample.value for found in counter.collect() for sample in found.samples if sample.name.endswith("_total"))
    )


async def consumers(amqp_url: str) -> int:
    connection = await aiormq.connect(amqp_url)
    try:
        declared = await (await connection.channel()).queue_declare(names.COMMAND_QUEUE, passive=True)
        return int(declared.consumer_count or 0)
    finally:
        await connection.close()


@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("case", CASES)
async def test_whatever_arrives_is_answered_or_a_dead_letter(migrated_url: str, amqp_url: str, case: str) -> None:
    seed = int(os.environ.get("FOLDWORK_TEST_SEED", time.time_ns() % 10**9))
    print(f"FOLDWORK_TEST_SEED={seed}")
    sender, codes = Sender(seed, case), Counter[str]()
    with broker_proxy(amqp_url, Mangler) as (proxy, through):
        async with working(migrated_url, through, command_limit=LIMIT) as consumer, Client(amqp_url) as client:
            connections, sent, buried = proxy.connections, 0, 0
            decided, dead = total(metrics.COMMANDS), total(metrics.DEAD_LETTERS)
            end = time.monotonic() + SECONDS
            while sent == 0 or time.monotonic() < end:
                for _ in range(BURST):
                    body, properties = sender.message()
                    await client.publish(body, **properties)
                sent += BURST + 1
                assert (await client.ask("task.create", {})).accepted, f"seed {seed}"

                def all_done(wanted: int = sent) -> bool:
                    return total(metrics.COMMANDS) - decided + total(metrics.DEAD_LETTERS) - dead == wanted

                await eventually_async(all_done)
                letters = await dead_letters(amqp_url, BURST + 1)
                buried += len(letters)
                codes.update(letter.header.properties.headers["x-foldwork-code"] for letter in letters)
                assert buried == total(metrics.DEAD_LETTERS) - dead, f"seed {seed}"
                # No connection was lost on the way, so nothing had to come again.
                assert (proxy.connections, consumer.unready) == (connections, []), f"seed {seed}"
            assert await consumers(amqp_url) == 1
    print(sent, codes)
    assert codes, f"seed {seed}"
    assert len(rows(migrated_url, "SELECT 1 FROM ledger")) <= sent - buried


def test_what_is_mangled_stays_of_the_same_size() -> None:
    payload = struct.pack(">HHQH", 60, 0, 7, 0x8) + b"\x10" + MARK + b"123456789"
    for number in range(200):
        changed = mangled(payload, number)
        assert (len(changed), changed[:12]) == (len(payload), payload[:12])
    assert len({mangled(payload, number) for number in range(200)}) > 150
