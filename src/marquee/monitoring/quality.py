"""How good the answers of the last day were, as far as one can tell without asking anybody."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc
from numpy.typing import ArrayLike
from sqlalchemy import Connection

from marquee.store.repositories import monitoring_rows, outcome_series
from marquee.store.repositories.monitoring import Counts
from marquee.store.repositories.monitoring_rows import Answers

__all__ = ["Quality", "gini", "measure"]

HOURS: Final = 24
POPULAR: Final = 0.1
"""Share of the catalogue that counts as the most popular."""
PERCENTILES: Final = {"p50": 0.5, "p95": 0.95}


@dataclass(frozen=True, slots=True)
class Quality:
    """
    The answers of a day; None is what cannot be told.

    Attributes:
        answers: how many, estimated where only a part of them was read.
        coverage: share of the catalogue that was shown to anybody.
        gini: how unevenly items are shown: 0 all alike, 1 only one.
        popularity_share: share of the places given to the most popular tenth of the catalogue.
        novelty_bits: mean self-information of the items shown, by how often they were watched lately.
        cold_users: share of the answers to users of whom nothing was known.
        fallback: share of the answers that another model, or no model, had to give.
        label_delay_seconds: percentile → time from an answer to the first thing its user did with it.
        outcomes: metric → arm → value; see `marquee.store.repositories.outcomes`.
        quarantine_share: share of the rows of the newest day with any that were rejected.
        newest_event_seconds: age of the newest event.
    """

    answers: int
    coverage: float | None
    gini: float | None
    popularity_share: float | None
    novelty_bits: float | None
    cold_users: float | None
    fallback: float | None
    label_delay_seconds: dict[str, float | None]
    outcomes: dict[str, dict[str, float]]
    quarantine_share: float | None
    newest_event_seconds: float | None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def measure(
    connection: Connection,
    answers: Answers,
    watched: Counts,
    now: datetime,
    *,
    quarantine_share: float | None = None,
) -> Quality:
    """
    Measure the last 24 hours.

    Args:
        answers: of them.
        watched: item id → how often it was watched lately.
    """
    rows = answers.rows
    n_items = monitoring_rows.catalogue_size(connection)
    shown = _shown(answers)
    known = int(pc.sum(pc.invert(rows["anonymous"])).as_py() or 0)
    bypassed = int(pc.sum(rows["bypassed"]).as_py() or 0)
    popular = pc.and_(pc.fill_null(pc.equal(rows["tier"], "popular"), False), pc.invert(rows["anonymous"]))
    cold = int(pc.sum(popular).as_py() or 0) - bypassed
    fallback = int(pc.sum(pc.or_(rows["failed"], rows["bypassed"])).as_py() or 0)
    delays = monitoring_rows.label_delays(
        connection, now - timedelta(hours=HOURS), now, list(PERCENTILES.values())
    )
    newest = monitoring_rows.newest_event(connection)
    return Quality(
        round(len(rows) / answers.share),
        _ratio(len(shown), n_items),
        gini(np.pad(list(shown.values()), (0, max(n_items - len(shown), 0)))) if shown else None,
        _popularity_share(shown, watched, n_items),
        _novelty(shown, watched, n_items),
        _ratio(cold, known),
        _ratio(fallback, len(rows)),
        dict(zip(PERCENTILES, delays, strict=True)),
        _outcomes(connection, now),
        quarantine_share,
        None if newest is None else max((now - newest).total_seconds(), 0.0),
    )


def gini(counts: ArrayLike) -> float:
    """
    Gini coefficient of counts ≥ 0, at least one of them above 0.

    Source:
        Gini 1912, by the mean absolute difference over twice the mean, in its sorted form.
    """
    values = np.sort(np.asarray(counts, np.float64))
    n = len(values)
    return float(2 * (np.arange(1, n + 1) @ values) / (n * values.sum()) - (n + 1) / n)


def _shown(answers: Answers) -> dict[int, int]:
    flat = answers.rows["item_ids"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    items, counts = np.unique(flat, return_counts=True)
    return dict(zip(items.tolist(), counts.tolist(), strict=True))


def _popularity_share(shown: Mapping[int, int], watched: Counts, n_items: int) -> float | None:
    if not watched or not shown:
        return None
    ranked = sorted(watched, key=lambda key: (-watched[key], int(key)))
    top = {int(key) for key in ranked[: max(round(POPULAR * n_items), 1)]}
    return _ratio(sum(count for item, count in shown.items() if item in top), sum(shown.values()))


def _novelty(shown: Mapping[int, int], watched: Counts, n_items: int) -> float | None:
    if not shown or not watched:
        return None
    total = sum(watched.values()) + n_items
    seen = np.array([watched.get(str(item), 0) + 1 for item in shown], np.float64)
    places = np.array(list(shown.values()), np.float64)
    return float(places @ -np.log2(seen / total) / places.sum())


def _outcomes(connection: Connection, now: datetime) -> dict[str, dict[str, float]]:
    """The series of the day as one value each: spans weigh by the answers, or watches, behind them."""
    made: dict[str, dict[str, float]] = {}
    for series in outcome_series.read(connection, hours=HOURS, now=now):
        count = sum(point.count for point in series.points)
        value = sum(point.value * point.count for point in series.points) / count
        made.setdefault(series.metric, {})[series.arm] = value
    return made


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
