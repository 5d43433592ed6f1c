"""Which texts are instants."""

from __future__ import annotations

import pytest

from domain.decider import instant
from domain.errors import Rejected


@pytest.mark.parametrize(
    "text",
    [
        "2025-10-31T08:55:00.000+07:00",
        "2025-10-31T08:55:00Z",
        "2025-10-31T08:55:00.123456789-03:30",
        "2024-02-29T23:59:59-00:00",
    ],
)
def test_time(text: str) -> None:
    assert instant(text, "/start").tzinfo is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "2025-10-31",
        "2025-10-31T08:55:00",
        "2025-10-31 08:55:00+07:00",
        "2025-10-31T08:55+07:00",
        "20251031T085500+0700",
        "2025-W44-5T08:55:00+07:00",
        "2025-10-31T08:55:00+07",
        "2025-10-31T08:55:00+07:00:30",
        "2025-10-31T08:55:00,5Z",
        "2025-10-31T08:55:00Z\n",
        "2025-02-29T08:55:00Z",
        "2025-10-31T24:00:00Z",
        "2025-10-31T08:55:60Z",
        "2025-10-31T08:55:00+24:00",
        "0001-01-01T00:00:00+07:00",
        "9999-12-31T23:59:59-07:00",
        "２025-10-31T08:55:00Z",  # noqa: RUF001
    ],
)
def test_no_time(text: str) -> None:
    with pytest.raises(Rejected) as refusal:
        instant(text, "/start")
    assert (refusal.value.code, refusal.value.pointer) == ("invalid", "/start")
