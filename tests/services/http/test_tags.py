"""Entity tags in every dialect: what is read says its tag, and reads and writes depend on one."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from tests.services.http.api import Api
from tests.services.http.contract import EXAMPLES, READS, Case, documented, name_of, refused, send
from tests.services.http.contract_scene import recorded, set_the_scene

set_scene = set_the_scene
TAGGED = [case for case in READS if case.operation.conditional]
WRITES = [case for case in EXAMPLES if case.operation.writes]
CONDITIONAL = [case for case in WRITES if case.operation.conditional]
TAG = re.compile(r'"([0-9]+)\.([0-9]+)\.([0-9a-f]{8})"')
# In the form of a tag, and of no resource here.
OTHER = '"77.7.00000000"'
# Texts in the headers that are no tags.
NO_TAGS = ("", "x", "1.2.3", '"', '"a', '"a" "b"', "'a'", 'w/"a"', '*, "a"', '"a",b', b'"\x00"')


def other_than(tag: str) -> str:
    """Return the tag of another version of the same resource."""
    version, position, checksum = TAG.fullmatch(tag).groups()  # type: ignore[union-attr]
    return f'"{int(version) + 1}.{position}.{checksum}"'


async def tag_for(api: Api, case: Case) -> str:
    """Return the tag of what a write is about, as a read of its dialect says it, or else the native API."""
    path = case.operation.path
    reads = [read for read in TAGGED if path.startswith(read.operation.path)]
    own = [max(reads, key=lambda read: len(read.operation.path)).at(**case.parts)] if reads else []
    natives = [f"/v1/{kind}/{case.parts['id']}" for kind in ("tasks", "activities", "directory/project")]
    for address in (*own, *natives):
        response = await api.get(address)
        if response.status_code == 200:
            return str(response.headers["etag"])
    raise AssertionError(case.name)


async def with_tag(api: Api, case: Case, name: str, value: Any, **rest: Any) -> httpx.Response:
    headers = {name: value, **rest}
    return await send(api, case, headers=headers)


# Reads.


@pytest.mark.parametrize("case", TAGGED, ids=name_of)
async def test_a_resource_has_a_tag_that_stays_and_need_not_be_sent_again(api: Api, case: Case) -> None:
    first, again = await send(api, case), await send(api, case)
    tag = first.headers["etag"]
    assert TAG.fullmatch(tag)
    assert (again.headers["etag"], again.content) == (tag, first.content)
    assert first.headers.get_list("cache-control") == ["private, no-cache"]
    for had in (tag, f"W/{tag}", "*", f'"a", W/"b" ,{tag}', f'{tag},"c"'):
        response = await with_tag(api, case, "If-None-Match", had)
        assert (response.status_code, response.content) == (304, b""), had
        assert response.headers["etag"] == tag
        assert response.headers.get_list("cache-control") == ["private, no-cache"]
        documented(case, response)
    head = await api.client.head(case.at(), headers={**api.by(), "If-None-Match": tag})
    assert (head.status_code, head.headers["etag"]) == (304, tag)
    twice = [*api.by().items(), ("If-None-Match", '"a"'), ("If-None-Match", tag)]
    assert (await api.client.get(case.at(), headers=twice)).status_code == 304
    for had in (OTHER, other_than(tag), '"a", "b"', '""'):
        response = await with_tag(api, case, "If-None-Match", had)
        assert (response.status_code, response.content) == (200, first.content)


@pytest.mark.parametrize("case", TAGGED, ids=name_of)
async def test_a_resource_that_must_be_the_same_and_is_not_is_refused(api: Api, case: Case) -> None:
    tag = (await send(api, case)).headers["etag"]
    for wanted in (tag, "*", f'"a", {tag}'):
        assert (await with_tag(api, case, "If-Match", wanted)).status_code == 200
    for wanted in (OTHER, other_than(tag), f"W/{tag}", '""'):
        response = await with_tag(api, case, "If-Match", wanted)
        refused(response, case.operation.dialect.envelope, "precondition-failed", parameter="If-Match")
        assert response.status_code == 412
        documented(case, response)


@pytest.mark.parametrize("case", TAGGED, ids=name_of)
async def test_a_header_that_is_no_tag_is_refused_where_it_is_read(api: Api, case: Case) -> None:
    for name in ("If-Match", "If-None-Match"):
        for given in NO_TAGS:
            response = await with_tag(api, case, name, given)
            refused(response, case.operation.dialect.envelope, "bad-header", parameter=name)
            documented(case, response)


@pytest.mark.parametrize("case", [case for case in READS if case not in TAGGED], ids=name_of)
async def test_a_list_has_no_tag(api: Api, case: Case) -> None:
    response = await with_tag(api, case, "If-None-Match", "*")
    assert response.status_code == 200
    assert "etag" not in response.headers


async def test_a_tag_follows_what_is_shown_beside_the_resource(api: Api) -> None:
    own = {case.name: (await send(api, case)).headers["etag"] for case in TAGGED}
    # Another caller may send other commands.
    token = api.key("acme", "m42", "read")
    theirs = (await api.get("/v1/tasks/t1", token)).headers["etag"]
    mine = own["get_task"]
    assert theirs != mine
    assert theirs.rpartition(".")[0] == mine.rpartition(".")[0]
    # A task moves its activity, whose own events are none of it.
    before = TAG.fullmatch(own["get_activity"])
    api.command("task.process", {"id": "a1-t1"})
    after = TAG.fullmatch((await api.get("/v1/activities/a1")).headers["etag"])
    assert before is not None
    assert after is not None
    assert after[1] == before[1]
    assert int(after[2]) > int(before[2])


# Writes.


@pytest.mark.parametrize("case", CONDITIONAL, ids=name_of)
async def test_a_write_takes_effect_only_on_what_has_the_tag(api: Api, case: Case) -> None:
    tag, spoken = await tag_for(api, case), case.operation.dialect.envelope
    count = recorded(api)
    for wanted in (other_than(tag), OTHER, f'"{"9" * 19}.1.00000000"', f"W/{tag}", '"a"', '""'):
        response = await with_tag(api, case, "If-Match", wanted)
        refused(response, spoken, "precondition-failed", parameter="If-Match")
        assert response.status_code == 412
        documented(case, response)
    assert recorded(api) == count
    done = await with_tag(api, case, "If-Match", f'"a", {tag}')
    assert done.status_code in (case.operation.status, *case.operation.also), done.text
    documented(case, done)
    # The worker that decides compares it, whatever was written in the meantime.
    expected = {command.expected_version for command in api.sender.sent[-1:]}
    assert expected == {int(tag.strip('"').split(".")[0])}
    if recorded(api) > count:
        late = await with_tag(api, case, "If-Match", tag)
        refused(late, spoken, "precondition-failed", parameter="If-Match")


@pytest.mark.parametrize("case", CONDITIONAL, ids=name_of)
async def test_a_write_says_the_tag_that_it_leaves(api: Api, case: Case) -> None:
    done = await with_tag(api, case, "If-Match", "*")
    assert done.status_code in (case.operation.status, *case.operation.also), done.text
    if done.content:
        tag = TAG.fullmatch(done.headers["etag"])
        assert tag is not None
        if case.operation.method != "DELETE" and "etag" in done.headers:
            found = TAG.fullmatch(await tag_for(api, case))
            assert found is not None
            assert (tag[1], tag[2]) == (found[1], found[2])


@pytest.mark.parametrize("case", CONDITIONAL, ids=name_of)
async def test_a_repetition_of_a_conditional_write_gets_its_answer(api: Api, case: Case) -> None:
    wanted = {"If-Match": await tag_for(api, case), "Idempotency-Key": "key-1"}
    first = await send(api, case, headers=wanted)
    assert first.status_code < 300, first.text
    count = recorded(api)
    again = await send(api, case, headers=wanted)
    assert (again.status_code, recorded(api)) == (first.status_code, count), again.text


@pytest.mark.parametrize("case", WRITES, ids=name_of)
async def test_a_condition_that_is_not_compared_is_refused(api: Api, case: Case) -> None:
    count = recorded(api)
    names = ["If-None-Match", *([] if case.operation.conditional else ["If-Match"])]
    for name in names:
        response = await with_tag(api, case, name, "*")
        refused(response, case.operation.dialect.envelope, "bad-header", parameter=name)
        documented(case, response)
    if case.operation.conditional:
        for given in (*NO_TAGS, f'{OTHER}, "78.7.00000000"'):
            response = await with_tag(api, case, "If-Match", given)
            refused(response, case.operation.dialect.envelope, "bad-header", parameter="If-Match")
            documented(case, response)
    assert recorded(api) == count
