"""Putting an entry: it has exactly these fields then, whether it was there, was retired, or is new."""

from __future__ import annotations

from typing import Any

import pytest

from domain.decider import UniqueKey
from domain.directory import ChangeEntry, EntryChanged, EntryRegistered, PutEntry, RegisterEntry, RetireEntry
from domain.limits import MAX_FIELDS_BYTES
from tests.builders import entry, manager, member
from tests.domain.cases import Case, done, each, ignored, refused
from tests.given import Given, given, given_commands

PROVIDER = {"provider": "http", "url": "https://provider.example", "timeout_seconds": 3}


def there(*more: Any) -> Given:
    return given_commands([manager("max"), entry("dispatch", "SMS", **PROVIDER), *more])


def put(**fields: Any) -> PutEntry:
    return PutEntry("dispatch", "SMS", fields)


def ann(*more: Any) -> Given:
    return given_commands([member("ann", email="ann@x.vn", account_id=7, actor_roles=["driver"]), *more])


CASES: list[Case] = [
    done(
        "directory.put",
        "what is not there is registered",
        lambda: given().when(put(provider="console")),
        [EntryRegistered("dispatch", "SMS", {"provider": "console"})],
        {UniqueKey("registered", "dispatch"): "SMS"},
    ),
    done(
        "directory.put",
        "what is there is replaced, by one event",
        lambda: there().when(put(provider="http", url="https://other.example", backoff_seconds=9)),
        [
            EntryChanged(
                "dispatch",
                "SMS",
                {"url": "https://provider.example", "timeout_seconds": 3, "backoff_seconds": None},
                {"url": "https://other.example", "timeout_seconds": None, "backoff_seconds": 9},
            )
        ],
        {},
    ),
    done(
        "directory.put",
        "what was retired is back with these fields alone",
        lambda: there(RetireEntry("dispatch", "SMS")).when(put(provider="console")),
        [EntryRegistered("dispatch", "SMS", {"provider": "console"})],
        {},
    ),
    done(
        "directory.put",
        "null is as if it were left out",
        lambda: there().when(put(**{**PROVIDER, "timeout_seconds": None})),
        [EntryChanged("dispatch", "SMS", {"timeout_seconds": 3}, {"timeout_seconds": None})],
    ),
    done(
        "directory.put",
        "a member keeps the account number, and gives up an e-mail that is left out",
        lambda: ann().when(PutEntry("member", "ann", {"name": "Ann"})),
        [
            EntryChanged(
                "member",
                "ann",
                {"email": "ann@x.vn", "actor_roles": ["driver"], "name": None},
                {"email": None, "actor_roles": None, "name": "Ann"},
            )
        ],
        {UniqueKey("member-email", "ann@x.vn"): None},
    ),
    done(
        "directory.put",
        "what is called an account number elsewhere is removed",
        lambda: given_commands([entry("hub", "h", account_id=7)]).when(PutEntry("hub", "h", {})),
        [EntryChanged("hub", "h", {"account_id": 7}, {"account_id": None})],
    ),
    ignored("directory.put", "the same again", lambda: there().when(put(**PROVIDER))),
    ignored("directory.put", "the same number", lambda: there().when(put(**{**PROVIDER, "timeout_seconds": 3.0}))),
    *(
        refused("directory.put", "invalid", why, lambda scene=scene: scene().when(put(provider="http")), "/fields/url")
        for why, scene in (("what is new lacks something", given), ("what is there would lack something", there))
    ),
    refused(
        "directory.put",
        "invalid",
        "a member without an account number",
        lambda: ann().when(PutEntry("member", "ann", {"account_id": None})),
        "/fields/account_id",
    ),
    refused("directory.put", "invalid", "an id with a slash", lambda: given().when(PutEntry("hub", "a/b", {})), "/id"),
    refused(
        "directory.put",
        "forbidden",
        "a manager, what the tenant works by",
        lambda: there().when(put(provider="console"), "max"),
    ),
    refused("directory.put", "forbidden", "a stranger", lambda: there().when(put(**PROVIDER), "zed")),
    refused(
        "directory.put",
        "taken",
        "an e-mail that another member has",
        lambda: ann(member("bob")).when(PutEntry("member", "bob", {"email": "ANN@x.vn"})),
        "/fields/email",
    ),
    refused(
        "directory.put",
        "too-large",
        "more than fields may be",
        lambda: given().when(PutEntry("hub", "h", {"a": "x" * (MAX_FIELDS_BYTES + 1)})),
        "/fields",
    ),
]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


@pytest.mark.parametrize("first", [RegisterEntry("hub", "h", {"a": 1, "b": 2}), ChangeEntry("hub", "h", {"a": 1})])
def test_whatever_came_before_the_fields_are_those_that_were_put(first: Any) -> None:
    scene = given_commands([entry("hub", "h", a=0, c=3)] if isinstance(first, ChangeEntry) else [])
    scene.and_commands([first, PutEntry("hub", "h", {"b": 5, "d": None})])
    assert scene.state("hub", "h").fields == {"b": 5}
