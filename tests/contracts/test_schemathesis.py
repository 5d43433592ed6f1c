"""What the OpenAPI document says is what the service does: requests made from it, good ones and bad ones, find nothing.

`FOLDWORK_TEST_EXAMPLES` (5) says how many requests are made up for each operation beside the ones that follow from its
schema, for a longer run; the seed is fixed, and `FOLDWORK_TEST_SEED` makes another run of it.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import schemathesis
from schemathesis import config, engine
from schemathesis.core.transport import Response
from schemathesis.engine import events
from schemathesis.generation.case import Case

from services import keys
from services.http.core.app import document
from tests.services.http.api import Api
from tests.services.http.contract_scene import set_the_scene
from tests.services.http.served import Served, served

EXAMPLES = int(os.environ.get("FOLDWORK_TEST_EXAMPLES", "5"))
SEED = int(os.environ.get("FOLDWORK_TEST_SEED", "20251031"))
# By system, so that several can run at once. The commands have more schemas than all others together, so what follows
# from each of these is left to the longer run.
GROUPS = (
    *("field", "dispatch", "workflow", "directory", "commands", "activities", "tasks", "events", "operations"),
    *("dead-letters", "stuck", "audit", "bulk", "webhooks", "keys", "projections", "overview"),
)
# Here what is made up, and what earlier answers tell, is enough for every operation to be done once; in the dialects
# more must come together for a request to be a good one.
NATIVE = ("directory", "commands", "activities", "tasks", "events", "operations")
# Nothing leads from one of their answers to another request.
UNLINKED = ("events", "operations", "stuck", "audit", "overview")
# What a rule of the domain, another request or the caller's rights may say to a request that fits its schema.
# 401: the body of a log-in has a key.
MAY_BE_REFUSED = ["2xx", "304", "400", "401", "403", "404", "409", "412", "422"]
# But a request that fits its schema is never of the wrong shape: that would be a schema that says too little.
WRONG_SHAPE = {
    "wrong-shape",
    "unknown-field",
    "unknown-parameter",
    "bad-filter",
    "bad-limit",
    "bad-sort",
    "not-json",
    "duplicate-key",
    "unsupported-media-type",
    "activity-001",
    "request-004",
}
# The data of a bulk is that of the command that it names, whose schemas are not repeated there.
LOOSE = "POST /v1/bulk"
# Longer requests are answered by the server below, which knows no dialect.
LONGEST = 60_000


@pytest.fixture
def furnished(migrated_url: str) -> Iterator[Served]:
    with served(migrated_url, http_body_limit=1 << 20) as running:
        set_the_scene(running.api)
        yield running


@dataclass(slots=True)
class Run:
    """What one run of the engine met."""

    findings: list[str] = field(default_factory=list)
    statuses: dict[str, Counter[int]] = field(default_factory=dict)

    def take(self, event: events.EngineEvent) -> None:
        """Take what an event of the engine says."""
        if isinstance(event, events.ScenarioFinished):
            for case_id, interaction in event.recorder.interactions.items():
                case = event.recorder.cases[case_id].value
                if interaction.response is None or len(interaction.request.uri) > LONGEST:
                    continue
                label = case.operation.label
                self.statuses.setdefault(label, Counter())[interaction.response.status_code] += 1
                misfit = _is_good(case, interaction.request.body) and _code(interaction.response) in WRONG_SHAPE
                if misfit and label != LOOSE:
                    body = interaction.response.text[:300]
                    self.findings.append(f"{label}: fits the schema, yet: {body}\n{case.as_curl_command()[:1500]}")
                for check in event.recorder.checks.get(case_id, ()):
                    # OpenAPI 3.1 describes a stream as one text, not the events that it has.
                    if check.failure_info is not None and "SSE event" not in check.failure_info.failure.title:
                        found = check.failure_info
                        what = f"{found.failure.title}: {found.failure.message[:600]}"
                        self.findings.append(f"{label}: {what}\n{found.code_sample[:1500]}")
        elif isinstance(event, events.NonFatalError):
            self.findings.append(f"{event.label}: {event.info}")
        elif isinstance(event, events.FatalError):
            raise event.exception


def _is_good(case: Case, sent: bytes | None) -> bool:
    # To JSON Schema 3.0 is a whole number, here it is not.
    odd = re.search(rb"[0-9]\.0+[^0-9]", sent or b"") is not None
    return case.meta is not None and case.meta.generation.mode.is_positive and not odd


def _code(response: Response) -> str | None:
    if response.status_code not in (400, 415, 422):
        return None
    try:
        body = json.loads(response.content)
    except ValueError:
        return None
    return body.get("code") or body.get("failedCode") if isinstance(body, dict) else None


def configuration(token: str, group: str) -> config.SchemathesisConfig:
    """Return what a run does: every check, in every phase, the same requests at every run."""
    phases = config.PhasesConfig(
        stateful=config.StatefulPhaseConfig(enabled=group not in UNLINKED, generation=_generation(EXAMPLES)),
        coverage=config.CoveragePhaseConfig(enabled=group != "commands" or EXAMPLES > 5),
    )
    checks = config.ChecksConfig(
        positive_data_acceptance=config.PositiveDataAcceptanceConfig(expected_statuses=MAY_BE_REFUSED),
        # What is deleted can still be read there: a task is cancelled by that, and a key revoked.
        use_after_free=config.SimpleCheckConfig(enabled=group not in ("field", "keys")),
    )
    project = config.ProjectConfig(
        headers={"Authorization": f"Bearer {token}"},
        checks=checks,
        generation=_generation(EXAMPLES * 20 if group == "commands" else EXAMPLES),
        phases=phases,
        continue_on_failure=True,
    )
    return config.SchemathesisConfig(seed=SEED, projects=config.ProjectsConfig(default=project))


def _generation(examples: int) -> config.GenerationConfig:
    return config.GenerationConfig(max_examples=examples, database="none")


@pytest.mark.timeout(60 + 30 * EXAMPLES)
@pytest.mark.parametrize("group", GROUPS)
def test_nothing_is_found(furnished: Served, group: str) -> None:
    token = furnished.api.key("acme", "system", *keys.PERMISSIONS)
    schema = schemathesis.openapi.from_url(f"{furnished.url}/openapi.json", config=configuration(token, group))
    run = Run()
    for event in engine.from_schema(schema.include(tag=group)).execute():
        run.take(event)
    assert "\n\n".join(run.findings) == ""
    operations = {f"{method.upper()} {path}" for method, path, _ in operations_of(furnished.api, group)}
    assert set(run.statuses) == operations
    if group in NATIVE:
        never = {label for label, found in run.statuses.items() if not any(status < 300 for status in found)}
        assert never == set(), "no request of these was ever a good one"


def test_every_system_is_run(furnished: Served) -> None:
    tags = {tag for _, _, operation in operations_of(furnished.api) for tag in operation["tags"]}
    assert tags == set(GROUPS)


def operations_of(api: Api, tag: str | None = None) -> list[tuple[str, str, dict[str, Any]]]:
    """Every operation of the document, or those of a tag: method, path and what is said of it."""
    return [
        (method, path, operation)
        for path, found in document()["paths"].items()
        for method, operation in found.items()
        if tag is None or tag in operation["tags"]
    ]
