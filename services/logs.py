"""Logging: one JSON line per event, and warnings of the libraries in the same format."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import structlog


def configure(level: str = "info", form: str = "json") -> None:
    """Configure structlog and the logging of the standard library to write to standard error."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # The default traceback of the console prints local variables, which may contain tokens and passwords.
    console = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty() and not os.environ.get("NO_COLOR"),
        exception_formatter=structlog.dev.plain_traceback,
    )
    renderer: Any = structlog.processors.JSONRenderer() if form == "json" else console
    tail: list[Any] = [structlog.processors.format_exc_info] if form == "json" else []
    structlog.configure(
        processors=[*shared, structlog.processors.StackInfoRenderer(), *tail, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail, renderer],
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    # The roles log a lost connection once; these libraries log it repeatedly, with a stack trace.
    for name in ("aio_pika", "aiormq", "psycopg.pool", "uvicorn.error", "faststream"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
