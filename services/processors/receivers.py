"""The receivers of webhooks: a delivery is signed and sent, and the start of the answer is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol, Self

import httpx

from services.cloud_events import CLOUD_EVENT
from services.encryption import Keyring, NoKey, NotGenuine
from services.processors.outward import MAX_MESSAGE, Outward, Refused, printable, start_of
from services.settings import Settings
from services.webhooks import place_of, signed

# Seconds in which a receiver has to answer.
TIMEOUT = 15.0
# Seconds for the start of the body, which decides nothing.
_BODY_TIMEOUT = 2.0


class Delivered(NamedTuple):
    """What came of a delivery: the status of the answer and its start, or why there is none, as text.

    `hopeless`: it need not be tried again.
    """

    status: int | None
    answer: str
    hopeless: bool = False

    @property
    def taken(self) -> bool:
        """Whether the receiver has taken the event."""
        return self.status is not None and 200 <= self.status <= 299


class Delivery(NamedTuple):
    """An event to be sent to the URL of a webhook; `secrets` are encrypted, `at` is the time in seconds."""

    tenant: str
    webhook: str
    url: str
    secrets: Sequence[str]
    event_id: str
    at: int
    body: bytes


class Sending(Protocol):
    """Sends deliveries, each in bounded time."""

    async def send(self, delivery: Delivery) -> Delivered:
        """Send a delivery."""


class Receivers:
    """Sends deliveries over HTTP; an async context manager, bound to one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._keys = Keyring(settings.secret_key)
        self._outward = Outward(settings, "a webhook")

    async def __aenter__(self) -> Self:
        await self._outward.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._outward.__aexit__()

    async def send(self, delivery: Delivery) -> Delivered:
        """Send a delivery."""
        place = place_of(delivery.tenant, delivery.webhook)
        try:
            secrets = [self._keys.decrypt(place, secret) for secret in delivery.secrets]
            headers = {
                "Content-Type": CLOUD_EVENT, **signed(delivery.event_id, delivery.at, delivery.body, secrets)
            }  # fmt: skip
            async with asyncio.timeout(TIMEOUT):
                response = await self._outward.post(delivery.tenant, delivery.url, delivery.body, headers)
            try:
                return Delivered(response.status_code, await _start(response))
            finally:
                with suppress(httpx.HTTPError, OSError):
                    await response.aclose()
        except NoKey as error:
            return Delivered(None, str(error))
        except NotGenuine:
            return Delivered(None, "the secret of the webhook cannot be decrypted")
        except Refused as refused:
            return Delivered(None, str(refused))
        except (TimeoutError, httpx.TimeoutException):
            return Delivered(None, f"no answer within {TIMEOUT:g} s")
        except httpx.TransportError as error:
            return Delivered(None, printable(f"{type(error).__name__}: {error}"))


async def _start(response: httpx.Response) -> str:
    """Return the start of the body as text, as far as it comes soon."""
    # A character has up to four bytes.
    try:
        async with asyncio.timeout(_BODY_TIMEOUT):
            body = await start_of(response, 4 * MAX_MESSAGE)
    except (httpx.HTTPError, TimeoutError, OSError):
        return ""
    return printable(body.decode("utf-8", "replace"))
