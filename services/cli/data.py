"""The commands that send commands and show events."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import typer

from services.cli.common import JSON, UserError, amqp_url, development, show


def read_data(text: str) -> bytes:
    """Return the JSON that the user gave: itself, `@file`, or `-` for standard input."""
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {text[1:]}: {error.strerror}") from None
    return text.encode()


def register(app: typer.Typer) -> None:
    """Add the commands."""

    @app.command()
    def send(
        name: str = typer.Argument(..., metavar="TYPE", help="The command, such as task.complete."),
        data: str = typer.Option("{}", help="Its data as JSON, @FILE, or - for standard input."),
        tenant: str | None = typer.Option(None, help="The tenant; `demo` beside `foldwork dev`."),
        actor: str = typer.Option("system", help="A member's id, or `system`."),
        command_id: str | None = typer.Option(None, "--id", help="The command's id; sent twice, it takes effect once."),
        key: str | None = typer.Option(None, help="An idempotency key."),
        expected_version: int | None = typer.Option(None, help="Refuse unless the stream is at this version."),
        activity: str | None = typer.Option(None, help="The task's activity, which keeps its commands in order."),
        wait: bool = typer.Option(False, help="Wait for the answer, and exit 1 when it is a refusal."),
        timeout: float = typer.Option(10.0, help="How long to wait, in seconds."),
        as_json: bool = JSON,
    ) -> None:
        """Publish a command to the broker."""
        from domain import COMMANDS
        from services import messages
        from services.intake.sender import CommandSender, NotSent, Outgoing

        body = read_data(data)
        try:
            messages.parse_data(name, body) if name in COMMANDS else None
        except messages.Malformed as malformed:
            raise UserError(f"{malformed} {malformed.pointer}".strip()) from None
        if name not in COMMANDS:
            raise UserError(f"there is no command {name}; the commands are {', '.join(COMMANDS)}")
        chosen = tenant or development().get("tenant")
        if not chosen:
            raise UserError("Name the tenant with --tenant.")
        given: dict[str, Any] = {} if command_id is None else {"command_id": command_id}
        outgoing = Outgoing(
            name,
            body,
            chosen,
            messages.routing_key(name, json.loads(body), activity),
            actor,
            idempotency_key=key,
            expected_version=expected_version,
            **given,
        )

        async def publish() -> Any:
            sender = CommandSender(amqp_url(), "send")
            try:
                await sender.start()
                return await sender.send(outgoing, timeout, wait=wait)
            finally:
                await sender.close()

        try:
            reply = asyncio.run(publish())
        except (NotSent, OSError, TimeoutError) as error:
            raise UserError(f"not sent: {error}") from None
        if reply is None:
            if as_json:
                show({"command_id": outgoing.command_id, "outcome": None})
            else:
                typer.echo(f"sent {outgoing.command_id}" + (", no answer yet" if wait else ""))
            raise typer.Exit(2 if wait else 0)
        if as_json:
            typer.echo(messages.encode_reply(reply).decode())
        else:
            typer.echo(f"{reply.outcome} {reply.command_id} at position {reply.position}")
            for event in reply.events:
                typer.echo(f"  {event.position} {event.type} {event.stream} version {event.version}")
            if reply.error is not None:
                typer.echo(f"  {reply.error.code}: {reply.error.detail} {reply.error.pointer}".rstrip())
        raise typer.Exit(0 if reply.accepted else 1)

    @app.command()
    def tail(
        pattern: str = typer.Option("#", help="A topic pattern, such as acme.task.*"),
        count: int | None = typer.Option(None, min=1, help="End after so many events."),
        as_json: bool = JSON,
    ) -> None:
        """Print events as a subscriber of the events exchange gets them, from now on."""
        from services.intake.tail import subscription

        async def follow() -> None:
            left = count
            async with subscription(amqp_url(), pattern) as events:
                typer.echo(f"subscribed to {pattern}", err=True)
                async for _, body in events:
                    typer.echo(body.decode() if as_json else event_line(json.loads(body)))
                    left = None if left is None else left - 1
                    if left == 0:
                        return

        try:
            asyncio.run(follow())
        except OSError as error:
            raise UserError(f"the broker cannot be reached: {error}") from None


def event_line(event: dict[str, Any]) -> str:
    """Return one event as a line for people."""
    data = {key: value for key, value in event["data"].items() if value not in (None, [], {}) and key != "steps"}
    said = json.dumps(data, ensure_ascii=False)
    short = said if len(said) <= 100 else said[:99] + "…"
    return f"{event['position']:>6}  {event['type']:<28} {event['subject']:<34} {short}"
