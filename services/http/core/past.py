"""Looking back: tasks and activities as the read models had them at a position of the log, or at a time.

Their rows are folded from their streams by the read models' own folds, so they are shown by the same functions. Lists
are asked of the folded rows in place of the tables', by the same statements. The events are read a page at a time. What
stands beside, such as the names of people, is as it is now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from domain.decider import instant
from domain.errors import Rejected
from domain.limits import INSTANT_DETAIL, MAX_WHOLE
from domain.streams import ID, stream_of
from projections import activities
from projections.support.query import within
from projections.support.table import Key
from projections.task import table as tasks
from services.http.core import call as calls
from services.http.core.call import FOLDS, WEIGHT, Call, Past, too_large
from services.http.core.checkpoints import LEAST_EVENTS
from services.http.core.errors import ApiError, unavailable
from services.store import log
from services.store.codec import UnknownEvent
from services.store.log import LogRow

AS_OF = "as_of"
# Events that are folded at once, and their bytes.
EVENTS, BYTES = 5000, 4 << 20
Row = Sequence[Any]


async def look_back(call: Call, text: str) -> int:
    """Let a call show what was at a position, or at a time; return the position. Raises `ApiError`.

    For a time it is that of the last event before the first one that was recorded later.
    """
    pool = call.service.pool
    if text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= MAX_WHOLE:
        position = int(text)
        ((head, at),) = await pool.fetch(*log.time_of(position))
        if position > head:
            raise ApiError("position-beyond-head", f"the log ends at position {head}", parameter=AS_OF)
        call.past = Past(position, call.service.clock() if at is None else at)
        return position
    try:
        moment = instant(text, "")
        ((position, is_ahead),) = await pool.fetch(*log.position_at(moment))
    except (Rejected, OverflowError):
        detail = f"{AS_OF} is a position of the log, or a time: {INSTANT_DETAIL}"
        raise ApiError("bad-position", detail, parameter=AS_OF) from None
    if is_ahead:
        raise ApiError("position-beyond-head", "this time is still to come", parameter=AS_OF)
    call.past = Past(int(position), moment)
    return call.past.position


def demand_present(call: Call, most: int) -> None:
    """Refuse to look back where the present alone can be shown; `most` are the parameters that a query may have."""
    if AS_OF.encode() in call.scope["query_string"] and AS_OF in call.parameters(most):
        detail = "only a task, an activity, why it has its status, and the tasks of one activity are shown as of then"
        raise ApiError("unknown-parameter", detail, parameter=AS_OF)


async def row(call: Call, name: str, entity_id: str) -> Row | None:
    """Return the row (doc, id, key) of an id, as the read model has it, or had it where the call looks back to."""
    # An invalid id need not be queried.
    if not ID.match(entity_id):
        return None
    if call.past is None:
        return await call.service.loaders[name].row(call.caller.tenant, entity_id)
    found = await _rows(call, call.past, name, [entity_id])
    return (FOLDS[name].document_of(found[0]), entity_id, "") if found else None


async def take(call: Call, name: str, ids: Iterable[str]) -> None:
    """Fold the rows of these ids, if the call looks back, for what it asks then."""
    if call.past is not None:
        call.past.rows[name] = await _rows(call, call.past, name, list(ids))


async def take_tasks(call: Call, activity_id: Any, parameter: str) -> None:
    """Fold the rows of an activity's tasks, if the call looks back; refuse to look back at the tasks of any other list.

    `parameter` is the one that names the activity.
    """
    if call.past is None:
        return
    if not isinstance(activity_id, str):
        detail = f"the tasks of one activity alone can be listed as of then: name it with {parameter}"
        raise ApiError("bad-position", detail, parameter=AS_OF)
    call.past.rows[tasks.NAME] = await _of_activity(call, call.past, activity_id, tasks.NAME)


async def _children(call: Call, past: Past, activity_id: str) -> list[str]:
    """Return the ids of an activity's tasks, none if there was no such activity then."""
    if not ID.match(activity_id):
        return []
    stream = stream_of(call.caller.tenant, "activity", activity_id)
    rows = [LogRow(*each) for each in await call.service.pool.fetch(*log.first_events([stream]))]
    return [child for each in rows if each.position <= past.position for child in each.recorded().data.children]


async def _of_activity(call: Call, past: Past, activity_id: str, name: str) -> list[Row]:
    """Return the rows of an activity, or of its tasks: both are folded, since who asks for one asks for both."""
    children = await _children(call, past, activity_id)
    if not children:
        return []
    tenant = call.caller.tenant
    own = stream_of(tenant, "activity", activity_id)
    streams = [own, *(stream_of(tenant, "task", child) for child in children)]
    return await _folded(call, past, name, streams, (activities.NAME, tasks.NAME), own)


async def _rows(call: Call, past: Past, name: str, ids: Sequence[str]) -> list[Row]:
    """Return the columns of the read model's rows of these ids; raises `ApiError`."""
    if name == activities.NAME and len(ids) == 1:
        return await _of_activity(call, past, ids[0], name)
    tenant, streams = call.caller.tenant, list[str]()
    for entity_id in ids:
        streams.append(stream_of(tenant, "task" if name == tasks.NAME else "activity", entity_id))
        if name == activities.NAME:
            streams += [stream_of(tenant, "task", child) for child in await _children(call, past, entity_id)]
    return await _folded(call, past, name, streams, (name,), streams[0] if len(streams) == 1 else None)


async def _folded(
    call: Call, past: Past, wanted: str, streams: Sequence[str], names: Sequence[str], of: str | None
) -> list[Row]:
    """Return the rows of one of the read models that are folded from streams; raises `ApiError`.

    `of` names the streams: what was folded of them before is gone on from.
    """
    if not streams:
        return []
    checkpoints, held = call.service.checkpoints, call.answer_held.size
    begin = None if of is None else checkpoints.before(of, past.position, wanted)
    # A read model that was too large for a checkpoint is not in it.
    found: dict[str, dict[Key, Row]] = {
        name: dict(begin.rows[name] if begin else ()) for name in names if begin is None or name in begin.rows
    }
    # The event of the checkpoint is read again, to compare it.
    after, since = (0 if begin is None else begin.position - 1), 0
    try:
        while after < past.position:
            asked = within(log.all_events(streams, after, past.position, EVENTS), BYTES, "state")
            rows = await call.service.lists.fetch(call.caller.tenant, *asked)
            events = [LogRow(*each[:-2]) for each in rows]
            if begin is not None:
                if of is not None and not (events and begin.is_of(events[0])):
                    checkpoints.forget(of)
                    return await _folded(call, past, wanted, streams, names, of)
                events, begin = events[1:], None
            if not rows:
                break
            *_, size, every = rows[-1]
            after = past.position if every == len(rows) < EVENTS else rows[-1][0]
            if not events:
                continue
            call.answer_held.take(WEIGHT * int(size))
            await call.worked(lambda: _fold(found, events))  # noqa: B023
            documents = {name: sum(len(FOLDS[name].document_of(row)) for row in found[name].values()) for name in found}
            if documents[wanted] > calls.PAGE_BYTES:
                raise too_large(AS_OF)
            for name in [name for name in found if documents[name] > calls.PAGE_BYTES]:
                # Another read model is not asked for, so it refuses nothing.
                del found[name], documents[name]
            since += len(events)
            if of is not None and since >= LEAST_EVENTS:
                checkpoints.keep(of, events[-1], found, sum(documents.values()))
                since = 0
            call.answer_held.hold(held + WEIGHT * sum(documents.values()))
        return list(found[wanted].values())
    except (UnknownEvent, msgspec.MsgspecError):
        raise unavailable("an event of it is of a newer version, or cannot be read", "newer-version") from None


def _fold(found: Mapping[str, dict[Key, Row]], events: Sequence[LogRow]) -> None:
    """Go on with the rows of read models by further events."""
    for name, rows in found.items():
        folds = FOLDS[name]
        before = {key: folds.document_of(row) for key, row in rows.items()}
        rows |= folds.folded((each.recorded() for each in events), before)
