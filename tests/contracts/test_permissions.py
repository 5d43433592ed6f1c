"""The permissions of broker users in the documentation permit the names that they are for, and no similar ones."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

import pytest

from services.broker import names

PAGE = (Path(__file__).parents[2] / "docs/contracts.md").read_text("utf-8")
ROWS = {
    to: [re.findall("`([^`]*)`", cell) for cell in cells]
    for to, *cells in re.findall(r"^\| ([^|]*) \|([^|]*)\|([^|]*)\|([^|]*)\|$", PAGE, re.MULTILINE)
}
ROLES = "run Foldwork's roles, as its own user"
SEND = "send commands, with direct replies"
ANSWERS = "take answers from a queue of its own"
ALL = "subscribe to all events with a queue `billing`"
ONE = "subscribe to the events of `acme` only"
CONFIGURE, WRITE, READ = range(3)


def permits(to: str, column: int, name: str) -> bool:
    """Tell whether RabbitMQ permits a name: it looks for the expression anywhere in it."""
    expression = "|".join(ROWS[to][column])
    return bool(expression) and re.search(expression, name) is not None


@pytest.mark.parametrize(
    ("to", "column", "name", "permitted"),
    [
        (ROLES, READ, names.DEAD_QUEUE, True),
        (ROLES, WRITE, names.DEAD_EXCHANGE, True),
        (ROLES, CONFIGURE, names.COMMAND_QUEUE, True),
        (ROLES, READ, "other.foldwork.dead", False),
        (ROLES, READ, "foldwork-dead", False),
        (SEND, WRITE, names.COMMAND_EXCHANGE, True),
        (SEND, WRITE, names.EVENT_EXCHANGE, False),
        (SEND, WRITE, f"{names.COMMAND_EXCHANGE}.other", False),
        (SEND, WRITE, f"other.{names.COMMAND_EXCHANGE}", False),
        (ANSWERS, READ, "amq.gen-x", True),
        (ANSWERS, READ, "reply.acme-app.orders", True),
        # The queue of the users `acme-app.b` and `b.reply.acme-app`.
        (ANSWERS, READ, "reply.acme-app.b.orders", False),
        (ANSWERS, READ, "reply.b.reply.acme-app.orders", False),
        (ANSWERS, READ, names.COMMAND_QUEUE, False),
        (ANSWERS, READ, names.DEAD_QUEUE, False),
        (ALL, READ, names.EVENT_EXCHANGE, True),
        (ALL, READ, "billing.dead", True),
        (ALL, READ, "acme-billing", False),
        (ALL, READ, names.DEAD_QUEUE, False),
        (ALL, WRITE, names.EVENT_EXCHANGE, False),
        (ONE, READ, "events.acme", True),
        (ONE, READ, "events.acme-2", False),
        (ONE, READ, "events.2-events.acme", False),
        (ONE, READ, names.EVENT_EXCHANGE, False),
        (ONE, CONFIGURE, "acme-billing.dead", True),
        (ONE, CONFIGURE, "events.acme", False),
        (ONE, WRITE, "events.acme", False),
    ],
)
def test_what_the_documented_permissions_permit(to: str, column: int, name: str, permitted: bool) -> None:
    assert permits(to, column, name) is permitted


def test_every_documented_permission_is_anchored() -> None:
    wanted = [expression for row in (SEND, ANSWERS, ALL, ONE) for expression in chain(*ROWS[row])]
    assert len(wanted) > 10
    for expression in wanted:
        assert expression.startswith("^"), expression
        assert expression.endswith("$") or expression == r"^amq\.gen-", expression
