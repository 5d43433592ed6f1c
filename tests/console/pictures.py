"""The pictures of the console in README and docs: `python -m tests.console.pictures` takes them again."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services import keys
from services.dev.postgres import EmbeddedPostgres
from tests.console import browser
from tests.console.browser import DESKTOP, PHONE, Browser
from tests.console.scene import with_work
from tests.databases import Databases
from tests.services.http.served import Served, served

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
# Bytes of a picture.
MOST = 150_000
PICTURES = {
    "activity": ("/console/activities/a2", ".lanes", DESKTOP),
    "past": ("/console/activities/a3?as_of=79", "tr.changed", DESKTOP),
    "board": ("/console/board", "#main h1", DESKTOP),
    "task": ("/console/tasks/a3-t1", ".changes", DESKTOP),
    "phone": ("/console/tasks?status=open", "tbody tr", PHONE),
}


def take(person: Browser, system: Served) -> Iterator[tuple[str, bytes]]:
    """Give each picture, light and dark, with its name."""
    system.api.sender.now = datetime.now(UTC) - timedelta(hours=4)
    with_work(system.api, timedelta(minutes=8))
    person.log_in(system.api.key("acme", "system", *keys.PERMISSIONS))
    for name, (path, awaited, size) in PICTURES.items():
        for dark in (False, True):
            person.size(size)
            person.dark(dark)
            person.open(path)
            person.find(awaited)
            yield f"{name}-{'dark' if dark else 'light'}.png", person.driver.get_screenshot_as_png()
    person.dark(False)
    person.open("/console/login")


def now() -> datetime:
    """Return the present; tests have one that stands still."""
    return datetime.now(UTC)


def main() -> None:
    """Write the pictures into docs."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="foldwork-pictures-") as folder, browser.running() as driver:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(Path(folder) / "postgres", fast=True)
        databases = Databases(server.start())
        try:
            with served(databases.create_migrated(), streams=True, clock=now) as system:
                for name, picture in take(Browser(driver, system.url), system):
                    (FOLDER / name).write_bytes(picture)
                    print(name, len(picture))
        finally:
            databases.close()
            server.remove()


if __name__ == "__main__":
    sys.exit(main())
