"""What a view needs beside its resource, so that a dialect looks up that and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from pydantic import BaseModel

from services.http.core.models import models_in


@dataclass(frozen=True, slots=True)
class Needs:
    """A mark of a view's field: what of the dialect's context it is made from."""

    name: str


@cache
def needed_by(view: type[BaseModel]) -> frozenset[str]:
    """Return what the fields of a view need, and those of the views that it holds."""
    found: set[str] = set()
    for field in view.model_fields.values():
        found |= {mark.name for mark in field.metadata if isinstance(mark, Needs)}
        for inner in models_in(field.annotation):
            found |= needed_by(inner)
    return frozenset(found)
