"""
Training-serving skew: the newest personal answers, computed again from what the database holds.

Each answer is made anew by the same pipeline, of the same bundle, from the history that was stored when it
was served, and compared with what was shown. What differs is a fault: features that serving sees and training
does not, a cache that is not true any more, other code.

What may differ is left out of account. A place counts as another only where its film is not in the list
made anew and was shown with another score than the model gives it now: filters, exclusions, variety and
exploration move films, but not their scores. Places that editors have pinned say nothing; nor do answers of
before the newest change of the catalogue, since the scores of new items follow from it.
"""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marquee.config import Settings
from marquee.data import Event, Histories
from marquee.data.schema import Ids
from marquee.recommend import RecommendationPipeline
from marquee.store import bundles
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import items, monitoring_rows
from marquee.store.repositories.deployments import Deployment
from marquee.store.repositories.user_states import MOST_EVENTS

__all__ = ["Skew", "replay", "vocabulary"]

BLOCK: Final = 32
TOLERANCE: Final = 1e-3
"""Relative; batches of other sizes add in other orders."""


@dataclass(frozen=True, slots=True)
class Skew:
    """
    What came of it.

    Attributes:
        answers: that were computed again.
        share: of their places whose film is another.
        halves: the same of the newer half of the answers and of the older, with their places.
    """

    answers: int
    share: float
    halves: tuple[tuple[float, int], tuple[float, int]]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"answers": self.answers, "share": self.share, "halves": [list(half) for half in self.halves]}


def vocabulary(settings: Settings, objects: ObjectStore, champion: Deployment) -> Ids:
    """The ids that the champion knows."""
    return bundles.load(objects, champion.bundle, settings.paths.bundles).recommender().items.ids


def replay(
    settings: Settings,
    database: Database,
    objects: ObjectStore,
    champion: Deployment,
    now: datetime,
    *,
    seconds: float = 2.0,
) -> Skew | None:
    """
    Compute the newest personal answers of the champion again.

    Args:
        seconds: after so long no more of them are.

    Returns:
        None where there are none.
    """
    found = monitoring_rows.replayable(
        database, champion.bundle, now - timedelta(days=1), now, settings.monitor.replayed
    )
    if not len(found):
        return None
    model = bundles.load(objects, champion.bundle, settings.paths.bundles).recommender()
    with database.begin() as connection:
        blocked, editorial = items.not_shown(connection), items.editorial(connection)
    pipeline = RecommendationPipeline(
        model, items.load_catalog(database), blocked=blocked, editorial=editorial
    )
    deadline = time.monotonic() + seconds
    wrong: list[int] = []
    places: list[int] = []
    for start in range(0, len(found), BLOCK):
        for bad, of in _compared(pipeline, database, found.slice(start, BLOCK)):
            wrong.append(bad)
            places.append(of)
        if time.monotonic() > deadline:
            break
    half = len(wrong) // 2
    parts = [(sum(wrong[part]), sum(places[part])) for part in (slice(half), slice(half, None))]
    share = sum(wrong) / max(sum(places), 1)
    newer, older = ((bad / max(of, 1), of) for bad, of in parts)
    return Skew(len(wrong), share, (newer, older))


def _compared(
    pipeline: RecommendationPipeline, database: Database, answers: pa.Table
) -> list[tuple[int, int]]:
    """Of each answer, the places that hold another item, and all that say something."""
    histories, seen = _histories(database, answers)
    shown = answers["item_ids"].to_pylist()
    logged = answers["scores"].to_pylist()
    k = max(map(len, shown))
    made = pipeline.recommend(histories, k, seen=seen)
    scores = pipeline.scorer.score(histories)
    pinned = set(pipeline.choices.pinned)
    compared = []
    for row, (item_ids, values) in enumerate(zip(shown, logged, strict=True)):
        again = set(made.item_ids[row].tolist())
        index = pipeline.scorer.items.index(item_ids)
        expected = np.where(index >= 0, scores[row, np.maximum(index, 0)], np.nan)
        alike = np.isclose(np.asarray(values, np.float32), expected, rtol=TOLERANCE, atol=TOLERANCE / 10)
        told = [place for place, item_id in enumerate(item_ids) if item_id not in pinned]
        compared.append((sum(item_ids[place] not in again and not alike[place] for place in told), len(told)))
    return compared


def _histories(database: Database, answers: pa.Table) -> tuple[Histories, tuple[Ids, Ids]]:
    """What was stored of the users when they were answered, and rows and ids of what they may not get."""
    events = monitoring_rows.stored_events(database, answers)
    row, at = events["row"].to_numpy(), events["occurred_at"].to_numpy()
    item_ids, codes = events["item_id"].to_numpy(), events["event"].to_numpy()
    kinds = np.array([_LETTERS.get(int(code), Event.UNDO) for code in codes], np.int8)
    order = np.lexsort((kinds, item_ids, at, row))
    row, at, item_ids, kinds = row[order], at[order], item_ids[order], kinds[order]
    ratings, seconds = (
        pc.fill_null(events[name].cast(pa.float32()), np.nan).to_numpy()[order]
        for name in ("rating", "watch_seconds")
    )
    n = len(answers)
    ends = np.searchsorted(row, np.arange(n), side="right")
    kept = np.arange(len(row)) >= ends[row] - MOST_EVENTS
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row[kept], minlength=n))]).astype(np.int64)
    newest = np.full(n, np.iinfo(np.int64).min)
    np.maximum.at(newest, row, at)
    moments = np.maximum(answers["served_at"].to_numpy(), newest + 1)
    histories = Histories(
        indptr,
        item_ids[kept],
        at[kept],
        kinds[kept],
        ratings[kept],
        seconds[kept],
        moments,
        answers["user_id"].to_numpy(),
    )
    taken = kinds != int(Event.CLICK)
    return histories, (row[taken], item_ids[taken])


_LETTERS: Final = {ord(event.label[0]): event for event in Event}
