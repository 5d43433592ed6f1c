"""The wire contract as functions: what is a command, where answers may go, and when two commands are the same."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp.commands import Basic

from domain.errors import Refusal
from services.broker import names
from services.broker.frames.reader import Properties
from services.commands import wire
from services.commands.wire import InvalidMessage, Reply

LIMIT = 1 << 20


def parsed(body: bytes, name: str = "task.create", **properties: Any) -> wire.Incoming:
    given_properties = {"message_id": "c", "message_type": name, "headers": {"tenant": "acme"}} | properties
    return wire.parse(Basic.Properties(**given_properties), body, LIMIT)


def refusal(body: bytes) -> InvalidMessage | None:
    try:
        parsed(body)
    except InvalidMessage as malformed:
        return malformed
    return None


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_a_command_or_malformed(body: bytes) -> None:
    # Whatever else it raised would take the worker down; what it says of a bad one must fit into a header.
    said = refusal(body)
    assert said is None or (said.code and len(said.pointer.encode()) >= 0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_any_json_in_a_field_is_kept_as_it_is_or_malformed(value: Any) -> None:
    body = json.dumps({"id": "a", "fields": {"x": value}}).encode()
    said = refusal(body)
    if said is None:
        kept = parsed(body).command.fields["x"]
        assert json.dumps(kept, sort_keys=True) == json.dumps(value, sort_keys=True)
    else:
        assert said.pointer.encode() is not None


def test_the_fingerprint_is_that_of_type_and_data_not_of_the_bytes() -> None:
    one = parsed(b'{"id": "a", "title": "T"}').fingerprint
    assert parsed(b'{ "title":"\\u0054" , "id":"a"}').fingerprint == one
    assert parsed(b'{"id": "a", "title": "U"}').fingerprint != one
    assert parsed(b'{"id": "a"}').fingerprint != parsed(b'{"id": "a"}', "task.cancel").fingerprint


def test_the_fingerprint_is_that_of_the_actor_too() -> None:
    by = [parsed(b"{}", "tracker.pause", headers={"tenant": "acme", **actor}).fingerprint for actor in ACTORS]
    assert by[0] == by[1]
    assert len(set(by)) == 3


# Without one the system acts.
ACTORS: list[dict[str, str]] = [{}, {"actor": "system"}, {"actor": "m1"}, {"actor": "m2"}]


def test_depth_and_size_end_where_they_are_said_to() -> None:
    inner = wire.MAX_DEPTH - 2
    assert parsed(b'{"id": "a", "fields": {"x": ' + b"[" * inner + b"]" * inner + b"}}")
    with pytest.raises(InvalidMessage, match="too-deep"):
        parsed(b'{"id": "a", "fields": {"x": ' + b"[" * (inner + 1) + b"]" * (inner + 1) + b"}}")
    assert parsed(json.dumps({"id": "a", "title": "[{" * 100}).encode())
    body = b'{"id": "a"}'
    assert parsed(body + b" " * (LIMIT - len(body)))
    with pytest.raises(InvalidMessage, match="too-large"):
        parsed(body + b" " * (LIMIT - len(body) + 1))


@pytest.mark.parametrize(
    "queue",
    [
        "amq.rabbitmq.reply-to.x",
        "amq.rabbitmq.reply-to.g1h2AA1y+/_-.iO8=",
        "amq.gen-x",
        "amq_0123456789abcdef",
    ],
)
def test_answers_may_go_to_queues_whose_names_are_secret(queue: str) -> None:
    assert names.may_reply_to(queue, None)
    assert names.may_reply_to(queue, "acme-app")


@pytest.mark.parametrize("queue", ["reply.acme.orders", "reply.acme.é"])
def test_a_queue_that_is_named_is_its_users(queue: str) -> None:
    assert names.may_reply_to(queue, "acme")
    for user in (None, "", "acm", "acme.orders", "beta", "reply", "ACME"):
        assert not names.may_reply_to(queue, user), user


@pytest.mark.parametrize("queue", ["reply.acme", "reply.acme.", "reply.acme.b.x", "reply..acme", "reply.acme..x"])
def test_a_queue_belongs_to_one_user_alone(queue: str) -> None:
    assert not names.may_reply_to(queue, "acme")


def test_a_user_may_have_dots_in_its_name() -> None:
    assert names.may_reply_to("reply.acme.b.x", "acme.b")


@pytest.mark.parametrize(
    "queue",
    [
        None,
        "",
        "foldwork.commands",
        "foldwork.dead",
        "replyx",
        "amq.topic",
        "amq.direct",
        "x.reply.y",
        "reply.",
        "reply",
    ],
)
def test_answers_may_go_nowhere_else(queue: str | None) -> None:
    assert not names.may_reply_to(queue, None)
    assert not names.may_reply_to(queue, "x")


@pytest.mark.parametrize("token", ["", "!!!.x", "a..b", ".a", "a.", "a b", "a\n", "é", "a" * 234])
def test_no_answer_goes_to_a_direct_reply_name_that_no_broker_has_made(token: str) -> None:
    assert not names.may_reply_to(f"amq.rabbitmq.reply-to.{token}", None)


def test_a_queue_has_at_most_255_bytes() -> None:
    assert names.may_reply_to("reply.x." + "é" * 123, "x")
    assert not names.may_reply_to("reply.x." + "é" * 124, "x")


def test_an_answer_reads_as_it_was_written() -> None:
    error = Refusal("not-found", "there is none", "/id")
    summary = wire.EventSummary(3, "task.created", "task-a", 1)
    for reply in (Reply("c", "accepted", True, 3, (summary,)), Reply("c", "rejected", error=error)):
        assert wire.decode_reply(wire.encode_reply(reply)) == reply
    assert set(json.loads(wire.encode_reply(Reply("c", "accepted")))) == {
        "command_id",
        "outcome",
        "duplicate",
        "position",
        "events",
        "error",
    }


def test_the_routing_key_keeps_an_activity_and_its_tasks_together() -> None:
    assert wire.routing_key("task.complete", {"id": "t"}, "a") == "a"
    assert wire.routing_key("task.complete", {"id": "t"}) == "t"
    assert wire.routing_key("task.create", {}) == "new"


def test_what_a_trace_is_called_is_kept_or_dropped_never_refused() -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    assert parsed(b'{"id": "a"}', headers={"tenant": "acme", "traceparent": trace}).traceparent == trace
    assert parsed(b'{"id": "a"}', headers={"tenant": "acme", "traceparent": "nonsense"}).traceparent is None


def why(body: bytes, properties: Any, **given: Any) -> str:
    with pytest.raises(InvalidMessage) as found:
        wire.parse(properties, body, LIMIT, **given)
    return found.value.code


def test_the_sender_is_looked_at_first_then_the_size_then_the_body() -> None:
    properties = Properties()
    properties.message_type, properties.user_id = "task.create", "stranger"
    nobody: Any = {"may_send": lambda user, tenant: (user, tenant) == ("friend", "acme")}
    assert why(b"{", properties, **nobody) == "missing-tenant"
    properties.headers, properties.unreadable = {"tenant": "acme"}, "the property app_id is not UTF-8"
    # Neither what is around it, nor the size, nor the body is looked at.
    assert why(b"{", properties, size=LIMIT + 1, **nobody) == "forbidden"
    properties.user_id = "friend"
    assert why(b"{", properties, size=LIMIT + 1, **nobody) == "too-large"
    assert why(b"{", properties, **nobody) == "unreadable"
    properties.unreadable = None
    assert why(b"{", properties, **nobody) == "missing-message-id"
    properties.message_id = "c"
    assert why(b"{", properties, **nobody) == "not-json"
    properties.headers, properties.unreadable = None, "the headers cannot be read"
    assert why(b"{", properties, **nobody) == "unreadable"


NUMBERS = st.one_of(
    st.integers(10**17, 10**20).map(str),
    st.integers(1, 6000).map(lambda digits: "9" * digits),
    st.integers(290, 400).map(lambda power: f"1e{power}"),
    st.sampled_from(["0", "-1", "1.5", "-1e999", "9223372036854775807", "9223372036854775808", "-9223372036854775809"]),
)
NESTED = st.recursive(
    NUMBERS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]")
        | st.lists(st.tuples(st.sampled_from("ab"), inner), max_size=3).map(
            lambda pairs: "{" + ",".join(f'"{key}":{item}' for key, item in pairs) + "}"
        )
    ),
    max_leaves=8,
)


@given(NESTED)
def test_numbers_and_keys_in_any_order_are_json_that_can_be_stored_or_malformed(text: str) -> None:
    found: list[Any] = []
    try:
        found.append(wire.load_json(text.encode()))
    except InvalidMessage as malformed:
        found.append(malformed.code)
    said = json.dumps(found[0])
    assert said in ('"duplicate-key"', '"number-out-of-range"') or "inf" not in said.lower()


def test_a_long_text_costs_little_more_than_itself_to_look_at() -> None:
    body = b'{"id": "x", "title": "' + b"a" * 900_000 + b'", "fields": {"x": "' + b"[" * 40 + b'"}}'
    tracemalloc.start()
    try:
        wire.load_json(body)
        assert tracemalloc.get_traced_memory()[1] < 10 * len(body)
    finally:
        tracemalloc.stop()
