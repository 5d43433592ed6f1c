"""Every checker finds what breaks its invariant, and nothing where all is well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from domain.activity import ActivityStatusChanged
from services.store import codec
from tests.faults import checkers, history
from tests.faults.evidence import Decision, Ended, Event, Evidence, Injected, Letter, Ready, Received, Saved
from tests.faults.history import BAD, FAIL, FOREIGN, INFO, OK, OTHER_DATA, REPEAT, Answer, Call, History


def call(number: int, own: str, *answers: Answer, tenant: str = "acme", **rest: object) -> Call:
    given = {"kind": "good", "payload": "p", "confirmed": True, "began": 100.0 + number, "attempts": 1} | rest
    return Call(number, "acme-0", "amqp", tenant, own, "task.create", answers=list(answers), **given)  # type: ignore[arg-type]


def ok(position: int, **rest: object) -> Answer:
    return Answer(OK, 100.5 + position, position=position, events=(position,), **rest)  # type: ignore[arg-type]


def created(position: int, tenant: str, own: str, command: str) -> Event:
    body = b'{"id": "%b"}' % own.encode()
    return Event(position, f"{tenant}/task-{own}", 1, "task.created", f"e{position}", command, _task(body))


def _task(body: bytes) -> object:
    return codec.DECODERS["task.created"](body)


def good() -> Evidence:
    """Return the evidence of an episode in which all went well."""
    saved = Event(2, "acme/task-a", 2, "task.started", "e2", "c2", _started())
    log = [created(1, "acme", "a", "c1"), saved, created(3, "beta", "a", "c1")]
    calls = [
        call(0, "c1", Answer(INFO, 100.2, code="TimeoutError"), ok(1), key="k", attempts=2),
        call(1, "c2", ok(2)),
        call(2, "c1", ok(3), tenant="beta", key="k"),
        call(3, "c3", Answer(FAIL, 103.5, code="not-found"), kind=FOREIGN),
        call(4, "c1", Answer(FAIL, 104.5, code="command-id-conflict"), kind=OTHER_DATA, payload="other"),
        call(5, "c2", ok(2, duplicate=True), kind=REPEAT),
        call(6, "b1", Answer(FAIL, 106.5, code="not-json"), kind=BAD, expected="not-json"),
    ]
    return Evidence(
        calls=calls,
        log=log,
        ledger={
            ("acme", "c1"): Decision(None, 1, 1),
            ("acme", "c2"): Decision(None, 2, 2),
            ("beta", "c1"): Decision(None, 3, 3),
            ("acme", "c3"): Decision("not-found", None, None),
        },
        letters=[Letter("acme", "b1", "not-json")],
        received={tenant: [received(event) for event in log if event.tenant == tenant] for tenant in ("acme", "beta")},
        tail=[(event.position, event.stream, event.version) for event in log],
        saved=[Saved(1.0, "relay", 1, 2), Saved(2.0, "relay", 3, 3)],
        final={"relay": 3},
        differences={"tasks": Counter()},
        memory={"commands": 100},
        bounds={"commands": 200},
        ended=[Ended("commands", 0, 1.0, 12.0)],
        faults=[Injected("kill-commands", 90.0, 3.0, recovery=1.0, ended=91.0, waited=90.0)],
        readiness=[
            Ready(89.0, "ready"),
            Ready(90.5, "not ready", ("consumers",)),
            Ready(90.6, None),
            *(Ready(100.0 + number, "ready") for number in range(20)),
        ],
        verified=[],
    )


def _started() -> object:
    return codec.DECODERS["task.started"](b'{"id": "a", "activity_id": null, "runner": "m1"}')


def received(event: Event) -> Received:
    subject = event.stream.partition("/")[2].replace("-", "/", 1)
    return Received(1.0, event.id, event.tenant, subject, event.version, event.position, event.command)


def test_nothing_is_found_where_all_is_well() -> None:
    assert checkers.check(good()) == {name: [] for name in checkers.CHECKERS}


def lost(evidence: Evidence) -> None:
    del evidence.ledger["acme", "c2"]


def answered_with_what_is_not_there(evidence: Evidence) -> None:
    evidence.calls[1].answers = [ok(9)]


def twice(evidence: Evidence) -> None:
    evidence.log.append(created(4, "acme", "b", "c1"))


def two_answers(evidence: Evidence) -> None:
    evidence.calls[0].answers.append(Answer(FAIL, 101.9, code="taken"))


def key_twice(evidence: Evidence) -> None:
    evidence.calls.append(call(7, "c7", ok(2), key="k"))
    evidence.ledger["acme", "c7"] = Decision(None, 2, 2)


def other_data_accepted(evidence: Evidence) -> None:
    evidence.calls[4].answers = [ok(1, duplicate=True)]


def undecided_events(evidence: Evidence) -> None:
    evidence.ledger["acme", "c2"] = Decision("not-found", None, None)


def gap(evidence: Evidence) -> None:
    evidence.log[2] = evidence.log[2]._replace(position=4)


def fork(evidence: Evidence) -> None:
    evidence.log[1] = evidence.log[1]._replace(version=1)


def appeared_late(evidence: Evidence) -> None:
    del evidence.tail[1]


def vanished(evidence: Evidence) -> None:
    evidence.tail[2] = (3, "beta/task-other", 1)


def row_differs(evidence: Evidence) -> None:
    evidence.differences["tasks"] = Counter({"(acme,a)": -1})


def position_went_back(evidence: Evidence) -> None:
    evidence.saved.append(Saved(3.0, "relay", 2, 3))


def position_beyond(evidence: Evidence) -> None:
    evidence.saved.append(Saved(3.0, "relay", 4, 3))


def left_behind(evidence: Evidence) -> None:
    evidence.final["relay"] = 2


def wrong_status(evidence: Evidence) -> None:
    changed = ActivityStatusChanged("x", "OPEN", "COMPLETED", "U2", {})
    activity = codec.DECODERS["activity.created"](
        b'{"id": "x", "title": "x", "workflow_id": "w", "workflow_version": 1, "workflow_name": "w", "steps": [],'
        b' "gating": "parallel", "failure": "wait_all", "children": []}'
    )
    evidence.log += [
        Event(4, "acme/activity-x", 1, "activity.created", "e4", "c1", activity),
        Event(5, "acme/activity_status-x", 1, "activity.status-changed", "e5", "c1", changed),
    ]


def never_received(evidence: Evidence) -> None:
    del evidence.received["acme"][1]


def out_of_order(evidence: Evidence) -> None:
    evidence.received["acme"].reverse()


def not_stored(evidence: Evidence) -> None:
    evidence.received["acme"].append(evidence.received["acme"][0]._replace(id="e9", version=3))


def still_queued(evidence: Evidence) -> None:
    evidence.queued = 1


def bad_and_no_letter(evidence: Evidence) -> None:
    evidence.letters.clear()


def wrong_reason(evidence: Evidence) -> None:
    evidence.letters[0] = Letter("acme", "b1", "poison")


def innocent_buried(evidence: Evidence) -> None:
    evidence.letters.append(Letter("acme", "c2", "poison"))


def never_answered(evidence: Evidence) -> None:
    evidence.calls[1].answers = [Answer(INFO, 101.0, code="TimeoutError")]


def slow_without_a_fault(evidence: Evidence) -> None:
    late = [call(10 + number, "c2", replace(ok(2), at=200.0 + number)) for number in range(200)]
    evidence.calls += [replace_began(each, 100.0 + each.number) for each in late]


def replace_began(found: Call, began: float) -> Call:
    found.began = began
    return found


def trespass(evidence: Evidence) -> None:
    evidence.calls[3].answers = [Answer(OK, 103.5)]


def foreign_event(evidence: Evidence) -> None:
    evidence.received["acme"].append(evidence.received["beta"][0])


def foreign_change(evidence: Evidence) -> None:
    evidence.log[1] = created(2, "beta", "b", "c2")


def too_much_memory(evidence: Evidence) -> None:
    evidence.memory["commands"] = 300


def killed_at_the_end(evidence: Evidence) -> None:
    evidence.ended[0] = Ended("commands", -9, 20.0, 12.0)


def gave_up_stopping(evidence: Evidence) -> None:
    evidence.ended[0] = Ended("commands", 0, 1.0, 12.0, "not stopped within the grace")


def dead_for_ever(evidence: Evidence) -> None:
    evidence.faults[0].recovery = None


def outage_without_a_word(evidence: Evidence) -> None:
    evidence.faults.append(Injected("freeze-commands", 100.0, 30.0, recovery=19.0, ended=120.0, waited=100.0))


def follower_stands_still_without_a_word(evidence: Evidence) -> None:
    evidence.faults.append(Injected("freeze-relay", 100.0, 30.0, recovery=19.0, ended=120.0, waited=100.0))
    evidence.saved = [Saved(100.0 + number, "relay", 1, number + 2) for number in range(19)]


def no_fault_at_a_backlog_that_moves(evidence: Evidence) -> None:
    evidence.faults.append(Injected("backlog", 100.0, None, recovery=19.0, ended=120.0, waited=100.0))
    evidence.saved = [Saved(100.0 + number, "relay", number, number + 2) for number in range(19)]


def test_readiness_may_be_ready_while_a_backlog_moves() -> None:
    evidence = good()
    no_fault_at_a_backlog_that_moves(evidence)
    assert checkers.CHECKERS["readiness"](evidence) == []


def false_alarm(evidence: Evidence) -> None:
    evidence.readiness[-1] = Ready(119.0, "degraded", ("relay",))


def silent_without_a_fault(evidence: Evidence) -> None:
    evidence.readiness[-1] = Ready(119.0, None)


def verify_found_something(evidence: Evidence) -> None:
    evidence.verified = ["a row differs"]


def repeated_as_new(evidence: Evidence) -> None:
    evidence.calls[5].answers = [ok(2)]


@pytest.mark.parametrize(
    ("breaks", "name"),
    [
        (lost, "I1"), (answered_with_what_is_not_there, "I1"),
        (twice, "I2"), (two_answers, "I2"), (key_twice, "I2"), (other_data_accepted, "I2"), (undecided_events, "I2"),
        (gap, "I3"), (fork, "I3"),
        (appeared_late, "I4"), (vanished, "I4"),
        (row_differs, "I5"),
        (position_went_back, "I6"), (position_beyond, "I6"), (left_behind, "I6"),
        (wrong_status, "I7"),
        (never_received, "I8"), (out_of_order, "I8"),
        (not_stored, "I9"),
        (still_queued, "I12"), (bad_and_no_letter, "I12"), (wrong_reason, "I12"), (innocent_buried, "I12"),
        (never_answered, "I12"),
        (slow_without_a_fault, "I13"),
        (trespass, "I14"), (foreign_event, "I14"), (foreign_change, "I14"),
        (too_much_memory, "I15"),
        (killed_at_the_end, "I16"), (gave_up_stopping, "I16"),
        (outage_without_a_word, "readiness"),
        (follower_stands_still_without_a_word, "readiness"),
        (false_alarm, "readiness"), (silent_without_a_fault, "readiness"),
        (dead_for_ever, "recovery"), (verify_found_something, "verify"), (repeated_as_new, "repeats"),
    ],
)  # fmt: skip
def test_what_breaks_an_invariant_is_found_by_its_name(breaks: Callable[[Evidence], None], name: str) -> None:
    evidence = good()
    breaks(evidence)
    found = checkers.check(evidence)[name]
    assert found
    assert all(text.startswith(f"{name}: ") for text in found)


def test_every_checker_is_seen_to_find_something() -> None:
    mark = test_what_breaks_an_invariant_is_found_by_its_name.pytestmark[0]  # type: ignore[attr-defined]
    assert {name for _, name in mark.args[1]} == set(checkers.CHECKERS)


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = History(tmp_path / "history.jsonl")
    one = written.call("acme-0", "amqp", "acme", "c1", "task.create", kind="good", payload="p", key="k")
    written.invoke(one)
    written.confirm(one)
    written.answer(one, INFO, code="TimeoutError")
    written.note("fault", name="kill-commands")
    written.invoke(one)
    written.answer(one, OK, position=3, events=(2, 3), duplicate=True)
    written.close()
    assert history.read((tmp_path / "history.jsonl").read_text("utf-8").splitlines()) == written.calls
