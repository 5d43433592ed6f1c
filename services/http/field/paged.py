"""Pages as Laravel shows them, on which the original is built: rows with the addresses of the other pages."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Annotated, Any
from urllib.parse import urlencode

from pydantic import Field, create_model

from services.http.core.call import Call
from services.http.core.middleware import header
from services.http.core.models import From, View
from services.http.core.pages import Page
from services.http.core.shown import Count

# How many pages are linked on each side of the present one where there are many, and how many at the ends.
_BESIDE, _AT_END = 3, 2
_PAGE = "http://127.0.0.1:8000/api/v3/tasks?page=1"


# What says where a page goes on that has no number.
_OF_CURSOR = ("lazyLoad", "cursor")


def at_address(call: Call, page: Page) -> Page:
    """Return a page whose addresses are absolute, of the host that the caller has asked."""
    host = header(b"host")
    return page if host is None else replace(page, path=f"{call.scope['scheme']}://{host}{page.path}")


@dataclass(frozen=True, slots=True)
class _Continued(Page):
    def url(self, number: int) -> str | None:
        """Return the address of what follows, or of a numbered page of the same query."""
        if number != self.number + 1:
            others = {name: values for name, values in self.parameters.items() if name not in _OF_CURSOR}
            return Page(number, self.limit, self.total, [], self.path, others).url(number)
        if len(self.rows) < self.limit and not self.left:
            return None
        return f"{self.path}?{urlencode({**self.parameters, 'cursor': [self.rows[-1]['_id']]}, doseq=True)}"


def continued(page: Page) -> Page:
    """Return a page that goes on after a row as one that is followed by what goes on after its own last row."""
    return _Continued(*(getattr(page, field.name) for field in fields(page)))


class PageLink(View):
    """The address of another page, or what stands for pages that are left out."""

    url: str | None = Field(..., examples=[_PAGE])
    label: str = Field(examples=["1"])
    active: bool = Field(..., description="It is the present page", examples=[True])


def _links(page: Page, _: Any) -> list[dict[str, Any]]:
    """Return the links that Laravel shows: to the pages beside, and to all pages or those at the ends and around."""
    found = [{"url": page.url(page.number - 1), "label": "&laquo; Previous", "active": False}]
    before = 0
    for number in _linked(page.number, page.last):
        if number != before + 1:
            found.append({"url": None, "label": "...", "active": False})
        found.append({"url": page.url(number), "label": str(number), "active": number == page.number})
        before = number
    return [*found, {"url": page.url(page.number + 1), "label": "Next &raquo;", "active": False}]


def _row(page: Page, number: int) -> int | None:
    """Return which of all rows a row of the page is; that is not known of a page that goes on after a row."""
    return page.offset + number if page.rows and "cursor" not in page.parameters else None


def _linked(number: int, last: int) -> list[int]:
    wide = 2 * _BESIDE + 4
    if last < wide + 4:
        near = range(1, last + 1)
    elif number <= _BESIDE + 4:
        near = range(1, wide + 1)
    elif number > last - _BESIDE - 4:
        near = range(last - wide + 1, last + 1)
    else:
        near = range(number - _BESIDE, number + _BESIDE + 1)
    ends = (*range(1, 1 + _AT_END), *range(last + 1 - _AT_END, last + 1))
    return sorted({*near, *(each for each in ends if 1 <= each <= last)})


class Paged(View):
    """Rows with what leads to the pages beside theirs."""

    current_page: Annotated[Count, From("", lambda page, _: page.number)] = Field(examples=[1])
    data: Annotated[list[Any], From("", lambda page, _: page.rows)]
    first_page_url: Annotated[str, From("", lambda page, _: page.url(1))] = Field(examples=[_PAGE])
    first: Annotated[int | None, From("", lambda page, _: _row(page, 1))] = Field(alias="from", examples=[1])
    last_page: Annotated[Count, From("", lambda page, _: page.last)] = Field(examples=[1])
    last_page_url: Annotated[str, From("", lambda page, _: page.url(page.last))] = Field(examples=[_PAGE])
    links: Annotated[list[PageLink], From("", _links)]
    next_page_url: Annotated[str | None, From("", lambda page, _: page.url(page.number + 1))]
    path: Annotated[str, From("", lambda page, _: page.path)] = Field(examples=["http://127.0.0.1:8000/api/v3/tasks"])
    per_page: Annotated[Count, From("", lambda page, _: page.limit)] = Field(examples=[20])
    prev_page_url: Annotated[str | None, From("", lambda page, _: page.url(page.number - 1))]
    to: Annotated[int | None, From("", lambda page, _: _row(page, len(page.rows)))] = Field(examples=[1])
    total: Annotated[Count, From("", lambda page, _: page.total)] = Field(examples=[1])


def page_view(name: str, said: str, view: Any) -> type[Paged]:
    data: Any = Annotated[list[view], From("", lambda page, _: page.rows)]
    return create_model(name, __base__=Paged, __module__=__name__, __doc__=said, data=data)
