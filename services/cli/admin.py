"""The commands `db` and `keys`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from services.cli import FAILED
from services.cli.common import JSON, operator, plain, say, show, show_all
from services.cli.where import database_url
from services.errors import OperatorError

if TYPE_CHECKING:
    from services.store.adopt import Adoption


def register(app: typer.Typer) -> None:
    database = typer.Typer(help="Migrate the database, or show pending migrations.", no_args_is_help=True)
    app.add_typer(database, name="db")

    @database.command()
    def upgrade(as_json: bool = JSON) -> None:
        """Apply the pending migrations; the only command that creates tables."""
        from services.store import migrate

        done = migrate.upgrade(database_url(), operator())
        if as_json:
            show({"applied": done})
        else:
            say(*(f"applied {name}" for name in done) if done else ("The database is up to date.",))

    @database.command("status")
    def database_status(as_json: bool = JSON) -> None:
        """Show pending migrations and outdated read models; exits 1 if there are any."""
        from services.store import migrate

        found = migrate.standing(database_url())
        lines = [f"lacks {name}" for name in found.pending] + [f"read model {line}" for line in found.read_models]
        if as_json:
            show(found)
        elif lines:
            say(*lines, "Run `foldwork db upgrade`.")
        else:
            say("The database is up to date.")
        raise typer.Exit(FAILED if lines else 0)

    @database.command()
    def adopt(
        force: bool = typer.Option(False, "--force", help="Do it; without it, only say what would be done."),
        as_json: bool = JSON,
    ) -> None:
        """Let the roles work on a store that was restored from a backup; exits 1 if that is needed and not done."""
        from services.store import adopt as adopting

        found = adopting.adopt(database_url(), force=force, actor=operator())
        if as_json:
            show({**plain(found), "needed": found.needed, "done": force})
        else:
            say(*_adoption(found, force))
        raise typer.Exit(FAILED if found.needed and not force else 0)

    keys = typer.Typer(help="API keys of the HTTP API.", no_args_is_help=True)
    app.add_typer(keys, name="keys")

    @keys.command()
    def create(
        tenant: str = typer.Option(..., help="The tenant that the key is bound to."),
        actor: str = typer.Option("system", help="A member's id, or `system`."),
        permission: list[str] = typer.Option(
            [],
            help="read, write, impersonate, operate, webhooks, audit, keys, tenants, or one of the dispatch API; may be"
            " repeated. Without any: read and write.",
        ),
        role: list[str] = typer.Option(
            [],
            help="operator or administrator, or viewer, integration, agent, dispatcher or manager of the dispatch API.",
        ),
        name: str | None = typer.Option(None, help="What the key is for."),
        days: int | None = typer.Option(None, help="Days until it expires; never, if left out."),
        as_json: bool = JSON,
    ) -> None:
        """Create a key; its token is shown once."""
        from services import keys as api_keys
        from services.store.connect import connect
        from services.store.operations import Operation, acting

        unknown = [name for name in role if name not in api_keys.ROLES]
        if unknown:
            raise OperatorError(f"unknown role {unknown[0]}; the roles are {', '.join(api_keys.ROLES)}")
        wanted = [*permission, *(each for name in role for each in api_keys.ROLES[name])] or ["read", "write"]
        try:
            expires = None if days is None else api_keys.after_days(days)
            api_keys.demand_valid(tenant, actor, wanted, expires)
        except ValueError as error:
            raise OperatorError(str(error)) from None
        said = {"actor": actor, "permissions": wanted, "name": name, "expires_at": expires}
        operation = Operation(tenant, operator(), "key.create", "key/", details=plain(said))
        with connect(database_url(), "keys") as conn, acting(conn, operation) as act:
            info, token = api_keys.create(conn, tenant, actor, wanted, name, expires)
            act.target = f"key/{info.id}"
            act.details["permissions"] = list(info.permissions)
        if as_json:
            show({"id": info.id, "token": token, "tenant": tenant, "actor": actor, "permissions": info.permissions})
        else:
            say(f"key {info.id} for tenant {tenant}", f"token {token}", "The token is not shown again.")

    @keys.command("list")
    def list_keys(tenant: str | None = None, as_json: bool = JSON) -> None:
        """List the keys, without their tokens."""
        from services import keys as api_keys
        from services.store.connect import connect

        with connect(database_url(), "keys") as conn:
            found = api_keys.list_keys(conn, tenant)
        show_all(
            found,
            as_json,
            ("id", "tenant", "actor", "permissions", "name", "created", "expires", "revoked"),
            lambda key: (
                *(key.id, key.tenant, key.actor, " ".join(key.permissions), key.name, key.created_at),
                *(key.expires_at, key.revoked_at),
            ),
        )

    @keys.command()
    def revoke(key_id: str, as_json: bool = JSON) -> None:
        """Revoke a key; running servers refuse it within seconds."""
        from services import keys as api_keys
        from services.store.connect import connect
        from services.store.operations import Operation, acting

        if not api_keys.KEY_ID.match(key_id):
            # Perhaps the token, which is repeated nowhere.
            raise OperatorError("the id of a key is 16 digits of 0-9 a-f, as `foldwork keys list` shows it")
        with connect(database_url(), "keys") as conn:
            tenant = api_keys.tenant_of(conn, key_id)
            conn.rollback()
            with acting(conn, Operation(tenant, operator(), "key.revoke", f"key/{key_id}")):
                if not api_keys.revoke(conn, key_id):
                    raise OperatorError(f"there is no usable key {key_id}")
        if as_json:
            show({"id": key_id, "revoked": True})
        else:
            say(f"key {key_id} is revoked")


def _adoption(found: Adoption, done: bool) -> Iterator[str]:
    """Say what an adoption does."""
    yield f"Log {found.id}, epoch {found.epoch}, {found.head} events."
    if found.copied:
        yield "The database is a copy, or was restored from a backup."
    for move in found.moves:
        if not move.strays:
            yield f"  {move.follower} continues after position {move.position}"
            continue
        yield f"  {move.follower} is at position {move.position}, whose event the log does not have"
        yield f"    it continues after position {move.to}, and handles later events again"
        if move.rebuilds is not None:
            yield f"    the read model {move.rebuilds} is rebuilt"
    if not found.needed:
        yield "The log and the positions fit together."
    elif not done:
        yield from (
            f"Positions after {found.common} may have been read or published with other events before. Events that",
            "were published before may be published again, under the same ids. The log gets another epoch.",
            "Stop the roles, run `foldwork db adopt --force`, and start them again.",
        )
    if done:
        yield f"Adopted: epoch {found.epoch + 1}. Start the roles, or restart them."
