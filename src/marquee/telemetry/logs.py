"""
Structured logs: one stream, JSON for machines or coloured for a terminal.

structlog's way through the standard library costs a request more than its whole edge. So the one line of a
request takes a road of its own where the format is JSON: the same fields, kept for up to 100 ms and written
together. No line of either road carries an API key.
"""

import asyncio
import json
import logging
import re
import sys
import time
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import orjson
import structlog

from marquee.config import LogSettings

__all__ = ["begin_request", "configure_logs", "get_logger", "log_request", "note", "render_json"]

FLUSH_SECONDS: Final = 0.1
FLUSH_LINES: Final = 256
OPTIONS: Final = orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
KEY: Final = re.compile(rb"mq_([A-Za-z0-9]{1,64})_[A-Za-z0-9_-]+")
"""API keys, wherever they may have got into a line: a path, the message of an error."""


def configure_logs(settings: LogSettings, *, stream: TextIO | None = None) -> None:
    """
    Send structlog's and the standard library's records to one stream, as JSON or for a terminal.

    Args:
        settings: level and format.
        stream: where to; default: standard error, so that the output of a command stays parseable.
    """
    global _lines
    out = stream if stream is not None else sys.stderr
    as_json = settings.format == "json" or (settings.format == "auto" and not out.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _with_request,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    # Tracebacks without the values of variables: those may be anybody's secrets.
    renderer: list[Any] = (
        [structlog.processors.format_exc_info, render_json]
        if as_json
        else [
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
            _without_keys,
        ]
    )
    handler = _Handler(out)
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
    _lines = handler if as_json else None


def get_logger() -> Any:
    """A logger of structured events: `log.info("ingest.loaded", rows=3)`."""
    return structlog.stdlib.get_logger("marquee")


def begin_request(**fields: Any) -> dict[str, Any]:
    """
    Have all lines that are written from here on for this request say these fields.

    structlog's own context would do the same, at ten times the cost: it keeps a variable for each field.

    Returns:
        What `note` adds to.
    """
    _REQUEST.set(fields)
    return fields


def note(**fields: Any) -> None:
    """Add to what the lines of the request under way say; outside of one it has no effect."""
    _REQUEST.get({}).update(fields)


def log_request(event: str, fields: Mapping[str, Any]) -> None:
    """
    Write the one line of a request, at level `info`; as JSON it may be 100 ms late.

    Args:
        fields: what the line says, bound context included.
    """
    if _lines is None:
        get_logger().info(event, **fields)
    elif logging.root.level <= logging.INFO:
        _lines.add(_json({"event": event, "level": "info", "timestamp": datetime.now(UTC), **fields}))


class _Handler(logging.StreamHandler[TextIO]):
    """Writes records at once, and before them the lines that were kept."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._kept: list[bytes] = []
        self._oldest = 0.0
        assert self.lock is not None  # made by the line above
        self._guard = self.lock

    def add(self, line: bytes) -> None:
        """Keep a line until it is time to write."""
        with self._guard:
            self._kept.append(line)
            now = time.monotonic()
            if len(self._kept) == 1:
                self._oldest = now
                try:
                    asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
                except RuntimeError:  # nobody would come back to write it
                    self.flush()
            elif len(self._kept) >= FLUSH_LINES or now - self._oldest > FLUSH_SECONDS:
                self.flush()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; called with the lock held."""
        self._write_kept()
        super().emit(record)

    def flush(self) -> None:
        """Write everything; the standard library calls it when the process ends."""
        with self._guard:
            self._write_kept()
            super().flush()

    def _write_kept(self) -> None:
        if self._kept:
            kept, self._kept = self._kept, []
            self.stream.write(b"\n".join([*kept, b""]).decode())


_REQUEST: Final[ContextVar[dict[str, Any]]] = ContextVar("marquee_request")
_lines: _Handler | None = None
"""Where the lines of requests go; None where they take structlog's road."""


def _with_request(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in _REQUEST.get({}).items():
        event.setdefault(name, value)
    return event


def render_json(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    """A line as JSON, without API keys: the last of structlog's processors."""
    return _json(event).decode()


def _without_keys(_: Any, __: str, line: str) -> str:
    return KEY.sub(rb"mq_\1_***", line.encode(errors="backslashreplace")).decode() if "mq_" in line else line


def _json(fields: Mapping[str, Any]) -> bytes:
    try:
        line = orjson.dumps(fields, default=repr, option=OPTIONS)
    except TypeError:  # a lone surrogate in what a client sent, or an integer too great
        line = json.dumps(fields, default=repr).encode()
    return KEY.sub(rb"mq_\1_***", line) if b"mq_" in line else line
