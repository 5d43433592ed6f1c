"""The names of exchanges and queues, and the reply queues that answers may go to."""

from __future__ import annotations

import re

COMMAND_EXCHANGE = "foldwork.commands"
COMMAND_QUEUE = "foldwork.commands"
DEAD_EXCHANGE = "foldwork.dead"
DEAD_QUEUE = "foldwork.dead"
EVENT_EXCHANGE = "foldwork.events"

# How the headers of dead letters begin that Foldwork adds, and the one with the letter's own id.
OWN_HEADERS = "x-foldwork-"
LETTER = "x-foldwork-letter"

# Names of queues that a client gets from the broker, or from aio-pika (`amq_`): only who made a queue knows its name.
DIRECT_REPLIES = "amq.rabbitmq.reply-to."
_SECRET_NAMES = (DIRECT_REPLIES, "amq.gen-", "amq_")
# A queue that a client named itself is `reply.<user>.<name>`, with its broker user and a name without a dot, so that it
# belongs to one user: whoever knows the name of another user's queue must not have answers sent there.
_NAMED = "reply."
# A direct-reply name ends in a token of the broker, whose parts are base64.
_DIRECT_TOKEN = re.compile(r"[A-Za-z0-9+/=_-]+(\.[A-Za-z0-9+/=_-]+)*\Z")
# The bytes of an AMQP short string: names, routing keys, and the texts among the properties of a message.
SHORT = 255


def short(text: str | None, size: int = SHORT) -> str | None:
    """Cut a text to a number of bytes; what is no Unicode in it is replaced."""
    return None if text is None else text.encode("utf-8", "backslashreplace")[:size].decode("utf-8", "ignore")


def may_reply_to(queue: str | None, user: str | None) -> bool:
    """Tell whether answers to a broker user may go to a queue: only to its reply queues, never to Foldwork's own."""
    if queue is None or len(queue.encode("utf-8", "replace")) > SHORT:
        return False
    if queue.startswith(_NAMED):
        owner, _, own = queue.removeprefix(_NAMED).rpartition(".")
        return bool(own) and bool(user) and owner == user
    if not queue.startswith(_SECRET_NAMES):
        return False
    return not is_direct(queue) or _DIRECT_TOKEN.match(queue, len(DIRECT_REPLIES)) is not None


def is_direct(queue: str) -> bool:
    """Tell whether a queue's name is one that the broker made for direct replies."""
    return queue.startswith(DIRECT_REPLIES)
