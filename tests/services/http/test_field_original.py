"""What the original's documentation says beside its examples: formats, names and wordings."""

from __future__ import annotations

import pytest

from tests.services.http.api import Api, field_failure


@pytest.mark.parametrize(
    ("sent", "shown_as"),
    [
        ("2022-07-13 03:16:40", "2022-07-13T03:16:40+00:00"),
        ("2022-07-13T03:16:40", "2022-07-13T03:16:40+00:00"),
        ("2022-07-13T03:16:40.123+07:00", "2022-07-13T03:16:40.123+07:00"),
        ("2022-07-13T03:16:40+07:00", "2022-07-13T03:16:40+07:00"),
    ],
)
async def test_the_published_formats_of_times(api: Api, sent: str, shown_as: str) -> None:
    response = await api.post("/api/v3/task", {"flow": "Visit", "startTime": sent})
    assert (response.status_code, response.json()["task"]["startTime"]) == (201, shown_as)


@pytest.mark.parametrize("sent", ["2022-07-13 24:00:00", "2022-02-30 03:16:40", "2022-07-13 03:16", "2022-07-13"])
async def test_a_time_that_is_none_is_refused(api: Api, sent: str) -> None:
    field_failure(await api.post("/api/v3/task", {"flow": "Visit", "startTime": sent}), 400, "activity-005")
