"""
What became of answers over time, by arm; the metrics are those of `outcomes`.

Here a picture is wanted, not a verdict: of each arm a sample of its answers and of what was watched after
them is followed, so that the cost does not grow with the traffic.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, text

from marquee.evaluation.sequential import Moments
from marquee.store.repositories.experiments import CHAMPION
from marquee.store.repositories.outcomes import (
    HOURS,
    IS_CLICKED,
    IS_HIT,
    METRICS,
    NOT_TAKEN_BACK,
    Metric,
    moments_sql,
)
from marquee.store.repositories.traffic import NEWEST_EVENTS, sampled

__all__ = ["SAMPLE", "Point", "Series", "read"]

SAMPLE: Final = 5_000
"""Answers of an arm, and as many watches in all, that are followed."""
MAX_BYTES: Final = 32 * 2**20
"""About what is read of the impressions to draw the sample from."""
POINTS: Final = 24
NARROWEST: Final = timedelta(minutes=5)
BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)

_ANSWERS: Final = f"""
    WITH shown AS MATERIALIZED (
        SELECT * FROM (
            SELECT request_id, user_id, coalesce(arm, '{CHAMPION}') AS arm, served_at, item_ids,
                date_bin(:width, served_at, :since) AS at,
                row_number() OVER (PARTITION BY coalesce(arm, '{CHAMPION}') ORDER BY random()) AS number
            FROM impressions{{sample}}
            WHERE served_at >= :since AND served_at < :until AND user_id IS NOT NULL
        ) AS every WHERE number <= :rows
    ),
    judged AS (
        SELECT user_id, arm, at,
            {IS_CLICKED} AS is_clicked, {IS_HIT} AS is_hit
        FROM shown
    ),
    units AS (
        SELECT arm, at, count(*)::float8 AS answers, count(*) FILTER (WHERE is_clicked)::float8 AS clicked,
            count(*) FILTER (WHERE is_hit)::float8 AS hits
        FROM judged GROUP BY arm, at, user_id
    )
    SELECT arm, at, sum(answers)::bigint AS count,
        {", ".join(moments_sql(name, *METRICS[name]) for name in ("hit_rate", "click_rate"))}
    FROM units GROUP BY arm, at ORDER BY arm, at
"""
_WATCHES: Final = f"""
    WITH watched AS MATERIALIZED (
        SELECT user_id, item_id, watch_seconds::float8 AS seconds, occurred_at FROM interactions AS i
        WHERE interaction_id > (SELECT coalesce(max(interaction_id), 0) FROM interactions) - :newest
            AND occurred_at >= :since AND occurred_at < :until AND event = 'watch' AND watch_seconds > 0
            AND {NOT_TAKEN_BACK}
        ORDER BY random() LIMIT :rows
    ),
    judged AS (
        SELECT watched.*, before.arm, date_bin(:width, occurred_at, :since) AS at,
            EXISTS (
                SELECT FROM impressions AS p
                WHERE p.user_id = watched.user_id AND coalesce(p.arm, '{CHAMPION}') = before.arm
                    AND p.served_at <= watched.occurred_at
                    AND p.served_at >= watched.occurred_at - interval '{HOURS} hours'
                    AND p.served_at >= :a_day_before AND watched.item_id = ANY(p.item_ids)
            ) AS is_shown
        FROM watched CROSS JOIN LATERAL (
            SELECT coalesce(p.arm, '{CHAMPION}') AS arm FROM impressions AS p
            WHERE p.user_id = watched.user_id AND p.served_at <= watched.occurred_at
                AND p.served_at >= watched.occurred_at - interval '{HOURS} hours'
                AND p.served_at >= :a_day_before
            ORDER BY p.served_at DESC LIMIT 1
        ) AS before
    ),
    units AS (
        SELECT arm, at, count(*) AS watches, sum(seconds) AS seconds,
            coalesce(sum(seconds) FILTER (WHERE is_shown), 0) AS seconds_shown
        FROM judged GROUP BY arm, at, user_id
    )
    SELECT arm, at, sum(watches)::bigint AS count, {moments_sql("watch_share", *METRICS["watch_share"])}
    FROM units GROUP BY arm, at ORDER BY arm, at
"""


@dataclass(frozen=True, slots=True)
class Point:
    """
    A metric of an arm in one span of time.

    Attributes:
        at: the beginning of the span.
        low, high: of its 95 % interval; None with too few users.
        count: the answers, or watches, behind it.
    """

    at: datetime
    value: float
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True, slots=True)
class Series:
    """A metric of an arm over time; who is in no arm is with the champion."""

    arm: str
    metric: Metric
    points: list[Point]


def read(
    connection: Connection,
    *,
    hours: int,
    now: datetime | None = None,
    rows: int = SAMPLE,
    max_bytes: int = MAX_BYTES,
) -> list[Series]:
    """
    The metrics of the last hours, by arm and metric.

    Args:
        now: default: the clock's.
        rows: answers of an arm, and watches, that are followed.
        max_bytes: about what is read of the impressions to find them.
    """
    moment = now or datetime.now(UTC)
    width = max(NARROWEST, timedelta(hours=hours) / POINTS)
    since = moment - timedelta(hours=hours)
    since -= (since - BEGINNING) % width
    wanted = {"since": since, "until": moment, "width": width, "rows": rows}
    _, sample = sampled(connection, since, max_bytes)
    answers = connection.execute(text(_ANSWERS.format(sample=sample)), wanted).mappings().all()
    watches = (
        connection.execute(
            text(_WATCHES),
            {**wanted, "newest": NEWEST_EVENTS, "a_day_before": since - timedelta(hours=HOURS)},
        )
        .mappings()
        .all()
    )
    made: dict[tuple[str, Metric], list[Point]] = {}
    for metric in METRICS:
        for row in watches if metric == "watch_share" else answers:
            point = _point(row, metric)
            if point is not None:
                made.setdefault((row["arm"], metric), []).append(point)
    return [Series(arm, metric, points) for (arm, metric), points in sorted(made.items())]


def _point(row: Any, metric: Metric) -> Point | None:
    moments = Moments(**{part: row[f"{metric}_{part}"] for part in Moments.__dataclass_fields__})
    if not moments.x > 0:
        return None
    low, high = moments.interval() if moments.enough else (None, None)
    return Point(
        row["at"],
        moments.ratio,
        None if low is None else max(low, 0.0),
        None if high is None else min(high, 1.0),
        row["count"],
    )
