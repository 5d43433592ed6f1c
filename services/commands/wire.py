"""The wire contract of commands: bytes to a command, a reply to bytes; what is malformed raises `InvalidMessage`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from pydantic import ConfigDict, TypeAdapter, ValidationError

from domain import COMMANDS, checks
from domain.activity import NewTask
from domain.decider import SYSTEM
from domain.errors import Refusal
from domain.limits import MAX_WHOLE
from domain.plan import Attribute, Criterion, DispatchPlan
from domain.steps import FieldMapping, Step
from domain.streams import ID, TENANT
from services.strict_json import MAX_DEPTH as MAX_DEPTH
from services.strict_json import InvalidMessage as InvalidMessage
from services.strict_json import demand_shallow as demand_shallow
from services.strict_json import load_json as load_json
from services.strict_json import pointer_of as pointer_of

_MESSAGE_ID = re.compile(r"[\x21-\x7e]{1,128}\Z")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")
_KEY = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,255}\Z")
# Before the type of a command that is only to be tried. A worker of a version without dry runs does not know such a
# type, so it cannot take one for the command.
DRY_RUN = "dry-run."
# The header by which a command that is sent again names the broker user that sent it first.
SENT_BY = "sent-by"
# The reason of a command that is parked since it must not overtake another one, and the outcome that its answer has.
WAITS, PARKED = "waits", "parked"

for _kind in (*COMMANDS.values(), NewTask, Attribute, Criterion, DispatchPlan, FieldMapping, Step):
    _kind.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]
_VALIDATORS = {name: TypeAdapter(kind).validator for name, kind in COMMANDS.items()}


@dataclass(frozen=True, slots=True)
class Incoming:
    """A well-formed command with what came around it.

    `fingerprint` is the SHA-256 of its type, its actor and its canonical data: an answer is for its asker, so what
    another actor sends under the same id or idempotency key is another command.
    `refusal` is set when a value exceeds its limit: the command is then refused without being decided,
    and `command` is None, since what exceeds a limit should not be held.
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
    refusal: Refusal | None = None
    # It is decided, and nothing of the decision is recorded.
    dry_run: bool = False
    # It must not overtake an earlier command of its routing key; `behind` names one that is not decided.
    ordered: bool = False
    routing_key: str = ""
    behind: str | None = None
    # The position of the event that it answers.
    caused_by: int | None = None


class EventSummary(msgspec.Struct, frozen=True):
    """One recorded event in an answer."""

    position: int
    type: str
    stream: str
    version: int


class TriedEvent(msgspec.Struct, frozen=True):
    """An event that a dry run would have recorded. `data` is left out where all before it are large already."""

    type: str
    stream: str
    version: int
    data: Any | msgspec.UnsetType = msgspec.UNSET


class Reply(msgspec.Struct, frozen=True):
    """The answer to a command. `position` is that of its last event, or the log's head when it recorded none.

    That of a dry run has `dry_run` and, if it would be accepted, `would_record`. Unless it repeats what was recorded
    before, it has no position.
    """

    command_id: str
    outcome: str
    duplicate: bool = False
    position: int | None = None
    events: tuple[EventSummary, ...] = ()
    error: Refusal | None = None
    dry_run: bool | msgspec.UnsetType = msgspec.UNSET
    would_record: tuple[TriedEvent, ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def accepted(self) -> bool:
        """Tell whether the command took effect, now or the first time."""
        return self.outcome == "accepted"

    @property
    def tried(self) -> bool:
        """Tell whether it is the answer to a dry run."""
        return self.dry_run is True


_encode = msgspec.json.Encoder().encode
_canonical = msgspec.json.Encoder(order="deterministic").encode
_decode_reply = msgspec.json.Decoder(Reply).decode


def encode_reply(reply: Reply) -> bytes:
    """Return the answer's JSON."""
    return _encode(reply)


def decode_reply(body: bytes) -> Reply:
    """Return the answer that a worker sent."""
    return _decode_reply(body)


def parse_headers(properties: Any) -> dict[str, Any]:
    """Return the fields of `Incoming` that stand around the body; raises `InvalidMessage`.

    `properties` are AMQP basic properties: message_id, headers, reply_to, correlation_id, message_type.
    """
    tenant = tenant_of(properties)
    headers: Mapping[str, Any] = properties.headers
    message_id, name = properties.message_id, properties.message_type
    dry_run = is_dry_run(name)
    if dry_run:
        name = name.removeprefix(DRY_RUN)
    elif "dry-run" in headers:
        # Whoever sends this wants nothing to be recorded.
        raise InvalidMessage("bad-header", f"a dry run has the type `{DRY_RUN}` and the command, and no header")
    if message_id is None:
        raise InvalidMessage("missing-message-id", "a command carries its id as message_id")
    if not _MESSAGE_ID.match(message_id):
        raise InvalidMessage("bad-message-id", "a message_id is 1 to 128 printable ASCII characters without space")
    if name not in COMMANDS:
        raise InvalidMessage("unknown-type", f"there is no command {str(name)[:100]!r}")
    actor = headers.get("actor", SYSTEM)
    if not isinstance(actor, str) or not ID.match(actor):
        raise InvalidMessage("bad-header", "actor is a member's id or `system`")
    key = headers.get("idempotency-key")
    if key is not None and (not isinstance(key, str) or not _KEY.match(key)):
        raise InvalidMessage("bad-header", "idempotency-key is a text of 1 to 255 characters")
    expected = headers.get("expected-version")
    if expected is not None and (not isinstance(expected, int) or isinstance(expected, bool) or expected < 0):
        raise InvalidMessage("bad-header", "expected-version is a whole number from 0")
    caused_by = headers.get("caused-by")
    if caused_by is not None and (type(caused_by) is not int or not 1 <= caused_by <= MAX_WHOLE):
        raise InvalidMessage("bad-header", "caused-by is the position of an event, from 1")
    ordered = headers.get("ordered", False)
    if not isinstance(ordered, bool):
        raise InvalidMessage("bad-header", "ordered is true or false")
    traceparent = headers.get("traceparent")
    if not isinstance(traceparent, str) or not _TRACEPARENT.match(traceparent):
        traceparent = None
    correlation = properties.correlation_id
    if correlation is not None and not _KEY.match(correlation):
        raise InvalidMessage("bad-header", "correlation_id is a text of 1 to 255 characters")
    return {
        "tenant": tenant, "command_id": message_id, "name": name, "actor": actor, "idempotency_key": key,
        "expected_version": expected, "correlation_id": correlation, "reply_to": properties.reply_to,
        "traceparent": traceparent, "dry_run": dry_run, "ordered": ordered, "caused_by": caused_by,
    }  # fmt: skip


def is_dry_run(message_type: Any) -> bool:
    """Tell whether a message of this type is a command that is only to be tried."""
    return isinstance(message_type, str) and message_type.startswith(DRY_RUN)


def tenant_of(properties: Any) -> str:
    """Return the tenant that a message names; raises `InvalidMessage`."""
    tenant = (properties.headers or {}).get("tenant")
    if tenant is None:
        raise InvalidMessage("missing-tenant", "a command names its tenant in the header `tenant`")
    if not isinstance(tenant, str) or not TENANT.match(tenant):
        raise InvalidMessage("bad-tenant", "a tenant is 1 to 63 characters of a-z 0-9 -")
    return tenant


def parse_envelope(
    properties: Any, size: int, limit: int, may_send: Callable[[str | None, str], bool] = lambda _user, _tenant: True
) -> dict[str, Any]:
    """Return the fields of `Incoming` that stand around a body of `size` bytes; raises `InvalidMessage`.

    The sender is looked at first (`may_send(user, tenant)`), then the size; of what somebody may not send nothing is
    parsed.
    """
    unreadable = getattr(properties, "unreadable", None)
    if unreadable and properties.headers is None:
        # Whose it is cannot be told.
        raise InvalidMessage("unreadable", unreadable)
    tenant, user = tenant_of(properties), properties.user_id
    if not may_send(user, tenant):
        raise _forbidden(user, tenant)
    first = properties.headers.get(SENT_BY)
    if first is not None:
        # Whoever sends it again gives it no rights that it did not have; nobody gains any by naming another user.
        first = first if isinstance(first, str) and first else None
        if not may_send(first, tenant):
            raise _forbidden(first, tenant)
    if size > limit:
        raise InvalidMessage("too-large", f"a command has at most {limit} bytes, this one {size}")
    if unreadable:
        raise InvalidMessage("unreadable", unreadable)
    return parse_headers(properties)


def _forbidden(user: str | None, tenant: str) -> InvalidMessage:
    who = "a command without user_id" if user is None else f"the broker user {user[:100]!r}"
    return InvalidMessage("forbidden", f"{who} does not speak for tenant {tenant}")


def parse(
    properties: Any,
    body: bytes,
    limit: int,
    redelivered: bool = False,
    size: int | None = None,
    may_send: Callable[[str | None, str], bool] = lambda _user, _tenant: True,
    routing_key: str = "",
) -> Incoming:
    """Return the command that a delivery holds; raises `InvalidMessage` with a code and a JSON pointer.

    `size` is given where `body` is only the beginning.
    """
    fields = parse_envelope(properties, len(body) if size is None else size, limit, may_send)
    command, fingerprint = parse_data(fields["name"], body, fields["actor"])
    refusal = checks.refusal(command)
    if refusal is not None:
        command = None
    return Incoming(
        command=command,
        fingerprint=fingerprint,
        redelivered=redelivered,
        refusal=refusal,
        routing_key=routing_key,
        **fields,
    )


def parse_data(name: str, body: bytes, actor: str = SYSTEM) -> tuple[Any, bytes]:
    """Return a command from the JSON of its data, and its fingerprint when this actor gives it.

    Raises `InvalidMessage`.
    """
    value = load_json(body)
    try:
        command = _VALIDATORS[name].validate_json(body, strict=True)
    except ValidationError as error:
        raise _malformed(error) from None
    return command, fingerprint(name, value, actor)


def demand_well_formed(name: str, body: bytes) -> None:
    """Refuse the JSON of data, read by the rules of `load_json` before, that is no command; raises `InvalidMessage`."""
    try:
        _VALIDATORS[name].validate_json(body, strict=True)
    except ValidationError as error:
        raise _malformed(error) from None


def fingerprint(name: str, value: Any, actor: str) -> bytes:
    """Return the fingerprint of a command by its data, which is known to be well-formed."""
    return hashlib.sha256(b"%b\0%b\0%b" % (name.encode(), actor.encode(), _canonical(value))).digest()


def _malformed(error: ValidationError) -> InvalidMessage:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    unknown = first["type"] in ("unexpected_keyword_argument", "extra_forbidden")
    return InvalidMessage("unknown-field" if unknown else "wrong-shape", first["msg"], pointer_of(first["loc"]))


def routing_key(name: str, data: Mapping[str, Any], activity_id: str | None = None) -> str:
    """Return the key that keeps an activity and all its tasks in order: the activity's id, else the aggregate's own."""
    own = data.get("id")
    key = activity_id if activity_id is not None else own
    return key if isinstance(key, str) and key else "new"
