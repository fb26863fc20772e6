"""
What became of the answers of an experiment, added up per arm by PostgreSQL.

A user's sums are the units; what leaves the database is their moments, a few numbers per arm and slice,
however many answers there are. Each answer, user and watch is looked up by an index, whatever the planner
knows of the tables: an experiment may be a minute old.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, text

from marquee.data.schema import DISLIKED_RATING, Ids, Matrix
from marquee.evaluation.sequential import Moments
from marquee.store.bulk import read_arrow
from marquee.store.postgres import Database
from marquee.store.repositories.experiments import Experiment

__all__ = [
    "IS_CLICKED",
    "IS_HIT",
    "METRICS",
    "NOT_TAKEN_BACK",
    "SLICES",
    "Health",
    "Logged",
    "Measures",
    "Metric",
    "Slice",
    "health",
    "logged",
    "measures",
    "moments_sql",
]

Metric = Literal["hit_rate", "click_rate", "watch_share"]
Slice = Literal["all", "new", "history"]

METRICS: Final[dict[Metric, tuple[str, str]]] = {
    "hit_rate": ("hits", "answers"),
    "click_rate": ("clicked", "answers"),
    "watch_share": ("seconds_shown", "seconds"),
}
"""Metric → a user's numerator and denominator."""
SLICES: Final[tuple[Slice, ...]] = ("all", "new", "history")
HOURS: Final = 24
"""How long an answer may claim what its user does next."""

NOT_TAKEN_BACK: Final = """NOT EXISTS (
    SELECT FROM interactions AS u
    WHERE u.revokes = i.event_key AND u.source = i.source AND u.user_id = i.user_id
)"""
"""SQL of whether an event `i` counts."""
IS_CLICKED: Final = """EXISTS (
    SELECT FROM interactions AS i
    WHERE i.request_id = shown.request_id AND i.user_id = shown.user_id
        AND i.event = 'click' AND i.item_id = ANY(shown.item_ids)
)"""
"""SQL of whether an item of an answer `shown` was clicked there."""
IS_HIT: Final = f"""coalesce((
    SELECT i.item_id = ANY(shown.item_ids) FROM interactions AS i
    WHERE i.user_id = shown.user_id AND i.occurred_at >= shown.served_at
        AND i.occurred_at <= least(shown.served_at + interval '{HOURS} hours', :until)
        AND i.event IN ('watch', 'like', 'rate')
        AND (i.rating IS NULL OR i.rating > {DISLIKED_RATING}) AND {NOT_TAKEN_BACK}
    ORDER BY i.occurred_at, i.interaction_id LIMIT 1
), false)"""
"""SQL of whether what the user took next, by the moment `:until`, is of an answer `shown`."""

_HEALTH: Final = text(
    """
    SELECT arm, count(*) AS answers, count(error) AS errors,
        count(*) FILTER (WHERE duration_ms > :slow_ms) AS slow,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms) AS p95_ms
    FROM impressions
    WHERE experiment_id = :experiment_id AND served_at >= :since AND arm IS NOT NULL
    GROUP BY arm
    """
)


def moments_sql(name: str, y: str, x: str) -> str:
    """SQL of the moments of a ratio y / x, as columns that begin with a name."""
    parts = {
        "n": "count(*)",
        "active": f"sum(sign({y}))",
        "y": f"sum({y})",
        "x": f"sum({x})",
        "yy": f"sum({y} * {y})",
        "xy": f"sum({x} * {y})",
        "xx": f"sum({x} * {x})",
    }
    return ", ".join(
        f"coalesce({made} FILTER (WHERE {x} > 0), 0) AS {name}_{part}" for part, made in parts.items()
    )


_MEASURES: Final = text(
    f"""
    WITH shown AS MATERIALIZED (
        SELECT request_id, user_id, arm, served_at, viewed_at, item_ids
        FROM impressions
        WHERE experiment_id = :experiment_id AND served_at >= :since AND served_at <= :until
            AND arm IS NOT NULL AND user_id IS NOT NULL
    ),
    judged AS (
        SELECT user_id, arm, served_at, viewed_at,
            {IS_CLICKED} AS is_clicked, {IS_HIT} AS is_hit
        FROM shown
    ),
    visits AS (
        SELECT user_id, arm, min(served_at) AS first_served_at,
            count(*)::float8 AS answers,
            count(viewed_at)::float8 AS viewed,
            count(*) FILTER (WHERE is_clicked)::float8 AS clicked,
            count(*) FILTER (WHERE is_hit)::float8 AS hits
        FROM judged GROUP BY user_id, arm
    ),
    units AS (
        SELECT visits.*, coalesce(watched.seconds, 0) AS seconds,
            coalesce(watched.seconds_shown, 0) AS seconds_shown,
            EXISTS (
                SELECT FROM interactions AS i
                WHERE i.user_id = visits.user_id AND i.event <> 'undo' AND i.occurred_at < :since
            ) AS has_history
        FROM visits CROSS JOIN LATERAL (
            SELECT sum(i.watch_seconds::float8) AS seconds,
                sum(i.watch_seconds::float8) FILTER (WHERE EXISTS (
                    SELECT FROM impressions AS p
                    WHERE p.user_id = i.user_id AND p.arm = visits.arm
                        AND p.experiment_id + 0 = :experiment_id -- the index to use is that of users
                        AND p.served_at <= i.occurred_at
                        AND p.served_at >= i.occurred_at - interval '{HOURS} hours'
                        AND i.item_id = ANY(p.item_ids)
                )) AS seconds_shown
            FROM interactions AS i
            WHERE i.user_id = visits.user_id AND i.event = 'watch' AND i.watch_seconds > 0
                AND i.occurred_at >= visits.first_served_at AND i.occurred_at <= :until
                AND {NOT_TAKEN_BACK}
        ) AS watched
    )
    SELECT arm,
        CASE WHEN grouping(has_history) = 1 THEN 'all' WHEN has_history THEN 'history' ELSE 'new' END
            AS slice,
        count(*) AS users, sum(answers) AS answers, sum(viewed) AS viewed,
        {", ".join(moments_sql(name, y, x) for name, (y, x) in METRICS.items())}
    FROM units
    GROUP BY GROUPING SETS ((arm), (arm, has_history))
    """
)

_LOGGED: Final = """
SELECT user_id, extract(epoch FROM served_at) AS served_at, item_ids, propensities,
    ARRAY(
        SELECT i.item_id FROM interactions AS i
        WHERE i.request_id = p.request_id AND i.user_id = p.user_id AND i.event = 'click'
    ) AS clicked
FROM impressions AS p
WHERE served_at >= {since} AND served_at < {until} AND surface = {surface}
    AND user_id IS NOT NULL AND propensities IS NOT NULL AND cardinality(item_ids) > 0
ORDER BY served_at, request_id
"""


@dataclass(frozen=True, eq=False, slots=True)
class Logged:
    """
    Lists as they were shown, for `marquee.evaluation.off_policy`.

    Attributes:
        user_ids: (n,) whose each was.
        served_at: (n,) seconds since 1970.
        item_ids: (n, k) -1 as padding.
        propensities: (n, k) probability of the item in its place, NaN as padding.
        clicks: (n, k) 1 where the user clicked the item, else 0.
    """

    user_ids: Ids
    served_at: Matrix
    item_ids: Ids
    propensities: Matrix
    clicks: Matrix


@dataclass(frozen=True, slots=True)
class Health:
    """
    How an arm answers.

    Attributes:
        errors: answers that another model had to give.
        slow: answers that took longer than was asked about.
        p95_ms: 95th percentile of their durations, None where none was kept.
    """

    answers: int
    errors: int
    slow: int
    p95_ms: float | None

    @property
    def error_rate(self) -> float:
        """Share of answers that another model had to give."""
        return self.errors / self.answers if self.answers else 0.0


@dataclass(frozen=True, slots=True)
class Measures:
    """
    What the users of an arm did.

    Attributes:
        slice: all users, those without any event before the experiment, or those with.
        answers: lists that they were given; `viewed` of them came on screen, where the site reports it.
        metrics: `hit_rate`: answers that had the item that their user watched, liked or rated well next,
            within a day; `click_rate`: answers of which an item was clicked; `watch_share`: of the time
            watched, that of items that the user had been shown in the day before.
    """

    arm: str
    slice: Slice
    users: int
    answers: int
    viewed: int
    metrics: dict[Metric, Moments]


def health(connection: Connection, experiment: Experiment, *, slow_ms: float) -> dict[str, Health]:
    """
    How the arms of an experiment answer, by name.

    Args:
        slow_ms: longer answers count as slow.
    """
    wanted = {
        "experiment_id": experiment.experiment_id,
        "since": experiment.started_at,
        "slow_ms": slow_ms,
    }
    found = {
        row.arm: Health(row.answers, row.errors, row.slow, row.p95_ms)
        for row in connection.execute(_HEALTH, wanted)
    }
    return {arm.name: found.get(arm.name, Health(0, 0, 0, None)) for arm in experiment.arms}


def measures(
    connection: Connection, experiment: Experiment, *, until: datetime | None = None
) -> dict[tuple[str, Slice], Measures]:
    """
    What the users of each arm did, by arm and slice; slices without users are left out.

    Args:
        until: count nothing after this moment; default: the end of the experiment, or now.
    """
    moment = until or experiment.ended_at or datetime.now(UTC)
    wanted = {
        "experiment_id": experiment.experiment_id,
        "since": experiment.started_at,
        "until": moment,
    }
    rows = connection.execute(_MEASURES, wanted).mappings()
    return {(row["arm"], row["slice"]): _measures(row) for row in rows}


def logged(
    database: Database, *, since: datetime, until: datetime, surface: str = "recommendations"
) -> Logged:
    """
    The lists that were shown to users with known propensities, oldest first.

    Args:
        since, until: when they were served, the end excluded.
        surface: where they were shown.
    """
    rows = read_arrow(database, _LOGGED, since=since, until=until, surface=surface)
    item_ids, row, place = _padded(rows["item_ids"], -1, np.int64)
    propensities, *_ = _padded(rows["propensities"], np.nan, np.float32)
    clicked = rows["clicked"].combine_chunks()
    owner = np.repeat(np.arange(len(rows)), np.diff(clicked.offsets.to_numpy()))
    pairs = np.stack([owner, clicked.flatten().to_numpy()])
    shown = np.stack([row, item_ids[row, place]])
    clicks = np.zeros(item_ids.shape, dtype=np.float32)
    both = np.concatenate([shown, pairs], axis=1)
    _, code = np.unique(both, axis=1, return_inverse=True)
    clicks[row, place] = np.isin(code[: len(row)], code[len(row) :])
    return Logged(
        rows["user_id"].to_numpy(),
        rows["served_at"].cast(pa.float64()).to_numpy(),
        item_ids,
        propensities,
        clicks,
    )


def _padded(lists: pa.ChunkedArray, padding: float, kind: Any) -> tuple[Any, Any, Any]:
    """(n, k) values, and the row and place of each that is not padding."""
    whole = lists.combine_chunks()
    lengths = np.diff(whole.offsets.to_numpy())
    row = np.repeat(np.arange(len(whole)), lengths)
    place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    made = np.full((len(whole), lengths.max(initial=0)), padding, dtype=kind)
    made[row, place] = whole.flatten().to_numpy(zero_copy_only=False)
    return made, row, place


def _measures(row: Any) -> Measures:
    metrics: dict[Metric, Moments] = {
        name: Moments(**{part: row[f"{name}_{part}"] for part in Moments.__dataclass_fields__})
        for name in METRICS
    }
    return Measures(row["arm"], row["slice"], row["users"], int(row["answers"]), int(row["viewed"]), metrics)
