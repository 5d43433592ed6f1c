"""Bodies that are sent otherwise than as plain UTF-8: gzip is taken, anything else is refused by its name."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator

import pytest

from tests.services.http.api import LIMIT, Api
from tests.services.http.contract import WITH_BODY, Case, documented, name_of, refused, send, was_taken

pytestmark = pytest.mark.asyncio(loop_scope="module")
EVERY = pytest.mark.parametrize("case", WITH_BODY, ids=name_of)
GZIP = {"Content-Encoding": "gzip"}
# What `opened` sets.
BODY_LIMIT = 64 << 10
ENCODINGS = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")


def plain(case: Case) -> bytes:
    assert case.content is not None
    return case.content


class Parts:
    """A body in parts of one size; counts how many were taken."""

    def __init__(self, body: bytes, size: int) -> None:
        self.body, self.size, self.taken = body, size, 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.body), self.size):
            self.taken += 1
            yield self.body[start : start + self.size]


@EVERY
async def test_a_body_in_gzip_is_the_same_as_the_plain_one(scene_api: Api, case: Case) -> None:
    scene_api.sender.stopped = True
    body = plain(case)
    assert was_taken(case, await send(scene_api, case))
    ways = [
        *((name, gzip.compress(body)) for name in ("gzip", "GZIP", "x-gzip")),
        # Several members are one body, and an empty one is none.
        ("gzip", gzip.compress(body[:3]) + gzip.compress(b"") + gzip.compress(body[3:])),
        ("identity", body),
    ]
    for name, encoded in ways:
        for content in (encoded, Parts(encoded, 7)):
            response = await send(scene_api, case, headers={"Content-Encoding": name}, content=content)
            assert was_taken(case, response), response.text
            documented(case, response)
    sent = [command.body for command in scene_api.sender.sent]
    share = len(sent) // (1 + 2 * len(ways))
    for number in range(1, 1 + 2 * len(ways)):
        again = sent[share * number : share * (number + 1)]
        assert [len(each) for each in again] == [len(each) for each in sent[:share]]


@EVERY
async def test_what_is_no_gzip_is_refused(scene_api: Api, case: Case) -> None:
    body, whole = plain(case), gzip.compress(plain(case))
    wrong = (
        *(body, whole[:-1], whole[:-9], whole[:10], whole + b"x", whole[:12] + b"\xff" + whole[13:]),
        *(whole[:-8] + b"\0\0\0\0" + whole[-4:], zlib.compress(body), b"\x1f\x8b"),
    )
    for content in wrong:
        response = await send(scene_api, case, headers=GZIP, content=content)
        refused(response, case.operation.dialect.envelope, "not-gzip", parameter="Content-Encoding")
        documented(case, response)
    assert scene_api.sender.sent == []


@EVERY
async def test_any_other_encoding_is_refused_by_its_name(scene_api: Api, case: Case) -> None:
    for name in ("br", "deflate", "zstd", "compress", "gzip, gzip", "\u00e9".encode("latin-1"), "x" * 300):
        response = await send(scene_api, case, headers={"Content-Encoding": name})
        refused(response, case.operation.dialect.envelope, "unsupported-media-type", parameter="Content-Encoding")
        documented(case, response)
        assert isinstance(name, bytes) or name[:100] in response.text
        assert response.headers["accept-encoding"] == "gzip"
    assert scene_api.sender.sent == []


@EVERY
async def test_a_body_that_grows_beyond_the_limit_is_refused_while_it_is_inflated(scene_api: Api, case: Case) -> None:
    spoken = case.operation.dialect.envelope
    spaces = b" " * (BODY_LIMIT - len(plain(case)))
    scene_api.sender.stopped = True
    fits = await send(scene_api, case, headers=GZIP, content=gzip.compress(plain(case) + spaces))
    assert was_taken(case, fits), fits.text
    scene_api.sender.sent.clear()
    refused(
        await send(scene_api, case, headers=GZIP, content=gzip.compress(plain(case) + spaces + b" ")),
        spoken,
        "too-large",
    )
    # Members without content have no end of their own.
    refused(
        await send(scene_api, case, headers=GZIP, content=Parts(gzip.compress(b"") * 10_000, 512)),
        spoken,
        "not-gzip",
        parameter="Content-Encoding",
    )
    assert scene_api.sender.sent == []


async def test_what_a_small_body_would_be_is_not_held(scene_api: Api) -> None:
    case = WITH_BODY[0]
    bomb = gzip.compress(b" " * (64 * LIMIT))
    assert len(bomb) < BODY_LIMIT
    tracemalloc.start()
    try:
        for content in (bomb, Parts(bomb, 1024)):
            refused(
                await send(scene_api, case, headers=GZIP, content=content), case.operation.dialect.envelope, "too-large"
            )
        assert tracemalloc.get_traced_memory()[1] < LIMIT
        assert isinstance(content, Parts)
        assert content.taken < 3
    finally:
        tracemalloc.stop()


@EVERY
async def test_another_encoding_of_text_is_refused_by_its_name(scene_api: Api, case: Case) -> None:
    spoken = case.operation.dialect.envelope
    for name in ENCODINGS:
        response = await send(scene_api, case, content=json.dumps(case.body).encode(name))
        refused(response, spoken, "not-utf-8")
        assert name[:6].upper() in response.text
    marked = await send(scene_api, case, content=b"\xef\xbb\xbf" + plain(case))
    refused(marked, spoken, "not-json")
    assert "byte order mark" in marked.text
    for charset in ("utf-16", "UTF-16LE", '"utf-32"', "iso-8859-1"):
        kind = f"application/json; charset={charset}"
        response = await send(scene_api, case, headers={"Content-Type": kind})
        refused(response, spoken, "unsupported-media-type", parameter="Content-Type")
        assert charset.strip('"') in response.text
        documented(case, response)
    assert scene_api.sender.sent == []
    scene_api.sender.stopped = True
    for rest in ("charset=utf-8", 'Charset="UTF-8"', "charset=us-ascii", "version=1;charset=utf8", "xcharset=utf-16"):
        response = await send(scene_api, case, headers={"Content-Type": f"application/json; {rest}"})
        assert was_taken(case, response), (rest, response.text)
