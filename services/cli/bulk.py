"""The command `bulk`: a command for many tasks, activities or dead letters, previewed, then run as it was shown."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from services.cli import FAILED, NO_ANSWER
from services.cli.bulk_terms import connected, counts_of, error_of, filter_of, json_of, line_of, lines_of, refused, tell
from services.cli.common import JSON, operator, plain, say, say_again, show, show_all, table
from services.cli.data import read_data
from services.cli.where import database_url, tenant_of
from services.errors import OperatorError

if TYPE_CHECKING:
    import psycopg

    from services.http.core.bulk_selection import Chosen, NewBulk

_TENANT = typer.Option(None, help="The tenant; `demo` beside `foldwork dev`.")
_ACTOR = typer.Option("system", help="A member's id, or `system`.")
_ID = typer.Argument(..., metavar="ID", help="The bulk's id.")
_RATE = typer.Option(None, help="all, a number per second, or ramp; as before if it is left out, at first a ramp.")
_PAGE = 500
# Seconds between two looks.
_LOOK = 0.5


def register(app: typer.Typer) -> None:
    bulk = typer.Typer(
        help="A command for many tasks, activities or dead letters: previewed first, then run as shown.",
        no_args_is_help=True,
    )
    app.add_typer(bulk, name="bulk")
    bulk.command("list")(list_bulks)
    bulk.command()(preview)
    bulk.command()(run)
    bulk.command()(watch)
    bulk.command()(pause)
    bulk.command()(resume)
    bulk.command()(abort)
    bulk.command()(items)


def list_bulks(
    state: list[str] = typer.Option([], help="A state, such as previewed or running; may be repeated."),
    limit: int = typer.Option(50, min=1, max=1000, help="Most to show."),
    tenant: str | None = _TENANT,
    as_json: bool = JSON,
) -> None:
    """List bulks, the newest first."""
    from services.http.core import bulk_acts
    from services.store import bulk_actions

    if not set(state) <= set(bulk_acts.STATES):
        raise typer.BadParameter(f"--state is one of {', '.join(bulk_acts.STATES)}.")
    chosen, bulks, after = tenant_of(tenant), list[dict[str, Any]](), None
    with connected() as conn:
        while len(bulks) < limit:
            asked = bulk_actions.page(chosen, state or None, after, limit - len(bulks))
            found = [bulk_acts.bulk_of(row) for row in conn.execute(*asked).fetchall()]
            if not found:
                break
            bulks += found
            after = found[-1]["created_at"], found[-1]["id"]
    show_all(
        bulks,
        as_json,
        ("id", "command", "state", "items", "outcomes", "actor", "created"),
        lambda bulk: (
            *(bulk["id"], bulk["command"], bulk["state"], bulk["total"], counts_of(bulk)),
            *(bulk["actor"], bulk["created_at"]),
        ),
    )


def preview(
    command: str = typer.Argument(
        ...,
        metavar="TYPE",
        help="A command on one task or activity, such as task.cancel, or dead-letter.retry or dead-letter.discard.",
    ),
    data: str = typer.Option("{}", help="Its data without the id, as JSON, @FILE, or - for standard input."),
    where: list[str] = typer.Option(
        [], "--filter", metavar="NAME=VALUE", help="A filter of the list; may be repeated. Without a value: none."
    ),
    ids: list[str] = typer.Option([], "--id", help="A task or an activity; may be repeated."),
    ids_from: str | None = typer.Option(
        None, metavar="FILE", help="A file with an id a line, or - for standard input."
    ),
    on_change: str = typer.Option("skip", help="What becomes of an item that has changed since: skip or run."),
    tenant: str | None = _TENANT,
    actor: str = _ACTOR,
    timeout: float = typer.Option(60.0, min=0, help="How long to wait for the preview, in seconds."),
    as_json: bool = JSON,
) -> None:
    """Choose items, and say what each would do; exits 3 if that is not known in time. Nothing is done."""
    from domain.streams import ID
    from services.http.core import bulk_selection
    from services.http.core.bulk_selection import NewBulk
    from services.http.core.bulk_states import LETTER_COMMANDS
    from services.http.core.submit import new_id
    from services.settings import command_limit
    from services.store.operations import By

    chosen = tenant_of(tenant)
    if not ID.match(actor):
        raise OperatorError("--actor is a member's id, or `system`")
    body: dict[str, Any] = {"command": command, "data": json_of(read_data(data)), "on_change": on_change}
    if where:
        body["dead_letters" if command in LETTER_COMMANDS else "filter"] = filter_of(where)
    if ids or ids_from is not None:
        body["ids"] = [*ids, *(lines_of(ids_from) if ids_from is not None else ())]
    bulk_id = new_id()
    with refused():
        request = NewBulk.checked(body, command_limit())
        found = asyncio.run(_chosen(chosen, request))
        with connected() as conn:
            bulk_selection.preview(conn, chosen, bulk_id, actor, By(operator()), request, found)
    bulk = _until(chosen, bulk_id, ("previewed", "expired", "aborted"), timeout)
    if as_json:
        show(bulk)
    else:
        tell(bulk)
    raise typer.Exit(NO_ANSWER if bulk["state"] == "previewing" else 0)


def run(
    bulk_id: str = _ID,
    rate: str | None = _RATE,
    tenant: str | None = _TENANT,
    actor: str = _ACTOR,
    wait: bool = typer.Option(False, help="Watch it, as `bulk watch` does."),
    as_json: bool = JSON,
) -> None:
    """Have the HTTP processes run a bulk that was previewed."""
    _run(bulk_id, rate, tenant, actor, as_json, wait, resumed=False)


def resume(
    bulk_id: str = _ID,
    rate: str | None = _RATE,
    tenant: str | None = _TENANT,
    actor: str = _ACTOR,
    wait: bool = typer.Option(False, help="Watch it, as `bulk watch` does."),
    as_json: bool = JSON,
) -> None:
    """Go on with a bulk that is paused; a ramp begins anew."""
    _run(bulk_id, rate, tenant, actor, as_json, wait, resumed=True)


def pause(bulk_id: str = _ID, tenant: str | None = _TENANT, as_json: bool = JSON) -> None:
    """Have nothing more sent; what was sent is decided."""
    from services.http.core import bulk_acts

    _act("pause", tenant_of(tenant), bulk_id, bulk_acts.pause, as_json)


def abort(bulk_id: str = _ID, tenant: str | None = _TENANT, as_json: bool = JSON) -> None:
    """End a bulk before it is done; what is left is skipped."""
    from services.http.core import bulk_acts

    _act("abort", tenant_of(tenant), bulk_id, bulk_acts.abort, as_json)


def watch(bulk_id: str = _ID, tenant: str | None = _TENANT, as_json: bool = JSON) -> None:
    """Show how far a bulk is until it ends or is paused; exits 1 unless all that was ready was accepted."""
    _watch(tenant_of(tenant), bulk_id, as_json)


def items(
    bulk_id: str = _ID,
    state: list[str] = typer.Option([], help="pending, ready, accepted, refused, skipped or unknown; may be repeated."),
    tenant: str | None = _TENANT,
    as_json: bool = JSON,
) -> None:
    """List the items of a bulk: what each would do, and what became of it."""
    from services.http.core import bulk_acts
    from services.http.core.bulk_states import ITEM_STATES
    from services.store import bulk_actions

    if not set(state) <= set(ITEM_STATES):
        raise typer.BadParameter(f"--state is one of {', '.join(ITEM_STATES)}.")
    chosen = tenant_of(tenant)

    def pages(conn: psycopg.Connection[Any]) -> Iterator[dict[str, Any]]:
        after = 0
        while rows := conn.execute(*bulk_actions.items(chosen, bulk_id, after, _PAGE, state or None)).fetchall():
            yield from map(bulk_acts.item_of, rows)
            after = int(rows[-1][0])

    with refused(), connected() as conn:
        bulk_acts.find_in(conn, chosen, bulk_id)
        if as_json:
            for item in pages(conn):
                show(item)
            return
        table(
            ("number", "id", "version", "state", "reason", "would record", "error", "command"),
            (
                (item["number"], item["id"], item["version"], item["state"], item["reason"])
                + (" ".join(item["would_record"] or ()), error_of(item["error"]), item["command_id"])
                for item in pages(conn)
            ),
        )


def _run(
    bulk_id: str, rate: str | None, tenant: str | None, actor: str, as_json: bool, wait: bool, *, resumed: bool
) -> None:
    from services.http.core import bulk_acts
    from services.http.core.pace import MAX_RATE, is_rate

    if rate is not None and not is_rate(rate):
        raise typer.BadParameter(f"--rate is all, ramp, or a whole number per second from 1 to {MAX_RATE}.")
    chosen, work = tenant_of(tenant), partial(bulk_acts.run, actor=actor, rate=rate, resumed=resumed)
    _act("resume" if resumed else "run", chosen, bulk_id, work, as_json and not wait, quiet=wait)
    if wait:
        _watch(chosen, bulk_id, as_json)


def _act(
    verb: str,
    tenant: str,
    bulk_id: str,
    work: Callable[[psycopg.Connection[Any], str, str], bool],
    as_json: bool,
    quiet: bool = False,
) -> None:
    """Do something with a bulk in a transaction, and show it."""
    from services.http.core import bulk_acts
    from services.store.operations import By

    with refused(), connected() as conn:
        bulk_acts.recorded(conn, tenant, bulk_id, verb, By(operator()), lambda conn: work(conn, tenant, bulk_id))
        bulk = bulk_acts.find_in(conn, tenant, bulk_id)
    if as_json:
        show(bulk)
    elif not quiet:
        say(line_of(bulk))


def _watch(tenant: str, bulk_id: str, as_json: bool) -> None:
    from services.http.core import bulk_acts

    shown, live = "", sys.stdout.isatty() and not as_json
    with refused(), connected() as conn:
        while True:
            bulk = bulk_acts.find_in(conn, tenant, bulk_id)
            text = json.dumps(plain(bulk)) if as_json else line_of(bulk)
            if text != shown:
                (say_again if live else say)(text)
                shown = text
            if bulk["state"] in (*bulk_acts.ENDED, "paused"):
                break
            time.sleep(_LOOK)
    if live:
        say("")
    counts = bulk["counts"]
    done = bulk["state"] == "finished" and not counts["refused"] and not counts["unknown"]
    raise typer.Exit(0 if done and "changed" not in bulk["skipped"] else FAILED)


async def _chosen(tenant: str, request: NewBulk) -> Chosen:
    """Choose the items."""
    from services.http.core.bulk_selection import chosen
    from services.http.core.members import MemberCache
    from services.store.pool import Pool

    pool = Pool(database_url(), 30.0, size=1)
    pool.start()
    try:
        return await chosen(pool.fetch, MemberCache(pool), tenant, request)
    finally:
        await pool.close()


def _until(tenant: str, bulk_id: str, states: tuple[str, ...], timeout: float) -> dict[str, Any]:
    from services.http.core import bulk_acts

    until = time.monotonic() + timeout
    with connected() as conn:
        while (bulk := bulk_acts.find_in(conn, tenant, bulk_id))["state"] not in states and time.monotonic() < until:
            time.sleep(0.1)
    return bulk
