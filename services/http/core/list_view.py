"""Whole answers that are a list."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import RootModel

from services.http.core.models import Json, View, models_in


class ListView(RootModel[list[Any]]):
    """An answer that is a list; a subclass says of what views: `root: list[TargetUser]`."""

    @classmethod
    def show(cls, resources: Iterable[Any], context: Any = None) -> list[Json]:
        """Return resources as they are shown."""
        (view,) = models_in(cls.model_fields["root"].annotation)
        assert issubclass(view, View)  # noqa: S101
        return [view.show(each, context) for each in resources]
