"""What the API writes: events, committed before they are acknowledged, and rows behind its answers."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import psycopg

from marquee.errors import ErasedUserError, StoreBusyError, StoreError, StoreUnavailableError
from marquee.store.postgres import Database
from marquee.store.repositories import feedback, impressions
from marquee.store.repositories.feedback import Appended
from marquee.store.repositories.impressions import Impression, Row, ShadowAnswer, View
from marquee.store.repositories.interactions import NewEvent
from marquee.store.repositories.predictions import NewPrediction
from marquee.store.wire import Line
from marquee.telemetry import get_logger, metrics
from marquee.telemetry.spans import as_span

__all__ = ["EventWriter", "Journal"]

FLUSH_SECONDS: Final = 0.02
MOST_ROWS: Final = 100_000
"""Rows kept while the database is away; then the oldest are given up."""
PARTITIONS_SECONDS: Final = 3600.0
LOCKED_SECONDS: Final = 60.0
"""Until partitions are tried again that a lock kept from being made, such as that of a backup."""
RETRY_SECONDS: Final = 0.5
CLOSE_SECONDS: Final = 5.0
LULL_SECONDS: Final = 0.001
MOST_EVENTS: Final = 5_000
"""Events of one transaction, but for those of one request."""
KNOWN_USERS: Final = 100_000
VIEW_PAUSES: Final = (0.03, 0.1)
"""A list may come on screen before the row of its answer is written: then its view is tried again."""


class _Request(NamedTuple):
    """What one caller wants written."""

    events: Sequence[NewEvent]
    views: Sequence[View]
    began: float
    answer: "asyncio.Future[_Done]"


class _Done(NamedTuple):
    """What became of it; `found` are ids of answers that views name and that are there."""

    appended: Appended
    found: frozenset[bytes]


NOTHING: Final = Appended(())


class EventWriter:
    """
    Writes events by group commit: requests that come while a transaction is under way share the next.

    A request that finds the writer idle goes at once. After a commit the writer waits for those whom it has
    just answered, since they come again: for as many, for as long as they keep coming, and never for longer
    than its patience.

    Args:
        patience_seconds: how long a request waits for others at most, beside the transaction under way.
        silence_seconds: a server that leaves a commit unanswered for so long is taken for lost.
    """

    def __init__(self, database: Database, patience_seconds: float, *, silence_seconds: float = 2.0) -> None:
        self._line = Line(database, silence_seconds)
        self._patience = patience_seconds
        self._waiting: list[_Request] = []
        self._expected = 0
        self._enough = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self._known_users: set[int] = set()

    @property
    def waiting(self) -> int:
        """Requests that wait for a transaction."""
        return len(self._waiting)

    @as_span("events.commit")
    async def append(self, events: Sequence[NewEvent], views: Sequence[View] = ()) -> Sequence[bool]:
        """
        Append events, and note which lists came on screen; all of it or nothing.

        Returns:
            Once PostgreSQL has committed: of each event whether it is new, or was there already by its key.

        Raises:
            ErasedUserError: one of the users has been erased; nothing was stored.
            StoreUnavailableError: the database cannot be reached, or was lost before it said whether it has
                committed: events with a key may be sent again.
            StoreError: the database refused.
        """
        done = await self._join(events, views)
        for pause in VIEW_PAUSES:
            views = [view for view in views if view.request_id.bytes not in done.found]
            if not views:
                break
            await asyncio.sleep(pause)
            done = (await self._join((), views))._replace(appended=done.appended)
        if done.appended.erased is not None:
            raise ErasedUserError(f"The user {done.appended.erased} is erased; nothing more is kept of them.")
        return done.appended.is_new

    async def aclose(self) -> None:
        """Finish what is under way and give up the connection."""
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=CLOSE_SECONDS)
        self._line.close()

    async def _join(self, events: Sequence[NewEvent], views: Sequence[View]) -> "_Done":
        """Wait for the transaction that a request shares."""
        loop = asyncio.get_running_loop()
        request = _Request(events, views, loop.time(), loop.create_future())
        self._waiting.append(request)
        if self._writing is None:
            self._writing = loop.create_task(self._write(), name="events")
        elif len(self._waiting) >= self._expected:
            self._enough.set()
        return await request.answer

    async def _write(self) -> None:
        """Write groups until nobody waits."""
        try:
            while self._waiting:
                group = self._next_group()
                try:
                    done = await self._commit(group)
                except Exception as error:  # each caller gets it
                    for request in group:
                        if not request.answer.done():
                            request.answer.set_exception(error)
                    continue
                for request, answer in zip(group, done, strict=True):
                    if not request.answer.done():
                        request.answer.set_result(answer)
                await self._gather(len(group) + len(self._waiting))
        finally:
            self._writing = None

    def _next_group(self) -> list[_Request]:
        size = taken = 0
        for request in self._waiting:
            size += len(request.events) + len(request.views)
            if taken and size > MOST_EVENTS:
                break
            taken += 1
        group, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return group

    async def _gather(self, expected: int) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience
        self._expected = expected
        before = -1
        while before < len(self._waiting) < expected and loop.time() < deadline:
            before = len(self._waiting)
            self._enough.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LULL_SECONDS):
                    await self._enough.wait()
        self._expected = 0

    async def _commit(self, group: Sequence[_Request]) -> list[_Done]:
        began = asyncio.get_running_loop().time()
        metrics.COMMIT_WAIT_SECONDS.observe(began - group[0].began)  # the longest of the group
        requests = [request.events for request in group]
        users = {event.user_id for events in requests for event in events}
        new_users = sorted(users - self._known_users)
        calls = feedback.append(requests, new_users=new_users) if users else []
        views = [view for request in group for view in request.views]
        results = await self._line.send(*calls, *(impressions.mark_viewed(views) if views else ()))
        if len(self._known_users) > KNOWN_USERS:
            self._known_users.clear()
        self._known_users.update(new_users)
        found = impressions.found(results[-1]) if views else frozenset()
        appended = feedback.appended(requests, results) if users else [NOTHING] * len(group)
        metrics.COMMIT_EVENTS.observe(sum(map(len, requests)) + len(views))
        metrics.COMMIT_SECONDS.observe(asyncio.get_running_loop().time() - began)
        return [_Done(each, found) for each in appended]


class Journal:
    """
    Rows behind answers, buffered and written every few milliseconds.

    They are logs and not events: a crash of this process or of the database may lose the last of them, and
    those that do not fit while the database is away are given up, and counted.

    Attributes:
        predictions_kept: the number of the newest prediction that, with all before it, is stored or given up.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows: dict[str, list[bytes]] = {table: [] for table in impressions.TABLES.values()}
        self._predictions = 0
        self.predictions_kept = 0
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._partitions_due = 0.0
        self._writing = asyncio.Lock()
        self._given = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Rows that wait to be written."""
        return sum(map(len, self._rows.values()))

    def impression(self, row: Impression) -> None:
        """Keep a list that was shown."""
        self._add("impressions", row)

    def shadow(self, row: ShadowAnswer) -> None:
        """Keep an answer that was not shown."""
        self._add("shadow_answers", row)

    def prediction(self, row: NewPrediction) -> int:
        """
        Keep an answer of the predictor.

        Returns:
            Its number within this process, to compare with `predictions_kept`.
        """
        self._add("predictions", row)
        self._predictions += 1
        return self._predictions

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            try:
                if time.monotonic() >= self._partitions_due:
                    await self.flush()
                await self._given.wait()
                await asyncio.sleep(FLUSH_SECONDS)
                await self.flush()
            except Exception as error:  # the journal outlives whatever goes wrong in one flush
                is_known = isinstance(error, StoreError)
                get_logger().warning("journal.not_written", error=str(error), exc_info=not is_known)
                await asyncio.sleep(RETRY_SECONDS)

    async def flush(self) -> None:
        """
        Write what has been given so far.

        Raises:
            StoreUnavailableError: the database cannot be reached; what was not sent is kept.
            StoreError: the database refused; the rows are given up.
        """
        async with self._writing:
            self._given.clear()
            connection = await self._connected()
            rows, self._rows = self._rows, {table: [] for table in self._rows}
            up_to = self._predictions
            if any(rows.values()):
                await self._write(connection, rows)
            self.predictions_kept = max(self.predictions_kept, up_to)

    async def aclose(self) -> None:
        """Write what is left, as far as that is possible, and give up the connection."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if any(self._rows.values()):
                    await self.flush()
        except (TimeoutError, StoreError) as error:
            get_logger().warning("journal.not_written", error=str(error))
        if self._connection is not None:
            await self._connection.close()

    def _add(self, table: str, row: Row) -> None:
        rows = self._rows[table]
        rows.append(impressions.rendered(row))
        if len(rows) > MOST_ROWS:
            self._give_up(table, len(rows) // 10)
            del rows[: len(rows) // 10]
        if not self._given.is_set():
            self._given.set()

    async def _write(self, connection: psycopg.AsyncConnection[Any], rows: dict[str, list[bytes]]) -> None:
        began = time.perf_counter()
        is_sent = False
        try:
            with self._database.translate_errors():
                async with connection.transaction():
                    await impressions.write(connection, rows)
                    is_sent = True
        except BaseException as error:
            is_refused = isinstance(error, StoreError) and not isinstance(error, StoreUnavailableError)
            for table, lines in rows.items():
                if is_sent or is_refused:  # what was sent may have been stored: never twice
                    self._give_up(table, len(lines))
                else:
                    self._rows[table][:0] = lines
            self._given.set()
            raise
        for table, lines in rows.items():
            if lines:
                metrics.JOURNAL_ROWS.labels(table).inc(len(lines))
        metrics.JOURNAL_SECONDS.observe(time.perf_counter() - began)

    def _give_up(self, table: str, n: int) -> None:
        if n:
            metrics.JOURNAL_DROPPED.labels(table).inc(n)
            get_logger().error("journal.rows_lost", table=table, rows=n)

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        connection = self._connection
        if connection is None or connection.closed:
            self._connection = connection = await self._database.connect()
            with self._database.translate_errors():
                await connection.execute("SET synchronous_commit = off")
        if time.monotonic() >= self._partitions_due:
            self._partitions_due = time.monotonic() + await self._make_partitions(connection)
        return connection

    async def _make_partitions(self, connection: psycopg.AsyncConnection[Any]) -> float:
        """Make those that are missing; rows of others go to the partition of everything else."""
        for day in impressions.partition_days():
            try:
                with self._database.translate_errors():
                    await impressions.ensure_partition(connection, day)
            except StoreError as error:
                if connection.closed:
                    raise
                get_logger().warning("journal.no_partition", day=str(day), error=str(error))
                if isinstance(error, StoreBusyError):
                    return LOCKED_SECONDS
        return PARTITIONS_SECONDS
