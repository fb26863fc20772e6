"""
How things stand, for metrics: a few look-ups, none of which reads more for more data.

The counts of tables are those that PostgreSQL keeps for its planner. How runs ended is read in parts: who
knows it up to a moment reads what has been added since.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select, text

from marquee.store.tables import interactions, metadata, recommendation_batches

__all__ = ["Ended", "KeptFeatures", "State", "newest_features", "read"]

LONGEST_TRANSACTION: Final = timedelta(hours=1)
"""A run is dated at the beginning of the transaction that queues it, and seen at its end."""


@dataclass(frozen=True)
class Ended:
    """When runs of a pipeline began and ended last."""

    started_at: datetime
    finished_at: datetime


@dataclass(frozen=True)
class KeptFeatures:
    """
    Features that a run has kept.

    Attributes:
        key: of their manifest.
        complete_until: all events that came in before then are in them.
    """

    key: str
    complete_until: datetime


@dataclass(frozen=True)
class State:
    """
    How things stand.

    Attributes:
        at: when that was, by the clock of the database.
        waiting, running: whole runs, not their steps.
        oldest_waiting_at: when the run that has waited longest was queued.
        ended: (pipeline, `succeeded` or `failed`) → the newest such runs, of those looked at.
        settled_before: all runs that are older have ended: the next reading need not look at them again.
        deployed: slot → when what serves there was put there; without empty slots.
        newest_interaction_at: when it came in.
        batch_at: when the lists were made that are served precomputed.
        features: the newest that are in Feast.
        rows: table → rows, about.
    """

    at: datetime
    waiting: int
    running: int
    oldest_waiting_at: datetime | None
    ended: Mapping[tuple[str, str], Ended]
    settled_before: datetime
    deployed: Mapping[str, datetime]
    newest_interaction_at: datetime | None
    batch_at: datetime | None
    features: KeptFeatures | None
    rows: Mapping[str, int]


def read(connection: Connection, *, since: datetime | None = None) -> State:
    """
    Look at everything.

    Args:
        since: `settled_before` of the reading before; None: how all runs ended.
    """
    now = connection.execute(_UNFINISHED).one()
    ended = connection.execute(_ENDED_SINCE, {"since": since}) if since else connection.execute(_ENDED)
    newest = select(interactions.c.ingested_at).order_by(interactions.c.interaction_id.desc()).limit(1)
    batch = select(recommendation_batches.c.generated_at).where(recommendation_batches.c.is_current)
    return State(
        at=now.at,
        waiting=now.waiting,
        running=now.running,
        oldest_waiting_at=now.oldest_waiting_at,
        ended={
            (row.pipeline, row.status): Ended(row.started_at, row.finished_at)
            for row in ended
            if row.started_at is not None
        },
        settled_before=min(now.oldest_at or now.at, now.at) - LONGEST_TRANSACTION,
        deployed=_pairs(connection, _DEPLOYED),
        newest_interaction_at=connection.scalar(newest),
        batch_at=connection.scalar(batch),
        features=newest_features(connection, "feast"),
        rows=_pairs(connection, _ROWS, tables=sorted(metadata.tables)),
    )


def newest_features(connection: Connection, store: str | None = None) -> KeptFeatures | None:
    """
    The features that were kept last.

    Args:
        store: those in this store alone.
    """
    row = connection.execute(_FEATURES, {"store": store}).one_or_none()
    return None if row is None else KeptFeatures(row.key, datetime.fromisoformat(row.complete_until))


def _pairs(connection: Connection, query: Any, **parameters: Any) -> dict[str, Any]:
    return {row[0]: row[1] for row in connection.execute(query, parameters)}


_UNFINISHED: Final = text(
    """
    SELECT clock_timestamp() AS at,
           count(*) FILTER (WHERE parent_id IS NULL AND status = 'queued') AS waiting,
           count(*) FILTER (WHERE parent_id IS NULL AND status = 'running') AS running,
           min(created_at) FILTER (WHERE parent_id IS NULL AND status = 'queued') AS oldest_waiting_at,
           min(created_at) AS oldest_at
    FROM runs WHERE status IN ('queued', 'running')
    """
)
_ENDED_OF: Final = """
    SELECT pipeline, status, max(started_at) AS started_at, max(finished_at) AS finished_at
    FROM runs WHERE status IN ('succeeded', 'failed'){}
    GROUP BY pipeline, status
    """
_ENDED: Final = text(_ENDED_OF.format(""))
_ENDED_SINCE: Final = text(_ENDED_OF.format(" AND created_at >= :since"))
_FEATURES: Final = text(
    """
    SELECT counts ->> 'features' AS key, counts ->> 'features_complete_until' AS complete_until
    FROM runs
    WHERE pipeline IN ('features', 'prepare') AND status = 'succeeded' AND counts ->> 'features' IS NOT NULL
      AND (CAST(:store AS text) IS NULL OR counts ->> 'features_store' = :store)
    ORDER BY created_at DESC LIMIT 1
    """
)
_DEPLOYED: Final = text(
    """
    SELECT slot, newest.created_at
    FROM unnest(ARRAY['predictor', 'champion', 'challenger', 'shadow']) AS slot, LATERAL (
        SELECT bundle, created_at FROM deployments
        WHERE deployments.slot = slot.slot ORDER BY deployment_id DESC LIMIT 1
    ) AS newest
    WHERE newest.bundle <> ''
    """
)
# A table that was never analysed has -1 there; what was counted since the server began stands in.
_ROWS: Final = text(
    """
    SELECT coalesce(whole.relname, part.relname),
           sum(CASE WHEN part.reltuples < 0 THEN pg_stat_get_live_tuples(part.oid)
                    ELSE part.reltuples END)::bigint
    FROM pg_class AS part
    LEFT JOIN pg_inherits ON inhrelid = part.oid
    LEFT JOIN pg_class AS whole ON whole.oid = inhparent
    WHERE part.relkind = 'r' AND part.relnamespace = current_schema()::regnamespace
      AND coalesce(whole.relname, part.relname) IN :tables
    GROUP BY 1
    """
).bindparams(bindparam("tables", expanding=True))
