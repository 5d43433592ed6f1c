"""Which tenant loads the system: figures of all tenants, and for nobody whom the machine has not let see them."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import psycopg
import pytest

from services import keys
from services.broker.sender import Outgoing
from services.http.core.kept import Kept
from services.store import figures, operations, tenants
from tests.services.http.api import Api, problem
from tests.services.http.bulk_scene import with_tasks
from tests.services.http.test_bulk_list import with_bulks
from tests.services.http.test_overview import append

PATH = "/v1/tenants"


async def shown(api: Api, query: str = "") -> dict[str, Any]:
    if "tenants" not in api.tokens:
        # What is asked of the machine is no matter of a tenant's own work.
        api.tokens["tenants"] = api.key("operating", "system", "tenants")
    with patch.object(Kept, "seconds", 0.0):
        response = await api.get(f"{PATH}{query}", api.tokens["tenants"])
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def with_letters(api: Api, tenant: str, count: int, state: str = "parked") -> None:
    with psycopg.connect(api.url) as conn:
        conn.execute(
            "INSERT INTO dead_letters (id, tenant, arrived, key, headers, body, bytes, sha256, code, detail, pointer,"
            " fingerprint, state) SELECT %(tenant)s || %(state)s || n, %(tenant)s, '1', 'k', '{}', '', 0, '', 'poison',"
            " '', '', '', %(state)s FROM generate_series(1, %(count)s) AS n",
            {"tenant": tenant, "state": state, "count": count},
        )


async def test_without_anything_there_is_nobody(api: Api) -> None:
    found = await shown(api)
    assert (found["data"], found["more"], found["exact"], found["minutes"]) == ([], 0, True, 5)
    assert found["queue"] == {"waiting": 0, "consumers": 1, "dead_letters": 0}
    api.queue.away = True
    assert (await shown(api, "?minutes=1"))["queue"] is None


async def test_the_greatest_load_comes_first_with_all_that_waits(api: Api) -> None:
    append(api, "long-ago", 50, age=320)
    append(api, "other", 2, age=240)
    with_tasks(api, 5)
    refused = [Outgoing("task.process", b'{"id": "nobody"}', "floods") for _ in range(2)]
    assert not any(reply.accepted for reply in api.sender.work(refused))
    api.command("task.cancel", {"id": "t00001"})
    with_letters(api, "other", 3)
    with_letters(api, "other", 4, "retried")
    with_letters(api, "letters", 1)
    with_bulks(api, "b1", tenant="other", state="running")
    with_bulks(api, "b2", tenant="other", state="paused")
    with psycopg.connect(api.url) as conn:
        for name, state in (("h1", "active"), ("h2", "paused")):
            conn.execute(
                "INSERT INTO webhooks (tenant, id, url, secret, created_by, state, pending)"
                " VALUES ('other', %s, 'https://example.com/', '', 'm', %s, 7)",
                (name, state),
            )
        for tenant in ("acme", None):
            operations.record(conn, operations.Operation(tenant, "cli:root", "key.create", "key/x"))
    found = await shown(api)
    assert [each["tenant"] for each in found["data"]] == ["acme", "floods", "other", "letters"]
    acme, floods, other, letters = found["data"]
    assert (acme["events"]["count"], acme["events"]["per_second"], acme["share"]) == (6, 0.02, 60.0)
    assert acme["events"]["bytes"] > 6 * 100
    assert acme["commands"] == {"decided": 6, "refused": 0}
    assert acme["open_tasks"] == {"count": 4, "more": False}
    assert (floods["events"]["count"], floods["commands"]) == (0, {"decided": 2, "refused": 2})
    assert (other["events"]["count"], floods["share"], letters["share"]) == (2, 20.0, 0.0)
    assert (other["dead_letters"], other["bulks"], other["deliveries"]) == ({"count": 3, "more": False}, 1, 7)
    assert letters["dead_letters"]["count"] == 1
    assert (await shown(api, "?minutes=10"))["data"][0]["tenant"] == "long-ago"
    with patch.object(tenants, "MOST_LETTERS", 2), patch("services.http.native.tenants.MOST", 3):
        acme, _, other, _ = (await shown(api, "?minutes=5"))["data"]
    assert acme["open_tasks"] == {"count": 3, "more": True}
    assert other["dead_letters"] == {"count": 2, "more": True}


async def test_of_many_tenants_those_with_the_greatest_load_are_told_of(api: Api) -> None:
    for number in range(4):
        with_letters(api, f"tenant-{number}", number + 1)
    with patch("services.store.tenants.ranked.__defaults__", (2,)):
        found = await shown(api)
    assert ([each["tenant"] for each in found["data"]], found["more"]) == (["tenant-3", "tenant-2"], 2)


async def test_many_events_are_estimated_from_a_sample(api: Api) -> None:
    for tenant in ("acme", "acme", "other") * 3:
        append(api, tenant, 100, age=20)
    with patch.object(figures, "SAMPLE", 300):
        found = await shown(api)
    assert found["exact"] is False
    assert [each["tenant"] for each in found["data"]] == ["acme", "other"]
    assert found["data"][0]["share"] == pytest.approx(66.7, abs=12)
    assert sum(each["events"]["count"] for each in found["data"]) == pytest.approx(900, abs=9)


async def test_no_other_permission_shows_it(api: Api) -> None:
    others = [name for name in keys.PERMISSIONS if name != "tenants"]
    problem(await api.get(PATH, api.key("acme", "system", *others)), 403, "forbidden")
    assert [role for role, its in keys.ROLES.items() if "tenants" in its] == []
    for minutes in ("0", "16", "x", ""):
        refused = await api.get(f"{PATH}?minutes={minutes}", api.key("acme", "system", "tenants"))
        problem(refused, 400, refused.json()["code"], parameter="minutes")


@pytest.mark.parametrize("held", [keys.ROLES["administrator"], keys.PERMISSIONS])
async def test_nobody_gives_it_over_http(api: Api, held: tuple[str, ...]) -> None:
    by = api.key("acme", "system", *held)
    for body in ({"permissions": ["tenants"]}, {"permissions": ["read", "tenants"], "roles": ["administrator"]}):
        refused = await api.post("/v1/keys", body, by)
        problem(refused, 403, "forbidden", pointer="/permissions")
        assert "foldwork keys create" in refused.json()["detail"]
    with psycopg.connect(api.url) as conn:
        assert len(keys.list_keys(conn)) == 1
