"""The addresses of a running Foldwork: from the environment, otherwise from `foldwork dev` in this folder."""

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
SECRET_KEY = "FOLDWORK_SECRET_KEY"  # noqa: S105 - the name of a variable
PLAINTEXT = "FOLDWORK_ALLOW_PLAINTEXT"


def dev_file() -> Path:
    """The file in which `foldwork dev` describes the running system."""
    return Path(".foldwork") / "dev.json"


def development(path: Path | None = None) -> dict[str, Any]:
    """Return the description of our running `foldwork dev`, empty if none is running."""
    from services import private_files

    try:
        found: dict[str, Any] = json.loads(private_files.read(path or dev_file()))
        os.kill(int(found["pid"]), 0)
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found


def tenant_of(given: str | None) -> str:
    """Return the tenant that is named, otherwise that of our running `foldwork dev`; raises `OperatorError`."""
    from domain.streams import TENANT

    found = given if given is not None else development().get("tenant")
    if found is None:
        raise OperatorError("Name the tenant with --tenant.")
    if not TENANT.match(str(found)):
        raise OperatorError("a tenant is 1 to 63 characters of a-z 0-9 -")
    return str(found)


def configured() -> bool:
    """Whether the environment configures Foldwork."""
    return DATABASE in os.environ or BROKER in os.environ


def settings(**given: Any) -> Settings:
    """Return the settings from the environment, otherwise those of a running `foldwork dev`."""
    from services.settings import load

    if not configured():
        here = development()
        if not here:
            raise OperatorError(f"Set {DATABASE} and {BROKER}, or start `foldwork dev` in this folder.")
        given = {"database_url": here["database_url"], "amqp_url": here["amqp_url"], **_secret_key(here), **given}
    return load(**given)


def _secret_key(here: dict[str, Any]) -> dict[str, str]:
    """Return the key of a running `foldwork dev`, unless the environment has one."""
    from services import private_files

    if SECRET_KEY in os.environ:
        return {}
    try:
        return {"secret_key": private_files.read(Path(here["data"]) / "secret-key").strip()}
    except (OSError, KeyError):
        return {}


def amqp_url() -> str:
    """The URL of the broker, for commands that need no database."""
    from services import urls

    return _url(BROKER, "amqp_url", urls.amqp_url, lambda url: urls.demand_encryption(None, url, _plaintext()))


def database_url() -> str:
    """The URL of the database, for commands that need no broker."""
    from services import urls

    return _url(
        DATABASE, "database_url", urls.database_url, lambda url: urls.demand_encryption(url, None, _plaintext())
    )


def _plaintext() -> frozenset[str]:
    from services import urls

    try:
        return urls.allowed_plaintext(os.environ.get(PLAINTEXT, ""))
    except ValueError as error:
        raise OperatorError(f"{PLAINTEXT}: {error}") from None


def _url(variable: str, key: str, checked: Callable[[str], str], demand: Callable[[str], None]) -> str:
    found = os.environ.get(variable) or development().get(key)
    if not found:
        raise OperatorError(f"Set {variable}, or start `foldwork dev` in this folder.")
    try:
        url = checked(str(found))
        demand(url)
        return url
    except ValueError as error:
        raise OperatorError(f"{variable}: {error}") from None
