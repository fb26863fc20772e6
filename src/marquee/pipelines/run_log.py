"""
What a run logs, kept in the database beside its row.

Lines are handed to a thread that writes them every second. A run neither waits for it nor fails with it:
while the database is away the newest lines wait in memory, and beyond those the oldest are dropped.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, Self
from uuid import UUID

from sqlalchemy import text

from marquee.errors import StoreError, StoreUnavailableError
from marquee.store.postgres import Database
from marquee.store.repositories import run_logs
from marquee.store.repositories.run_logs import Line
from marquee.telemetry import get_logger
from marquee.telemetry.copies import copied_to

__all__ = ["RunLog"]

FLUSH_SECONDS: Final = 1.0
WRITE_SECONDS: Final = 5
CLOSE_SECONDS: Final = 3.0
"""How long the end of a run waits for its last lines."""
WAITING_LINES: Final = 1_000
HELD_ALREADY: Final = {"run_id", "pipeline"}
"""Fields that the row of the run has."""


class RunLog:
    """
    Keeps what this process logs while a run is executed; use as a context manager.

    Attributes:
        run_id: whose the lines are.
    """

    def __init__(self, database: Database, run_id: UUID) -> None:
        self.run_id = run_id
        self._database = database
        self._lines: deque[Line] = deque(maxlen=WAITING_LINES)
        self._ended = threading.Event()
        self._writer = threading.Thread(target=self._write_for_ever, name="run log", daemon=True)
        self._copies = copied_to(self._take)
        self._is_refused = False

    def __enter__(self) -> Self:
        self._copies.__enter__()
        self._writer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._copies.__exit__(None, None, None)
        self._ended.set()
        self._writer.join(CLOSE_SECONDS)

    @contextmanager
    def about(self, run_id: UUID) -> Iterator[None]:
        """Have the lines be those of a step for a while."""
        before, self.run_id = self.run_id, run_id
        try:
            yield
        finally:
            self.run_id = before

    def _take(self, fields: dict[str, Any]) -> None:
        moment = datetime.fromisoformat(fields.pop("timestamp"))
        level, event = str(fields.pop("level")), str(fields.pop("event"))
        rest = {name: value for name, value in fields.items() if name not in HELD_ALREADY}
        self._lines.append(Line(self.run_id, moment, level, event, rest))

    def _write_for_ever(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._ended.wait(FLUSH_SECONDS)
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            try:
                self._write(lines)
            except StoreUnavailableError as error:
                room = WAITING_LINES - len(self._lines)
                self._lines.extendleft(reversed(lines[-room:] if room else []))
                self._say(error)
            except StoreError as error:
                self._say(error)
            else:
                self._is_refused = False

    def _write(self, lines: list[Line]) -> None:
        if lines:
            with self._database.begin() as connection:
                connection.execute(text(f"SET LOCAL statement_timeout = '{WRITE_SECONDS}s'"))
                run_logs.append(connection, lines)

    def _say(self, error: StoreError) -> None:
        """Once for each time that the database is away: each further word would be one more line to write."""
        if not self._is_refused:
            get_logger().warning("run.log_not_written", error=str(error))
        self._is_refused = True
