"""The recorder passes the tests that the library has for recorders."""

from __future__ import annotations

import sys
import uuid
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
from eventsourcing.postgres import PostgresDatastore
from psycopg.conninfo import conninfo_to_dict

from services.store.event_store import Recorder

# The library's own tests, on our recorder and our table, by a datastore as the library makes it (rows as dictionaries,
# a connection for each thread). Overridden: ids are texts here, as our streams are named.
# Not run: the throughput and performance tests, which print figures and demand nothing, and the subscriptions, which
# we do not use (followers read by position instead).


class OurRecorder:
    """Makes recorders on the test's database, in the place of the library's factory."""

    url: str
    made: list[PostgresDatastore]

    def create_recorder(self) -> Recorder:
        given = conninfo_to_dict(self.url)
        named: Any = {name: given.get(name, "") for name in ("dbname", "host", "port", "user", "password")}
        datastore = PostgresDatastore(**named, pool_size=12, originator_id_type="text")
        for name in [name for name in named if not named[name]]:
            datastore.pool.kwargs.pop(name)  # type: ignore[union-attr]
        self.made.append(datastore)
        return Recorder(datastore)

    def new_originator_id(self) -> str:
        return f"acme/task-{uuid.uuid4()}"


def library_case(name: str) -> type[Any]:
    """Return the library's case on our recorder; made here, where pytest does not collect it without a database."""
    cipher: Any = ModuleType("eventsourcing.cipher")
    cipher.AESCipher = None
    with pytest.MonkeyPatch.context() as patch:
        # Its module tests encryption too, and imports for that a package that nothing here needs.
        patch.setitem(sys.modules, "eventsourcing.cipher", cipher)
        base = getattr(import_module("eventsourcing.tests.persistence"), name)
    return type(f"Our{name}", (OurRecorder, base), {})


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("ApplicationRecorderTestCase", "test_insert_select"),
        ("ApplicationRecorderTestCase", "test_concurrent_no_conflicts"),
        ("NonInterleavingNotificationIDsBaseCase", "test"),
    ],
)
def test_the_recorder_passes_the_librarys_own_tests(migrated_url: str, case: str, name: str) -> None:
    wanted = library_case(case)(name)
    wanted.url, wanted.made = migrated_url, []
    try:
        result = wanted.run()
        assert result.wasSuccessful(), result.errors or result.failures
    finally:
        for each in wanted.made:
            each.close()
