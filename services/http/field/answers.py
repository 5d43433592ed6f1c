"""The field dialect's whole answers: what its views stand in, pages, the outcome of bulks, and refusals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from services.http.core.models import From, Json, View
from services.http.core.parameters import Page
from services.http.field.errors import FAILURES
from services.http.field.views import AnyTask, Count, ListedTask, NewMaster, Task
from services.http.field.workflows import Workflow


class Good(View):
    """An answer to what was done."""

    status: Literal[True]


class ActivityCreated(Good):
    """Created"""

    code: Literal[201]
    message: Literal["Activity created successfully"]
    data: Annotated[NewMaster, From("")]


class TaskCreated(Good):
    """Created"""

    code: Literal[201]
    message: Literal["Task created successfully"]
    task: Annotated[Task, From("")]


class TaskFound(Good):
    """The task, or the activity"""

    message: Literal["Task found"]
    task: AnyTask


def _noun(resource: Mapping[str, Any]) -> str:
    return "Activity" if "children" in resource else "Task"


class TaskUpdated(Good):
    """Changed"""

    message: Annotated[
        Literal["Task updated successfully", "Activity updated successfully"],
        From("", lambda resource, _: f"{_noun(resource)} updated successfully"),
    ]
    task: AnyTask


class TaskDeleted(Good):
    """Cancelled"""

    message: Annotated[
        Literal["Task deleted successfully", "Activity deleted successfully"],
        From("", lambda resource, _: f"{_noun(resource)} deleted successfully"),
    ]
    task: AnyTask


class WorkflowCreated(Good):
    """Created"""

    code: Literal[201]
    message: Literal["Workflow created successfully"]
    workflow: Annotated[Workflow, From("")]


class WorkflowFound(Good):
    """The workflow"""

    message: Literal["Workflow found"]
    workflow: Annotated[Workflow, From("")]


class WorkflowUpdated(Good):
    """Changed"""

    message: Literal["Workflow updated successfully"]
    workflow: Annotated[Workflow, From("")]


class WorkflowDeleted(Good):
    """Deleted, as it was"""

    message: Literal["Workflow deleted successfully"]
    workflow: Annotated[Workflow, From("")]


class Paged(View):
    """Rows with what leads to the pages beside theirs."""

    current_page: Annotated[Count, From("", lambda page, _: page.number)]
    data: Annotated[list[Any], From("", lambda page, _: page.rows)]
    first: Annotated[int | None, From("", lambda page, _: page.offset + 1 if page.rows else None)] = Field(alias="from")
    last_page: Annotated[Count, From("", lambda page, _: page.last)]
    next_page_url: Annotated[str | None, From("", lambda page, _: page.url(page.number + 1))]
    path: Annotated[str, From("", lambda page, _: page.path)]
    per_page: Annotated[Count, From("", lambda page, _: page.limit)]
    prev_page_url: Annotated[str | None, From("", lambda page, _: page.url(page.number - 1))]
    to: Annotated[int | None, From("", lambda page, _: page.offset + len(page.rows) if page.rows else None)]
    total: Annotated[Count, From("", lambda page, _: page.total)]


class TaskPage(Paged):
    """Masters and tasks."""

    data: Annotated[list[ListedTask], From("", lambda page, _: page.rows)]  # type: ignore[valid-type]


TaskPage.example = TaskPage.show(Page(1, 15, 1, [Task.example], "/api/v3/tasks"))


class WorkflowPage(Paged):
    """Workflows in the order of their ids."""

    data: Annotated[list[Workflow], From("", lambda page, _: page.rows)]


WorkflowPage.example = WorkflowPage.show(Page(1, 15, 1, [Workflow.example], "/api/v3/internal/workflows"))


class TasksFound(Good):
    """A page"""

    message: Literal["Tasks found"]
    tasks: Annotated[TaskPage, From("")]


class WorkflowsFound(Good):
    """A page"""

    message: Literal["Workflows found"]
    workflows: Annotated[WorkflowPage, From("")]


class Receipt(View):
    """Where the outcome of a command will be."""

    commandId: Annotated[str, From("command_id")] = Field(examples=["0199…"])  # noqa: N815
    receipt: str = Field(examples=["/v1/commands/0199…"])


def _accepted(found: Mapping[str, Any], _: Any) -> str:
    known = "it took effect, but cannot be shown now" if found["known"] else "its outcome is not known yet"
    return f"{found['noun'].capitalize()} accepted, {known}"


class Accepted(Good):
    """No answer yet, or nothing that can be shown; look at the receipt"""

    code: Literal[202]
    message: Annotated[str, From("", _accepted)] = Field(examples=["Task accepted, its outcome is not known yet"])
    data: Annotated[Receipt, From("")]


class BulkTask(View):
    """What became of one task of a bulk request."""

    status: bool
    message: str
    id: str | None = Field(..., alias="_id", description="null of a task that failed")
    refId: str | None  # noqa: N815
    failedCode: str = Field("", description="Of a task that failed")  # noqa: N815
    receipt: str = Field("", description="Of a task whose outcome is not known yet")


class BulkDone(View):
    """All outcomes are known"""

    success: Count
    failed: Count
    tasks: list[BulkTask]

    example: ClassVar[Json] = {
        "success": 1,
        "failed": 1,
        "tasks": [
            {
                "status": True,
                "message": "Task created successfully",
                "_id": "019a3d5e-3c1f-7a64-8d2b-5d2d4c1a9e70",
                "refId": "order-1",
            },
            {
                "status": False,
                "message": "a task cannot end before it starts (/endTime)",
                "_id": None,
                "refId": "order-2",
                "failedCode": "activity-004",
            },
        ],
    }


class BulkAccepted(View):
    """Some outcomes are not known yet; these tasks have a receipt, and in the background so has the bulk"""

    success: Count
    failed: Count
    receipt: str = Field("", description="Of a bulk that is carried out in the background")
    tasks: list[BulkTask]

    example: ClassVar[Json] = {
        "success": 1,
        "failed": 0,
        "receipt": "/v1/bulks/019a3d5e-3c1f-7a64-8d2b-5d2d4c1a9e6f",
        "tasks": [
            {
                "status": True,
                "message": "Task accepted, its outcome is not known yet",
                "_id": "019a3d5e-3c1f-7a64-8d2b-5d2d4c1a9e70",
                "refId": "order-1",
                "receipt": "/v1/commands/0199…",
            }
        ],
    }


class Failure(View):
    """A refusal."""

    status: Literal[False]
    message: str
    failedCode: str = Field(json_schema_extra={"enum": list(FAILURES)})  # noqa: N815
