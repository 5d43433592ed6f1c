"""A checker for each invariant: the evidence of an episode to a list of violations, empty when it holds.

docs/reliability.md has the invariants, and which tests hold those that need no faults.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import groupby

from domain import DECIDER_OF_CATEGORY
from domain.rollup import Child, rollup
from domain.streams import split_stream
from tests.eventually import SLOWNESS
from tests.faults.evidence import Event, Evidence, Injected, Received, commands_of
from tests.faults.history import BAD, FAIL, FOREIGN, GOOD, OK, OTHER_DATA, OTHER_DATA_OF_KEY, READ, REPEAT

Checker = Callable[[Evidence], list[str]]
CHECKERS: dict[str, Checker] = {}
# While no fault is at work, 99 of 100 good commands are answered within so many seconds.
SOON = 5.0 * SLOWNESS
# Who waited for the end of a fault is answered a little later.
_AFTERMATH = 5.0
# A standstill of so many seconds is one that readiness must tell of.
NOTICED = 10.0 * SLOWNESS
_STATUS_CHANGED = "activity.status-changed"
_CONFLICTS = {OTHER_DATA: "command-id-conflict", OTHER_DATA_OF_KEY: "idempotency-conflict"}


def checks(name: str) -> Callable[[Callable[[Evidence], Iterator[str]]], Checker]:
    """Register the checker of an invariant; it yields the violations."""

    def register(found: Callable[[Evidence], Iterator[str]]) -> Checker:
        def checker(evidence: Evidence) -> list[str]:
            return [f"{name}: {violation}" for violation in found(evidence)]

        CHECKERS[name] = checker
        return checker

    return register


def check(evidence: Evidence) -> dict[str, list[str]]:
    """Return the violations that each checker found."""
    return {name: checker(evidence) for name, checker in CHECKERS.items()}


@checks("I1")
def confirmed_is_recorded(evidence: Evidence) -> Iterator[str]:
    """What was confirmed, or answered, is recorded as it was answered."""
    by_position = {event.position: event for event in evidence.log}
    for call in evidence.calls:
        if call.kind == BAD or call.name == READ:
            continue
        if (call.confirmed or call.known) and call.command not in evidence.ledger:
            yield f"{call.name} {call.command} was taken and is not recorded"
        for answer in call.answers:
            if answer.kind == OK:
                for position in answer.events:
                    if position not in by_position or by_position[position].tenant != call.tenant:
                        yield f"{call.name} {call.command} was answered with an event at {position}, which is not its"


@checks("I2")
def one_effect(evidence: Evidence) -> Iterator[str]:
    """A command, and an idempotency key, takes effect once; with other data it is refused."""
    for command, events in commands_of(evidence.log).items():
        row = evidence.ledger.get(command)
        own = [event for event in events if event.name != _STATUS_CHANGED]
        if row is None or row.first is None or row.last is None:
            if own:
                yield f"{command} has events, but no decision that names them"
        elif outside := [event.position for event in own if not row.first <= event.position <= row.last]:
            yield f"{command} was decided at {row.first} to {row.last}, and has events at {outside}"
    by_command: defaultdict[tuple[str, str, str], set[tuple[str, int | None]]] = defaultdict(set)
    by_key: defaultdict[tuple[str, str], set[int | None]] = defaultdict(set)
    for call in evidence.calls:
        for answer in call.answers:
            if answer.kind == OK:
                by_command[*call.command, call.payload].add((OK, answer.position if answer.events else None))
                if call.key is not None:
                    by_key[call.tenant, call.key].add(answer.position)
            elif answer.kind == FAIL:
                by_command[*call.command, call.payload].add((FAIL, None))
        if call.kind in _CONFLICTS and call.known is not None and call.known.code != _CONFLICTS[call.kind]:
            yield f"{call.command} with other data was answered {call.known.code or 'accepted'}"
    for (tenant, command, _), outcomes in by_command.items():
        if len(outcomes) > 1:
            yield f"{(tenant, command)} was answered differently: {sorted(map(str, outcomes))}"
    for name, positions in by_key.items():
        if len(positions) > 1:
            yield f"the key {name} took effect at {sorted(map(str, positions))}"


@checks("I3")
def no_gap_and_no_fork(evidence: Evidence) -> Iterator[str]:
    """The versions of a stream, and the positions of the log, are 1, 2, 3 and so on."""
    versions: defaultdict[str, int] = defaultdict(int)
    for number, event in enumerate(evidence.log, 1):
        if event.position != number:
            yield f"position {number} of the log is missing: {event.position} follows"
            return
        versions[event.stream] += 1
        if event.version != versions[event.stream]:
            yield f"{event.stream} has version {event.version} where {versions[event.stream]} belongs"
            versions[event.stream] = event.version


@checks("I4")
def no_position_appears_later(evidence: Evidence) -> Iterator[str]:
    """Who reads the log by position while it grows misses nothing, and sees what stays there."""
    last = max((position for position, _, _ in evidence.tail), default=0)
    seen = {position: (stream, version) for position, stream, version in evidence.tail}
    stored = {event.position: (event.stream, event.version) for event in evidence.log}
    for position in sorted(stored):
        if position <= last and position not in seen:
            yield f"position {position} appeared after a reader had passed it"
    for position, found in sorted(seen.items()):
        if stored.get(position) != found:
            yield f"a reader saw {found} at position {position}, where {stored.get(position)} is now"


@checks("I5")
def read_models_are_the_log(evidence: Evidence) -> Iterator[str]:
    """Each read model has the rows that a rebuild gives."""
    for view, difference in evidence.differences.items():
        if difference:
            row, count = next(iter(difference.items()))
            yield f"{view} has {len(difference)} rows that differ from a rebuild; {count:+} of {row[:300]}"


@checks("I6")
def positions_only_grow(evidence: Evidence) -> Iterator[str]:
    """A saved position never goes back, and is never beyond the log."""
    highest: dict[str, int] = {}
    for saved in evidence.saved:
        if saved.position < highest.get(saved.follower, 0):
            yield f"{saved.follower} went from position {highest[saved.follower]} back to {saved.position}"
        if saved.position > saved.head:
            yield f"{saved.follower} was at {saved.position} when the log ended at {saved.head}"
        highest[saved.follower] = saved.position
    head = len(evidence.log)
    for follower, position in evidence.final.items():
        if position != head:
            yield f"{follower} ended at {position}, the log at {head}"


@checks("I7")
def statuses_follow_from_tasks(evidence: Evidence) -> Iterator[str]:
    """The last recorded status of each activity is the roll-up of its tasks."""
    streams: defaultdict[str, list[Event]] = defaultdict(list)
    for event in evidence.log:
        streams[event.stream].append(event)
    tasks: defaultdict[tuple[str, str], list[Child]] = defaultdict(list)
    wanted: dict[tuple[str, str], bool] = {}
    recorded: dict[tuple[str, str], str] = {}
    canceled = set()
    for stream, events in streams.items():
        tenant, category, own_id = split_stream(stream)
        if category == "task":
            state = None
            for event in events:
                state = DECIDER_OF_CATEGORY["task"].evolve(state, event.data)
            if state is not None and state.activity_id is not None:
                child = Child(state.created.step or 0, state.lifecycle, tuple(state.assignees))
                tasks[tenant, state.activity_id].append(child)
        for event in events:
            if event.name == _STATUS_CHANGED:
                recorded[tenant, event.data.id] = event.data.new
            elif event.name == "activity.created":
                wanted[tenant, own_id] = event.data.failure == "fail_fast"
            elif event.name == "activity.canceled":
                canceled.add((tenant, own_id))
    for activity, fail_fast in wanted.items():
        status = rollup(tasks[activity], activity in canceled, fail_fast).lifecycle.value
        if recorded.get(activity, "OPEN") != status:
            yield f"{activity} is {status} by its tasks, and recorded as {recorded.get(activity, 'OPEN')}"
        if fail_fast and status == "FAILED" and any(child.lifecycle.value == "ACTIVE" for child in tasks[activity]):
            yield f"a task of {activity} still runs although another failed, and the workflow fails fast"


@checks("I8")
def subscribers_see_all_in_order(evidence: Evidence) -> Iterator[str]:
    """Each subscriber gets every event of its tenant, and those of a stream in their order."""
    for tenant, received in evidence.received.items():
        ids = {message.id for message in received}
        missing = [event.position for event in evidence.log if event.tenant == tenant and event.id not in ids]
        if missing:
            yield f"{len(missing)} events of {tenant} were never received, the first at position {missing[0]}"
        versions: defaultdict[str, int] = defaultdict(int)
        for message in _first_of_each(received):
            if message.version <= versions[message.subject]:
                yield f"{tenant} received version {message.version} of {message.subject} after a later one"
            versions[message.subject] = max(versions[message.subject], message.version)


def _first_of_each(received: Iterable[Received]) -> Iterable[Received]:
    seen: dict[str, Received] = {}
    for message in received:
        seen.setdefault(message.id, message)
    return seen.values()


@checks("I9")
def published_is_stored(evidence: Evidence) -> Iterator[str]:
    """What a subscriber received is in the log, as it was received."""
    stored = {event.id: (event.position, event.version) for event in evidence.log}
    for tenant, received in evidence.received.items():
        for message in received:
            if stored.get(message.id) != (message.position, message.version):
                yield f"{tenant} received {message.id} of position {message.position}, and the log has another or none"


@checks("I12")
def nothing_vanishes(evidence: Evidence) -> Iterator[str]:
    """Each command that was taken is decided or a dead letter, never both, and nothing waits for ever."""
    if evidence.queued:
        yield f"{evidence.queued} commands still wait, although nothing is in their way"
    letters = {(letter.tenant, letter.id): letter.code for letter in evidence.letters}
    for call in evidence.calls:
        if call.name == READ:
            continue
        if call.kind == BAD:
            if call.confirmed and call.command not in letters:
                yield f"a bad message ({call.name}) {call.command} is no dead letter"
            elif call.confirmed and call.expected not in (None, letters[call.command]):
                yield f"{call.command} is a dead letter as {letters[call.command]}, not as {call.expected}"
            if call.command in evidence.ledger:
                yield f"a bad message ({call.name}) {call.command} was decided"
            continue
        if call.command in letters:
            yield f"{call.name} {call.command} is a dead letter: {letters[call.command]}"
        if call.known is None and call.attempts:
            yield f"{call.name} {call.command} was never answered, in {call.attempts} attempts"
    known = {call.command for call in evidence.calls}
    for letter in evidence.letters:
        if (letter.tenant, letter.id) not in known:
            yield f"a dead letter that nobody sent: {letter}"


@checks("I13")
def bad_ones_stop_nobody(evidence: Evidence) -> Iterator[str]:
    """While no fault is at work, good commands are answered soon, whatever else is sent."""
    times = [(fault.began, fault.ended + _AFTERMATH) for fault in evidence.faults if fault.outage]
    waits = [
        answer.at - call.began
        for call in evidence.calls
        if call.kind == GOOD
        and call.attempts == 1
        and (answer := call.known) is not None
        and not any(began <= answer.at and call.began <= ended for began, ended in times)
    ]
    if len(waits) >= 100 and (found := statistics.quantiles(waits, n=100)[98]) > SOON:
        yield f"one of 100 good commands waited {found:.1f} s or longer while nothing was wrong"


@checks("I14")
def tenants_are_apart(evidence: Evidence) -> Iterator[str]:
    """No tenant reads, changes or receives anything of another."""
    for call in evidence.calls:
        if call.kind == FOREIGN and call.known is not None and call.known.code != "not-found":
            yield f"{call.tenant} was answered {call.known.code or OK} by {call.name} on what another tenant has"
    for tenant, received in evidence.received.items():
        if foreign := [message for message in received if message.tenant != tenant]:
            yield f"{tenant} received {len(foreign)} events of {foreign[0].tenant}"
    tenants: defaultdict[str, set[str]] = defaultdict(set)
    for tenant, command in evidence.ledger:
        tenants[command].add(tenant)
    for (tenant, command), events in commands_of(evidence.log).items():
        if tenant not in tenants.get(command, {tenant}):
            yield f"a command of {sorted(tenants[command])} changed {events[0].stream}"


@checks("I15")
def memory_is_bounded(evidence: Evidence) -> Iterator[str]:
    """No process takes more than its buffers and caches account for."""
    for role, peak in evidence.memory.items():
        if role in evidence.bounds and peak > evidence.bounds[role]:
            yield f"{role} took {peak >> 20} MiB, more than {evidence.bounds[role] >> 20}"


@checks("I16")
def stops_in_time(evidence: Evidence) -> Iterator[str]:
    """A process that is asked to end does so with status 0 within the grace."""
    for ended in evidence.ended:
        if ended.code != 0 or ended.seconds > ended.grace or ended.complaint:
            said = f", and said: {ended.complaint}" if ended.complaint else ""
            yield f"{ended.role} ended with {ended.code} after {ended.seconds:.1f} s{said}"


@checks("recovery")
def it_works_again(evidence: Evidence) -> Iterator[str]:
    """After each fault the system works again, without help."""
    for fault in evidence.faults:
        if fault.recovery is None and fault.skipped is None:
            yield f"nothing worked any more after {fault.name}"


@checks("readiness")
def readiness_is_true(evidence: Evidence) -> Iterator[str]:
    """While something stands still, `/readyz` says so; while all is well, it says `ready`."""
    for fault in evidence.faults:
        for what, began, ended in _standstills(evidence, fault):
            said = [ready.status for ready in evidence.readiness if began + NOTICED / 2 <= ready.at <= ended]
            if len(said) >= 10 and set(said) == {"ready"}:
                yield f"it said `ready` while {what} did not move for {ended - began:.0f} s of {fault.name}"
    for ready in evidence.readiness:
        if ready.status is not None and ready.status not in ("ready", "degraded", "not ready"):
            yield f"the answer was no state: {', '.join(ready.causes)}"
    times = [(fault.began, fault.ended + _AFTERMATH) for fault in evidence.faults]
    wrong = [
        ready
        for ready in evidence.readiness
        if ready.status != "ready" and not any(began <= ready.at <= ended for began, ended in times)
    ]
    for said, times_said in groupby(wrong, lambda ready: (ready.status, ready.causes)):
        at = [ready.at for ready in times_said]
        moment = datetime.fromtimestamp(at[0], UTC).strftime("%H:%M:%S")
        yield (
            f"it said {said[0] or 'nothing'}, for {', '.join(said[1])}, while nothing was wrong,"
            f" {len(at)} times from {moment} on"
        )


def _standstills(evidence: Evidence, fault: Injected) -> Iterator[tuple[str, float, float]]:
    """Give what did not move for `NOTICED` seconds before the recovery, although it had to, with begin and end."""
    if fault.recovery is None:
        return
    recovered = fault.waited + fault.recovery
    seen: dict[str, tuple[float, int]] = {"the log": (fault.waited, -1)}
    for saved in evidence.saved:
        if not fault.waited <= saved.at <= recovered:
            continue
        done = saved.position == saved.head
        for what, value, idle in (("the log", saved.head, False), (saved.follower, saved.position, done)):
            since, before = seen.setdefault(what, (fault.waited, value))
            if idle or value != before:
                if saved.at - since >= NOTICED:
                    yield what, since, saved.at
                seen[what] = saved.at, value
    for what, (since, _) in seen.items():
        if recovered - since >= NOTICED:
            yield what, since, recovered


@checks("verify")
def the_command_agrees(evidence: Evidence) -> Iterator[str]:
    """`foldwork verify` finds nothing either."""
    yield from evidence.verified


@checks("repeats")
def repeats_get_the_first_answer(evidence: Evidence) -> Iterator[str]:
    """A command that is sent again after its answer gets the same one, marked as a duplicate."""
    for call in evidence.calls:
        if call.kind == REPEAT and (answer := call.known) is not None and answer.kind == OK and not answer.duplicate:
            yield f"{call.command} was sent again, and took effect as if it were new"
