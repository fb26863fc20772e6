"""
One connection to PostgreSQL at the level of libpq, for what is asked thousands of times a second.

It is in pipeline mode: the statements of a `send` go out together with one sync, which commits them as one
transaction, and the server answers all of it in one round trip. A `send` without statements is a round trip
and nothing else.

Source:
    https://www.postgresql.org/docs/current/libpq-pipeline-mode.html
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from struct import pack
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np
import psycopg
from numpy.typing import ArrayLike, NDArray
from psycopg import pq
from psycopg.pq.abc import PGresult

from marquee.errors import StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from marquee.store.postgres import Database

__all__ = ["Call", "Line", "Wire", "array_of", "bigints", "reals", "texts", "times", "uuids"]

POSTGRES_EPOCH_MICROSECONDS: Final = 946_684_800_000_000
"""2000-01-01, where PostgreSQL's clock begins."""

TEXT_OID, BIGINT_OID, REAL_OID, TIMESTAMPTZ_OID, UUID_OID = 25, 20, 700, 1184, 2950


class Call(NamedTuple):
    """
    A statement with its parameters.

    Attributes:
        statement: one SQL statement, its parameters as `$1`; the same bytes each time, since each distinct
            one is prepared once and kept.
        parameters: in PostgreSQL's binary format, None for null.
    """

    statement: bytes
    parameters: Sequence[bytes | None]


class Wire:
    """
    A connection that one part of the program has for itself; one `send` at a time.

    Use `open`. It ends with its first error, since a pipeline that broke off may have left anything behind:
    whoever had it opens another.

    Attributes:
        lost: done when the connection has ended.
    """

    def __init__(self, database: "Database", connection: psycopg.AsyncConnection[Any]) -> None:
        self._database = database
        self._connection = connection
        self._pgconn = connection.pgconn
        self._socket = connection.fileno()
        self._loop = asyncio.get_running_loop()
        self._prepared: dict[bytes, bytes] = {}
        self._answer: asyncio.Future[list[PGresult]] | None = None
        self._results: list[PGresult] = []
        self._notified: Callable[[str, str], None] | None = None
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self._pgconn.enter_pipeline_mode()
        self._loop.add_reader(self._socket, self._readable)

    @classmethod
    async def open(
        cls,
        database: "Database",
        *,
        listen: Sequence[str] = (),
        notified: Callable[[str, str], None] | None = None,
    ) -> Self:
        """
        Connect.

        Args:
            listen: channels to hear.
            notified: called with channel and payload of each notification, before the answer of a `send`
                that was sent after its commit.

        Raises:
            StoreUnavailableError: the server cannot be reached.
        """
        connection = await database.connect()
        try:
            with database.translate_errors():
                for channel in listen:
                    await connection.execute(f'LISTEN "{channel}"'.encode())
            wire = cls(database, connection)
        except BaseException:
            connection.pgconn.finish()
            raise
        wire._notified = notified
        return wire

    def send(self, *calls: Call) -> asyncio.Future[list[PGresult]]:
        """
        Run statements as one transaction.

        Returns:
            Their results once it has been committed; text of columns is binary. It fails with a `StoreError`
            where the server refused, and with a `StoreUnavailableError` where the connection broke: then the
            transaction may have been committed or not.

        Raises:
            StoreUnavailableError: the connection has ended; nothing was sent.
        """
        if self._answer is not None:
            raise RuntimeError("a wire carries one send at a time")
        if self.lost.done():
            raise StoreUnavailableError(f"The connection to PostgreSQL at {self._database.address} is lost.")
        self._answer = answer = self._loop.create_future()
        try:
            for statement, parameters in calls:
                name = self._prepared.get(statement)
                if name is None:
                    name = self._prepared[statement] = b"s%d" % len(self._prepared)
                    self._pgconn.send_prepare(name, statement)
                self._pgconn.send_query_prepared(name, parameters, [1] * len(parameters), result_format=1)
            self._pgconn.pipeline_sync()
            self._flush()
        except psycopg.Error as error:
            self._end(error)
        return answer

    def close(self) -> None:
        """End the connection; what is under way fails."""
        self._end(psycopg.OperationalError("the connection was closed"))

    def _flush(self) -> None:
        """Give libpq's buffer to the socket, as far as the socket takes it."""
        try:
            is_left = self._pgconn.flush()
        except psycopg.Error as error:
            self._end(error)
            return
        if is_left:
            self._loop.add_writer(self._socket, self._flush)
        else:
            self._loop.remove_writer(self._socket)

    def _readable(self) -> None:
        pgconn = self._pgconn
        is_answered = False
        try:
            pgconn.consume_input()
            while self._answer is not None and not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:
                    if pgconn.status == pq.ConnStatus.BAD:
                        raise psycopg.OperationalError(pgconn.get_error_message())
                    continue  # the end of one statement's results
                if result.status == pq.ExecStatus.PIPELINE_SYNC:
                    is_answered = True
                    break
                self._results.append(result)
        except psycopg.Error as error:
            self._end(error)
            return
        # Those sent before the sync's answer were parsed with it: they are told before it.
        while (notification := pgconn.notifies()) is not None:
            self._tell(notification)
        if is_answered:
            self._finish()

    def _finish(self) -> None:
        answer, results = self._answer, self._results
        self._answer, self._results = None, []
        refused = next((r for r in results if r.status == pq.ExecStatus.FATAL_ERROR), None)
        if refused is not None:
            error = psycopg.errors.error_from_result(refused)
            self._answer = answer
            self._end(error)
        elif answer is not None and not answer.done():
            answer.set_result([r for r in results if r.status == pq.ExecStatus.TUPLES_OK])

    def _tell(self, notification: pq.PGnotify) -> None:
        if self._notified is not None:
            self._notified(notification.relname.decode(), notification.extra.decode())

    def _end(self, error: psycopg.Error) -> None:
        if self.lost.done():
            return
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._pgconn.finish()
        self.lost.set_result(None)
        answer, self._answer, self._results = self._answer, None, []
        if answer is not None and not answer.done():
            with suppress(StoreError):
                self._fail(answer, error)

    def _fail(self, answer: asyncio.Future[list[PGresult]], error: psycopg.Error) -> None:
        try:
            with self._database.translate_errors():
                raise error
        except StoreError as translated:
            answer.set_exception(translated)


class Line:
    """
    A wire that is opened when it is needed, and again after it was lost.

    Args:
        silence_seconds: a server that leaves a send unanswered for so long is taken for lost.
    """

    def __init__(self, database: "Database", silence_seconds: float) -> None:
        self._database = database
        self._silence = silence_seconds
        self._wire: Wire | None = None

    async def send(self, *calls: Call) -> list[PGresult]:
        """
        Run statements as one transaction, as `Wire.send`; one send at a time.

        Raises:
            StoreUnavailableError: the server cannot be reached, or was lost before it answered: then the
                transaction may have been committed or not.
            StoreError: the server refused.
        """
        try:
            async with asyncio.timeout(self._silence):
                if self._wire is None or self._wire.lost.done():
                    self._wire = await Wire.open(self._database)
                return await self._wire.send(*calls)
        except TimeoutError:
            self.close()
            raise StoreUnavailableError(
                f"PostgreSQL at {self._database.address} did not answer within {self._silence:g} s.",
                fix="Try again; `marquee doctor` looks into it.",
            ) from None
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        """End the connection; what is under way fails."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None


def array_of(value: bytes | memoryview | None, dtype: str) -> NDArray[Any]:
    """
    The elements of an array without nulls, as a view of its binary format.

    Args:
        value: None and the empty array are of length 0.
        dtype: of an element, big-endian: `>i8` for bigint and timestamptz, `>f4` for real.
    """
    if value is None or len(value) <= 12:
        return np.empty(0, dtype)
    elements: NDArray[Any] = np.frombuffer(value, _element(dtype), offset=20)["value"]
    return elements


def bigints(values: ArrayLike) -> bytes:
    """A bigint[] as a parameter."""
    return _fixed(np.asarray(values, ">i8"), BIGINT_OID)


def reals(values: ArrayLike) -> bytes:
    """A real[] as a parameter."""
    return _fixed(np.asarray(values, ">f4"), REAL_OID)


def times(microseconds: ArrayLike) -> bytes:
    """A timestamptz[] as a parameter, from microseconds since 1970."""
    moments = np.asarray(microseconds, np.int64) - POSTGRES_EPOCH_MICROSECONDS
    return _fixed(moments.astype(">i8"), TIMESTAMPTZ_OID)


def texts(values: Sequence[str | None]) -> bytes:
    """A text[] as a parameter."""
    return _variable([None if value is None else value.encode() for value in values], TEXT_OID)


def uuids(values: Sequence[bytes | None]) -> bytes:
    """A uuid[] as a parameter, from the 16 bytes of each."""
    return _variable(values, UUID_OID)


@cache
def _element(dtype: str) -> np.dtype[np.void]:
    return np.dtype([("length", ">i4"), ("value", dtype)])


def _fixed(values: NDArray[Any], oid: int) -> bytes:
    elements = np.empty(len(values), _element(values.dtype.str))
    elements["length"] = values.dtype.itemsize
    elements["value"] = values
    return pack("!5i", 1, 0, oid, len(values), 1) + elements.tobytes()


def _variable(values: Sequence[bytes | None], oid: int) -> bytes:
    elements = [b"\xff\xff\xff\xff" if v is None else len(v).to_bytes(4, "big") + v for v in values]
    return pack("!5i", 1, int(None in values), oid, len(values), 1) + b"".join(elements)
