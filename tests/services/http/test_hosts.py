"""Under which names the service is reached: a page that resolves its own name to this machine gets nothing."""

from __future__ import annotations

import httpx
import pytest

from services.http.core.app import envelope
from services.settings import ConfigurationError, load
from services.urls import host_name
from tests.services.http.api import opened
from tests.services.http.contract import refused

HOSTS = ("api.example.com", "2001:db8::1")
OURS = (
    "api.example.com",
    "API.example.com:8443",
    "api.example.com.",
    "localhost:8000",
    "127.0.0.1:8000",
    "[::1]:8000",
    "[2001:db8::1]",
)
OTHERS = (
    "",
    "evil.example",
    "api.example.com.evil.example",
    "evil.example:8000",
    "[::2]:8000",
    "192.0.2.1",
    "::1",
    "2001",
)
PATHS = (
    "/v1/tasks",
    "/api/v3/tasks",
    "/api/activities",
    "/api/v3/workflow/activities",
    "/docs",
    "/openapi.json",
    "/no",
)


async def test_only_names_of_our_own_are_served_and_the_probes_under_every_name(migrated_url: str) -> None:
    async with opened(migrated_url, http_hosts=HOSTS) as api:
        by = api.by()

        async def ask(path: str, host: str, method: str = "GET") -> httpx.Response:
            return await api.client.request(method, path, headers={**by, "Host": host})

        for host in OURS:
            assert (await ask("/v1/tasks", host)).status_code == 200, host
        for path in PATHS:
            for host in OTHERS:
                refused(await ask(path, host), envelope(path), "bad-header", parameter="Host")
        assert (await ask("/v1/commands", OTHERS[1], "POST")).status_code == 400
        for path in ("/livez", "/readyz", "/metrics"):
            assert (await ask(path, "10.0.0.7:8000")).status_code in (200, 503)


async def test_every_name_is_served_if_none_is_set(migrated_url: str) -> None:
    async with opened(migrated_url) as api:
        for host in (*OURS, *OTHERS[1:]):
            response = await api.client.get("/v1/tasks", headers={**api.by(), "Host": host})
            assert response.status_code == 200, host


@pytest.mark.parametrize(
    ("text", "name"), [("A.b:1", "a.b"), ("[::1]:80", "::1"), ("[::1]", "::1"), ("a", "a"), ("", ""), (":80", "")]
)
def test_a_host_is_read_without_its_port(text: str, name: str) -> None:
    assert host_name(text) == name


@pytest.mark.parametrize("value", ["https://api.example.com", "api.example.com:443", "api.example.com/x"])
def test_a_setting_that_is_no_name_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match="FOLDWORK_HTTP_HOSTS"):
        load(database_url="postgresql://localhost/x", amqp_url="amqp://localhost/", http_hosts=value)
