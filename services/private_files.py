"""Files that belong to one user: nobody else can read them, or put others in their place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from services.errors import OperatorError


class NotOurs(OperatorError):
    """A file or a folder belongs to another user, is a symbolic link, or can be written by others."""


def own_folder(folder: Path) -> None:
    """Create a folder that only we can list and change; raises `NotOurs` for one of another user.

    As root, others may pass through it: the embedded PostgreSQL, which runs as another user, has its files inside.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _demand_ours(folder)
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)


def read(path: Path) -> str:
    """Return the text of a file; raises `OSError`, or `NotOurs` if another user could have written it."""
    _demand_ours(path.parent, writable=False)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        if path.is_symlink():
            raise NotOurs(f"{path} is a symbolic link") from None
        raise
    with os.fdopen(handle, encoding="utf-8") as file:
        if os.fstat(handle).st_uid != os.geteuid():
            raise NotOurs(f"{path} belongs to another user")
        return file.read()


def write(path: Path, text: str) -> None:
    """Write a file atomically, into a folder of our own."""
    own_folder(path.parent)
    fresh = path.with_suffix(f"{path.suffix}.{os.getpid()}")
    with suppress(FileNotFoundError):
        fresh.unlink()
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)


@contextmanager
def new(path: Path) -> Iterator[TextIO]:
    """Create a file in any folder, which only we can read, for the block to write; it is gone if the block fails.

    Raises `OperatorError`, also if there is such a file.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except (OSError, ValueError) as error:
        raise OperatorError(f"cannot create {path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _demand_ours(folder: Path, *, writable: bool = True) -> None:
    # A link of our own is what we wanted; one of another user could lead anywhere.
    if any(status.st_uid != os.geteuid() for status in (folder.lstat(), folder.stat())):
        raise NotOurs(f"{folder} belongs to another user")
    if not writable and folder.stat().st_mode & 0o022:
        raise NotOurs(f"{folder} can be written by other users: chmod go-w {folder}")
