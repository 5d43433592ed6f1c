"""What is stuck: each cause is named while it is there and gone after its cure, to its own tenant only."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

import projections
from projections import follower_name
from projections.stuck import ENOUGH
from projections.task import table as tasks
from services.processors.arrivals import arrival
from services.processors.receivers import Delivered
from services.store import stuck
from services.store.connect import connect
from tests.eventually import eventually
from tests.services.http.api import WORKFLOW, Api, problem, with_activity, with_workflow
from tests.services.http.dispatch_scene import furnish, planned, report, unresolved
from tests.services.http.test_dead_letters import letter, put
from tests.services.test_webhooks_failing import Fake
from tests.services.webhook_scene import Scene as Hooks

PATH = "/v1/stuck"
PAST = "2025-10-31T00:00:00Z"
TASKS = follower_name(tasks, projections.suffix(tasks))
ROLES = ("commands", "scheduler", "follower-read-models", "follower-relay")


async def listed(api: Api, query: str = "", token: str | None = None) -> list[dict[str, Any]]:
    """What is stuck of the tenant's own, page by page."""
    found: list[dict[str, Any]] = []
    following: str | None = f"{PATH}?{query}"
    while following is not None:
        answer = await api.get(following, token)
        assert answer.status_code == 200, answer.text
        found += answer.json()["data"]
        following = answer.json()["next"]
    return [each for each in found if each["cause"] != "role-absent"]


def execute(api: Api, statement: str, *values: Any) -> None:
    with psycopg.connect(api.url) as conn:
        conn.execute(statement, values)


def member(api: Api, name: str) -> None:
    api.command("directory.register", {"kind": "member", "id": name})


@dataclass
class Scene:
    """What brings a cause about, what is stuck, and the cure where that is not the command of the remedy."""

    inject: Callable[[Api], object]
    resource: tuple[str, str]
    cure: Callable[[Api], None] | None = None
    # Who sends the command of the remedy.
    actor: str = "system"
    # With which the last request that the remedy names is sent, instead of a command.
    body: dict[str, Any] | None = None


def overdue(api: Api) -> None:
    api.command("task.create", {"id": "t1", "end": PAST})
    api.command("task.wake", {"id": "t1", "kind": "overdue", "due": PAST})


def unassigned(api: Api) -> None:
    member(api, "ann")
    api.command("task.create", {"id": "t1", "start": PAST})


def retired(api: Api) -> None:
    member(api, "ann")
    api.command("task.create", {"id": "t1"})
    api.command("task.assign", {"id": "t1", "assignees": ["ann"]})
    api.command("directory.retire", {"kind": "member", "id": "ann"})


def without_targets(api: Api) -> None:
    furnish(api)
    unresolved(api, "t1")


def found_again(api: Api) -> None:
    users = [{"id": "u-clerk", "role": "CLERK"}]
    api.command("directory.change", {"kind": "commerce", "id": "shop", "fields": {"users": users}})
    api.command("task.retry-resolution", {"id": "t1"})


def given_up(api: Api) -> None:
    furnish(api)
    planned(api, "t1")
    for attempt in (1, 2, 3):
        api.command("task.dispatch", {"id": "t1"})
        report(api, "t1", attempt, succeeded=False)


def in_flight(api: Api) -> None:
    furnish(api)
    planned(api, "t1")
    api.command("task.dispatch", {"id": "t1"})
    execute(api, "UPDATE deadlines SET due_at = now() - interval '3 minutes', wake_at = now() + interval '1 minute'")


def without_provider(api: Api) -> None:
    api.command("task.create", {"id": "t1", "plan": {"channel": "SMS", "reason": "call", "scheduled_at": PAST}})


def provider(api: Api) -> None:
    api.command("directory.register", {"kind": "dispatch", "id": "SMS", "fields": {"provider": "console"}})


def not_planned(api: Api) -> None:
    without_provider(api)
    provider(api)


def attention(api: Api) -> None:
    member(api, "ann")
    with_workflow(api)
    api.command("activity.create", {"id": "a1", "workflow_id": "w1", "tasks": [{"id": "f"}, {"id": "g"}]})
    api.command("task.error", {"id": "f"})


def blocked(api: Api) -> None:
    api.command("workflow.define", {**WORKFLOW, "gating": "sequential"})
    api.command("activity.create", {"id": "a1", "workflow_id": "w1", "tasks": [{"id": "f"}, {"id": "g"}]})
    api.command("task.error", {"id": "f"})


def idle(api: Api) -> None:
    with_workflow(api)
    for number in range(ENOUGH + 1):
        children = [{"id": f"t{number}"}, {"id": f"u{number}"}]
        api.command("activity.create", {"id": f"a{number}", "workflow_id": "w1", "tasks": children})
        if number < ENOUGH:
            for child in children:
                api.command("task.process", child)
                api.command("task.complete", child)


def progress(api: Api) -> None:
    api.sender.now = datetime.now(UTC)
    api.command("task.process", {"id": f"t{ENOUGH}"})


def missed(api: Api) -> None:
    api.command("task.create", {"id": "t1", "end": PAST})


def held(api: Api) -> None:
    execute(
        api,
        "INSERT INTO held_entities (follower, entity, position, error, retry_at)"
        " VALUES (%s, 'acme/task-t1', 1, 'secret: x', now())",
        TASKS,
    )
    execute(api, "INSERT INTO held_events VALUES (%s, 'acme/task-t1', 1)", TASKS)


def halted(api: Api) -> None:
    execute(api, "UPDATE followers SET halted_at = 1, error = 'secret: x' WHERE name = %s", TASKS)


def go_on(api: Api) -> None:
    execute(api, "UPDATE followers SET halted_at = NULL, error = NULL")


def undelivered(api: Api, outcome: Delivered, days: int = 0) -> None:
    """Have a delivery fail two minutes ago, and for so many days before."""
    hooks = Hooks(api.url)
    hooks.clock.go(days=-days, minutes=-2)
    hooks.hook("h1", "https://example.com/secret")
    with hooks.working(client=Fake(lambda _: outcome)):
        api.command("task.create", {"id": "t1"})
        eventually(lambda: [row[2] for row in hooks.deliveries("h1")] == [1])
        if days:
            hooks.clock.go(days=days)
            eventually(lambda: hooks.deliveries("h1", "parked"))


def delivered(api: Api) -> None:
    hooks = Hooks(api.url)
    with hooks.working(client=Fake(lambda _: Delivered(200, ""))):
        eventually(lambda: hooks.deliveries("h1", "delivered"))


def lagging(api: Api) -> None:
    api.command("task.create", {"id": "t1"})
    execute(api, "UPDATE stored_events SET recorded_at = now() - interval '6 seconds'")
    head = "(SELECT max(notification_id) FROM stored_events)"
    execute(api, f"UPDATE followers SET position = CASE WHEN name = %s THEN 0 ELSE {head} END", TASKS)


POISON = letter(b'{"id":"t1","title":"secret"}', code="poison", pointer="", password="secret")
NAMED = arrival(POISON, "guest", lambda _user, _tenant: True).id
ORDERED = letter(b'{"id":"t1"}', "c2", code="waits", pointer="", ordered=True)
WAITING = arrival(ORDERED, "guest", lambda _user, _tenant: True).id
SCENES = {
    "follower-halted": Scene(halted, ("follower", tasks.NAME), go_on),
    "follower-lagging": Scene(lagging, ("follower", tasks.NAME), lambda api: api.sender.follow()),
    "held-back": Scene(held, ("entity", "task-t1"), lambda api: execute(api, "DELETE FROM held_entities")),
    "command-parked": Scene(lambda api: put(api, POISON), ("dead-letter", NAMED), body={"reason": "a test"}),
    "command-waits": Scene(
        lambda api: put(api, POISON, ORDERED),
        ("dead-letter", WAITING),
        # The letter before it is discarded, and then the policies role sends it.
        lambda api: execute(api, "UPDATE dead_letters SET state = 'discarded'"),
    ),
    "webhook-disabled": Scene(
        lambda api: undelivered(api, Delivered(410, "secret")), ("webhook", "h1"), body={"state": "active"}
    ),
    "webhook-failing": Scene(lambda api: undelivered(api, Delivered(None, "secret")), ("webhook", "h1"), delivered),
    "delivery-parked": Scene(
        lambda api: undelivered(api, Delivered(400, "secret"), days=3), ("webhook", "h1"), body={}
    ),
    "deadline-missed": Scene(missed, ("task", "t1"), lambda api: overdue_now(api)),
    "dispatch-in-flight": Scene(in_flight, ("task", "t1"), lambda api: report(api, "t1", 1, succeeded=True)),
    "dispatch-without-provider": Scene(without_provider, ("task", "t1"), provider),
    "dispatch-not-planned": Scene(not_planned, ("task", "t1")),
    "dispatch-given-up": Scene(given_up, ("task", "t1")),
    "task-unresolved": Scene(without_targets, ("task", "t1"), found_again),
    "step-blocked": Scene(blocked, ("task", "g")),
    "activity-needs-attention": Scene(attention, ("activity", "a1")),
    "activity-without-progress": Scene(idle, ("activity", f"a{ENOUGH}"), progress),
    "assignee-retired": Scene(retired, ("task", "t1")),
    "task-unassigned": Scene(unassigned, ("task", "t1"), actor="ann"),
    "task-overdue": Scene(overdue, ("task", "t1")),
}


def overdue_now(api: Api) -> None:
    api.command("task.wake", {"id": "t1", "kind": "overdue", "due": PAST})


def test_every_cause_has_a_scene() -> None:
    assert list(SCENES) == [cause for cause in stuck.BY_CAUSE if cause != "role-absent"]


@pytest.mark.parametrize("cause", SCENES)
async def test_a_cause_is_named_and_gone_after_its_cure(api: Api, cause: str) -> None:
    scene = SCENES[cause]
    assert await listed(api) == []
    scene.inject(api)
    found = {each["cause"]: each for each in await listed(api)}
    assert cause in found, found
    one = found[cause]
    assert (one["resource"]["kind"], one["resource"]["id"]) == scene.resource
    assert one["since"] is not None
    assert one["remedy"]["text"]
    if cause == "command-waits":
        assert one["remedy"]["cli"] == f"foldwork dead-letters retry {NAMED}"
        assert [each["resource"]["id"] for each in await listed(api, "cause=command-parked")] == [NAMED]
    if cause == "held-back":
        assert one["remedy"]["cli"] == "foldwork projections retry tasks"
        assert one["waits"] == [{"kind": "events", "id": None, "count": 1}]
    if stuck.BY_CAUSE[cause].of_tenant:
        # Nobody else sees it.
        assert await listed(api, f"cause={cause}", api.key("other")) == []
    else:
        assert [each["cause"] for each in await listed(api, token=api.key("other"))] == [cause]
    # Why, in words that may hold data of others, is for operators.
    assert "secret" not in str(found)
    if scene.cure is not None:
        scene.cure(api)
    elif scene.body is not None:
        method, path = re.findall(r"(PATCH|POST) (/v1/[\w/-]+)", one["remedy"]["text"])[-1]
        by = api.by(api.key("acme", "system", "operate", "webhooks"))
        done = await api.client.request(method, path, json=scene.body, headers=by)
        assert done.is_success, done.text
    else:
        done = await api.post("/v1/commands", one["remedy"]["command"], api.key("acme", scene.actor))
        assert done.status_code == 200, done.text
    left = await listed(api, f"cause={cause}")
    assert left == []


async def test_an_event_that_is_refused_fails_although_others_are_taken(api: Api) -> None:
    hooks = Hooks(api.url)
    hooks.clock.go(minutes=-2)
    bad, _ = hooks.happen("a", 2)
    others = hooks.happen("b", 2)
    hooks.hook("h1", "https://example.com/", after=0)
    with hooks.working(client=Fake(lambda each: Delivered(400 if each.event_id == bad else 200, ""))):
        eventually(lambda: [row[2] for row in hooks.deliveries("h1")] == [1, 0, 1, 1])
    assert [row[0] for row in hooks.deliveries("h1", "delivered")] == others
    (one,) = await listed(api, "cause=webhook-failing")
    assert one["waits"] == [{"kind": "events", "id": None, "count": 2}]
    assert one["remedy"]["cli"] == "foldwork webhooks deliveries h1 --tenant acme --state pending"
    # What somebody has paused is not stuck, and what has just begun to fail is tried again first.
    execute(api, "UPDATE webhooks SET state = 'paused'")
    assert await listed(api, "cause=webhook-failing") == []
    execute(api, "UPDATE webhooks SET state = 'active'")
    execute(api, "UPDATE webhook_deliveries SET failing_since = now() WHERE failing_since IS NOT NULL")
    execute(api, "UPDATE webhooks SET failing_since = now() WHERE failing_since IS NOT NULL")
    assert await listed(api, "cause=webhook-failing") == []


async def test_letters_are_listed_with_their_reason_cut_until_somebody_decides(api: Api) -> None:
    nobodys = letter(b"nobody", "c4", tenant="")
    long = letter(b"long", "c2", code="not-json")
    long.properties.headers["x-foldwork-detail"] = "x" * 1000
    first, second, *_ = put(api, letter(), long, letter(b"theirs", "c3", tenant="other"), nobodys)
    found = {each["resource"]["id"]: each["remedy"] for each in await listed(api, "cause=command-parked&limit=1")}
    assert list(found) == sorted([first, second])
    assert found[first]["text"].startswith("wrong-shape: Input should be a valid string; ")
    assert found[second]["text"].startswith(f"not-json: {'x' * 200}; ")
    assert found[first]["cli"] == f"foldwork dead-letters retry {first}"
    execute(api, "UPDATE dead_letters SET state = 'retrying' WHERE id = %s", first)
    assert [each["resource"]["id"] for each in await listed(api, "cause=command-parked")] == [second]


@contextmanager
def sessions(url: str, *roles: str) -> Iterator[None]:
    with ExitStack() as stack:
        for role in roles:
            stack.enter_context(connect(url, role))
        yield


async def test_a_role_without_a_session_is_absent(api: Api) -> None:
    async def absent() -> list[str]:
        data = (await api.get(f"{PATH}?cause=role-absent")).json()["data"]
        return [each["resource"]["id"] for each in data]

    with sessions(api.url, *ROLES):
        assert await absent() == []
        answer = (await api.get(PATH)).json()
        assert answer == {"data": [], "counts": [], "next": None}
    with sessions(api.url, *ROLES[:-1]):
        (only,) = (await api.get(f"{PATH}?cause=role-absent")).json()["data"]
        assert only["resource"] == {"kind": "role", "id": "relay"}
        assert only["remedy"]["cli"] == "foldwork relay"


async def test_filters_counts_and_pages(api: Api) -> None:
    member(api, "ann")
    api.command("directory.register", {"kind": "project", "id": "north"})
    api.command("directory.register", {"kind": "member", "id": "bob", "fields": {"projects": {"north": {}}}})
    for number in range(7):
        made = {"id": f"t{number}", "end": PAST, **({"project": "north"} if number % 2 else {})}
        api.command("task.create", made)
        api.command("task.wake", {"id": f"t{number}", "kind": "overdue", "due": PAST})
    api.command("task.assign", {"id": "t3", "assignees": ["bob"]})
    api.command("task.create", {"id": "later", "start": PAST})
    answer = (await api.get(f"{PATH}?cause=task-overdue&cause=task-unassigned&limit=3")).json()
    assert answer["counts"] == [
        {"cause": "task-unassigned", "count": 1, "more": False},
        {"cause": "task-overdue", "count": 7, "more": False},
    ]
    for limit in (1, 2, 3, 7, 8, 500):
        found = await listed(api, f"cause=task-overdue&cause=task-unassigned&limit={limit}")
        assert [each["resource"]["id"] for each in found] == ["later", *(f"t{number}" for number in range(7))]
    assert [each["resource"]["id"] for each in await listed(api, "project=north")] == ["t1", "t3", "t5"]
    assert [each["resource"]["id"] for each in await listed(api, "member=bob")] == ["t3"]
    assert await listed(api, "member=ann") == []
    assert await listed(api, "activity=a1") == []


@pytest.mark.parametrize(
    ("query", "code", "parameter"),
    [
        ("cause=bored", "bad-filter", "cause"),
        ("project=a%20b", "bad-filter", "project"),
        ("activity=", "bad-filter", "activity"),
        ("member=", "bad-filter", "member"),
        ("limit=0", "bad-limit", "limit"),
        ("cursor=x", "bad-cursor", "cursor"),
        ("cursor=%00", "bad-cursor", "cursor"),
        ("colour=red", "unknown-parameter", "colour"),
    ],
)
async def test_what_cannot_be_asked(api: Api, query: str, code: str, parameter: str) -> None:
    problem(await api.get(f"{PATH}?{query}"), 400, code, parameter=parameter)


async def test_it_needs_its_permission(api: Api) -> None:
    problem(await api.get(PATH, api.key("acme", "system", "audit")), 403, "forbidden")


async def test_nothing_is_stuck_under_a_healthy_load(api: Api) -> None:
    with_workflow(api)
    with sessions(api.url, *ROLES), Hooks(api.url).following():
        for number in range(25):
            with_activity(api, f"a{number}")
            for task in (f"a{number}-t1", f"a{number}-t2"):
                api.command("task.process", {"id": task})
                if number % 5:
                    api.command("task.complete", {"id": task})
            if number < 20:
                assert (await api.get(PATH)).json()["data"] == []
