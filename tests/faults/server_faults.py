"""The faults of the broker and of the database: killed, frozen, cut, half-open, refusing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import psycopg

from services.broker.names import COMMAND_QUEUE
from tests.eventually import eventually
from tests.faults.faults import FROZEN, NOTICED, ROLE_BACK, SERVER_BACK, Stage, fault
from tests.faults.observers import delete_queues
from tests.faults.processes import Unavailable

_OUTAGE = 4.0


# The broker.


@fault("broker-killed", SERVER_BACK, durable=True)
def broker_killed(stage: Stage) -> Iterator[None]:
    stage.servers.broker.process().kill()
    time.sleep(_OUTAGE * stage.chance.random())
    stage.servers.broker.start()
    yield


@fault("broker-restarted", SERVER_BACK, durable=True)
def broker_restarted(stage: Stage) -> Iterator[None]:
    stage.servers.broker.process().end()
    stage.servers.broker.start()
    yield


@fault("broker-frozen", SERVER_BACK, times=1)
def broker_frozen(stage: Stage) -> Iterator[None]:
    stage.servers.broker.process().signal(signal.SIGSTOP)
    try:
        time.sleep(30 * stage.scale)
    finally:
        stage.servers.broker.process().signal(signal.SIGCONT)
    yield


@fault("broker-cut", SERVER_BACK)
def broker_cut(stage: Stage) -> Iterator[None]:
    stage.servers.broker_proxy.down()
    time.sleep(_OUTAGE * stage.chance.random())
    stage.servers.broker_proxy.up()
    yield


@fault("queue-deleted", SERVER_BACK)
def queue_deleted(stage: Stage) -> Iterator[None]:
    stage.run(delete_queues(stage.servers.amqp_url, COMMAND_QUEUE))
    yield


@fault("broker-alarm", SERVER_BACK)
def broker_alarm(stage: Stage) -> Iterator[None]:
    stage.begin(stage.load.burst(int(3000 * stage.scale)))
    time.sleep(0.2)
    try:
        stage.servers.broker.alarm(True)
        deadline = time.monotonic() + 20
        while (left := stage.queued()) and time.monotonic() < deadline:
            time.sleep(0.2)
        stage.demand(not left, f"{left} commands still wait 20 s after the alarm")
    finally:
        stage.servers.broker.alarm(False)
    yield


def _half_open(where: str, to_server: bool, to_client: bool) -> None:
    name = {(True, True): "", (True, False): "-to-server", (False, True): "-to-client"}[to_server, to_client]

    @fault(f"{where}-half-open{name}", NOTICED, times=1)
    def half_open(stage: Stage) -> Iterator[None]:
        proxy = stage.servers.broker_proxy if where == "broker" else stage.servers.database_proxy
        proxy.silence(to_server=to_server, to_client=to_client)
        yield
        # Else the server shows the sessions of the host that was lost, which are silent, until the next fault.
        proxy.end_silence()


for _each in ("broker", "database"):
    for _directions in ((True, True), (True, False), (False, True)):
        _half_open(_each, *_directions)


# The database.


def _database_gone(name: str, number: int) -> None:
    @fault(name, SERVER_BACK)
    def gone(stage: Stage) -> Iterator[None]:
        stage.servers.postgres.stop(number)
        time.sleep(_OUTAGE * stage.chance.random())
        stage.servers.start_postgres()
        yield


_database_gone("database-killed", signal.SIGKILL)
_database_gone("database-stopped-at-once", signal.SIGQUIT)


@fault("database-cut", SERVER_BACK)
def database_cut(stage: Stage) -> Iterator[None]:
    stage.servers.database_proxy.down()
    time.sleep(_OUTAGE * stage.chance.random())
    stage.servers.database_proxy.up()
    yield


@fault("commit-unanswered", ROLE_BACK, times=10)
def commit_unanswered(stage: Stage) -> Iterator[None]:
    proxy = stage.servers.database_proxy
    proxy.forget_after = b"COMMIT"
    eventually(lambda: proxy.forget_after is None)
    yield


@fault("listener-killed", ROLE_BACK)
def listener_killed(stage: Stage) -> Iterator[None]:
    with stage.session() as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name IN ('foldwork-projections', 'foldwork-relay', 'foldwork-read-models')"
        )
    yield


@fault("backend-frozen", NOTICED, times=1)
def backend_frozen(stage: Stage) -> Iterator[None]:
    with stage.session() as conn:
        for _ in range(1000):
            found = conn.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'foldwork-commands' ORDER BY query_start DESC NULLS LAST LIMIT 1"
            ).fetchone()
            if found is not None:
                os.kill(found[0], signal.SIGSTOP)
                holding = conn.execute("SELECT 1 FROM pg_locks WHERE pid = %s AND granted", found).fetchone()
                if holding is None:
                    break
                # Whatever holds a lock of the log stops everybody until the server itself goes on.
                os.kill(found[0], signal.SIGCONT)
            time.sleep(0.02)
        else:
            raise Unavailable("the backend always held a lock")
    began = time.monotonic()
    try:
        yield
        time.sleep(max(0.0, FROZEN * stage.scale - (time.monotonic() - began)))
    finally:
        os.kill(found[0], signal.SIGCONT)


@fault("vacuum-and-slow-transaction", ROLE_BACK, outage=False)
def vacuum(stage: Stage) -> Iterator[None]:
    with stage.session() as slow, stage.session() as conn, slow.transaction():
        slow.execute("SELECT count(*) FROM stored_events")
        conn.execute("VACUUM (FREEZE) stored_events")
        conn.execute("VACUUM (FREEZE) ledger")
        time.sleep(3)
    yield


@fault("connections-exhausted", SERVER_BACK)
def connections_exhausted(stage: Stage) -> Iterator[None]:
    taken: list[psycopg.Connection[Any]] = []
    try:
        stage.servers.database_proxy.cut()
        while True:
            try:
                taken.append(stage.session())
            except psycopg.OperationalError:
                break
        stage.servers.database_proxy.cut()
        time.sleep(_OUTAGE)
    finally:
        for conn in taken:
            conn.close()
    yield


@fault("database-read-only", SERVER_BACK)
def read_only(stage: Stage) -> Iterator[None]:
    with stage.session() as conn:
        conn.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        conn.execute("SELECT pg_reload_conf()")
        try:
            time.sleep(2 * _OUTAGE)
        finally:
            conn.execute("SET default_transaction_read_only = off")
            conn.execute("ALTER SYSTEM RESET default_transaction_read_only")
            conn.execute("SELECT pg_reload_conf()")
    yield
