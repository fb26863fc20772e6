"""
The rows that monitoring adds up: those that came in since a mark.

Numbers of rows are given before their transaction commits, so that a higher number may be seen first. Hence
a mark is only moved past rows of which all transactions have ended that could hold a lower one.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pyarrow as pa
from sqlalchemy import Connection, text

from marquee.store.bulk import read_arrow
from marquee.store.postgres import Database
from marquee.store.repositories.traffic import NEWEST_EVENTS, sampled

__all__ = [
    "Answers",
    "answers",
    "catalogue_size",
    "events",
    "facts",
    "label_delays",
    "newest_event",
    "quarantined",
    "replayable",
    "settled",
    "stored_events",
]

CHUNK_ROWS: Final = 500_000
PATIENCE_SECONDS = 3.0
"""How long is waited for whoever is writing."""
MAX_BYTES: Final = 32 * 2**20
"""About what is read of the impressions; of more, a sample is."""
LABELS: Final = 5_000
"""Newest answers that led to something, whose delay is looked at."""

_BOUND: Final = {
    "interactions": text("SELECT coalesce(max(interaction_id), 0) FROM interactions"),
    "quarantine": text("SELECT coalesce(max(quarantine_id), 0) FROM quarantine"),
}
_WRITERS: Final = text(
    """
    SELECT DISTINCT virtualtransaction FROM pg_locks
    WHERE locktype = 'relation' AND relation = CAST(:table AS regclass) AND pid <> pg_backend_pid()
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND granted AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'AccessExclusiveLock')
    """
)
_EVENTS: Final = """
SELECT user_id, item_id, ascii(event) AS event, rating, watch_seconds, source,
    (extract(epoch FROM occurred_at) * 1000000)::bigint AS occurred_at,
    (extract(epoch FROM ingested_at) * 1000000)::bigint AS ingested_at
FROM interactions
WHERE interaction_id > {after} AND interaction_id <= {until}
    AND occurred_at >= {since}
"""
_NTH_NEWEST: Final = text(
    """
    SELECT interaction_id FROM interactions
    WHERE interaction_id > :after AND interaction_id <= :until
    ORDER BY interaction_id DESC OFFSET :rows LIMIT 1
    """
)
_NEWEST: Final = text("SELECT ingested_at FROM interactions ORDER BY interaction_id DESC LIMIT 1")
_SHOWN: Final = text("SELECT count(*) FROM items WHERE removed_at IS NULL AND NOT block")
_QUARANTINED: Final = """
SELECT source, (extract(epoch FROM created_at) * 1000000)::bigint AS at FROM quarantine
WHERE quarantine_id > {after} AND quarantine_id <= {until} AND created_at >= {since}
"""
_ANSWERS: Final = """
SELECT (extract(epoch FROM served_at) * 1000000)::bigint AS served_at, item_ids, scores[1] AS score, bundle,
    tier, user_id IS NULL AS anonymous, error IS NOT NULL AS failed,
    tier = 'popular' AND user_id IS NOT NULL AND EXISTS (
        SELECT FROM interactions AS i
        WHERE i.user_id = p.user_id AND i.ingested_at < p.served_at AND i.event NOT IN ('hide', 'undo')
    ) AS bypassed
FROM impressions AS p{sample}
WHERE served_at >= {{since}} AND served_at < {{until}} AND surface <> 'similar' AND cardinality(item_ids) > 0
"""
_REPLAYABLE: Final = """
SELECT row_number() OVER (ORDER BY served_at DESC) - 1 AS row,
    (extract(epoch FROM served_at) * 1000000)::bigint AS served_at, user_id, item_ids, scores
FROM impressions AS p
WHERE bundle = {bundle} AND tier = 'personal' AND error IS NULL AND cardinality(item_ids) > 0
    AND surface IN ('recommendations', 'batch') AND served_at >= {since} AND served_at < {until}
    AND served_at > (SELECT coalesce(max(updated_at), '-infinity') FROM items)
    AND NOT EXISTS (SELECT FROM users AS u WHERE u.user_id = p.user_id AND u.erased_at IS NOT NULL)
ORDER BY served_at DESC LIMIT {most}
"""
_STORED: Final = """
SELECT w.row, i.item_id, ascii(i.event) AS event, i.rating, i.watch_seconds,
    (extract(epoch FROM i.occurred_at) * 1000000)::bigint AS occurred_at
FROM unnest({rows}::bigint[], {users}::bigint[], {moments}::bigint[]) AS w (row, user_id, served_at)
JOIN interactions AS i ON i.user_id = w.user_id
    AND i.ingested_at <= timestamptz 'epoch' + w.served_at * interval '1 microsecond'
WHERE i.event <> 'undo' AND NOT EXISTS (
    SELECT FROM interactions AS u
    WHERE u.revokes = i.event_key AND u.source = i.source AND u.user_id = i.user_id
        AND u.ingested_at <= timestamptz 'epoch' + w.served_at * interval '1 microsecond'
)
"""
_DELAYS: Final = text(
    f"""
    WITH labelled AS MATERIALIZED (
        SELECT request_id, user_id, min(occurred_at) AS at FROM (
            SELECT request_id, user_id, occurred_at FROM interactions
            WHERE interaction_id > (SELECT max(interaction_id) FROM interactions) - {NEWEST_EVENTS}
                AND request_id IS NOT NULL AND event IN ('click', 'watch', 'like', 'rate')
                AND occurred_at < :until
            ORDER BY interaction_id DESC LIMIT {LABELS}
        ) AS newest GROUP BY request_id, user_id
    )
    SELECT percentile_cont(CAST(:shares AS float8[])) WITHIN GROUP (
        ORDER BY greatest(extract(epoch FROM labelled.at - p.served_at), 0)::float8
    )
    FROM labelled CROSS JOIN LATERAL (
        SELECT served_at FROM impressions AS p
        WHERE p.request_id = labelled.request_id AND p.user_id = labelled.user_id
            AND p.served_at >= :since AND p.served_at < :until
        LIMIT 1
    ) AS p
    """
)


@dataclass(frozen=True, eq=False, slots=True)
class Answers:
    """
    Lists that were given, in no order.

    Attributes:
        rows: `served_at` in microseconds since 1970, `item_ids`, the first `score`, `bundle`, `tier`, and
            whether the user was `anonymous`, the arm `failed`, or the model `bypassed`: somebody with a
            history got what is popular.
        share: of the pages of the table that were read.
    """

    rows: pa.Table
    share: float


def settled(connection: Connection, table: str) -> int | None:
    """
    A number up to which the rows of a table are all there, or never will be.

    A transaction that may still write lower numbers is waited for, but not for long.

    Args:
        connection: of its own: it sees what others commit meanwhile.
        table: `interactions` or `quarantine`.

    Returns:
        None where a writer took longer: ask again later.
    """
    bound = int(connection.scalar(_BOUND[table]))
    deadline = time.monotonic() + PATIENCE_SECONDS
    writers = set(connection.scalars(_WRITERS, {"table": table}))
    while writers:
        if time.monotonic() > deadline:
            return None
        time.sleep(0.02)
        writers &= set(connection.scalars(_WRITERS, {"table": table}))
    return bound


def events(database: Database, *, after: int, until: int, since: datetime, most: int) -> Iterator[pa.Table]:
    """
    The events that came in with numbers in (after, until], in parts of bounded size.

    Args:
        since: those that happened before are left out.
        most: how many numbers are looked at, the highest.

    Yields:
        `user_id`, `item_id`, `event` (the code of its first letter), `rating`, `watch_seconds`, `source`, and
        `occurred_at` and `ingested_at` in microseconds since 1970.
    """
    with database.begin() as connection:
        first = connection.scalar(_NTH_NEWEST, {"after": after, "until": until, "rows": most})
    for start in range(max(after, first or after), until, CHUNK_ROWS):
        yield read_arrow(
            database,
            _EVENTS,
            after=start,
            until=min(start + CHUNK_ROWS, until),
            since=since,
        )


def quarantined(database: Database, *, after: int, until: int, since: datetime) -> pa.Table:
    """The `source` of rows that were rejected since a moment, and `at`, in microseconds since 1970."""
    return read_arrow(database, _QUARANTINED, after=after, until=until, since=since)


def answers(database: Database, since: datetime, until: datetime, *, max_bytes: int = MAX_BYTES) -> Answers:
    """
    The lists that were given in a time, or a sample of them.

    Args:
        max_bytes: about what is read of the table.
    """
    with database.begin() as connection:
        share, sample = sampled(connection, since, max_bytes)
    rows = read_arrow(database, _ANSWERS.format(sample=sample), since=since, until=until)
    return Answers(rows, share)


def label_delays(
    connection: Connection, since: datetime, until: datetime, shares: Sequence[float]
) -> list[float | None]:
    """Percentiles of the seconds from an answer to the first thing that its user did with it."""
    found = connection.scalar(_DELAYS, {"since": since, "until": until, "shares": list(shares)})
    return [None] * len(shares) if found is None else list(found)


def replayable(database: Database, bundle: str, since: datetime, until: datetime, most: int) -> pa.Table:
    """The newest personal answers of a bundle since the catalogue last changed, newest first."""
    return read_arrow(database, _REPLAYABLE, bundle=bundle, since=since, until=until, most=most)


def stored_events(database: Database, answers: pa.Table) -> pa.Table:
    """
    The events that counted when users were answered.

    Args:
        answers: `served_at` in microseconds since 1970, and `user_id`.

    Returns:
        `row` of the answer, `item_id`, `event` (the code of its first letter), `rating`, `watch_seconds` and
        `occurred_at`.
    """
    return read_arrow(
        database,
        _STORED,
        rows=list(range(len(answers))),
        users=answers["user_id"].to_pylist(),
        moments=answers["served_at"].to_pylist(),
    )


def facts(database: Database) -> pa.Table:
    """The `item_id`, `genres` and `release_date` of all items that are not removed."""
    return read_arrow(
        database, "SELECT item_id, genres, release_date FROM items WHERE removed_at IS NULL ORDER BY item_id"
    )


def newest_event(connection: Connection) -> datetime | None:
    """When the newest event came in."""
    found: datetime | None = connection.scalar(_NEWEST)
    return found


def catalogue_size(connection: Connection) -> int:
    """Items that may be shown."""
    return int(connection.scalar(_SHOWN))
