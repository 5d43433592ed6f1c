"""The clients of the load: over AMQP with confirms and answers, and over HTTP; both live through every outage."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import aiormq
import httpx
from pamqp.commands import Basic

from services.broker import names
from services.commands import wire
from tests.faults.history import FAIL, INFO, OK, READ, Answer, Call, History

_CONNECTING = 5.0
_CONFIRMING = 10.0


class Amqp:
    """A connection that comes back by itself; answers are taken whenever they come, also late."""

    def __init__(self, url: str, history: History) -> None:
        self._url = f"{url}?heartbeat=7"
        self._history = history
        self._channel: Any = None
        self._reply_to = ""
        self._calls: dict[str, Call] = {}
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.create_task(self._stay_connected(), name="load-connection")

    async def close(self) -> None:
        """Disconnect."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _stay_connected(self) -> None:
        while True:
            connection = None
            try:
                async with asyncio.timeout(_CONNECTING):
                    connection = await aiormq.connect(self._url)
                    channel = await connection.channel(publisher_confirms=True)
                    listening = await connection.channel()
                    declared = await listening.queue_declare(exclusive=True)
                    await listening.basic_consume(declared.queue or "", self._answered, no_ack=True)
                    self._reply_to = declared.queue or ""
                self._channel = channel
                await asyncio.wait([connection.closing, channel.closing], return_when=asyncio.FIRST_COMPLETED)
            except (OSError, aiormq.AMQPError, TimeoutError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.1)
            finally:
                self._channel = None
                if connection is not None:
                    with suppress(Exception):
                        async with asyncio.timeout(1):
                            await connection.close()

    async def _answered(self, message: Any) -> None:
        key = message.header.properties.correlation_id
        call = self._calls.get(key)
        if call is None:
            return
        reply = wire.decode_reply(message.body)
        if reply.error is None:
            events = tuple(event.position for event in reply.events)
            rest: dict[str, Any] = {"position": reply.position, "events": events, "duplicate": reply.duplicate}
            answer = self._history.answer(call, OK, **rest)
        else:
            answer = self._history.answer(call, FAIL, code=reply.error.code)
        waiting = self._waiting.pop(key, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    async def give(self, call: Call, body: bytes, key: str, timeout: float) -> Answer:
        """Publish a command, and return its answer, or that there is none; `key` is for its place in the order."""
        channel, mark = self._channel, f"{call.number}/{call.attempts}"
        if channel is None:
            return self._history.answer(call, INFO, code="not-sent")
        headers = {"tenant": call.tenant} | ({"idempotency-key": call.key} if call.key is not None else {})
        properties = Basic.Properties(
            delivery_mode=2, message_type=call.name, message_id=call.id, correlation_id=mark,
            reply_to=self._reply_to, headers=headers,  # type: ignore[arg-type]
        )  # fmt: skip
        self._calls[mark] = call
        waiting = self._waiting[mark] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(_CONFIRMING):
                confirm = await channel.basic_publish(
                    body, exchange=names.COMMAND_EXCHANGE, routing_key=key, properties=properties, mandatory=True
                )
            if not isinstance(confirm, Basic.Ack):
                return self._history.answer(call, INFO, code="returned")
            if not call.confirmed:
                self._history.confirm(call)
            async with asyncio.timeout(timeout):
                return await waiting
        except (OSError, aiormq.AMQPError, TimeoutError, RuntimeError, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and (task := asyncio.current_task()) and task.cancelling():
                raise
            return self._history.answer(call, INFO, code=type(error).__name__)
        finally:
            self._waiting.pop(mark, None)


class Http:
    """The clients of the HTTP API, one of each tenant."""

    def __init__(self, port: int, tokens: Mapping[str, str], history: History) -> None:
        self._history = history
        limits = httpx.Limits(max_connections=100)
        self._clients = {
            tenant: httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}",
                headers={"Authorization": f"Bearer {token}"},
                limits=limits,
                trust_env=False,
            )
            for tenant, token in tokens.items()
        }

    async def close(self) -> None:
        """Disconnect."""
        for client in self._clients.values():
            await client.aclose()

    async def give(self, call: Call, body: bytes, key: str, timeout: float) -> Answer:
        """Send a command, and return its answer, or that there is none."""
        content = b'{"type": %b, "id": %b, "data": %b}' % (_json(call.name), _json(call.id), body)
        headers = {"Content-Type": "application/json"}
        if call.key is not None:
            headers["Idempotency-Key"] = call.key
        try:
            answer = await self._clients[call.tenant].post(
                "/v1/commands", content=content, headers=headers, timeout=timeout
            )
            found = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            return self._history.answer(call, INFO, code=type(error).__name__)
        if answer.status_code == 200:
            events = tuple(event["position"] for event in found["events"])
            rest = {"position": found["position"], "events": events, "duplicate": found["duplicate"]}
            return self._history.answer(call, OK, **rest)
        if answer.status_code < 400 or answer.status_code >= 500 or answer.status_code in (408, 429):
            return self._history.answer(call, INFO, code=str(answer.status_code))
        return self._history.answer(call, FAIL, code=found.get("code"))

    async def read(self, call: Call, path: str, timeout: float) -> Answer:
        """Read something, and return whether it is there."""
        assert call.name == READ
        status = await self.status(call.tenant, path, None, timeout)
        if status in (200, 404):
            return self._history.answer(
                call, OK if status == 200 else FAIL, code=None if status == 200 else "not-found"
            )
        return self._history.answer(call, INFO, code=str(status))

    async def status(self, tenant: str, path: str, position: int | None, timeout: float) -> int:
        """Return the status of a request, 0 for none; `position` is what the read models must have reached."""
        headers = {} if position is None else {"Foldwork-Position": str(position)}
        try:
            return (await self._clients[tenant].get(path, headers=headers, timeout=timeout)).status_code
        except httpx.HTTPError:
            return 0


def _json(text: str) -> bytes:
    return json.dumps(text).encode()
