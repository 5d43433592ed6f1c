"""The settings: every problem is named at once, and no secret shows."""

from __future__ import annotations

from typing import Any

import pytest

from services.settings import ConfigurationError, Settings, load
from tests.services.harness import settings

URLS = {"database_url": "postgresql://u:dbsecret@h/db", "amqp_url": "amqp://guest:mqsecret@localhost/"}


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
        ("amqp://u:p@localhost/", False, True),
        ("amqp://u:p@127.0.0.1:5672/x", False, True),
        ("amqp://u:p@[::1]/", False, True),
        ("amqp://u:p@broker.example/", False, False),
        ("amqp://u:p@broker.example/", True, True),
        ("amqps://u:p@broker.example/", False, True),
    ],
)
def test_plaintext_off_loopback_needs_a_word(url: str, allowed: bool, passes: bool) -> None:
    given = {**URLS, "amqp_url": url, "allow_plaintext": allowed}
    if passes:
        load(**given)
    else:
        with pytest.raises(ConfigurationError, match="FOLDWORK_ALLOW_PLAINTEXT"):
            load(**given)


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
