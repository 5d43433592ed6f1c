"""What a tenant may configure of dispatch as directory entries, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from domain.decider import Context
from domain.directory import ChangeEntry, EntryChanged, EntryRegistered, RetireEntry
from domain.directory.settings import CHANNELS, provider_of, targeting_of, users_of
from domain.plan import Criterion, Provider
from tests.builders import EMAIL, entry
from tests.domain.cases import Case, done, each, ignored, refused
from tests.given import NOW, TENANT, Given, given, given_commands


def good(kind: str, id: str, why: str, **fields: Any) -> Case:  # noqa: A002
    return done(
        "directory.register",
        f"{kind}: {why}",
        lambda: given().when(entry(kind, id, **fields)),
        [EntryRegistered(kind, id, fields)],
    )


def bad(kind: str, id: str, why: str, pointer: str, **fields: Any) -> Case:  # noqa: A002
    return refused(
        "directory.register", "invalid", f"{kind}: {why}", lambda: given().when(entry(kind, id, **fields)), pointer
    )


def bad_provider(why: str, name: str, value: Any) -> Case:
    fields = {"provider": "http", "url": "https://provider.example/tasks", name: value}
    return bad("dispatch", "EMAIL", why, f"/fields/{name}", **fields)


HTTP = {"provider": "http", "url": "https://provider.example/tasks"}
SEALED, OTHER = "v1.0a1b2c3d.q83vEjRWeJA", "v1.0a1b2c3d.q83vEjRWeJB"
MOVED = "https://elsewhere.example/tasks"


def with_credentials(**fields: Any) -> Given:
    """A provider that has credentials, and is then to be changed."""
    scene = given_commands([entry("dispatch", "EMAIL", **HTTP, credentials=SEALED)])
    return scene.when(ChangeEntry("dispatch", "EMAIL", fields))


def changed(why: str, old: Any, new: Any) -> Case:
    return done(
        "directory.change",
        f"dispatch: {why}",
        lambda: with_credentials(**new),
        [EntryChanged("dispatch", "EMAIL", old, new)],
    )


CASES: list[Case] = [
    good("dispatch", "EMAIL", "with credentials that the service encrypted", **HTTP, credentials=SEALED),
    *(
        bad_provider(f"credentials that are {why}", "credentials", value)
        for why, value in (
            ("in the clear", {"apiKey": "sk-xxx"}),
            ("a text in the clear", "sk-xxx"),
            ("almost encrypted", "v1.0a1b2c3d.sk xxx"),
            ("encrypted with a key that has no id", "v1..q83vEjRWeJA"),
            ("a list", [SEALED]),
            ("true, as they are shown", True),
            ("longer than encrypted ones can be", f"v1.0a1b2c3d.{'A' * 10001}"),
        )
    ),
    changed(
        "new credentials for a new address",
        {"url": HTTP["url"], "credentials": SEALED},
        {"url": MOVED, "credentials": OTHER},
    ),
    changed(
        "a new address without credentials",
        {"url": HTTP["url"], "credentials": SEALED},
        {"url": MOVED, "credentials": None},
    ),
    changed("other times, and the credentials stay", {"timeout_seconds": None}, {"timeout_seconds": 3}),
    ignored(
        "directory.change",
        "dispatch: the same address and credentials",
        lambda: with_credentials(**HTTP, credentials=SEALED),
    ),
    refused(
        "directory.change",
        "invalid",
        "dispatch: a new address for credentials that were given for another one",
        lambda: with_credentials(url=MOVED),
        "/fields/credentials",
    ),
    refused(
        "directory.change",
        "invalid",
        "dispatch: no address any more, and credentials",
        lambda: with_credentials(provider="console", url=None),
        "/fields/credentials",
    ),
    good("policy", "channels", "the tenant's own channels", value=["FAX", "EMAIL"]),
    *(
        bad("policy", "channels", why, "/fields/value", **fields)
        for why, fields in (
            ("no list", {}),
            ("channels as a text", {"value": "EMAIL"}),
            ("no channel", {"value": []}),
            ("a channel with a slash", {"value": ["EMAIL", "a/b"]}),
            ("a channel that is a number", {"value": [7]}),
            ("a channel that is a list", {"value": [["EMAIL"]]}),
            ("more channels than there may be", {"value": [f"C{number}" for number in range(51)]}),
        )
    ),
    good("attribute", "segment", "resolved upfront", strategy="UPFRONT", source="commerce.segment", fallback="none"),
    good("attribute", "stop", "resolved on dispatch, from the whole route", strategy="ON_DISPATCH", source="route"),
    good("attribute", "note", "the caller's own", strategy="CALLER_PROVIDED"),
    bad("attribute", "a", "no strategy", "/fields/strategy", source="commerce.name"),
    bad("attribute", "a", "an unknown strategy", "/fields/strategy", strategy="SOMETIMES", source="commerce.name"),
    bad("attribute", "a", "a strategy that is a list", "/fields/strategy", strategy=["UPFRONT"]),
    bad("attribute", "a", "no source", "/fields/source", strategy="UPFRONT"),
    bad("attribute", "a", "a source that is not known", "/fields/source", strategy="UPFRONT", source="moon.phase"),
    bad("attribute", "a", "a source that is a number", "/fields/source", strategy="UPFRONT", source=7),
    bad("attribute", "a", "a caller's own from nowhere", "/fields/source", strategy="CALLER_PROVIDED", source="x"),
    bad("attribute", "a", "a source too long", "/fields/source", strategy="UPFRONT", source=f"route.{'a' * 200}"),
    good(
        "targeting",
        "default",
        "criteria and fallbacks",
        criteria=[{"type": "ROLE_MATCH", "role": "owner", "priority": 2}, {"type": "LAST_CONTACTED_ALL_CHANNELS"}],
        fallbacks=[{"type": "ANY", "role": None}],
    ),
    bad("targeting", "default", "no criteria", "/fields/criteria"),
    bad("targeting", "default", "an empty list", "/fields/criteria", criteria=[]),
    bad("targeting", "default", "fallbacks alone", "/fields/criteria", fallbacks=[{"type": "ANY"}]),
    bad("targeting", "default", "criteria as an object", "/fields/criteria", criteria={"type": "ANY"}),
    bad("targeting", "default", "a criterion as a text", "/fields/criteria/0", criteria=["ANY"]),
    bad("targeting", "default", "an unknown key", "/fields/criteria/0", criteria=[{"type": "ANY", "rank": 1}]),
    bad("targeting", "default", "an unknown type", "/fields/criteria/0/type", criteria=[{"type": "SOME"}]),
    bad(
        "targeting",
        "default",
        "a role that is a number",
        "/fields/criteria/0/role",
        criteria=[{"type": "ANY", "role": 1}],
    ),
    bad("targeting", "default", "no type", "/fields/criteria/0/type", criteria=[{}]),
    bad("targeting", "default", "a type that is a list", "/fields/criteria/0/type", criteria=[{"type": ["ANY"]}]),
    bad(
        "targeting",
        "default",
        "a fallback without its role",
        "/fields/fallbacks/1/role",
        criteria=[{"type": "ANY"}],
        fallbacks=[{"type": "ANY"}, {"type": "ROLE_MATCH"}],
    ),
    bad(
        "targeting",
        "default",
        "a priority that is true",
        "/fields/criteria/0/priority",
        criteria=[{"type": "ANY", "priority": True}],
    ),
    bad(
        "targeting",
        "default",
        "a priority that is a text",
        "/fields/criteria/0/priority",
        criteria=[{"type": "ANY", "priority": "1"}],
    ),
    bad("targeting", "default", "too many", "/fields/criteria", criteria=[{"type": "ANY"}] * 51),
    good("outcome", "SALE", "what a result may say", label="Sold", requires_follow_up=True),
    *(
        bad("outcome", "SALE", f"{name} is {value!r}", f"/fields/{name}", **{"label": "Sold", name: value})
        for name, value in (
            ("label", None),
            ("label", ""),
            ("label", 7),
            ("label", "x" * 201),
            ("requires_follow_up", "yes"),
            ("requires_follow_up", 1),
        )
    ),
    good("retention", "at_risk", "how a customer stands", label="At risk", description="Orders less"),
    *(
        bad("retention", "at_risk", f"{name} is {value!r}"[:60], f"/fields/{name}", **{"label": "At risk", name: value})
        for name, value in (
            ("label", None),
            ("label", ["At risk"]),
            ("description", 7),
            ("description", "x" * 2001),
        )
    ),
    good("dispatch", "EMAIL", "the console", provider="console"),
    good(
        "dispatch",
        "EMAIL",
        "a provider over HTTP",
        provider="http",
        url="https://provider.example:8443/tasks",
        secret="signing",
        timeout_seconds=2.5,
        backoff_seconds=1,
    ),
    bad("dispatch", "EMAIL", "no provider", "/fields/provider"),
    bad("dispatch", "EMAIL", "an unknown provider", "/fields/provider", provider="pigeon"),
    bad("dispatch", "EMAIL", "no url", "/fields/url", provider="http"),
    *(
        bad_provider(f"the url {url!r}", "url", url)
        for url in (
            "",
            7,
            "provider.example",
            "ftp://provider.example",
            "https://",
            "https:///tasks",
            "https://user:word@provider.example",
            "https://provider.example/?a=1",
            "https://provider.example/#a",
            "https://provider.example/a b",
            "https://provider.example/\0",
            "https://provider.example:99999/",
            "https://provider.example:0/",
            "https://[::1",
            f"https://provider.example/{'a' * 500}",
        )
    ),
    bad_provider("a secret that is no name", "secret", "s3cret value!"),
    bad_provider("a secret that is a list", "secret", ["signing"]),
    bad_provider("a time-out of nothing", "timeout_seconds", 0),
    bad_provider("a time-out of half a second", "timeout_seconds", 0.5),
    bad_provider("a time-out below nothing", "timeout_seconds", -1),
    bad_provider("a time-out of a minute", "timeout_seconds", 60),
    bad_provider("a time-out that is true", "timeout_seconds", True),
    bad_provider("a wait of two hours", "backoff_seconds", 7200),
    bad_provider("a wait that is a text", "backoff_seconds", "30"),
    good(
        "commerce",
        "c",
        "its users, and whatever else is known",
        users=[{"id": "u-1", "role": "owner"}, {"id": "u-2", "role": None, "locked": "no calls", "name": "Bình"}],
        segment="gold",
    ),
    bad("commerce", "c", "users as an object", "/fields/users", users={"id": "u-1"}),
    bad("commerce", "c", "a user as a text", "/fields/users/0", users=["u-1"]),
    bad("commerce", "c", "a user without id", "/fields/users/1", users=[{"id": "u-1"}, {"role": "owner"}]),
    bad("commerce", "c", "a user's id with a slash", "/fields/users/0", users=[{"id": "u/1"}]),
    bad("commerce", "c", "a user twice", "/fields/users/1/id", users=[{"id": "u-1"}, {"id": "u-1"}]),
    bad("commerce", "c", "a role that is a list", "/fields/users/0/role", users=[{"id": "u-1", "role": ["owner"]}]),
    bad("commerce", "c", "locked by true", "/fields/users/0/locked", users=[{"id": "u-1", "locked": True}]),
    done(
        "directory.change",
        "a provider's address",
        lambda: given_commands([entry("dispatch", "SMS", provider="http", url="http://a.example")]).when(
            ChangeEntry("dispatch", "SMS", {"url": "http://b.example"})
        ),
        [EntryChanged("dispatch", "SMS", {"url": "http://a.example"}, {"url": "http://b.example"})],
    ),
    refused(
        "directory.change",
        "invalid",
        "a provider over HTTP without address",
        lambda: given_commands([entry("dispatch", "SMS", provider="http", url="http://a.example")]).when(
            ChangeEntry("dispatch", "SMS", {"url": None})
        ),
        "/fields/url",
    ),
    refused(
        "directory.change",
        "invalid",
        "an attribute of the caller's that has no source becomes the service's",
        lambda: given_commands([entry("attribute", "a", strategy="CALLER_PROVIDED")]).when(
            ChangeEntry("attribute", "a", {"strategy": "ON_DISPATCH"})
        ),
        "/fields/source",
    ),
    refused(
        "directory.change",
        "invalid",
        "targeting without criteria",
        lambda: given_commands([entry("targeting", "default", criteria=[{"type": "ANY"}])]).when(
            ChangeEntry("targeting", "default", {"criteria": None})
        ),
        "/fields/criteria",
    ),
]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


def looking_at(scene: Given) -> Context:
    """A context in which all that the scene holds is loaded, and what it does not hold is known to be absent."""

    class Everything(dict[str, Any]):
        def __missing__(self, key: str) -> None:
            return None

    return Context(TENANT, "system", NOW, lambda: "id", lambda: 1, Everything(scene.states), {})


def test_a_provider_has_its_times_and_is_gone_once_it_is_retired() -> None:
    full = entry("dispatch", "SMS", provider="http", url="http://a.example", secret="s", timeout_seconds=2)
    scene = given_commands([EMAIL, full])
    assert provider_of(looking_at(scene), "EMAIL") == Provider("console", None, None, 5.0, 30.0)
    assert provider_of(looking_at(scene), "SMS") == Provider("http", "http://a.example", "s", 2.0, 30.0)
    scene.and_commands([RetireEntry("dispatch", "SMS")])
    assert provider_of(looking_at(scene), "SMS") is None


def test_a_provider_has_its_credentials_as_they_are_encrypted() -> None:
    scene = given_commands([entry("dispatch", "EMAIL", **HTTP, credentials=SEALED)])
    found = provider_of(looking_at(scene), "EMAIL")
    assert found == Provider("http", HTTP["url"], None, 5.0, 30.0, SEALED)


@pytest.mark.parametrize("credentials", ["sk-xxx", {"apiKey": "sk-xxx"}, 7, ["a"], True])
def test_credentials_from_before_they_were_encrypted_are_not_sent(credentials: Any) -> None:
    scene = given([EntryRegistered("dispatch", "EMAIL", {**HTTP, "credentials": credentials})])
    found = provider_of(looking_at(scene), "EMAIL")
    assert found is not None
    assert found.credentials is None


def test_a_channels_own_targeting_comes_before_the_default() -> None:
    scene = given_commands(
        [
            entry("targeting", "default", criteria=[{"type": "ANY"}], fallbacks=[{"type": "ROLE_MATCH", "role": "r"}]),
            entry("targeting", "SMS", criteria=[{"type": "LAST_CONTACTED_SAME_CHANNEL", "priority": 3}]),
        ]
    )
    assert targeting_of(looking_at(scene), "SMS") == ((Criterion("LAST_CONTACTED_SAME_CHANNEL", 3),), (), "ON_CREATION")
    assert targeting_of(looking_at(scene), "EMAIL") == (
        (Criterion("ANY"),),
        (Criterion("ROLE_MATCH", 0, "r"),),
        "ON_CREATION",
    )
    assert targeting_of(looking_at(given()), "EMAIL") == ((), (), "ON_CREATION")


@pytest.mark.parametrize(
    "users",
    [None, 7, "u-1", {"id": "u-1"}, ["u-1", None, 7], [{}, {"id": 7}, {"id": "a/b"}], [{"id": "u", "locked": True}]],
)
def test_a_commerce_registered_before_users_were_checked_has_none(users: Any) -> None:
    scene = given([EntryRegistered("commerce", "c", {"users": users})])
    assert users_of(looking_at(scene), "c") == []


def test_what_is_well_formed_among_odd_users_counts() -> None:
    scene = given([EntryRegistered("commerce", "c", {"users": [7, {"id": "u-1", "role": None}, {"id": "u-2"}]})])
    assert [user["id"] for user in users_of(looking_at(scene), "c")] == ["u-1", "u-2"]


def test_the_standard_channels() -> None:
    assert CHANNELS == ("SALESMAN", "CALLCENTER", "WHATSAPP", "EMAIL", "SMS", "PUSH")
