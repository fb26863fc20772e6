"""
Rows that pile up, deleted when they are old: answers, and what runs have logged.

Each function does a bounded part, so that nobody waits long. Impressions go after the shadow answers beside
them, which an erasure finds by way of the impressions.
"""

from datetime import datetime
from typing import Final

import psycopg
from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import OperationalError

from marquee.store.repositories import erasures, experiments, state
from marquee.store.repositories.impressions import LOCK_MILLISECONDS, PARTITION_LOCK

__all__ = [
    "delete_impressions",
    "delete_log_lines",
    "delete_predictions",
    "delete_shadow_answers",
    "drop_day",
    "needed_files",
    "needed_since",
    "old_days",
]

_DAYS: Final = text(
    """
    SELECT relname FROM pg_partition_tree('impressions') AS part JOIN pg_class ON pg_class.oid = part.relid
    WHERE part.isleaf AND relname ~ '^impressions_[0-9]{8}$'
        AND relname < 'impressions_' || to_char(CAST(:before AS timestamptz) AT TIME ZONE 'UTC', 'YYYYMMDD')
    ORDER BY relname
    """
)
_SHADOW_ANSWERS: Final = text(
    """
    DELETE FROM shadow_answers WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM shadow_answers WHERE served_at < :before ORDER BY served_at LIMIT :rows
    ))
    """
)
# Days of before partitions were made, and those of a database that was restored, are among everything else.
_IMPRESSIONS: Final = text(
    """
    DELETE FROM impressions_rest WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM impressions_rest WHERE served_at < :before LIMIT :rows
    ))
    """
)
# By their numbers, which grow with time: there is no index of the times.
_PREDICTIONS: Final = text(
    """
    DELETE FROM predictions WHERE created_at < :before AND prediction_id IN (
        SELECT prediction_id FROM predictions ORDER BY prediction_id LIMIT :rows
    )
    """
)
_LOG_LINES: Final = text(
    """
    DELETE FROM run_logs WHERE logged_at < :before AND line_id IN (
        SELECT line_id FROM run_logs ORDER BY line_id LIMIT :rows
    )
    """
)

_FILES: Final = text(
    """
    SELECT DISTINCT named.key FROM runs CROSS JOIN LATERAL (
        VALUES (counts ->> 'snapshot'), (counts ->> 'features'), (parameters ->> 'snapshot')
    ) AS named (key)
    WHERE created_at >= :since AND named.key IS NOT NULL
    """
)


def needed_since(connection: Connection) -> datetime | None:
    """From when on a running experiment needs the answers; None where none runs."""
    experiment = experiments.running(connection)
    return None if experiment is None else experiment.started_at


def needed_files(connection: Connection, since: datetime) -> set[str]:
    """The snapshots and features that runs since a moment made or read, and the features read now."""
    newest = (state.newest_features(connection, store) for store in (None, "feast"))
    named = connection.execute(_FILES, {"since": since}).scalars()
    return {*named, *(features.key for features in newest if features is not None)}


def old_days(connection: Connection, before: datetime) -> list[str]:
    """The partitions of the impressions of days that had ended by a moment, oldest first."""
    return list(connection.execute(_DAYS, {"before": before}).scalars())


def drop_day(connection: Connection, partition: str) -> bool:
    """
    Drop a partition of `old_days`, in a transaction of its own.

    It is one message, so its locks are never held for as long as this process is busy with other things.

    Args:
        connection: in no transaction, and with autocommit.

    Returns:
        Whether it is gone: who writes or reads answers is not kept waiting, so it may have to stay for now.
    """
    try:
        connection.exec_driver_sql(
            f"SELECT set_config('lock_timeout', '{LOCK_MILLISECONDS}', true); "
            f"SELECT pg_advisory_xact_lock({PARTITION_LOCK}); DROP TABLE IF EXISTS {partition}"
        )
    except OperationalError as error:
        if not isinstance(error.orig, psycopg.errors.LockNotAvailable):
            raise
        return False
    return True


def delete_shadow_answers(connection: Connection, before: datetime, *, rows: int) -> int:
    """
    Delete so many of what was answered unseen before a moment.

    Returns:
        How many were deleted; fewer than asked for: there are no more.
    """
    _let_no_erasure_in_between(connection)
    return connection.execute(_SHADOW_ANSWERS, {"before": before, "rows": rows}).rowcount


def delete_impressions(connection: Connection, before: datetime, *, rows: int) -> int:
    """The same of impressions that are in no partition of their day."""
    _let_no_erasure_in_between(connection)
    return connection.execute(_IMPRESSIONS, {"before": before, "rows": rows}).rowcount


def delete_predictions(connection: Connection, before: datetime, *, rows: int) -> int:
    """The same of predictions."""
    _let_no_erasure_in_between(connection)
    return connection.execute(_PREDICTIONS, {"before": before, "rows": rows}).rowcount


def delete_log_lines(connection: Connection, before: datetime, *, rows: int) -> int:
    """The same of lines that runs have logged."""
    return connection.execute(_LOG_LINES, {"before": before, "rows": rows}).rowcount


def _let_no_erasure_in_between(connection: Connection) -> None:
    """Two that delete the same rows, each in its order, would wait for one another."""
    connection.execute(select(func.pg_advisory_xact_lock(erasures.DELETION_LOCK)))
