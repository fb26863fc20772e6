"""Structured logs, and every Prometheus metric of the package."""

import logging
import sys
from typing import Any, TextIO

import structlog

from marquee.config import LogSettings

__all__ = ["configure_logs", "get_logger"]


def configure_logs(settings: LogSettings, *, stream: TextIO | None = None) -> None:
    """
    Send structlog's and the standard library's records to one stream, as JSON or for a terminal.

    Args:
        settings: level and format.
        stream: where to; default: standard error, so that the output of a command stays parseable.
    """
    out = stream if stream is not None else sys.stderr
    as_json = settings.format == "json" or (settings.format == "auto" and not out.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if as_json
        else [structlog.dev.ConsoleRenderer(colors=out.isatty())]
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.level.upper())
    for noisy in ("alembic", "httpx", "httpcore", "mlflow", "procrastinate", "urllib3"):
        logging.getLogger(noisy).setLevel("WARNING")
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def get_logger() -> Any:
    """A logger of structured events: `log.info("ingest.loaded", rows=3)`."""
    return structlog.stdlib.get_logger("marquee")
