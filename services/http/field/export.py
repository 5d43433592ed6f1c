"""A list of masters and tasks as CSV (RFC 4180): all rows that match, sent while they are read, a few at a time."""

from __future__ import annotations

import csv
import re
from collections.abc import AsyncIterator, Sequence
from io import StringIO
from typing import Any, Literal

import msgspec
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from projections.sides import Side, merged
from services.http.core.call import Call, Documents
from services.http.core.entities import TASK
from services.http.core.errors import ApiError
from services.http.core.parameters import settled
from services.http.field.dialect import beside
from services.http.field.lists import RESOURCES, ListTasks, keys_of, sides_of, sort_of
from services.http.field.models import task_or_master

CSV = "csv"
# Rows that are in memory at once, and the bytes of their documents.
ROWS, BYTES = 100, 4 << 20
# The columns without `fields`.
COLUMNS = (
    "_id", "taskType", "parentId", "workflowId", "title", "flow", "flowId", "hubId", "status", "subStatus", "assignee",
    "startTime", "endTime", "doneTime", "createdBy", "createdTime", "updatedTime",
)  # fmt: skip
# Texts that a spreadsheet takes for a formula, unless they are numbers, such as a coordinate or a telephone number.
_FORMULA = re.compile(r"[=+\-@\t\r\n]")
_NUMBERS = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?(, ?[+-]?[0-9]+(\.[0-9]+)?)*\Z", re.ASCII)
_encode = msgspec.json.Encoder().encode


class AskTasks(ListTasks):
    """Which masters and tasks are asked for, and in which form."""

    format: Literal["json", "csv"] = Field("json", description="A page, or all rows as CSV")


async def export(call: Call, query: AskTasks) -> Response:
    """Answer with all rows that match."""
    for name, parameter in (("lazy_load", "lazyLoad"), ("cursor", "cursor"), ("page", "page"), ("limit", "limit")):
        if name in query.model_fields_set:
            raise ApiError("bad-filter", "an export has all rows, and no pages", parameter=parameter)
    await settled(call, query, *TASK.models)
    sort, sides = sort_of(query), await sides_of(call, query)
    keys_of(query.keys)
    asked = [key.strip() for key in query.keys.split(",")] if query.keys else COLUMNS
    columns = list(dict.fromkeys(("_id", *asked)))
    # What cannot be asked is refused before anything is sent.
    first = await _rows(call, sides, sort, None)

    async def lines() -> AsyncIterator[bytes]:
        yield _lines([columns])
        found = first
        while rows := found.rows:
            yield await _csv(call, columns, rows)
            if not found.left and len(rows) < ROWS:
                break
            # A cursor belongs to the sort alone, so any side gives it.
            found = await _rows(call, sides, sort, sides[0].listing.cursor(rows[-1][1:], sort))

    headers = {"Content-Disposition": 'attachment; filename="tasks.csv"'}
    return StreamingResponse(lines(), headers=headers, media_type="text/csv; charset=utf-8; header=present")


async def _rows(call: Call, sides: Sequence[Side], sort: str, after: str | None) -> Documents:
    # Those before are sent.
    call.answer_held.hold(0)
    if not sides:
        return Documents([])
    asked = merged(call.caller.tenant, sides, sort, ROWS, after=after)
    return await call.documents(asked, BYTES, call.service.exports)


async def _csv(call: Call, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    now = call.now
    resources = await call.worked(lambda: [RESOURCES[row[0]](row[1:], now) for row in rows])
    shown_with = await beside(call, resources)

    def made() -> bytes:
        shown = (task_or_master(found, shown_with) for found in resources)
        return _lines([[_cell(each.get(key)) for key in columns] for each in shown])

    return await call.worked(made)


def _lines(rows: Sequence[Sequence[str]]) -> bytes:
    out = StringIO(newline="")
    csv.writer(out).writerows(rows)
    return out.getvalue().encode()


def _cell(value: Any) -> str:
    """Return a value as text: JSON, but for texts, lists of texts, and nothing."""
    if value is None:
        return ""
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        value = ",".join(value)
    text = value if isinstance(value, str) else _encode(value).decode()
    # A text after an apostrophe is no formula; a number that is no text may begin with a minus.
    return f"'{text}" if isinstance(value, str) and _FORMULA.match(text) and not _NUMBERS.match(text) else text
