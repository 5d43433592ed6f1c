"""The commands `webhooks`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from services.cli import FAILED
from services.cli.common import JSON, operator, say, show, show_all
from services.cli.where import database_url, settings, tenant_of
from services.errors import OperatorError

if TYPE_CHECKING:
    import psycopg

    from services.interests import Dimension

_Done = TypeVar("_Done")
TENANT = typer.Option(None, help="The tenant; `demo` beside `foldwork dev`.")
MAX_ROWS = 500


def register(app: typer.Typer) -> None:
    hooks = typer.Typer(help="Send events to URLs, and see what was delivered.", no_args_is_help=True)
    app.add_typer(hooks, name="webhooks")

    @hooks.command("list")
    def list_webhooks(tenant: str | None = TENANT, as_json: bool = JSON) -> None:
        """List the webhooks of a tenant."""
        from services.store import webhooks
        from services.webhooks import MAX_WEBHOOKS

        with _connected() as conn:
            rows = conn.execute(*webhooks.page(tenant_of(tenant), "", MAX_WEBHOOKS)).fetchall()
        show_all(
            [webhooks.Webhook(*row) for row in rows],
            as_json,
            ("id", "url", "state", "pending", "parked", "behind at", "failing since", "error"),
            lambda each: (
                *(each.id, each.url, each.state, each.pending, each.parked, each.position),
                *(each.failing_since, each.cause or each.error),
            ),
        )

    @hooks.command()
    def create(
        url: str = typer.Argument(..., help="Where events are sent: an https:// URL."),
        tenant: str | None = TENANT,
        webhook_id: str | None = typer.Option(None, "--id", help="Its id; given out if it is left out."),
        types: list[str] = typer.Option([], "--type", help="A type of event; may be repeated. Without any: all."),
        activities: list[str] = typer.Option([], "--activity", help="An activity, with its tasks; may be repeated."),
        tasks: list[str] = typer.Option([], "--task", help="A task; may be repeated."),
        members: list[str] = typer.Option([], "--member", help="The id of a member; may be repeated."),
        after: int | None = typer.Option(None, min=0, help="Send the events after this position; the end of the log."),
        as_json: bool = JSON,
    ) -> None:
        """Create a webhook; its secret is shown once."""
        import uuid_utils

        from domain.streams import ID
        from services.store import webhooks
        from services.webhooks import BadUrl, demand_url, host_of

        name, chosen = webhook_id or str(uuid_utils.uuid7()), tenant_of(tenant)
        if not ID.match(name):
            raise OperatorError("an id is 1 to 64 characters of A-Z a-z 0-9 _ -")
        given: dict[Dimension, list[str]] = {"type": types, "activity": activities, "task": tasks, "member": members}
        wanted = _wanted(given)
        try:
            demand_url(url)
        except BadUrl as error:
            raise OperatorError(str(error)) from None
        secret, stored = _secret(chosen, name)
        details = {"host": host_of(url), **{webhooks.FILTERS[key]: values for key, values in wanted.items()}}
        _act(
            chosen, "create", name, details,
            lambda conn: webhooks.create(conn, chosen, name, url, wanted, stored, operator(), after),
        )  # fmt: skip
        if as_json:
            show({"id": name, "tenant": chosen, "url": url, "secret": secret})
        else:
            say(f"webhook {name} for tenant {chosen}", f"secret {secret}", "The secret is not shown again.")

    @hooks.command()
    def deliveries(
        webhook_id: str,
        tenant: str | None = TENANT,
        state: str | None = typer.Option(None, help="pending, delivered or parked."),
        count: int = typer.Option(50, min=1, max=MAX_ROWS, help="How many, the newest event first."),
        as_json: bool = JSON,
    ) -> None:
        """List what a webhook is to deliver, and has delivered."""
        from domain.limits import MAX_WHOLE
        from services.store import webhooks
        from services.webhooks import DELIVERY_STATES

        if state is not None and state not in DELIVERY_STATES:
            raise OperatorError(f"a state is one of {', '.join(DELIVERY_STATES)}")
        chosen = tenant_of(tenant)
        with _connected() as conn:
            _refusing(lambda: webhooks.get(conn, chosen, webhook_id))
            rows = conn.execute(*webhooks.deliveries(chosen, webhook_id, MAX_WHOLE, state, count)).fetchall()
        columns = ("position", "type", "state", "attempts", "tried_at", "next_at", "status", "answer")
        show_all(
            [webhooks.Delivery(*row) for row in rows],
            as_json,
            [name.replace("_", " ") for name in columns],
            attrgetter(*columns),
        )

    @hooks.command()
    def replay(
        webhook_id: str,
        tenant: str | None = TENANT,
        after: int | None = typer.Option(None, min=0, help="Send the events after this position again."),
        delivery: int | None = typer.Option(None, min=1, help="Send the event at this position again."),
        as_json: bool = JSON,
    ) -> None:
        """Send events again: all after a position, or a single one."""
        from services.store import webhooks

        chosen = tenant_of(tenant)
        if (after is None) == (delivery is None):
            raise OperatorError("Give either --after or --delivery.")
        if delivery is not None:
            position = delivery
            details, verb = {"position": position}, "replay-delivery"
            _act(chosen, verb, webhook_id, details, lambda conn: webhooks.replay(conn, chosen, webhook_id, position))
        else:
            start = after or 0
            details, verb = {"from_position": start}, "replay"
            _act(chosen, verb, webhook_id, details, lambda conn: webhooks.replay_from(conn, chosen, webhook_id, start))
        _done(as_json, webhook_id, f"webhook {webhook_id} sends again")

    @hooks.command()
    def pause(webhook_id: str, tenant: str | None = TENANT, as_json: bool = JSON) -> None:
        """Send nothing to a webhook for now; nothing is lost."""
        _change(tenant_of(tenant), webhook_id, "paused")
        _done(as_json, webhook_id, f"webhook {webhook_id} is paused")

    @hooks.command()
    def resume(webhook_id: str, tenant: str | None = TENANT, as_json: bool = JSON) -> None:
        """Go on with a webhook that is paused, or that the service has disabled."""
        _change(tenant_of(tenant), webhook_id, "active")
        _done(as_json, webhook_id, f"webhook {webhook_id} is active")

    @hooks.command("rotate-secret")
    def rotate_secret(
        webhook_id: str,
        tenant: str | None = TENANT,
        overlap: int | None = typer.Option(None, min=0, help="Seconds for which the old one signs, too; a day."),
        as_json: bool = JSON,
    ) -> None:
        """Replace the secret of a webhook; the new one is shown once."""
        from services.store import webhooks
        from services.webhooks import MAX_OVERLAP, OVERLAP

        chosen, seconds = tenant_of(tenant), OVERLAP if overlap is None else overlap
        if seconds > MAX_OVERLAP:
            raise OperatorError(f"--overlap is at most {MAX_OVERLAP}")
        secret, stored = _secret(chosen, webhook_id)
        until = _act(
            chosen, "rotate-secret", webhook_id, {"overlap_seconds": seconds},
            lambda conn: webhooks.rotate(conn, chosen, webhook_id, stored, seconds),
        )  # fmt: skip
        if as_json:
            show({"id": webhook_id, "secret": secret, "old_secret_until": until})
        else:
            old = "The old one ends now." if until is None else f"The old one signs until {until.isoformat()}, too."
            say(f"webhook {webhook_id}", f"secret {secret}", f"The secret is not shown again. {old}")

    @hooks.command()
    def ping(webhook_id: str, tenant: str | None = TENANT, as_json: bool = JSON) -> None:
        """Send a test event now, and show what the receiver answers; exits 1 unless it takes it."""
        from services.processors import pings
        from services.store.operations import By

        chosen = tenant_of(tenant)
        found = _refusing(lambda: pings.ping(settings(), chosen, webhook_id, By(operator())))
        if as_json:
            show(found._asdict())
        else:
            say(f"{found.status or 'no answer'} after {found.seconds} s: {found.answer}")
        raise typer.Exit(0 if found.delivered else FAILED)

    @hooks.command()
    def delete(webhook_id: str, tenant: str | None = TENANT, as_json: bool = JSON) -> None:
        """Delete a webhook with its deliveries."""
        from services.store import webhooks

        chosen = tenant_of(tenant)
        _act(chosen, "delete", webhook_id, {}, lambda conn: webhooks.delete(conn, chosen, webhook_id))
        _done(as_json, webhook_id, f"webhook {webhook_id} is deleted")


def _wanted(given: Mapping[Dimension, Sequence[str]]) -> dict[Dimension, Sequence[str]]:
    """Return what is given of what events are about; raises `OperatorError` for what no event can be about."""
    from domain import EVENTS
    from domain.streams import ID
    from projections.support.query import MAX_FILTER_VALUES

    for name, values in given.items():
        if len(values) > MAX_FILTER_VALUES:
            raise OperatorError(f"--{name} is given at most {MAX_FILTER_VALUES} times")
        for value in values:
            if not (value in EVENTS if name == "type" else ID.match(value)):
                raise OperatorError(f"--{name}: {value[:100]!r} is no {'type of event' if name == 'type' else 'id'}")
    return {name: sorted(set(values)) for name, values in given.items() if values}


@contextmanager
def _connected() -> Iterator[psycopg.Connection[Any]]:
    from services.store.connect import connect

    with connect(database_url(), "webhooks", autocommit=True) as conn:
        yield conn


def _secret(tenant: str, webhook: str) -> tuple[str, str]:
    """Return a new secret, and how it is stored."""
    from services.encryption import Keyring, NoKey
    from services.webhooks import new_secret, place_of

    secret = new_secret()
    try:
        return secret, Keyring(settings().secret_key).encrypt(place_of(tenant, webhook), secret)
    except NoKey as error:
        raise OperatorError(f"{error}: set FOLDWORK_SECRET_KEY") from None


def _refusing(work: Callable[[], _Done]) -> _Done:
    from domain.errors import RefusalError

    try:
        return work()
    except RefusalError as error:
        raise OperatorError(error.detail) from None


def _act(
    tenant: str, verb: str, webhook: str, details: Mapping[str, Any], work: Callable[[psycopg.Connection[Any]], _Done]
) -> _Done:
    """Do something in a transaction, and record it there."""
    from services.store.operations import By, acting

    def run() -> _Done:
        operation = By(operator()).operation(tenant, f"webhook.{verb}", f"webhook/{webhook}", **details)
        with _connected() as conn, acting(conn, operation):
            return work(conn)

    return _refusing(run)


def _change(tenant: str, webhook: str, state: str) -> None:
    from services.store import webhooks

    _act(tenant, "change", webhook, {"state": state}, lambda conn: webhooks.change(conn, tenant, webhook, state=state))


def _done(as_json: bool, webhook: str, text: str) -> None:
    if as_json:
        show({"id": webhook})
    else:
        say(text)
