"""
What came in of late: requests by minute, by tier, how long they took, and events by minute.

Whoever watches asks often, so that no question reads more than a bounded part of a table: of large
partitions a sample of their pages, of events the newest.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, text

__all__ = ["MAX_BYTES", "NEWEST_EVENTS", "Latency", "Traffic", "read", "sampled"]

MAX_BYTES: Final = 128 * 2**20
"""About what is read of the impressions; of more, a sample is."""
NEWEST_EVENTS: Final = 500_000
"""No older events than these are counted."""
PERCENTILES: Final = (0.5, 0.95, 0.99)
MINUTE: Final = timedelta(minutes=1)

_SIZE: Final = text(
    """
    SELECT coalesce(sum(pg_relation_size(part.relid)), 0)
    FROM pg_partition_tree('impressions') AS part JOIN pg_class ON pg_class.oid = part.relid
    WHERE part.isleaf AND (
        relname !~ '_[0-9]{8}$'
        OR relname >= 'impressions_' || to_char(CAST(:since AS timestamptz) AT TIME ZONE 'UTC', 'YYYYMMDD')
    )
    """
)
_REQUESTS: Final = """
    WITH recent AS MATERIALIZED (
        SELECT served_at, tier, duration_ms, error FROM impressions{sample}
        WHERE served_at >= :since AND served_at < :until
    )
    SELECT 'minute' AS kind, extract(epoch FROM date_trunc('minute', served_at))::text AS name,
        count(*)::float8 AS value FROM recent GROUP BY 2
    UNION ALL SELECT 'tier', coalesce(tier, 'unknown'), count(*) FROM recent GROUP BY 2
    UNION ALL SELECT 'errors', '', count(error) FROM recent
    UNION ALL
    SELECT 'latency', part.share::text, part.duration_ms FROM unnest(
        CAST(:shares AS float8[]),
        (SELECT percentile_cont(CAST(:shares AS float8[])) WITHIN GROUP (ORDER BY duration_ms) FROM recent)
    ) AS part (share, duration_ms)
    WHERE part.duration_ms IS NOT NULL
"""
_EVENTS: Final = text(
    """
    SELECT date_trunc('minute', ingested_at) AS at, count(*) AS count FROM interactions
    WHERE interaction_id > (SELECT coalesce(max(interaction_id), 0) FROM interactions) - :newest
        AND ingested_at >= :since AND ingested_at < :until AND source = 'live'
    GROUP BY 1
    """
)


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of the time that answers took, None where there was none."""

    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(frozen=True, slots=True)
class Traffic:
    """
    The last minutes; counts are estimates where `share_read` is below 1.

    Attributes:
        requests, events: of each whole minute, oldest first.
        tiers: answers by what they knew of the user.
        errors: answers that another model had to give.
        share_read: of the impressions' pages that were looked at.
    """

    requests: list[tuple[datetime, int]]
    events: list[tuple[datetime, int]]
    tiers: dict[str, int]
    latency: Latency
    errors: int
    share_read: float


def read(
    connection: Connection, *, minutes: int = 60, now: datetime | None = None, max_bytes: int = MAX_BYTES
) -> Traffic:
    """
    What came in during the last whole minutes and the one under way.

    Args:
        now: default: the clock's.
        max_bytes: about what is read of the impressions.
    """
    moment = now or datetime.now(UTC)
    last = moment.replace(second=0, microsecond=0)
    since, until = last - (minutes - 1) * MINUTE, last + MINUTE
    window = {"since": since, "until": until}
    share, sample = sampled(connection, since, max_bytes)
    found: dict[str, dict[str, float]] = {}
    query = text(_REQUESTS.format(sample=sample))
    for kind, name, value in connection.execute(query, {**window, "shares": list(PERCENTILES)}):
        found.setdefault(kind, {})[name] = value
    arrived = connection.execute(_EVENTS, {**window, "newest": NEWEST_EVENTS})
    events: dict[datetime, int] = {at: count for at, count in arrived}  # noqa: C416
    answers = {datetime.fromtimestamp(float(at), UTC): value for at, value in found.get("minute", {}).items()}
    grid = [since + number * MINUTE for number in range(minutes)]
    latency = {float(name): value for name, value in found.get("latency", {}).items()}
    return Traffic(
        [(at, round(answers.get(at, 0) / share)) for at in grid],
        [(at, events.get(at, 0)) for at in grid],
        {tier: round(value / share) for tier, value in found.get("tier", {}).items()},
        Latency(*(latency.get(part) for part in PERCENTILES)),
        round(found["errors"][""] / share),
        share,
    )


def sampled(connection: Connection, since: datetime, max_bytes: int) -> tuple[float, str]:
    """
    The share of the impressions' pages that may be read, and the SQL that reads no more.

    Args:
        since: older partitions are not looked at.
    """
    # Asking for the partitions locks them and not the table; whoever makes one locks the table first.
    connection.execute(text("LOCK TABLE ONLY impressions IN ACCESS SHARE MODE"))
    size = connection.scalar(_SIZE, {"since": since})
    share = min(1.0, max_bytes / max(int(size or 0), 1))
    return share, "" if share == 1 else f" TABLESAMPLE SYSTEM ({100 * share:.6f})"
