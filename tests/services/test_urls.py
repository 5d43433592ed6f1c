"""The two addresses: what can be read passes, what cannot is refused before anything tries it, and never quoted."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from services import urls
from services.settings import ConfigurationError, load
from tests.acceptance.terminal import commands
from tests.acceptance.test_command_line import TYPED
from tests.services.processes import nursery

SECRET = "canary"
BAD_DATABASE_URLS = [
    "postgresql://u:canary%zz@h/db",
    "postgresql://u:canary%@h/db",
    "postgresql://u:canary@h:abc/db",
    "postgresql://u:canary@h:99999/db",
    "postgresql://u:canary@h:0/db",
    "postgresql://u:canary@h1:5432,h2:x/db",
    "postgresql://u:canary@[::1/db",
    "postgresql://u:canary@[::1]x/db",
    "postgresql://u:canary@h/db?nonsense",
    "postgresql://u:canary@h/db?nonsense=canary",
    "postgresql://u:canary@h/db?sslmode=a=canary",
    "postgresql://u:x/canary@h/db",
    "postgresql://u:1/canary@h/db",
    "postgresql://u:x@canary@h/db",
    "postgresql://u:x@h/db@canary",
    "postgresql://u:canary@h/db%00",
    "postgresql://u:canary h/db",
    "postgresql://u:canary\n@h/db",
    "host=h password=canary port=x",
    "mysql://u:canary@h/db",
    "u:canary@h/db",
    "postgres:/u:canary@h/db",
]
BAD_AMQP_URLS = [
    "amqp://u:canary%zz@h/",
    "amqp://u:canary@h:abc/",
    "amqp://u:canary@h:0/",
    "amqp://u:canary@h:70000/",
    "amqp://u:canary@[::1/",
    "amqp://u:x/canary@h/",
    "amqp://u:1/canary@h/",
    "amqp://u:x@canary@h/",
    "amqp://u:x#canary@h/",
    "amqp://u:1?canary@h/",
    "amqp://u:canary/",
    "amqp://u:canary℀@h/",
    "amqp://u:canary h/",
    "http://u:canary@h/",
    "u:canary@h",
]
GOOD_DATABASE_URLS = [
    "postgresql://",
    "postgresql:///db?host=/tmp/x&port=5433",
    "postgres://u:p%40ss%2F%23@h:5432/db",
    "postgresql://u:p#ss?@h/db",
    "postgresql://u@h1:5432,h2:5433/db?target_session_attrs=read-write",
    "postgresql://u@[::1]:5432/db",
    "postgresql:///db?host=h&user=u@tenant",
    "postgresql://foldwork@/db?host=%2Ftmp%2Fx&port=5432",
    "  postgresql://u:p@h/db\n",
]
GOOD_AMQP_URLS = ["amqp://", "amqp://u:p%40ss@h:5672/%2F", "amqps://u@[::1]/x?heartbeat=30", "amqp://u:p@h/\n"]


@pytest.mark.parametrize(("check", "good"), [(urls.database_url, GOOD_DATABASE_URLS), (urls.amqp_url, GOOD_AMQP_URLS)])
def test_what_can_be_read_passes_without_white_space_around_it(check: Any, good: list[str]) -> None:
    assert [check(url) for url in good] == [url.strip() for url in good]


@pytest.mark.parametrize(
    ("check", "url"),
    [*((urls.database_url, url) for url in BAD_DATABASE_URLS), *((urls.amqp_url, url) for url in BAD_AMQP_URLS)],
)
def test_what_cannot_be_read_is_refused_and_not_quoted(check: Any, url: str) -> None:
    with pytest.raises(ValueError, match=r"cannot be read|has a port|must be") as caught:
        check(url)
    assert SECRET not in f"{caught.value}{caught.value.__cause__}"
    name = "database_url" if check is urls.database_url else "amqp_url"
    given = {"database_url": "postgresql://h/db", "amqp_url": "amqp://localhost/", name: url}
    with pytest.raises(ConfigurationError, match=f"^FOLDWORK_{name.upper()}: ") as refused:
        load(**given)
    assert SECRET not in str(refused.value)


# What they work on is their own, whatever the environment says.
APART = {"dev", "demo"}
# Addresses that can be read, and at which nobody is; roles wait for them.
NOBODY = ("postgresql://u:canary@127.0.0.1:1/db", "amqp://u:canary@127.0.0.1:1/")
ROLES = {"all", "http", "commands", "projections", "relay", "policies"}
# All addresses in one process: a command configures logging for good.
_PROGRAM = """
import contextlib, io, json, os, sys
from services.cli import main
order = json.load(sys.stdin)
for database_url, amqp_url in order["urls"]:
    os.environ.update(FOLDWORK_DATABASE_URL=database_url, FOLDWORK_AMQP_URL=amqp_url)
    sys.argv = ["foldwork", *order["arguments"]]
    said, status = io.StringIO(), None
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as ended:
            status = ended.code
    print(json.dumps([status, said.getvalue()]))
sys.exit()
"""


@pytest.mark.parametrize("name", sorted(set(commands()) - APART))
def test_no_command_shows_a_password(tmp_path: Path, name: str) -> None:
    pairs = [(url, NOBODY[1]) for url in BAD_DATABASE_URLS] + [(NOBODY[0], url) for url in BAD_AMQP_URLS]
    pairs += [] if name in ROLES else [NOBODY]
    order = {"urls": pairs, "arguments": shlex.split(TYPED[name].line)}
    done = nursery().run(tmp_path, before=_PROGRAM, stdin=json.dumps(order), env={"probe_port": "1"})
    assert SECRET not in done.stdout + done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(said) == len(pairs), done.stderr
    for status, text in said:
        # 1 is the verdict of `verify`, which says 2 when it cannot check.
        assert status == (2 if name == "verify" else 1)
        assert text.strip()
        assert "Traceback" not in text
