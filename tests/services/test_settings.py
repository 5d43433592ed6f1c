"""The settings: every problem is named at once, and no secret shows."""

from __future__ import annotations

from typing import Any

import pytest

from services.cli import where
from services.errors import OperatorError
from services.settings import ConfigurationError, Settings, load
from tests.services.harness import settings

URLS = {"database_url": "postgresql://u:dbsecret@localhost/db", "amqp_url": "amqp://guest:mqsecret@localhost/"}


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("FOLDWORK_"):
            monkeypatch.delenv(name)


def made(**given: Any) -> Settings:
    return settings(**{**URLS, **given})


def test_all_problems_are_listed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "DATABASE_URL": "mysql://u:dbsecret@h/db",
        "AMQP_SENDERS": "{",
        "PREFETCH": "0",
        "BATCH_SIZE": "many",
        "LOG_LEVEL": "loud",
    }.items():
        monkeypatch.setenv(f"FOLDWORK_{name}", value)
    with pytest.raises(ConfigurationError) as caught:
        load()
    lines = str(caught.value).splitlines()
    assert sorted(line.partition(":")[0] for line in lines) == [
        "FOLDWORK_AMQP_SENDERS",
        "FOLDWORK_AMQP_URL",
        "FOLDWORK_BATCH_SIZE",
        "FOLDWORK_DATABASE_URL",
        "FOLDWORK_LOG_LEVEL",
        "FOLDWORK_PREFETCH",
    ]
    assert "secret" not in str(caught.value)


def test_the_environment_sets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "DATABASE_URL": URLS["database_url"],
        "AMQP_URL": URLS["amqp_url"],
        "AMQP_SENDERS": '{"shop": ["acme", "other"], "all": ["*"]}',
        "BATCH_WAIT_MS": "2.5",
        "DISPATCH_SECRETS": '{"acme/hook": "hooksecret"}',
    }.items():
        monkeypatch.setenv(f"FOLDWORK_{name}", value)
    found = load()
    assert found.amqp_senders == {"shop": ("acme", "other"), "all": ("*",)}
    assert found.batch_wait_ms == 2.5
    assert not any(secret in repr(found) for secret in ("dbsecret", "mqsecret", "hooksecret"))


@pytest.mark.parametrize(
    ("url", "allowed", "passes"),
    [
        ("amqp://u:p@localhost/", "", True),
        ("amqp://u:p@127.0.0.1:5672/x", "", True),
        ("amqp://u:p@[::1]/", "", True),
        ("amqp://u:p@broker.example/", "", False),
        ("amqp://u:p@broker.example/", "database,providers", False),
        ("amqp://u:p@broker.example/", "broker", True),
        ("amqps://u:p@broker.example/", "", True),
        ("amqps://u:p@broker.example/?cafile=/etc/ca.pem&no_verify_ssl=0", "", True),
        ("amqps://u:p@broker.example/?no_verify_ssl=1", "", False),
        ("amqps://u:p@broker.example/?no_verify_ssl=0&no_verify_ssl=", "", False),
        ("amqps://u:p@broker.example/?no_verify_ssl=1", "broker", True),
        ("amqps://u:p@localhost/?no_verify_ssl=1", "", True),
        ("postgresql://u:p@localhost/d", "", True),
        ("postgresql://u:p@[::1]/d", "", True),
        ("postgresql:///d?host=/run/postgresql", "", True),
        ("postgresql://u:p@/d", "", True),
        ("postgresql://u:p@db.example/d", "", False),
        ("postgresql://u:p@127.0.0.1,db.example/d", "", False),
        ("postgresql://u:p@localhost/d?hostaddr=192.0.2.1", "", False),
        ("postgresql://u:p@db.example/d?sslmode=prefer", "broker, providers", False),
        ("postgresql:///d?service=production", "", False),
        ("postgresql:///d?service=production&sslmode=require", "", True),
        ("postgresql://u:p@db.example/d?sslmode=require", "", True),
        ("postgresql://u:p@db.example/d?sslmode=verify-full", "", True),
        ("postgresql://u:p@db.example/d", " database , broker", True),
    ],
)
def test_plaintext_off_loopback_is_allowed_by_name(
    url: str, allowed: str, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "amqp_url" if url.startswith("amqp") else "database_url"
    of_cli = where.amqp_url if name == "amqp_url" else where.database_url
    monkeypatch.setenv("FOLDWORK_ALLOW_PLAINTEXT", allowed)
    monkeypatch.setenv(f"FOLDWORK_{name.upper()}", url)
    given = {**URLS, name: url}
    if passes:
        load(**given)
        assert of_cli() == url
        return
    for call in (lambda: load(**given), of_cli):
        with pytest.raises(OperatorError, match=f"{name}.*FOLDWORK_ALLOW_PLAINTEXT"):
            call()


@pytest.mark.parametrize(
    ("variables", "url", "passes"),
    [
        ({"PGHOST": "db.example"}, "postgresql://u:p@/d", False),
        ({"PGHOST": "db.example"}, "postgresql://u:p@localhost/d", True),
        ({"PGHOST": "db.example"}, "postgresql://u:p@/d?sslmode=require", True),
        ({"PGHOST": "db.example", "PGSSLMODE": "require"}, "postgresql://u:p@/d", True),
        ({"PGHOSTADDR": "192.0.2.1"}, "postgresql://u:p@localhost/d", False),
        ({"PGSSLMODE": "verify-full"}, "postgresql://u:p@db.example/d", True),
        ({"PGSSLMODE": "require"}, "postgresql://u:p@db.example/d?sslmode=prefer", False),
    ],
)
def test_what_a_url_leaves_out_comes_from_the_variables_of_libpq(
    variables: dict[str, str], url: str, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if passes:
        load(**{**URLS, "database_url": url})
        return
    with pytest.raises(ConfigurationError, match="database_url: off loopback"):
        load(**{**URLS, "database_url": url})


@pytest.mark.parametrize("text", ["1", "true", "broker,all", "Broker"])
def test_what_may_be_unencrypted_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDWORK_ALLOW_PLAINTEXT", text)
    monkeypatch.setenv("FOLDWORK_AMQP_URL", "amqp://localhost/")
    for call in (lambda: load(**URLS), where.amqp_url):
        with pytest.raises(OperatorError, match="FOLDWORK_ALLOW_PLAINTEXT: must be names"):
            call()


def test_who_may_speak_for_whom() -> None:
    mapped = made(amqp_senders={"shop": ("acme",), "all": ("*",)})
    assert [mapped.may_send(user, "acme") for user in ("shop", "all", "guest", "other", None)] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert [mapped.may_send(user, "beta") for user in ("shop", "all")] == [False, True]
    local, remote = made(), made(amqp_url="amqps://foldwork:p@broker.example/")
    assert local.may_send(None, "acme")
    assert local.may_send("anybody", "acme")
    assert remote.may_send("foldwork", "acme")
    assert not remote.may_send("anybody", "acme")
    assert not remote.may_send(None, "acme")
