"""What the naive peer's processes and the bench agree on."""

from __future__ import annotations

from psycopg.conninfo import conninfo_to_dict

COMMAND_QUEUE = "naive.commands"
EVENT_EXCHANGE = "naive.events"
AMQP_VARIABLE, SILENT_VARIABLE = "NAIVE_AMQP_URL", "NAIVE_SILENT"


def environment(database_url: str, amqp_url: str, *, silent: bool = False) -> dict[str, str]:
    """Return the environment that its processes are configured by; `silent` leaves the publishing out."""
    given = conninfo_to_dict(database_url)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": str(given.get("dbname", "")),
        "POSTGRES_HOST": str(given.get("host", "127.0.0.1")),
        "POSTGRES_PORT": str(given.get("port", "5432")),
        "POSTGRES_USER": str(given.get("user", "postgres")),
        "POSTGRES_PASSWORD": str(given.get("password", "")),
        AMQP_VARIABLE: amqp_url,
        **({SILENT_VARIABLE: "1"} if silent else {}),
    }
