"""The machine-readable contracts: OpenAPI, AsyncAPI and a JSON Schema of every command and event, made from the code.

Run as `python -m services.contracts docs`, it writes them; the same code gives the same bytes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from domain import COMMANDS, EVENTS, STORED_EVENTS
from domain.lifecycle import ROWS
from services import cloud_events, schemas
from services.broker import names
from services.broker.topology import DELIVERY_LIMIT
from services.http.core.app import document

Json = dict[str, Any]

_SCHEMAS = "#/components/schemas/"
_TEXT: Json = {"type": "string"}
_ABOUT_BROKER = """Commands in, answers and events out, over AMQP 0-9-1.

Publish commands persistently and with publisher confirms. The routing key of a command is the activity's id for an
activity and all its tasks, a lone task's own id, otherwise the aggregate's id; it keeps them in order. The same
`message_id` takes effect once per tenant, and so does the same `idempotency-key`. What is no command goes to the dead
letters with its reason.

A command with `dry-run.` before its type, such as `dry-run.task.complete`, is decided and answered, and nothing is
recorded."""


def openapi() -> Json:
    return document()


def asyncapi() -> Json:
    shared: Json = {}
    commands = {name: _command(name, shared) for name in COMMANDS}
    events = {name: _event(name, shared) for name in EVENTS}
    reply = schemas.inlined(schemas.reply(), _SCHEMAS, shared)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Foldwork", "version": "1", "description": _ABOUT_BROKER, "tags": [{"name": "foldwork"}]},
        "defaultContentType": "application/json",
        "servers": {
            "broker": {
                "host": "{host}",
                "protocol": "amqp",
                "protocolVersion": "0-9-1",
                "description": "RabbitMQ, or the development broker",
                "variables": {"host": {"default": "localhost:5672", "description": "as in `FOLDWORK_AMQP_URL`"}},
                "security": [{"$ref": "#/components/securitySchemes/user"}],
            }
        },
        "channels": {
            "commands": _commands_channel(),
            "answers": {
                "address": None,
                "title": "Answers",
                "description": "The reply queue that a command names: `amq.rabbitmq.reply-to.*`, `amq.gen-*`, `amq_*` "
                "or, with `user_id`, `reply.<user>.*`, through the default exchange. To no other "
                "queue anything is answered.",
                "messages": {"reply": {"$ref": "#/components/messages/reply"}},
            },
            "events": _events_channel(),
            "dead-letters": _dead_letters_channel(),
        },
        "operations": {
            "receiveCommands": {
                "action": "receive",
                "channel": {"$ref": "#/channels/commands"},
                "summary": "Take commands, decide and record them, and answer",
                "messages": [{"$ref": f"#/channels/commands/messages/{name}"} for name in COMMANDS],
                "bindings": {"amqp": {"ack": True, "bindingVersion": "0.3.0"}},
                "reply": {
                    "address": {
                        "location": "$message.header#/reply_to",
                        "description": "The AMQP property `reply_to`; without one nothing is answered.",
                    },
                    "channel": {"$ref": "#/channels/answers"},
                    "messages": [{"$ref": "#/channels/answers/messages/reply"}],
                },
            },
            "sendEvents": {
                "action": "send",
                "channel": {"$ref": "#/channels/events"},
                "summary": "Publish what was recorded: each event at least once, those of a stream in their order",
                "messages": [{"$ref": f"#/channels/events/messages/{name}"} for name in EVENTS],
                "bindings": {"amqp": {"deliveryMode": 2, "bindingVersion": "0.3.0"}},
            },
            "sendDeadLetters": {
                "action": "send",
                "channel": {"$ref": "#/channels/dead-letters"},
                "summary": "Keep what is no command, with the reason",
                "messages": [{"$ref": "#/channels/dead-letters/messages/deadLetter"}],
                "bindings": {"amqp": {"deliveryMode": 2, "bindingVersion": "0.3.0"}},
            },
        },
        "components": {
            "securitySchemes": {"user": {"type": "userPassword", "description": "a user of the broker"}},
            "messages": {**commands, **events, "reply": _reply(reply), "deadLetter": _dead_letter()},
            "schemas": {"commandHeaders": _command_headers(), **dict(sorted(shared.items()))},
        },
    }


def _commands_channel() -> Json:
    return {
        "address": "{route}",
        "title": "Commands",
        "description": f"The topic exchange `{names.COMMAND_EXCHANGE}`, bound to the quorum queue "
        f"`{names.COMMAND_QUEUE}`: a single active consumer, at most {DELIVERY_LIMIT} deliveries.",
        "parameters": {
            "route": {"description": "The activity's id for it and its tasks, else the aggregate's own id."}
        },
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in COMMANDS},
        "bindings": {"amqp": _routed(names.COMMAND_EXCHANGE, "topic")},
    }


def _events_channel() -> Json:
    return {
        "address": "{tenant}.{type}",
        "title": "Events",
        "description": f"The topic exchange `{names.EVENT_EXCHANGE}`: bind `acme.#` for a tenant, "
        "`*.activity.status-changed` for every change of a status.",
        "parameters": {
            "tenant": {"description": "1 to 63 characters of a-z 0-9 -"},
            "type": {"description": "The event's type.", "enum": list(EVENTS)},
        },
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in EVENTS},
        "bindings": {"amqp": _routed(names.EVENT_EXCHANGE, "topic")},
    }


def _dead_letters_channel() -> Json:
    return {
        "address": names.DEAD_QUEUE,
        "title": "Dead letters",
        "description": f"The fanout exchange `{names.DEAD_EXCHANGE}` and the quorum queue of the same name.",
        "messages": {"deadLetter": {"$ref": "#/components/messages/deadLetter"}},
        "bindings": {
            "amqp": {
                "is": "queue",
                "queue": {"name": names.DEAD_QUEUE, "durable": True, "exclusive": False, "autoDelete": False},
                "bindingVersion": "0.3.0",
            }
        },
    }


def _routed(exchange: str, kind: str) -> Json:
    return {
        "is": "routingKey",
        "exchange": {"name": exchange, "type": kind, "durable": True, "autoDelete": False},
        "bindingVersion": "0.3.0",
    }


def _command_headers() -> Json:
    return {
        "type": "object",
        "description": "AMQP headers. Beside them the properties: `type` is the command's name, after `dry-run.` for a "
        "dry run, `message_id` its id of 1 to 128 printable ASCII characters, `reply_to` and `correlation_id` are for "
        "the answer.",
        "required": ["tenant"],
        "properties": {
            "tenant": schemas.TENANT,
            "actor": {**_TEXT, **schemas.ID, "description": "a member's id; `system` if left out", "default": "system"},
            "idempotency-key": {**_TEXT, "minLength": 1, "maxLength": 255},
            "expected-version": {
                "type": "integer",
                "minimum": 0,
                "description": "refuse with `version-conflict` unless the aggregate's own stream is at this version",
            },
            "ordered": {
                "type": "boolean",
                "default": False,
                "description": "do not overtake a dead letter of the same routing key: be parked behind it",
            },
            "caused-by": {
                "type": "integer",
                "minimum": 1,
                "description": "the position of the event that the command answers",
            },
            "traceparent": {**_TEXT, "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"},
        },
    }


def _command(name: str, shared: Json) -> Json:
    shared[f"command.{name}"] = schemas.inlined(schemas.command(name), _SCHEMAS, shared, "command.")
    return {
        "name": name,
        "title": name,
        "summary": ROWS[name].summary,
        "contentType": "application/json",
        "headers": {"$ref": f"{_SCHEMAS}commandHeaders"},
        "correlationId": {"location": "$message.header#/correlation_id"},
        "payload": {"$ref": f"{_SCHEMAS}command.{name}"},
        "bindings": {"amqp": {"messageType": name, "bindingVersion": "0.3.0"}},
    }


def _event(name: str, shared: Json) -> Json:
    shared[f"event.{name}"] = schemas.inlined(schemas.event(name), _SCHEMAS, shared, "event.")
    return {
        "name": name,
        "title": name,
        "contentType": cloud_events.CLOUD_EVENT,
        "payload": schemas.cloud_event(name, f"{_SCHEMAS}event.{name}"),
        "bindings": {"amqp": {"messageType": name, "bindingVersion": "0.3.0"}},
    }


def _reply(payload: Json) -> Json:
    return {
        "name": "reply",
        "title": "Answer",
        "summary": "What came of a command",
        "contentType": "application/json",
        "correlationId": {"location": "$message.header#/correlation_id"},
        "payload": payload,
        "bindings": {"amqp": {"messageType": "reply", "bindingVersion": "0.3.0"}},
    }


def _dead_letter() -> Json:
    return {
        "name": "deadLetter",
        "title": "Dead letter",
        "summary": "A message that is no command, with its own headers and the reason",
        "headers": {
            "type": "object",
            "required": [f"x-foldwork-{name}" for name in ("code", "detail", "pointer", "routing-key")],
            "properties": {
                "x-foldwork-code": {**_TEXT, "description": "why"},
                "x-foldwork-detail": _TEXT,
                "x-foldwork-pointer": {**_TEXT, "description": "JSON pointer to the place, if there is one"},
                "x-foldwork-routing-key": _TEXT,
                "x-foldwork-sha256": {**_TEXT, "description": "of the whole body, when it was too large to keep"},
                "x-foldwork-bytes": {"type": "integer", "description": "of the whole body"},
            },
        },
        "payload": {"description": "the body as it came, of one that is too large the first 4 KiB"},
    }


def documents() -> dict[str, str]:
    """Return every document by its path below `docs`."""
    made = {"openapi.json": openapi(), "asyncapi.json": asyncapi(), "schemas/reply.json": schemas.reply()}
    made |= {f"schemas/commands/{name}.json": schemas.command(name) for name in COMMANDS}
    made |= {f"schemas/events/{name}.json": schemas.event(name) for name in STORED_EVENTS}
    return {path: json.dumps(document, indent=1, ensure_ascii=False) + "\n" for path, document in made.items()}


def write(folder: Path) -> None:
    """Write the documents, and delete outdated schemas."""
    made = documents()
    for path, text in made.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
    for kept in (folder / "schemas").rglob("*.json"):
        if str(kept.relative_to(folder)) not in made:
            kept.unlink()


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs"))
