"""
What was answered: rows that are written behind the answers, and marked when their lists are seen.

Rows are rendered to PostgreSQL's COPY text one at a time, as answers are given, and written many at a time.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple
from uuid import UUID

import numpy as np
import orjson
import psycopg
from numpy.typing import NDArray
from psycopg.pq.abc import PGresult

from marquee.store.notify import EVERYTHING
from marquee.store.repositories.predictions import NewPrediction
from marquee.store.wire import Call, bigints, times, uuids

__all__ = [
    "TABLES",
    "Impression",
    "ShadowAnswer",
    "View",
    "ensure_partition",
    "found",
    "mark_viewed",
    "partition_days",
    "partition_of",
    "rendered",
    "write",
]

PARTITION_LOCK: Final = 0x4D617272
LOCK_MILLISECONDS: Final = 200
"""For so long at most, whoever writes answers or views waits behind who wants to make a partition."""

NULL: Final = b"\\N"

Numbers = Sequence[int] | Sequence[float] | NDArray[Any]


class Impression(NamedTuple):
    """A list that was shown; item_ids, scores and propensities are of one length."""

    request_id: UUID
    served_at: datetime
    user_id: int | None
    item_ids: Numbers
    scores: Numbers
    propensities: Numbers | None
    bundle: str
    arm: str | None
    surface: str
    tier: str
    experiment_id: int | None
    duration_ms: float
    error: str | None = None


class ShadowAnswer(NamedTuple):
    """What another model would have answered; agreement is the share of the items shown that it has too."""

    request_id: UUID
    served_at: datetime
    bundle: str
    item_ids: Numbers
    scores: Numbers
    agreement: float
    duration_ms: float
    error: str | None = None


class View(NamedTuple):
    """A list came on somebody's screen."""

    request_id: UUID
    user_id: int
    viewed_at: int  # microseconds since 1970


Row = Impression | NewPrediction | ShadowAnswer

TABLES: Final[Mapping[type[Row], str]] = {
    Impression: "impressions",
    NewPrediction: "predictions",
    ShadowAnswer: "shadow_answers",
}

# A list is viewed within two days or not at all: partitions older than that are not looked into.
VIEWED: Final = b"""
UPDATE impressions AS i SET viewed_at = v.viewed_at
FROM (
    SELECT request_id, user_id, min(viewed_at) AS viewed_at
    FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) AS v (request_id, user_id, viewed_at)
    GROUP BY request_id, user_id
) AS v
WHERE i.request_id = v.request_id AND coalesce(i.user_id, v.user_id) = v.user_id
    AND i.served_at > now() - interval '2 days' AND i.viewed_at IS NULL
"""
FOUND: Final = b"""
SELECT request_id FROM impressions
WHERE request_id = ANY($1::uuid[]) AND served_at > now() - interval '2 days'
"""


def rendered(row: Row) -> bytes:
    """A row as a line of COPY text."""
    if type(row) is Impression:
        return _impression(row)
    return b"%b\n" % b"\t".join([_RENDERERS[type(value)](value) for value in row])


async def write(connection: psycopg.AsyncConnection[Any], rows: Mapping[str, Sequence[bytes]]) -> None:
    """
    Append rendered rows to their tables, in the caller's transaction.

    Args:
        rows: by name of the table.
    """
    for table, lines in rows.items():
        if not lines:
            continue
        async with connection.cursor().copy(_COPY[table]) as copy:
            await copy.write(b"".join(lines))
    if rows.get("predictions"):
        await connection.execute("SELECT pg_notify('marquee_predictions', %s)", [EVERYTHING])


def partition_days() -> tuple[date, date]:
    """Days that should have partitions, tomorrow first: today's rows may be among everything else already."""
    today = datetime.now(UTC).date()
    return today + timedelta(days=1), today


def partition_of(day: date) -> str:
    """The statement that makes the partition of a day, where it is missing and none of its rows is there."""
    return (
        f"CREATE TABLE IF NOT EXISTS impressions_{day:%Y%m%d} PARTITION OF impressions "
        f"FOR VALUES FROM ('{day}T00:00:00Z') TO ('{day + timedelta(days=1)}T00:00:00Z')"
    )


async def ensure_partition(connection: psycopg.AsyncConnection[Any], day: date) -> None:
    """
    Make the partition of a day, where it is missing, in a transaction of its own.

    It is one message, so its locks are never held for as long as this process is busy with other things.

    Args:
        connection: in no transaction, and with autocommit.
    """
    await connection.execute(
        f"SELECT set_config('lock_timeout', '{LOCK_MILLISECONDS}', true); "
        f"SELECT pg_advisory_xact_lock({PARTITION_LOCK}); {partition_of(day)}".encode()
    )


def mark_viewed(views: Sequence[View]) -> tuple[Call, Call]:
    """Note when lists came on screen; the second call answers with the ids of those that are there."""
    ids = uuids([view.request_id.bytes for view in views])
    users, moments = bigints([view.user_id for view in views]), times([view.viewed_at for view in views])
    return Call(VIEWED, [ids, users, moments]), Call(FOUND, [ids])


def found(result: PGresult) -> frozenset[bytes]:
    """The ids, 16 bytes each, of the answers that are there."""
    return frozenset(result.get_value(row, 0) or b"" for row in range(result.ntuples))


_COPY: Final = {
    table: f"COPY {table} ({', '.join(row._fields)}) FROM STDIN".encode() for row, table in TABLES.items()
}


@lru_cache(maxsize=1024)
def _text(value: str) -> bytes:
    """Text with what COPY takes for its own escaped; PostgreSQL cannot hold the character 0."""
    escaped = value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    return escaped.replace("\0", "").encode(errors="replace")


def _impression(row: Impression) -> bytes:
    """The same for the row of each answer, in a third of the time."""
    arrays = orjson.dumps((row.item_ids, row.scores), option=orjson.OPT_SERIALIZE_NUMPY)
    return b"%b\t%b\t%b\t{%b}\t%b\t%b\t%b\t%b\t%b\n" % (
        row.request_id.hex.encode(),
        row.served_at.isoformat().encode(),
        NULL if row.user_id is None else b"%d" % row.user_id,
        arrays[2:-2].replace(b"],[", b"}\t{"),
        NULL if row.propensities is None else _array(row.propensities),
        _shared(row.bundle, row.arm, row.surface, row.tier),
        NULL if row.experiment_id is None else b"%d" % row.experiment_id,
        repr(row.duration_ms).encode(),
        NULL if row.error is None else _text(row.error),
    )


@lru_cache(maxsize=1024)
def _shared(bundle: str, arm: str | None, surface: str, tier: str) -> bytes:
    return b"\t".join([NULL if value is None else _text(value) for value in (bundle, arm, surface, tier)])


def _array(values: Numbers) -> bytes:
    return b"{%b}" % orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]


_RENDERERS: Final[Mapping[type, Callable[[Any], bytes]]] = {
    type(None): lambda _: NULL,
    str: _text,
    int: b"%d".__mod__,
    float: lambda value: repr(value).encode(),
    UUID: lambda value: value.hex.encode(),
    datetime: lambda value: value.isoformat().encode(),
    list: _array,
    tuple: _array,
    np.ndarray: _array,
    np.float32: lambda value: repr(float(value)).encode(),
    np.float64: lambda value: repr(float(value)).encode(),
    np.int64: b"%d".__mod__,
}
