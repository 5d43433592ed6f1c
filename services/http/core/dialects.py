"""The dialects of operations, found by their place: a package of `services.http` with a module `operations`."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec

from services import http
from services.http.core.middleware import Envelope
from services.http.core.operation import Operation


def operations() -> tuple[Operation, ...]:
    """Return `OPERATIONS` of every dialect, in the order of the packages' names."""
    return tuple(operation for name in _modules() for operation in import_module(name).OPERATIONS)


def envelopes(found: tuple[Operation, ...]) -> dict[str, Envelope]:
    """Return the envelopes of dialects by the paths below which they answer for what nobody serves."""
    return {path: each.dialect.envelope for each in found for path in each.dialect.paths}


def _modules() -> Iterator[str]:
    for package in pkgutil.iter_modules(http.__path__, f"{http.__name__}."):
        name = f"{package.name}.operations"
        if package.ispkg and find_spec(name) is not None:
            yield name
