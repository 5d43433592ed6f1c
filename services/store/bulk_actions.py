"""Statements on bulks that are previewed before they are run, and on their items.

Whoever changes what may be done with a bulk changes its row, and whoever takes items to send them locks that row first.
So nothing is taken after a pause or an abort, and an abort knows what was.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from projections.statement import Query

# The states of a bulk that has not ended, and those in which a process works on it.
OPEN = ("previewing", "previewed", "running", "paused", "aborting")
# Hours after which a bulk that was never run expires.
KEPT_HOURS = 24
# The bulks of a page have so many items together, but for the last one.
MAX_COUNTED = 300_000

# Named parameters: the columns, `most` open bulks of the tenant, and an array a column of the items.
STORE = """
WITH made AS (
    INSERT INTO bulk_actions (tenant, id, command, data, asked, on_change, actor, traceparent, total)
    SELECT %(tenant)s, %(id)s, %(command)s, %(data)s, %(asked)s, %(on_change)s, %(actor)s, %(traceparent)s,
        cardinality(%(ids)s::text[])
    WHERE (SELECT count(*) FROM bulk_actions WHERE tenant = %(tenant)s AND ended_at IS NULL) < %(most)s
    ON CONFLICT DO NOTHING RETURNING tenant, id),
items AS (
    INSERT INTO bulk_items (tenant, bulk_id, number, entity_id, routing_key, version, state, reason, code, detail)
    SELECT made.tenant, made.id, n.number, n.entity_id, n.routing_key, n.version,
        CASE WHEN n.version IS NULL THEN 'skipped' ELSE 'pending' END,
        CASE WHEN n.version IS NULL THEN 'not-found' END, CASE WHEN n.version IS NULL THEN 'not-found' END,
        CASE WHEN n.version IS NULL THEN 'nothing has this id' END
    FROM made, unnest(%(ids)s::text[], %(routes)s::text[], %(versions)s::bigint[])
        WITH ORDINALITY AS n (entity_id, routing_key, version, number))
SELECT id FROM made"""
_ASKED = "SELECT command, data, asked, on_change, actor FROM bulk_actions WHERE tenant = %s AND id = %s"
# Reasons are asked of those skipped alone, so that the others are counted in the index.
_SHOWN = """
SELECT b.id, b.command, b.data, b.on_change, b.actor, b.state, b.reason, b.rate, b.total, b.created_at, b.previewed_at,
    b.started_at, b.ended_at, (
        SELECT array_agg(ARRAY[c.state, c.reason, c.count::text]) FROM (
            SELECT i.state, '' AS reason, count(*) AS count FROM bulk_items AS i
            WHERE i.tenant = b.tenant AND i.bulk_id = b.id AND i.state <> 'skipped' GROUP BY i.state
            UNION ALL
            SELECT i.state, coalesce(i.reason, ''), count(*) FROM bulk_items AS i
            WHERE i.tenant = b.tenant AND i.bulk_id = b.id AND i.state = 'skipped' GROUP BY i.state, i.reason) AS c)
FROM {} AS b"""
_ONE = f"{_SHOWN.format('bulk_actions')} WHERE b.tenant = %s AND b.id = %s"
# Counting takes as long as there are items, so the bulk whose items fill the page is its last one.
_PAGE = """(
    SELECT n.*, sum(n.total) OVER (ROWS UNBOUNDED PRECEDING) - n.total AS before FROM (
        SELECT * FROM bulk_actions WHERE tenant = %s{} ORDER BY created_at DESC, id DESC LIMIT %s) AS n)"""
_ITEMS = """
SELECT i.number, i.entity_id, i.version, i.state, i.reason, i.would, i.code, i.detail, i.pointer, i.first_position,
    i.last_position, i.decided_at, i.attempts, b.seed, b.command, l.message_id
FROM bulk_items AS i JOIN bulk_actions AS b ON b.tenant = i.tenant AND b.id = i.bulk_id
    LEFT JOIN dead_letters AS l ON starts_with(b.command, 'dead-letter.') AND l.tenant = i.tenant AND l.id = i.entity_id
WHERE i.tenant = %s AND i.bulk_id = %s AND i.number > %s{} ORDER BY i.number LIMIT %s"""

# What is done with a bulk. Each gives its id if it was in a state in which that can be done.
RUN = """
UPDATE bulk_actions SET state = 'running', rate = coalesce(%(rate)s, rate), reason = NULL,
    started_at = coalesce(started_at, now()), due_at = now()
WHERE tenant = %(tenant)s AND id = %(id)s AND state IN ('previewed', 'paused')
    AND (SELECT count(*) FROM bulk_actions WHERE tenant = %(tenant)s AND state = 'running') < %(most)s
RETURNING id"""
PAUSE = """
UPDATE bulk_actions SET state = 'paused', reason = %(reason)s
WHERE tenant = %(tenant)s AND id = %(id)s AND state = 'running' RETURNING id"""
# What was sent already may still be decided, so the bulk has not ended before that is known.
ABORT = """
UPDATE bulk_actions SET state = 'aborting', reason = NULL, due_at = now()
WHERE tenant = %(tenant)s AND id = %(id)s AND state IN ('previewing', 'previewed', 'running', 'paused') RETURNING id"""

# What the process that works on a bulk does. Parameters of `TAKE`: (seconds of the lease, `<tenant>/<id>` to skip).
TAKE = """
UPDATE bulk_actions SET due_at = now() + %s * interval '1 second'
WHERE (tenant, id) = (
    SELECT tenant, id FROM bulk_actions
    WHERE state IN ('previewing', 'running', 'aborting') AND due_at <= now()
        AND tenant || '/' || id <> ALL (%s::text[])
    ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING tenant, id, command, data, seed, actor, traceparent, on_change, state, reason, rate"""
RELEASE = """
UPDATE bulk_actions SET due_at = now() WHERE tenant = %(tenant)s AND id = %(id)s AND state = %(state)s RETURNING id"""
# Prolongs the lease, and gives the items to send, as long as the bulk is in the state: first those never sent. They are
# updated by their places, since the planner knows nothing yet of a bulk that was just stored.
_TAKE_ITEMS = """
WITH bulk AS (
    UPDATE bulk_actions SET due_at = now() + %(lease)s * interval '1 second'
    WHERE tenant = %(tenant)s AND id = %(id)s AND state = %(state)s RETURNING id)
UPDATE bulk_items AS i SET attempts = i.attempts + 1
WHERE i.ctid = ANY(ARRAY(
    SELECT n.ctid FROM bulk_items AS n
    WHERE n.tenant = %(tenant)s AND n.bulk_id = %(id)s AND n.state = %(of)s AND EXISTS (SELECT FROM bulk)
    ORDER BY {} LIMIT %(most)s))
RETURNING i.number, i.entity_id, i.routing_key, i.version, i.attempts"""
ITEMS = _TAKE_ITEMS.format("n.attempts, n.number")
# In order, so that what was sent and is not decided yet comes before the rest of its key.
IN_ORDER = _TAKE_ITEMS.format("n.number")
# What was sent and has no answer yet.
SENT = """
SELECT number, entity_id, routing_key, version, attempts FROM bulk_items
WHERE tenant = %(tenant)s AND bulk_id = %(id)s AND state = 'ready' AND attempts > 0 ORDER BY number"""
RENEW = """
UPDATE bulk_actions SET due_at = now() + %(lease)s * interval '1 second'
WHERE tenant = %(tenant)s AND id = %(id)s AND state = %(state)s RETURNING id"""
# An array a column of the outcomes; `of` is the state in which the items were. The first outcome of an item counts.
NOTE = """
UPDATE bulk_items AS i SET state = n.state, reason = n.reason, would = coalesce(string_to_array(n.would, ','), i.would),
    code = n.code, detail = n.detail, pointer = n.pointer, first_position = n.first_position,
    last_position = n.last_position, decided_at = now(),
    attempts = CASE WHEN i.state = 'pending' THEN 0 ELSE attempts END
FROM unnest(%(numbers)s::integer[], %(states)s::text[], %(reasons)s::text[], %(woulds)s::text[], %(codes)s::text[],
    %(details)s::text[], %(pointers)s::text[], %(firsts)s::bigint[], %(lasts)s::bigint[])
    AS n (number, state, reason, would, code, detail, pointer, first_position, last_position)
WHERE i.tenant = %(tenant)s AND i.bulk_id = %(id)s AND i.number = n.number AND i.state = %(of)s
RETURNING i.number"""
# Ends what a process works on in a bulk, once no item is in a state any more.
PREVIEWED = """
UPDATE bulk_actions SET state = 'previewed', previewed_at = now()
WHERE tenant = %(tenant)s AND id = %(id)s AND state = %(state)s AND NOT EXISTS (
    SELECT FROM bulk_items WHERE tenant = %(tenant)s AND bulk_id = %(id)s AND state = %(of)s)
RETURNING id"""
ENDED = """
UPDATE bulk_actions SET state = %(end)s, ended_at = now()
WHERE tenant = %(tenant)s AND id = %(id)s AND state = %(state)s AND NOT EXISTS (
    SELECT FROM bulk_items WHERE tenant = %(tenant)s AND bulk_id = %(id)s AND state = %(of)s)
RETURNING id"""
# Of a bulk that is aborted, some of the items that were not sent.
SKIP = """
UPDATE bulk_items SET state = 'skipped', reason = %(reason)s, decided_at = now()
WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM bulk_items WHERE tenant = %(tenant)s AND bulk_id = %(id)s
        AND (state = 'pending' OR (state = 'ready' AND attempts = 0)) LIMIT %(most)s))
RETURNING number"""
# `hours` are those after which a bulk expires that was never run; it is aborted for this reason.
EXPIRE = """
UPDATE bulk_actions SET state = 'aborting', reason = 'expired', due_at = now()
WHERE state IN ('previewing', 'previewed') AND created_at < now() - %(hours)s * interval '1 hour' RETURNING id"""


def asked(tenant: str, bulk_id: str) -> Query:
    """(command, data, what was asked for, what a change means, actor) of a bulk."""
    return Query(_ASKED, (tenant, bulk_id))


def locked(tenant: str, bulk_id: str) -> Query:
    """(id) of a bulk, which is locked until the transaction ends."""
    return Query("SELECT id FROM bulk_actions WHERE tenant = %s AND id = %s FOR UPDATE", (tenant, bulk_id))


def shown(tenant: str, bulk_id: str) -> Query:
    """(id, command, data, what a change means, actor, state, reason, rate, total, four times, counts) of a bulk.

    The counts are [state, reason or "", number of items], all as text, or NULL where there are no items.
    """
    return Query(_ONE, (tenant, bulk_id))


def page(tenant: str, states: Sequence[str] | None, after: tuple[datetime, str] | None, limit: int) -> Query:
    """The same of a page of bulks, the newest first, in any state or in one of these, as far as `MAX_COUNTED` goes.

    `after` is when the last bulk seen was created, and its id.
    """
    conditions, values = "", list[Any]()
    if states is not None:
        conditions += " AND state = ANY(%s::text[])"
        values.append(list(states))
    if after is not None:
        conditions += " AND (created_at, id) < (%s::timestamptz, %s)"
        values += after
    sql = f"{_SHOWN.format(_PAGE.format(conditions))} WHERE b.before < %s ORDER BY b.created_at DESC, b.id DESC"
    return Query(sql, (tenant, *values, limit, MAX_COUNTED))


def items(tenant: str, bulk_id: str, after: int, limit: int, states: Sequence[str] | None = None) -> Query:
    """A page of items in order, those after a number, in any state or in one of these.

    Each has the bulk's seed and command, and the id of the command that a dead letter was.
    """
    condition, values = ("", ()) if states is None else (" AND i.state = ANY(%s::text[])", (list(states),))
    params: tuple[Any, ...] = (tenant, bulk_id, after, *values, limit)
    return Query(_ITEMS.format(condition), params)
