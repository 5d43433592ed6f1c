"""What the document says of every operation of every dialect is complete, and its examples are as its schemas say."""

from __future__ import annotations

import jsonschema_rs
import pytest

from services.http.core import openapi
from services.http.core.call import JSON
from services.http.core.operation import Operation
from services.http.native.probes import PROBES
from tests.services.http.contract import CASES, COMPONENTS, OPERATIONS, Case, examples, name_of, validator


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_an_operation_is_documented_and_its_examples_are_as_the_schemas_say(case: Case) -> None:
    operation, said = case.operation, case.said
    assert said["summary"]
    assert said["tags"] == [operation.dialect.tag]
    assert ("requestBody" in said) is (operation.request is not None)
    shown = [each["content"] for each in said["responses"].values() if "content" in each]
    if operation.request is not None:
        assert list(said["requestBody"]["content"]) == list(dict.fromkeys((JSON, operation.dialect.media)))
        assert said["requestBody"]["required"] is not operation.body_optional
        shown.append(said["requestBody"]["content"])
    for content in shown:
        for media in content.values():
            assert examples(media)
            for example in examples(media):
                validator(media["schema"]).validate(example)
    for status, response in said["responses"].items():
        if status >= "400":
            assert list(response["content"]) == [operation.dialect.failure_media], status
    wanted = {"401", "403", "500", "503", *({"413", "415"} if operation.request is not None else ())}
    wanted |= {"202", "400"} if operation.writes else set()
    wanted |= {"404"} if "id" in case.parts else set()
    assert wanted <= set(said["responses"])


@pytest.mark.parametrize("operation", PROBES, ids=lambda one: one.name)
def test_what_a_probe_answers_is_a_component(operation: Operation) -> None:
    for response in openapi.about(operation, COMPONENTS)["responses"].values():
        for media in response["content"].values():
            validator(media["schema"])


def test_every_schema_is_one() -> None:
    for schema in COMPONENTS.schemas.values():
        jsonschema_rs.meta.validate(schema)


def test_operations_have_names_of_their_own() -> None:
    names = [operation.name for operation in (*OPERATIONS, *PROBES)]
    assert len(set(names)) == len(names)
