"""Where Foldwork runs: as the environment says, else as the `foldwork dev` of this folder has left it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.errors import OperatorError

if TYPE_CHECKING:
    from services.settings import Settings

DATABASE, BROKER = "FOLDWORK_DATABASE_URL", "FOLDWORK_AMQP_URL"


def dev_file() -> Path:
    """Return where `foldwork dev` writes what the other commands read."""
    return Path(".foldwork") / "dev.json"


def development(left: Path | None = None) -> dict[str, Any]:
    """Return what a `foldwork dev` that runs has left in `.foldwork/dev.json`, or nothing."""
    try:
        found: dict[str, Any] = json.loads((left or dev_file()).read_text("utf-8"))
        os.kill(int(found["pid"]), 0)
    except PermissionError:
        return found
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found


def configured() -> bool:
    """Tell whether the environment says where Foldwork runs."""
    return DATABASE in os.environ or BROKER in os.environ


def settings(**given: Any) -> Settings:
    """Return the settings from the environment; without one, those of the `foldwork dev` that runs here."""
    from services.settings import load

    if not configured():
        here = development()
        if not here:
            raise OperatorError(f"Set {DATABASE} and {BROKER}, or start `foldwork dev` in this folder.")
        given = {"database_url": here["database_url"], "amqp_url": here["amqp_url"], **given}
    return load(**given)


def amqp_url() -> str:
    """Return the broker's URL, for the commands that need no database."""
    from services import urls

    return _url(BROKER, "amqp_url", urls.amqp_url)


def database_url() -> str:
    """Return the database's URL, for the commands that need no broker."""
    from services import urls

    return _url(DATABASE, "database_url", urls.database_url)


def _url(variable: str, left: str, checked: Callable[[str], str]) -> str:
    found = os.environ.get(variable) or development().get(left)
    if not found:
        raise OperatorError(f"Set {variable}, or start `foldwork dev` in this folder.")
    try:
        return checked(str(found))
    except ValueError as error:
        raise OperatorError(f"{variable}: {error}") from None
