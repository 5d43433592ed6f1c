"""What is reported beside a result: recorded as it was said, and refused when it is not about this task."""

from __future__ import annotations

from typing import Any

import pytest

from domain.directory import RetireEntry
from domain.plan import Report
from domain.task import ResultRecorded, SubmitResult, TaskCompleted
from tests.builders import entry, task
from tests.domain.cases import Case, done, each, refused
from tests.given import Given, given_commands

REPORT = Report("2025-01-16T14:30:00Z", "not_home", "VISITED", "op-7", "OUTBOUND", "2025-01-17T09:00:00Z", {"a": 1})


def at_a_shop(**fields: Any) -> Given:
    return given_commands([entry("commerce", "shop", **fields), task(commerce="shop")])


def completed(**rest: Any) -> SubmitResult:
    return SubmitResult("t", "COMPLETED", **rest)


def of_outcomes(*more: Any) -> Given:
    """A task in a tenant with two outcomes, of which one requires a follow-up."""
    return given_commands(
        [entry("outcome", "SALE", label="Sold"), entry("outcome", "LATER", label="Later", requires_follow_up=True)]
    ).and_commands([task(), *more])


CASES: list[Case] = [
    *(
        refused(
            "task.submit-result",
            "invalid",
            f"in a tenant with outcomes, {report}",
            lambda report=report, scene=scene: scene().when(completed(report=report)),
            at,
        )
        for report, scene, at in (
            (Report(outcome="not_home"), of_outcomes, "/report/outcome"),
            (Report(outcome="sale"), of_outcomes, "/report/outcome"),
            (Report(outcome="not at home"), of_outcomes, "/report/outcome"),
            (Report(outcome=""), of_outcomes, "/report/outcome"),
            (Report(outcome="SALE"), lambda: of_outcomes(RetireEntry("outcome", "SALE")), "/report/outcome"),
            (Report(outcome="LATER"), of_outcomes, "/report/follow_up_at"),
        )
    ),
    *(
        done(
            "task.submit-result",
            f"in a tenant with outcomes, {report}",
            lambda report=report: of_outcomes().when(completed(report=report)),
            [ResultRecorded("t", None, "COMPLETED", report=report), TaskCompleted("t", None, {})],
        )
        for report in (
            None,
            Report(),
            Report(outcome="SALE"),
            Report(outcome="LATER", follow_up_at="2025-01-17T09:00:00Z"),
        )
    ),
    done(
        "task.submit-result",
        "a report is recorded as it was said",
        lambda: given_commands([task()]).when(completed(report=REPORT)),
        [ResultRecorded("t", None, "COMPLETED", report=REPORT), TaskCompleted("t", None, {})],
    ),
    *(
        refused(
            "task.submit-result",
            "invalid",
            f"{name} is no time",
            lambda name=name: given_commands([task()]).when(completed(report=Report(**{name: "2025-02-30T00:00:00Z"}))),
            f"/report/{name}",
        )
        for name in ("occurred_at", "follow_up_at")
    ),
    *(
        refused("task.submit-result", "not-found", case, lambda scene=scene: scene().when(completed(commerce="x")), at)
        for case, scene, at in (
            ("of another commerce", lambda: at_a_shop(external_id="y"), "/commerce"),
            ("of a commerce without the external id", at_a_shop, "/commerce"),
            ("of a commerce, and the task has none", lambda: given_commands([task()]), "/commerce"),
        )
    ),
]


@each(CASES)
def test_answer(case: Case) -> None:
    case.check()


@pytest.mark.parametrize("named", ["shop", "store-001"])
def test_a_commerce_is_named_by_its_id_or_by_its_external_id(named: str) -> None:
    outcome = at_a_shop(external_id="store-001").when(completed(commerce=named))
    assert outcome.events == [ResultRecorded("t", None, "COMPLETED"), TaskCompleted("t", None, {})]
