"""The field dialect's operations on workflows, each write by one command."""

from __future__ import annotations

from starlette.responses import Response

from services.http.core.call import Call, as_json
from services.http.core.entities import WORKFLOW
from services.http.core.errors import ApiError
from services.http.core.models import View
from services.http.core.operation import Operation
from services.http.core.parameters import MinPosition
from services.http.field import lists, workflows
from services.http.field.dialect import FIELD, answer, links
from services.http.field.errors import is_of_person


def _of_workflow(refused: ApiError) -> ApiError:
    """Return a refusal in the dialect's words: what is retired is not there any more."""
    if refused.code in ("not-found", "retired") and refused.pointer in ("", "/id"):
        return ApiError("no-workflow", "Workflow not found")
    if refused.code == "invalid" and not is_of_person(refused.pointer):
        return ApiError("workflow-rule", refused.detail, refused.pointer)
    return refused


_WORKFLOWS_FOUND = answer("WorkflowsFound", "A page", "Workflows found", workflows=lists.WorkflowPage)


async def _page_of_workflows(call: Call) -> Response:
    page = await lists.page_of_workflows(call, lists.ListPage.read(call))
    return await call.worked(lambda: as_json(_WORKFLOWS_FOUND.show(page)))


def _workflow(word: str, what: str, status: int | None = None) -> type[View]:
    done = "found" if word == "found" else f"{word} successfully"
    return answer(f"Workflow{word.capitalize()}", what, f"Workflow {done}", status, workflow=workflows.Workflow)


_ONE_WORKFLOW = "/api/v3/workflow/{id}"
_WORKFLOWS = "/api/v3/internal/workflows"
OPERATIONS = (
    Operation(
        FIELD, "GET", _WORKFLOWS, "read", "field_list_workflows",
        "List the organization's workflows in the order of their ids",
        query=lists.ListPage, handler=_page_of_workflows, view=_WORKFLOWS_FOUND, topic="workflow",
    ),
    Operation(
        FIELD, "POST", _WORKFLOWS, "write", "field_create_workflow", "Define a workflow",
        description="From 1 to 10 steps, no `flowId` twice. The number of steps is fixed for good.",
        request=workflows.NewWorkflow, command="workflow.define", entity=WORKFLOW, status=201,
        view=_workflow("created", "Created", 201), topic="workflow", rephrase=_of_workflow,
        links=links("workflow", "workflow", "/workflow/_id"),
    ),
    Operation(
        FIELD, "GET", _ONE_WORKFLOW, "read", "field_get_workflow", "Read one workflow",
        query=MinPosition, entity=WORKFLOW, view=_workflow("found", "The workflow"), topic="workflow",
        rephrase=_of_workflow,
    ),
    Operation(
        FIELD, "PUT", _ONE_WORKFLOW, "write", "field_update_workflow", "Change a workflow",
        description="Activities that were made from it before keep its steps as they were then.",
        request=workflows.WorkflowChange, command="workflow.change", entity=WORKFLOW,
        view=_workflow("updated", "Changed"), topic="workflow", rephrase=_of_workflow,
    ),
    Operation(
        FIELD, "DELETE", _ONE_WORKFLOW, "write", "field_delete_workflow",
        "Delete a workflow that no activity was made from",
        command="workflow.retire", entity=WORKFLOW, view=_workflow("deleted", "Deleted, as it was"), topic="workflow",
        rephrase=_of_workflow,
    ),
)  # fmt: skip
