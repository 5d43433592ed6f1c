"""The commands that send commands and show events."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from services.cli import FAILED, NO_ANSWER
from services.cli.common import JSON, say, show
from services.cli.where import amqp_url, database_url, development
from services.errors import OperatorError

if TYPE_CHECKING:
    from domain.errors import Refusal
    from services.broker.sender import Outgoing
    from services.commands.wire import Reply


def read_data(text: str) -> bytes:
    """Read JSON from an argument: the text itself, `@file`, or `-` for standard input."""
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_bytes()
        except (OSError, ValueError) as error:
            raise OperatorError(f"cannot read {text[1:]}: {getattr(error, 'strerror', None) or error}") from None
    return text.encode()


def malformed(outgoing: Outgoing) -> Refusal | None:
    """Return the refusal of a command that the service would not even decide, or None."""
    from services.commands import wire
    from services.settings import command_limit

    try:
        return wire.parse(outgoing.properties(), outgoing.body, command_limit()).refusal
    except wire.InvalidMessage as found:
        return found.refusal


def register(app: typer.Typer) -> None:

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
        wait: bool = typer.Option(False, help="Wait for the answer; exit 1 when it refuses, 3 when there is none yet."),
        ordered: bool = typer.Option(False, "--ordered", help="Wait behind a dead letter of the same routing key."),
        dry_run: bool = typer.Option(False, "--dry-run", help="Have it decided, and nothing recorded; implies --wait."),
        timeout: float = typer.Option(10.0, min=0, help="How long to wait, in seconds."),
        as_json: bool = JSON,
    ) -> None:
        """Publish a command to the broker; an invalid one is refused and not sent."""
        from domain import COMMANDS
        from domain.streams import ID
        from services import logs
        from services.broker.sender import Outgoing
        from services.commands import wire

        logs.configure("error", "console")
        if name not in COMMANDS:
            raise OperatorError(f"unknown-type: there is no command {name}; the commands are {', '.join(COMMANDS)}")
        chosen = tenant if tenant is not None else development().get("tenant")
        if chosen is None:
            raise OperatorError("Name the tenant with --tenant.")
        if activity is not None and not ID.match(activity):
            raise OperatorError("bad-header: --activity is an activity's id")
        body = read_data(data)
        given: dict[str, Any] = {} if command_id is None else {"command_id": command_id}
        outgoing = Outgoing(
            name, body, str(chosen), actor=actor, idempotency_key=key, expected_version=expected_version,
            dry_run=dry_run, ordered=ordered, **given,
        )  # fmt: skip
        if (found := malformed(outgoing)) is not None:
            _refuse(outgoing, found, as_json)
        routed = replace(outgoing, routing_key=wire.routing_key(name, json.loads(body), activity))
        reply = answer(amqp_url(), routed, timeout, wait=wait or dry_run)
        if reply is None:
            if as_json:
                show({"command_id": routed.command_id, "outcome": None})
            else:
                say(f"sent {routed.command_id}" + (", no answer yet" if wait or dry_run else ""))
            raise typer.Exit(NO_ANSWER if wait or dry_run else 0)
        if dry_run and not reply.tried:
            raise OperatorError("the workers are of a version without dry runs; nothing was done")
        end_with(reply, as_json)

    @app.command()
    def tail(
        pattern: str = typer.Option("#", help="A topic pattern, such as acme.task.*"),
        since: str | None = typer.Option(
            None, metavar="POSITION|TIME", help="Read the log from there, and go on; it needs the database alone."
        ),
        count: int | None = typer.Option(None, min=1, help="End after so many events."),
        as_json: bool = JSON,
    ) -> None:
        """Print new events as they are published to the events exchange, or with --since those of the log.

        POSITION is that of the last event that is not printed, 0 for all; TIME is that of the first one that is.
        """
        from services import logs
        from services.broker.tail import MAX_PATTERN, subscription

        logs.configure("error", "console")
        if len(pattern.encode()) > MAX_PATTERN:
            raise OperatorError(f"a pattern has at most {MAX_PATTERN} bytes")
        if since is not None:
            from services.cli.following import follow as follow_log
            from services.cli.following import start

            logs.configure("warning", "console")
            begin = start(since)
            follow_log(
                database_url(), begin, pattern, count, lambda text, event: say(text if as_json else event_line(event))
            )
            return
        url = amqp_url()

        async def follow() -> None:
            left = count
            async with subscription(url, pattern) as events:
                say(f"subscribed to {pattern}", err=True)
                async for _, body in events:
                    say(body.decode() if as_json else event_line(json.loads(body)))
                    left = None if left is None else left - 1
                    if left == 0:
                        return

        asyncio.run(follow())


def answer(amqp_url: str, outgoing: Outgoing, timeout: float, *, wait: bool = True) -> Reply | None:
    """Send a command, and return the answer; None if there was none in time, or it was not waited for."""
    from services.broker.sender import CommandSender

    async def sent() -> Reply | None:
        sender = CommandSender(amqp_url, "send")
        try:
            await sender.start()
            return await sender.send(outgoing, timeout, wait=wait)
        finally:
            await sender.close()

    return asyncio.run(sent())


def end_with(reply: Reply, as_json: bool) -> NoReturn:
    """Print an answer, and end with the exit status that it has."""
    from services.commands import wire

    if as_json:
        say(wire.encode_reply(reply).decode())
    else:
        _say_reply(reply)
    raise typer.Exit(0 if reply.accepted else NO_ANSWER if reply.outcome == wire.PARKED else FAILED)


def _say_reply(reply: Reply) -> None:
    """Print an answer as text."""
    from msgspec import UNSET

    where = "" if reply.position is None else f" at position {reply.position}"
    say(f"{'dry run: ' if reply.tried else ''}{reply.outcome} {reply.command_id}{where}")
    for event in reply.events:
        say(f"  {event.position} {event.type} {event.stream} version {event.version}")
    for would in reply.would_record or ():
        shown = "" if would.data is UNSET else f" {_short(would.data)}"
        say(f"  {would.type} {would.stream} version {would.version}{shown}")
    if reply.error is not None:
        say(f"  {reply.error.code}: {reply.error.detail} {reply.error.pointer}".rstrip())


def _refuse(outgoing: Outgoing, refusal: Refusal, as_json: bool) -> None:
    """Report a refusal in the form of the service."""
    from msgspec import UNSET

    from services.commands import wire

    if as_json:
        reply = wire.Reply(outgoing.command_id, "rejected", error=refusal, dry_run=outgoing.dry_run or UNSET)
        say(wire.encode_reply(reply).decode())
        raise typer.Exit(FAILED)
    raise OperatorError(f"{refusal.code}: {refusal.detail} {refusal.pointer}".strip())


def event_line(event: dict[str, Any]) -> str:
    """Format an event as one line of text."""
    return f"{event['position']:>6}  {event['type']:<28} {event['subject']:<34} {_short(event['data'])}"


def _short(data: dict[str, Any]) -> str:
    """Format what of an event's data fits on its line."""
    said = {key: value for key, value in data.items() if value not in (None, [], {}) and key != "steps"}
    text = json.dumps(said, ensure_ascii=False)
    return text if len(text) <= 100 else text[:99] + "…"
