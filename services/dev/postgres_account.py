"""The account that root runs the embedded PostgreSQL as: a user id that no other process has."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

from services.dev.postgres_binaries import EmbeddedPostgresError

# Reserved by Debian, and not among those that systemd gives to services. Only the server and its files have it, so that
# not even another process of `nobody` reaches them.
_RESERVED = range(65521, 65534)
Account = dict[str, Any]


def own_account() -> Account:
    """Return what starts a process under a user id that has no account."""
    for user in _RESERVED:
        try:
            pwd.getpwuid(user)
        except KeyError:
            return {"user": user, "group": user, "extra_groups": []}
    raise EmbeddedPostgresError(f"root needs a user id without an account, of {_RESERVED.start} to {_RESERVED[-1]}")


def named_account() -> Account:
    """Return what starts a process as `nobody`, for `initdb`, which only runs under a user id that has a name."""
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedPostgresError("PostgreSQL does not run as root, and there is no user `nobody`") from None
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def hand_over(tree: Path, account: Account) -> None:
    """Make the account, if there is one, the owner of a folder and of all that is in it."""
    if not account:
        return
    os.chown(tree, account["user"], account["group"])
    for folder, folders, files in os.walk(tree):
        for name in (*folders, *files):
            os.chown(Path(folder) / name, account["user"], account["group"], follow_symlinks=False)
