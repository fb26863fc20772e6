"""Copies of log lines, for who keeps them beside the stream that they are written to."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import structlog

from marquee.telemetry.logs import render_json

__all__ = ["copied_to"]

MAX_TEXT: Final = 4_000
"""Characters of one text in a line; what is longer (a traceback, as a rule) keeps its end."""


@contextmanager
def copied_to(take: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """
    Hand each line that is logged in this process on, too, without API keys and as PostgreSQL takes it.

    Args:
        take: called by whoever logs, with `event`, `level`, `timestamp` and the other fields; must be quick.
    """
    handler, root = _Copies(take), logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


class _Copies(logging.Handler):
    def __init__(self, take: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self._take = take
        self.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                foreign_pre_chain=[
                    structlog.contextvars.merge_contextvars,
                    structlog.stdlib.add_log_level,
                    structlog.processors.TimeStamper(fmt="iso", utc=True),
                ],
                processors=[
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    structlog.processors.format_exc_info,
                    render_json,
                ],
            )
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Called by the standard library; an error of ours must not reach who logs."""
        try:
            self._take(_plain(json.loads(self.format(record), parse_constant=lambda _: None)))
        except Exception:  # as all handlers of the standard library do
            self.handleError(record)


def _plain(value: Any) -> Any:
    """Without what PostgreSQL refuses: the character 0 and halves of surrogate pairs."""
    if isinstance(value, str):
        cut = value if len(value) <= MAX_TEXT else f"…{value[-MAX_TEXT:]}"
        return cut.replace("\0", "?").encode(errors="replace").decode()
    if isinstance(value, dict):
        return {_plain(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value
