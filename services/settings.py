"""The settings, read from the environment in this module only; all problems are reported at once at the start."""

from __future__ import annotations

import base64
import json
import os
from functools import cached_property
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from domain.streams import ID, TENANT
from services import urls
from services.errors import OperatorError

# RabbitMQ 4 accepts messages of up to 16 MiB; a published event is about 1 kB larger than the recorded one.
EVENT_LIMIT = 4 << 20
# Of a key for AES-256.
_KEY_BYTES = 32


def broker_user(amqp_url: str) -> str:
    return unquote(urlsplit(amqp_url).username or "guest")


class ConfigurationError(OperatorError):
    """The configuration is invalid; the message lists every problem, one per line."""


class Settings(BaseSettings):
    """The settings, each set by `FOLDWORK_<NAME>`. Times are in seconds unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix="FOLDWORK_", extra="ignore", frozen=True, hide_input_in_errors=True)

    database_url: SecretStr = Field(description="libpq URL of PostgreSQL")
    amqp_url: SecretStr = Field(description="amqp:// or amqps:// URL of RabbitMQ, including the virtual host")
    amqp_senders: Annotated[dict[str, tuple[str, ...]], NoDecode] = Field(
        default_factory=dict,
        description="tenants that each broker user may act for, as any member and as `system`, given as"
        ' {"user": ["tenant", "other"]}; "*" is every tenant',
    )
    allow_plaintext: Annotated[frozenset[str], NoDecode] = Field(
        default_factory=frozenset,
        description="what may be unencrypted off loopback, separated by commas: " + ", ".join(urls.PLAINTEXT),
    )

    http_host: str = Field("127.0.0.1", description="address that the HTTP role listens on")
    http_port: int = Field(urls.HTTP_PORT, ge=0, le=65535, description="port that the HTTP role listens on")
    http_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default_factory=tuple,
        description="host names that requests may be for, without ports, separated by commas; names of loopback always"
        " may, and all if none is set",
    )
    http_body_limit: int = Field(4 << 20, ge=1024, description="largest request body, in bytes")
    http_connections: int = Field(
        1000, ge=1, description="connections to the HTTP role; a further one replaces the longest idle one, or gets 503"
    )
    http_connections_per_address: int = Field(
        500, ge=1, description="the same for connections from one address; a proxy's are all from one"
    )
    http_in_flight: int = Field(
        512, ge=1, description="requests processed at the same time; further ones are answered 503 with Retry-After"
    )
    http_in_flight_per_tenant: int = Field(
        256, ge=1, description="the same for one tenant; further ones are answered 429 with Retry-After"
    )
    http_in_flight_per_key: int = Field(128, ge=1, description="the same for one API key")
    http_memory: int = Field(
        256 << 20,
        ge=1 << 20,
        description="bytes that the bodies of all requests may take in memory, and as many that answers may, half of"
        " each for one tenant; further requests are answered 503, or 429, with Retry-After",
    )
    http_commands_per_second: float = Field(
        2000.0,
        gt=0,
        description="commands that one tenant may send to a process, those of bulks too, in the mean of ten seconds;"
        " further ones are answered 429 with Retry-After",
    )
    http_bytes_per_second: float = Field(
        float(16 << 20), gt=0, description="the same for the bytes of the bodies that they are sent in"
    )
    http_body_timeout: float = Field(
        30.0, gt=0, description="seconds in which the body of a request has to arrive; then it is answered 408"
    )
    probe_port: int | None = Field(
        None, ge=0, le=65535, description="port of /livez, /readyz and /metrics of the other roles"
    )
    probe_host: str = Field("127.0.0.1", description="address that the probes listen on")

    prefetch: int = Field(
        10_000,
        ge=1,
        le=65535,
        description="commands that the broker delivers before they are acknowledged; tenants take turns among these",
    )
    prefetch_bytes: int = Field(
        32 << 20,
        ge=1 << 20,
        description="bytes of received commands, each counted with 1 KiB more; at this limit reading pauses",
    )
    consumer_timeout: float = Field(
        60.0,
        gt=0,
        description="seconds without a recorded command, although the servers are available, before the role ends",
    )
    batch_size: int = Field(500, ge=1, le=10_000, description="largest number of commands in one transaction")
    batch_wait_ms: float = Field(
        5.0, ge=0, le=1000, description="how long a batch may wait to fill under load, in milliseconds"
    )
    command_limit: int = Field(1 << 20, ge=1024, description="largest command body, in bytes")
    event_limit: int = Field(
        EVENT_LIMIT,
        ge=1 << 20,
        le=15 << 20,
        description="largest event, in bytes; a command with a larger one is refused",
    )
    state_cache_bytes: int = Field(64 << 20, ge=0, description="bytes of streams that a worker keeps in memory")
    poison_attempts: int = Field(
        5, ge=1, description="attempts at a redelivered command before it becomes a dead letter"
    )
    receipts_days: int = Field(
        30, ge=1, description="days for which receipts are kept and repeated command ids recognised"
    )

    follower_batch: int = Field(500, ge=1, le=10_000, description="events that a follower handles in one transaction")
    follower_batch_bytes: int = Field(
        8 << 20,
        ge=1 << 16,
        description="estimated bytes in memory of these events; the one that reaches it is the last",
    )
    follower_poll: float = Field(1.0, gt=0, le=60, description="seconds until a follower polls without a notification")
    ready_lag: int = Field(100_000, ge=1, description="events that a follower may be behind and still be ready")
    degraded_after: float = Field(5.0, gt=0, description="seconds without progress before a part is degraded")
    unready_after: float = Field(30.0, gt=0, description="the same before it is not ready")

    dispatch_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default_factory=tuple,
        description="hosts without a public address that tenants may use as providers, separated by commas",
    )
    dispatch_secrets: Annotated[dict[str, SecretStr], NoDecode] = Field(
        default_factory=dict,
        description='secrets that requests to providers are signed with, as {"tenant/name": "secret"}',
    )
    dispatch_console: bool = Field(
        False,
        description="let the provider `console` write tasks, with data of customers, to the log; for development",
    )

    secret_key: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default_factory=tuple,
        description="keys that credentials for providers are encrypted with, each 32 bytes in Base64, separated by"
        " commas; the first one encrypts, all decrypt",
    )

    reply_timeout: float = Field(
        5.0, gt=0, description="seconds that an HTTP write waits for the answer and the read models"
    )
    bulk_item_ms: float = Field(
        25.0, ge=0, description="additional time-out of a bulk request for each of its commands, in milliseconds"
    )
    view_timeout: float = Field(2.0, gt=0, description="seconds that a query waits for min_position")
    shutdown_grace: float = Field(10.0, gt=0, description="seconds that a role may take to stop")
    statement_timeout: float = Field(20.0, gt=0, description="statement time-out of the database, in seconds")
    read_timeout: float = Field(5.0, gt=0, description="the same for single resources over HTTP, if it is shorter")
    list_timeout: float = Field(5.0, gt=0, description="the same for lists and exports over HTTP")
    check_timeout: float = Field(2.0, gt=0, description="the same for the checks of API keys and for probes")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error")
    log_format: str = Field("json", pattern="^(json|console)$", description="json or console")

    test_build: bool = Field(False, description="honour crash_at; for the tests of crash recovery alone")
    crash_at: str | None = Field(None, description="the named point at which a test build kills itself")

    @field_validator("amqp_senders", mode="before")
    @classmethod
    def _senders(cls, value: Any) -> Any:
        if isinstance(value, str):
            try:
                value = json.loads(value) if value else {}
            except ValueError:
                raise ValueError('must be JSON such as {"user": ["tenant"]}') from None
        return value

    @field_validator("allow_plaintext", mode="before")
    @classmethod
    def _plaintext(cls, value: Any) -> Any:
        return urls.allowed_plaintext(value) if isinstance(value, str) else value

    @field_validator("http_hosts")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any("/" in host or host.count(":") == 1 for host in value):
            raise ValueError("must be names without a scheme, port or path")
        return value

    @field_validator("http_hosts", "dispatch_hosts", mode="before")
    @classmethod
    def _hosts(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("["):
            try:
                return json.loads(value)
            except ValueError:
                raise ValueError("must be hosts separated by commas, or a JSON list of them") from None
        return tuple(host for part in value.split(",") if (host := part.strip()))

    @field_validator("dispatch_secrets", mode="before")
    @classmethod
    def _secrets(cls, value: Any) -> Any:
        wrong = 'must be JSON such as {"tenant/name": "secret"}'
        if isinstance(value, str):
            try:
                value = json.loads(value) if value else {}
            except ValueError:
                raise ValueError(wrong) from None
        if not isinstance(value, dict):
            raise ValueError(wrong)
        for name, secret in value.items():
            tenant, _, own = str(name).partition("/")
            if not TENANT.match(tenant) or not ID.match(own) or not secret:
                raise ValueError(f"{wrong}, without empty ones")
        return value

    @field_validator("secret_key", mode="before")
    @classmethod
    def _keys(cls, value: Any) -> Any:
        keys = tuple(key for part in value.split(",") if (key := part.strip())) if isinstance(value, str) else value
        for key in keys:
            try:
                found = base64.b64decode(key.get_secret_value() if isinstance(key, SecretStr) else key, validate=True)
            except (TypeError, ValueError):
                found = b""
            if len(found) != _KEY_BYTES:
                raise ValueError(f"must be keys of {_KEY_BYTES} bytes in Base64, separated by commas")
        if len(set(keys)) < len(keys):
            raise ValueError("has the same key twice")
        return keys

    @field_validator("database_url")
    @classmethod
    def _postgres(cls, value: SecretStr) -> SecretStr:
        return SecretStr(urls.database_url(value.get_secret_value()))

    @field_validator("amqp_url")
    @classmethod
    def _amqp(cls, value: SecretStr) -> SecretStr:
        return SecretStr(urls.amqp_url(value.get_secret_value()))

    @model_validator(mode="after")
    def _encrypted(self) -> Settings:
        urls.demand_encryption(
            self.database_url.get_secret_value(), self.amqp_url.get_secret_value(), self.allow_plaintext
        )
        return self

    @cached_property
    def broker_is_local(self) -> bool:
        """Whether the broker is on loopback."""
        return urls.is_local(self.amqp_url.get_secret_value())

    @cached_property
    def broker_user(self) -> str:
        """The broker user of Foldwork itself."""
        return broker_user(self.amqp_url.get_secret_value())

    def may_send(self, user: str | None, tenant: str) -> bool:
        """Whether a broker user may send commands for a tenant; Foldwork's own user may for all."""
        if user is not None and user == self.broker_user:
            return True
        if not self.amqp_senders:
            return self.broker_is_local
        tenants = self.amqp_senders.get(user or "", ())
        return tenant in tenants or "*" in tenants


def command_limit() -> int:
    """Return the setting `command_limit` alone, for commands that need no other setting."""
    found = Settings.model_fields["command_limit"]
    text = os.environ.get("FOLDWORK_COMMAND_LIMIT")
    try:
        return int(found.default) if text is None else TypeAdapter(Annotated[int, found]).validate_python(text)
    except ValidationError as error:
        raise ConfigurationError(f"FOLDWORK_COMMAND_LIMIT: {error.errors()[0]['msg']}") from None


def load(**given: Any) -> Settings:
    """Load the settings; raises `ConfigurationError` with every problem."""
    try:
        return Settings(**given)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            name = "_".join(str(part) for part in problem["loc"])
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"FOLDWORK_{name.upper()}: {message}" if name else message)
        raise ConfigurationError(*lines) from None
