"""
Structured logs: one stream, JSON for machines or coloured for a terminal, and by setting rotating files.

structlog's way through the standard library costs a request more than its whole edge. So the one line of a
request takes a road of its own where the format is JSON: the same fields, kept for up to 100 ms and written
together. No line of either road carries a secret: see `telemetry.redaction`.
"""

import asyncio
import io
import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TextIO

import orjson
import structlog

from marquee.config import LogSettings
from marquee.telemetry.redaction import may_hold_secret, redacted

if TYPE_CHECKING:
    from marquee.telemetry.files import LogFile

__all__ = [
    "begin_request",
    "bound_everywhere",
    "configure_logs",
    "get_logger",
    "log_request",
    "note",
    "render_json",
]

FLUSH_SECONDS: Final = 0.1
FLUSH_LINES: Final = 256
OPTIONS: Final = orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
NOISY: Final = ("alembic", "httpcore", "httpx", "mlflow", "procrastinate", "urllib3")
"""Libraries whose debugging is not ours; some would write headers and addresses of requests."""


def configure_logs(settings: LogSettings, *, stream: TextIO | None = None, server: bool = False) -> None:
    """
    Send structlog's and the standard library's records to one stream, as JSON or for a terminal.

    Args:
        settings: level, format and files.
        stream: where to; default: standard error, so that the output of a command stays parseable.
        server: whether this process serves or works until it is told to stop, or executes a run for one that
            does: it has no other output than its log, which goes to standard output, and to files if wanted.

    Raises:
        ConfigError: the file cannot be written.
    """
    global _lines, _file
    out = stream if stream is not None else _standard_output() if server else sys.stderr
    as_json = settings.format == "json" or (settings.format == "auto" and not out.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _with_bound,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    # Tracebacks without the values of variables: those may be anybody's secrets.
    machines: list[Any] = [structlog.processors.format_exc_info, render_json]
    people: list[Any] = [
        structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback),
        _redact_text,
    ]
    root = logging.getLogger()
    if _file is not None:
        _file.close()  # its name is free for the one below
    _file = None
    if server and settings.file is not None:
        from marquee.telemetry.files import open_log_file  # here: it costs the start of a command

        _file = open_log_file(settings.file, settings)
    handler = _Handler(out, _file)
    handler.setFormatter(_formatter(shared, machines if as_json else people))
    root.handlers = [handler]
    if _file is not None:
        _file.setFormatter(_formatter(shared, machines))
        root.addHandler(_file)  # behind the other, which gives it the lines of requests
    root.setLevel(settings.level.upper())
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel("WARNING")
    if server:
        logging.captureWarnings(True)
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


def note(**fields: Any) -> Mapping[str, Any]:
    """
    Add to what the lines of the request under way say; outside of one it has no effect.

    Returns:
        All that they say, and will have said at its end.
    """
    said = _REQUEST.get({})
    said.update(fields)
    return said


@contextmanager
def bound_everywhere(**fields: Any) -> Iterator[None]:
    """
    Have all lines of this process say these fields meanwhile, unless they have them already.

    structlog's own context ends where a thread begins.
    """
    global _everywhere
    before, _everywhere = _everywhere, {**_everywhere, **fields}
    try:
        yield
    finally:
        _everywhere = before


def log_request(event: str, fields: Mapping[str, Any]) -> None:
    """
    Write the one line of a request, at level `info`; as JSON it may be 100 ms late.

    Args:
        fields: what the line says, bound context included.
    """
    if _lines is None:
        get_logger().info(event, **fields)
    elif logging.root.level <= logging.INFO:
        line = _json({"event": event, "level": "info", "timestamp": datetime.now(UTC), **fields})
        _lines.add(redacted(line) if may_hold_secret(line) else line)


class _Handler(logging.StreamHandler[TextIO]):
    """
    Writes records at once, and before them the lines that were kept.

    Args:
        file: has the kept lines, too.
    """

    def __init__(self, stream: TextIO, file: "LogFile | None") -> None:
        super().__init__(stream)
        self._file = file
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
            lines = b"\n".join([*kept, b""]).decode()
            try:
                self.stream.write(lines)
                if self._file is not None:
                    self._file.append(lines)
            except (OSError, ValueError):  # a full disk, or a stream that was closed, must not fail a request
                self.handleError(logging.makeLogRecord({"msg": f"{len(kept)} lines of requests"}))


_REQUEST: Final[ContextVar[dict[str, Any]]] = ContextVar("marquee_request")
_everywhere: Mapping[str, Any] = {}
"""What all lines of the process say."""
_file: "LogFile | None" = None
_lines: _Handler | None = None
"""Where the lines of requests go; None where they take structlog's road."""


def render_json(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    """A line as JSON, without secrets: the last of structlog's processors."""
    return redacted(_json(event)).decode()


def _redact_text(_: Any, __: str, line: str) -> str:
    return redacted(line.encode(errors="backslashreplace")).decode()


def _with_bound(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for fields in (_REQUEST.get({}), _everywhere):
        for name, value in fields.items():
            event.setdefault(name, value)
    return event


def _formatter(shared: list[Any], renderer: list[Any]) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
    )


def _standard_output() -> TextIO:
    """It takes any character, whatever the locale."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    return sys.stdout


def _json(fields: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(fields, default=repr, option=OPTIONS)
    except TypeError:  # a lone surrogate in what a client sent, or an integer too great
        return json.dumps(fields, default=repr).encode()
