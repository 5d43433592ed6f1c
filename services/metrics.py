"""The metrics of the roles, in the default registry of the process."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

COMMANDS = Counter("foldwork_commands_total", "Commands answered, by outcome", ("outcome",))
DEAD_LETTERS = Counter(
    "foldwork_dead_letters_total", "Messages that were no command, or killed their worker", ("code",)
)
BATCH_SIZE = Histogram(
    "foldwork_batch_commands", "Commands in one transaction", buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)
)
BATCH_SECONDS = Histogram("foldwork_batch_seconds", "Time from taking a batch to its acknowledgement, in seconds")
PUBLISHED = Counter("foldwork_events_published_total", "Events that the broker confirmed")
RESTARTS = Counter("foldwork_restarts_total", "Processes that were killed before this one, under the same supervisor")
