"""The command `dead-letters`."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import typer

from services.cli import FAILED, NO_ANSWER
from services.cli.common import JSON, operator, say, show, show_all
from services.cli.letter_options import checked, connected, edited, filtered, refused_by
from services.cli.where import settings
from services.errors import OperatorError

if TYPE_CHECKING:
    from services.dead_letters import Edit, NotDone, Rules

_TENANT = typer.Option(None, help="The tenant; all, and letters without one, if it is left out.")
_REASON = typer.Option(None, help="The code of the reason, such as wrong-shape.")
_GROUP = typer.Option(None, "--fingerprint", help="The fingerprint of a group.")
_TYPE = typer.Option(None, "--type", help="The type of the command.")
_KEY = typer.Option(None, help="The routing key: an activity's id, or that of a task of its own.")
_SINCE = typer.Option(None, metavar="TIME", help="It came, or came again, at this time or later.")
_STATE = typer.Option("parked", help="parked, retrying, retried, discarded, or all.")
_PAGE = 500


def register(app: typer.Typer) -> None:
    letters = typer.Typer(
        help="Messages that were no commands, or could not be decided: list, group, show, send again or discard them.",
        no_args_is_help=True,
    )
    app.add_typer(letters, name="dead-letters")
    letters.command("list")(_list)
    letters.command("groups")(_groups)
    letters.command("show")(_show)
    letters.command("retry")(_retry)
    letters.command("discard")(_discard)


def _list(
    tenant: str | None = _TENANT,
    reason: str | None = _REASON,
    fingerprint: str | None = _GROUP,
    kind: str | None = _TYPE,
    key: str | None = _KEY,
    since: str | None = _SINCE,
    state: str = _STATE,
    limit: int = typer.Option(100, min=1, help="Most letters."),
    as_json: bool = JSON,
) -> None:
    """List dead letters, the oldest first, without what they hold."""
    from services.store import dead_letters as stored

    wanted = filtered(tenant, reason, fingerprint, kind, key, since, state)
    rows: list[dict[str, Any]] = []
    with connected() as conn:
        while len(rows) < limit:
            asked = stored.page(wanted, rows[-1]["arrived"] if rows else "", min(_PAGE, limit - len(rows)))
            found = conn.execute(*asked).fetchall()
            rows += [stored.summary(row) for row in found]
            if len(found) < _PAGE:
                break
    columns = ("id", "tenant", "state", "code", "pointer", "type", "key", "message_id", "count", "last_at")
    show_all(rows, as_json, columns, itemgetter(*columns))


def _groups(
    tenant: str | None = _TENANT,
    reason: str | None = _REASON,
    kind: str | None = _TYPE,
    since: str | None = _SINCE,
    state: str = _STATE,
    limit: int = typer.Option(100, min=1, help="Most groups."),
    as_json: bool = JSON,
) -> None:
    """Group dead letters by their cause, the group with the latest letter first."""
    from services.store import dead_letters as stored

    wanted = filtered(tenant, reason, None, kind, None, since, state)
    with connected() as conn:
        rows = conn.execute(*stored.groups(wanted, limit)).fetchall()
    columns = ("fingerprint", "code", "type", "pointer", "detail", "letters", "messages", "first_at", "last_at")
    show_all([dict(zip(columns, row, strict=True)) for row in rows], as_json, columns, itemgetter(*columns))


def _show(letter: str = typer.Argument(..., help="The id of a letter."), as_json: bool = JSON) -> None:
    """Show a dead letter with what it holds."""
    from services import dead_letters
    from services.dead_letters import NotDone

    with connected() as conn:
        try:
            row = dead_letters.read(conn, None, checked(letter))
        except NotDone as error:
            raise refused_by(error) from None
    hidden = ("headers", "body", "edited", "sha256", "sent_sha256", "sent_fingerprint", "arrived")
    found = {name: value for name, value in row.items() if name not in hidden}
    data = dead_letters.data_of(row["body"])
    body = {"body_base64": base64.b64encode(row["body"]).decode()} if data is None else {"data": data}
    found |= {"headers": json.loads(row["headers"]), **body}
    if row["edited"] is not None:
        found["edited"] = json.loads(row["edited"])
    if as_json:
        show(found)
        return
    for name, value in found.items():
        if value is not None:
            say(f"{name}: {json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value}")


def _retry(
    letter: list[str] = typer.Argument([], help="The ids of letters.", show_default=False),
    fingerprint: str | None = typer.Option(None, "--group", help="All parked letters of this fingerprint instead."),
    tenant: str | None = typer.Option(None, help="Of a group, the letters of this tenant alone."),
    data: str | None = typer.Option(None, help="Other data as JSON, @FILE, or - for standard input."),
    merge: str | None = typer.Option(None, help="A JSON merge patch of the data, in the same forms."),
    out_of_order: bool = typer.Option(False, help="Although an older letter of the same key is not decided."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Have one letter decided, and nothing recorded."),
    timeout: float = typer.Option(10.0, min=0, help="How long to wait for the answer to a dry run, in seconds."),
    as_json: bool = JSON,
) -> None:
    """Have dead letters sent again, each under its id and for its actor, the oldest of each key first."""
    from services import letter_acts
    from services.dead_letters import Rules
    from services.store.operations import By

    if bool(letter) == bool(fingerprint):
        raise OperatorError("Name letters by their ids, or a group by --group.")
    edit = edited(data, merge)
    if dry_run and (fingerprint or len(letter) > 1):
        raise OperatorError("A dry run is of a single letter.")
    chosen = settings()
    rules = Rules(chosen.may_send, chosen.command_limit)
    if dry_run:
        _try(checked(letter[0]), edit, rules, chosen.amqp_url.get_secret_value(), timeout, as_json)
        return
    with connected() as conn:
        ids = list(dict.fromkeys(map(checked, letter)))
        if fingerprint:
            ids = letter_acts.group(conn, tenant, checked(fingerprint))
        by = By(operator())
        refused = letter_acts.retry(conn, None, ids, by, rules, edit=edit, out_of_order=out_of_order).refused
    for letter_id in ids:
        _say_retry(letter_id, refused.get(letter_id), as_json)
    if fingerprint and len(ids) == letter_acts.MOST:
        say("There may be more; repeat the command.")
    raise typer.Exit(FAILED if refused else 0)


def _say_retry(letter_id: str, refused: NotDone | None, as_json: bool) -> None:
    """Say what becomes of a letter that is to be sent again."""
    if refused is None:
        show({"id": letter_id, "state": "retrying"}) if as_json else say(f"{letter_id} is sent again")
        return
    why = refused.refusal
    if as_json:
        show({"id": letter_id, "error": why})
    else:
        say(f"{letter_id} refused: {why.code}: {why.detail} {why.pointer}".rstrip())


def _try(letter_id: str, edit: Edit, rules: Rules, amqp_url: str, timeout: float, as_json: bool) -> None:
    """Have a letter decided as a dry run, and print the answer."""
    from services import dead_letters
    from services.cli.data import answer, end_with
    from services.dead_letters import NotDone

    with connected() as conn:
        try:
            row = dead_letters.read(conn, None, letter_id)
            command, _ = dead_letters.renewed(row, edit, rules, dry_run=True)
        except NotDone as error:
            raise refused_by(error) from None
    reply = answer(amqp_url, replace(command, correlation_id=None), timeout)
    if reply is None:
        say("no answer yet")
        raise typer.Exit(NO_ANSWER)
    end_with(reply, as_json)


def _discard(
    letter: list[str] = typer.Argument(..., help="The ids of letters."),
    reason: str = typer.Option(..., help="Why."),
    as_json: bool = JSON,
) -> None:
    """Discard dead letters."""
    from services import letter_acts
    from services.dead_letters import NotDone
    from services.store.operations import By

    with connected() as conn:
        for letter_id in letter:
            try:
                letter_acts.discard(conn, None, checked(letter_id), By(operator()), reason)
            except NotDone as error:
                raise refused_by(error) from None
            if as_json:
                show({"id": letter_id, "state": "discarded"})
            else:
                say(f"{letter_id} is discarded")
