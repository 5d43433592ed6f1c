"""The wire contract: bytes to a command, an answer to bytes, an event to a CloudEvent; bad bytes never get past it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from pydantic import ConfigDict, TypeAdapter, ValidationError

from domain import COMMANDS, limits
from domain.activity import NewTask
from domain.decider import SYSTEM
from domain.errors import Rejected
from domain.plan import Attribute, Criterion, DispatchPlan
from domain.streams import ID, TENANT, split_stream
from domain.workflow import FieldMapping, Step
from services.store import codec
from services.store.log import LogRow

COMMAND_EXCHANGE = "foldwork.commands"
COMMAND_QUEUE = "foldwork.commands"
DEAD_EXCHANGE = "foldwork.dead"
DEAD_QUEUE = "foldwork.dead"
EVENT_EXCHANGE = "foldwork.events"
CLOUD_EVENT = "application/cloudevents+json"

MOST_DEPTH = 32
_MESSAGE_ID = re.compile(r"[\x21-\x7e]{1,128}\Z")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")
_KEY = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,255}\Z")
_REPLY_QUEUES = ("amq.rabbitmq.reply-to.", "amq.gen-", "reply.")

for _kind in (*COMMANDS.values(), NewTask, Attribute, Criterion, DispatchPlan, FieldMapping, Step):
    _kind.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]
_VALIDATORS = {name: TypeAdapter(kind).validator for name, kind in COMMANDS.items()}


class Malformed(Exception):
    """A message that is no command: it is dead-lettered with this code, and nothing is recorded."""

    def __init__(self, code: str, detail: str, pointer: str = "") -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        # It names keys as the sender wrote them, and half of a surrogate pair fits into no header and no answer.
        self.pointer = pointer.encode("utf-8", "backslashreplace").decode("utf-8")


@dataclass(frozen=True, slots=True)
class Incoming:
    """A well-formed command with what came around it. `fingerprint` is the SHA-256 of its type and canonical data.

    `refusal` is set when a value exceeds its limit: the command is then refused without being decided.
    """

    tenant: str
    command_id: str
    name: str
    command: Any
    fingerprint: bytes
    actor: str = SYSTEM
    idempotency_key: str | None = None
    expected_version: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    traceparent: str | None = None
    redelivered: bool = False
    refusal: Rejected | None = None


class Problem(msgspec.Struct, frozen=True):
    """Why a command was refused."""

    code: str
    detail: str
    pointer: str = ""


class EventSummary(msgspec.Struct, frozen=True):
    """One recorded event in an answer."""

    position: int
    type: str
    stream: str
    version: int


class Reply(msgspec.Struct, frozen=True):
    """The answer to a command. `position` is that of its last event, or the log's head when it recorded none."""

    command_id: str
    outcome: str
    duplicate: bool = False
    position: int | None = None
    events: tuple[EventSummary, ...] = ()
    error: Problem | None = None

    @property
    def accepted(self) -> bool:
        """Tell whether the command took effect, now or the first time."""
        return self.outcome == "accepted"


_encode = msgspec.json.Encoder().encode
_canonical = msgspec.json.Encoder(order="deterministic").encode
_decode_reply = msgspec.json.Decoder(Reply).decode


def encode_reply(reply: Reply) -> bytes:
    """Return the answer's JSON."""
    return _encode(reply)


def decode_reply(body: bytes) -> Reply:
    """Return the answer that a worker sent."""
    return _decode_reply(body)


def may_reply_to(queue: str | None) -> bool:
    """Tell whether a queue is one that answers may go to: a reply queue by its name, never one of ours."""
    return queue is not None and queue.startswith(_REPLY_QUEUES)


def parse_headers(properties: Any) -> dict[str, Any]:
    """Return the fields of `Incoming` that stand around the body; raises `Malformed`.

    `properties` are AMQP basic properties: message_id, headers, reply_to, correlation_id, message_type.
    """
    headers: Mapping[str, Any] = properties.headers or {}
    message_id, tenant, name = properties.message_id, headers.get("tenant"), properties.message_type
    if message_id is None:
        raise Malformed("missing-message-id", "a command carries its id as message_id")
    if not _MESSAGE_ID.match(message_id):
        raise Malformed("bad-message-id", "a message_id is 1 to 128 printable ASCII characters without space")
    if tenant is None:
        raise Malformed("missing-tenant", "a command names its tenant in the header `tenant`")
    if not isinstance(tenant, str) or not TENANT.match(tenant):
        raise Malformed("bad-tenant", "a tenant is 1 to 63 characters of a-z 0-9 -")
    if name not in COMMANDS:
        raise Malformed("unknown-type", f"there is no command {str(name)[:100]!r}")
    actor = headers.get("actor", SYSTEM)
    if not isinstance(actor, str) or not ID.match(actor):
        raise Malformed("bad-header", "actor is a member's id or `system`")
    key = headers.get("idempotency-key")
    if key is not None and (not isinstance(key, str) or not _KEY.match(key)):
        raise Malformed("bad-header", "idempotency-key is a text of 1 to 255 characters")
    expected = headers.get("expected-version")
    if expected is not None and (not isinstance(expected, int) or isinstance(expected, bool) or expected < 0):
        raise Malformed("bad-header", "expected-version is a whole number from 0")
    traceparent = headers.get("traceparent")
    if not isinstance(traceparent, str) or not _TRACEPARENT.match(traceparent):
        traceparent = None
    correlation = properties.correlation_id
    if correlation is not None and not _KEY.match(correlation):
        raise Malformed("bad-header", "correlation_id is a text of 1 to 255 characters")
    return {
        "tenant": tenant,
        "command_id": message_id,
        "name": name,
        "actor": actor,
        "idempotency_key": key,
        "expected_version": expected,
        "correlation_id": correlation,
        "reply_to": properties.reply_to,
        "traceparent": traceparent,
    }


def parse(properties: Any, body: bytes, limit: int, redelivered: bool = False) -> Incoming:
    """Return the command that a delivery holds; raises `Malformed` with a code and a JSON pointer."""
    fields = parse_headers(properties)
    if len(body) > limit:
        raise Malformed("too-large", f"a command has at most {limit} bytes, this one {len(body)}")
    command, fingerprint = parse_data(fields["name"], body)
    refusal = limits.refusal(command)
    return Incoming(command=command, fingerprint=fingerprint, redelivered=redelivered, refusal=refusal, **fields)


def parse_data(name: str, body: bytes) -> tuple[Any, bytes]:
    """Return a command and its fingerprint from the JSON of its data; raises `Malformed`."""
    value = load_json(body)
    try:
        command = _VALIDATORS[name].validate_json(body, strict=True)
    except ValidationError as error:
        raise _malformed(error) from None
    return command, hashlib.sha256(name.encode() + b"\0" + _canonical(value)).digest()


def load_json(body: bytes) -> Any:
    """Return JSON that is safe to store; raises `Malformed` for what PostgreSQL, or another reader, would choke on."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed("not-utf-8", f"byte {error.start} is no UTF-8") from None
    if body.count(b"[") + body.count(b"{") > MOST_DEPTH:
        _demand_shallow(text)
    try:
        value = _strict_json(text)
    except _OutOfRange:
        _demand_small(json.loads(text), "")
        raise
    except (ValueError, RecursionError) as error:
        raise Malformed("not-json", f"the body is no JSON: {str(error)[:200]}") from None
    if "\\u" in text or "\\U" in text or "\0" in text:
        _demand_text(value, "")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Malformed(
                    "duplicate-key", f"the key {key[:100]!r} stands twice in one object", f"/{_escape(key)}"
                )
            seen.add(key)
    return fields


def _no_constant(name: str) -> Any:
    raise Malformed("not-json", f"{name} is no JSON number")


def _demand_shallow(text: str) -> None:
    depth = 0
    for mark in re.finditer(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', text, re.DOTALL):
        if mark[0] in "[{":
            depth += 1
            if depth > MOST_DEPTH:
                raise Malformed("too-deep", f"a body nests at most {MOST_DEPTH} levels")
        elif mark[0] in "]}":
            depth -= 1


def _demand_text(value: Any, pointer: str) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise Malformed("nul", "a text cannot hold NUL", pointer)
        if not value.isascii() and any("\ud800" <= mark <= "\udfff" for mark in value):
            raise Malformed("lone-surrogate", "a text holds half of a surrogate pair", pointer)
    elif isinstance(value, dict):
        for key, item in value.items():
            _demand_text(key, pointer)
            _demand_text(item, f"{pointer}/{_escape(key)}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _demand_text(item, f"{pointer}/{index}")


class _OutOfRange(Exception):
    """A number that cannot be stored; where it stands is looked for only then."""


def _whole(text: str) -> int:
    value = int(text)
    if len(text) > 18 and not -(2**63) <= value < 2**63:
        raise _OutOfRange
    return value


def _real(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _OutOfRange
    return value


_strict_json = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_whole, parse_float=_real
).decode


def _demand_small(value: Any, pointer: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _demand_small(item, f"{pointer}/{_escape(key)}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _demand_small(item, f"{pointer}/{index}")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise Malformed("number-out-of-range", "a whole number fits into 64 bits", pointer)
    elif isinstance(value, float) and value in (float("inf"), float("-inf")):
        raise Malformed("number-out-of-range", "a number fits into a double", pointer)


def _escape(part: Any) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def pointer_of(location: Iterable[Any]) -> str:
    """Return the JSON pointer (RFC 6901) of a validation error's place."""
    return "".join(f"/{_escape(part)}" for part in location)


def _malformed(error: ValidationError) -> Malformed:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    unknown = first["type"] in ("unexpected_keyword_argument", "extra_forbidden")
    return Malformed("unknown-field" if unknown else "wrong-shape", first["msg"], pointer_of(first["loc"]))


def routing_key(name: str, data: Mapping[str, Any], activity_id: str | None = None) -> str:
    """Return the key that keeps an activity and all its tasks in order: the activity's id, else the aggregate's own."""
    own = data.get("id")
    key = activity_id if activity_id is not None else own
    return key if isinstance(key, str) and key else "new"


class _CloudEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: Any
    datacontenttype: str
    tenant: str
    position: int
    streamversion: int
    recordedat: Any
    commandid: str
    correlationid: str
    causationid: str
    actor: str
    data: msgspec.Raw
    traceparent: str | None = None


def cloud_event(row: LogRow) -> bytes:
    """Return a stored event as structured CloudEvents JSON, the same bytes for every reader, in today's shape."""
    return published(row)[0]


def published(row: LogRow) -> tuple[bytes, str]:
    """Return a stored event as it is published, and its id."""
    tenant, category, entity_id = split_stream(row.stream)
    stored = codec.raw(row.state, row.name)
    meta = stored.meta
    shown = _encode(
        _CloudEvent(
            specversion="1.0",
            id=meta.id,
            source=f"/foldwork/{tenant}",
            type=row.name,
            subject=f"{category}/{entity_id}",
            time=meta.at,
            datacontenttype="application/json",
            tenant=tenant,
            position=row.position,
            streamversion=row.version,
            recordedat=row.recorded_at,
            commandid=meta.command,
            correlationid=meta.correlation,
            causationid=meta.causation,
            actor=meta.actor,
            data=stored.data,
            traceparent=meta.traceparent,
        )
    )
    return shown, meta.id


def event_key(row: LogRow) -> str:
    """Return the routing key of a published event, `<tenant>.<aggregate>.<event>`."""
    return f"{row.stream.partition('/')[0]}.{row.name}"
