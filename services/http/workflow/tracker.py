"""The tracker: what a person is working on is paused, resumed and started, one's own or, by a manager, another's."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar

from pydantic import Field
from starlette.responses import Response

from domain.limits import Id
from services.http.core.call import Call
from services.http.core.entities import TASK
from services.http.core.errors import ApiError
from services.http.core.models import From, Json, Request, To, View
from services.http.core.openapi import parameter
from services.http.core.parameters import nothing_else
from services.http.core.submit import submit
from services.http.workflow import models
from services.http.workflow.dialect import TRACKER, WORKFLOW, write
from services.http.workflow.errors import Body
from services.http.workflow.models import DIGITS, Account, Changed, MemberOf

_ACTIVITY = "/data/attributes/activity_id"


def _person(number: int | None) -> str | None:
    return None if number is None else f"account:{number}"


class Track(Body):
    """Whose tracker it is."""

    account_id: Annotated[Account | None, To("member", _person)] = Field(
        None, description="Whose tracker, when the system or a manager speaks for somebody; null is one's own"
    )

    example: ClassVar[Json] = {"account_id": 42}


class Resume(Body):
    """Whose tracker it is."""

    account_id: MemberOf = Field(0, description="Whose tracker, when the system speaks for somebody")

    example: ClassVar[Json] = {"account_id": 42}


class StartAttributes(Request):
    """What is worked on."""

    activity_id: Annotated[Id, To("id")] = Field(examples=["0199f1c2-7a10-7000-8000-000000000001"])

    @classmethod
    def unknown(cls, key: str, pointer: str) -> ApiError:
        """Return the refusal of a key."""
        if key in ("project_id", "billable", "details"):
            return ApiError("unknown-field", f"{key} is not kept: time belongs to an activity", f"{pointer}/{key}")
        return super().unknown(key, pointer)


class StartData(Request):
    type: Annotated[Any, To(None)] = Field(None, description="Any type")
    attributes: StartAttributes


class Start(Body):
    """The activity that the caller works on from now on."""

    period: StartData = Field(alias="data")

    example: ClassVar[Json] = {"data": {"attributes": {"activity_id": "0199f1c2-7a10-7000-8000-000000000001"}}}


class Spent(View):
    working_seconds: Annotated[float, Field(ge=0, description="All time that was spent on it")]


class Resumed(Changed):
    """As it is now, and the time that was spent on it"""

    meta: Annotated[Spent, From("")]


def _member(call: Call) -> Json:
    """Return whose tracker the path names."""
    account = call.parts["account_id"]
    if not re.match(DIGITS, account):
        raise ApiError("not-found", "there is no account of this number")
    return {"member": f"account:{account}"}


async def _start(call: Call) -> Response:
    """Start or resume an activity of the caller's."""
    nothing_else(call.parameters())
    request = Start.read(await call.json(), call.parts)
    try:
        result = await submit(call, "task.process", {}, TASK, entity_id=request.period.attributes.activity_id)
    except ApiError as error:
        raise (error.at(_ACTIVITY) if error.code == "not-found" else error) from None
    return await WORKFLOW.answer(call, result, Changed, TASK.noun)


OPERATIONS = (
    write(
        "POST", f"{TRACKER}/pause", "pause_tracker", "Pause what one is working on", "tracker.pause", Track,
        id_from=("task.paused",),
    ),
    write(
        "POST", f"{TRACKER}/pause/{{account_id}}", "pause_account", "Pause what somebody is working on",
        "tracker.pause", models.Nothing, id_from=("task.paused",), extra_data=_member,
        rephrase=lambda refused: refused.at(""),
        parameters=(parameter("account_id", "Whose work, an account number", place="path"),),
    ),
    write(
        "POST", f"{TRACKER}/resume", "resume_tracker", "Go on with what was paused last", "tracker.resume",
        Resume, id_from=("task.resumed", "task.started"), view=Resumed,
    ),
    write(
        "POST", f"{TRACKER}/start", "start_tracker", "Start an activity that one has", "", Start,
        gives=("task.process",), handler=_start,
        description="Whatever else the caller is working on is paused.",
    ),
)  # fmt: skip
