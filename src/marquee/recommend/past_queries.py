"""
Questions whose answers are already known: what users of a past window went on to choose.

A ranker learns from them. The window is cut out of the fit data, so that nothing of the present can reach it,
and each of its users is asked several times, at different points of their rows: early in a session as well
as late. `PastItems` gives back what was known of the items then; `PastLists` is what the ranker is given.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from marquee.data.dataset import Histories, Interactions
from marquee.data.schema import CSR, Event, Index, Matrix, Vector
from marquee.data.vocabulary import Vocabulary
from marquee.features.port import AS_OF, AT, HistoricalJoin
from marquee.recommend.candidates import seen_cells
from marquee.recommend.pair_features import PairFeatures

__all__ = ["PastItems", "PastLists", "past_queries"]


def past_queries(
    rows: Interactions, start: int, stop: int, points: Sequence[float], items: Vocabulary
) -> tuple[Histories, CSR]:
    """
    The queries of a window of the past.

    Args:
        rows: in the global order.
        start, stop: the window, as row numbers.
        points: where in a user's n rows of the window to ask: at row ⌊n · point⌋.
        items: the columns of the truth.

    Returns:
        n histories, in the order of time, and (n, n_items) 1 for what the user chose from then on until the
        end of the window. Queries without history or truth are left out.
    """
    known, window = rows.take(slice(0, stop)), rows.take(slice(start, stop))
    window = window.take(np.lexsort((window.timestamps, window.user_ids)))
    users, first, count = np.unique(window.user_ids, return_index=True, return_counts=True)
    asked = count >= 2
    users, first, count = users[asked], first[asked], count[asked]
    who = np.tile(users, len(points))
    when = np.concatenate(
        [window.timestamps[first + (count * point).astype(np.int64)] for point in points]
        or [np.zeros(0, np.int64)]
    )
    # Two points may fall on one moment: that is one query.
    order = np.lexsort((who, when))
    who, when = who[order], when[order]
    fresh = np.append(True, (np.diff(who) != 0) | (np.diff(when) != 0))[: len(who)]
    histories = Histories.gather(known.take(np.isin(known.user_ids, users)), who[fresh], when[fresh])
    truth = _truth(histories, window, items)
    kept = np.flatnonzero((histories.lengths > 0) & (np.diff(truth.indptr) > 0))
    return histories.take(kept), CSR(truth[kept])


class PastItems:
    """What was known of items at the beginnings of windows, kept and given back by a feature store's join."""

    def __init__(self, join: HistoricalJoin) -> None:
        self._join = join
        self._kept: dict[int, pa.Table] = {}

    def join(self, features: PairFeatures, moment: int) -> None:
        """Keep what features say of items as of a moment, and have it given back for that moment."""
        columns = features.item_columns()
        moments = pa.array(np.full(len(columns), moment), pa.timestamp("us", "UTC"))
        self._kept[moment] = columns.append_column(AS_OF, moments)
        entities = columns.select(["item_id"]).append_column(AT, moments)
        features.take_item_columns(self._join(pa.concat_tables(self._kept.values()), entities, "item_id"))


@dataclass(frozen=True, eq=False, slots=True)
class PastLists:
    """
    What a ranker learns from.

    Attributes:
        features: (n_pairs, n_features).
        chosen: (n_pairs,) 1 or 0.
        indptr: (n_lists + 1,) offsets.
    """

    features: Matrix
    chosen: Vector
    indptr: Index

    def with_hits(self) -> Self:
        """Only the lists that hold something chosen: the others teach no order."""
        sizes = np.diff(self.indptr)
        row = np.repeat(np.arange(len(sizes)), sizes)
        hit = np.bincount(row, self.chosen, minlength=len(sizes)) > 0
        kept = hit[row]
        return type(self)(self.features[kept], self.chosen[kept], np.append(0, np.cumsum(sizes[hit])))

    @classmethod
    def joined(cls, parts: Sequence[Self], n_features: int) -> Self:
        """All lists in one, in the order of the parts."""
        if not parts:
            return cls(np.zeros((0, n_features), np.float32), np.zeros(0, np.float32), np.zeros(1, np.int64))
        sizes = np.concatenate([np.diff(part.indptr) for part in parts])
        return cls(
            features=np.concatenate([part.features for part in parts]),
            chosen=np.concatenate([part.chosen for part in parts]),
            indptr=np.append(0, np.cumsum(sizes)),
        )


def _truth(histories: Histories, window: Interactions, items: Vocabulary) -> CSR:
    """(n, n_items) the new positive items of each user from the moment of the query on."""
    index = items.index(window.item_ids)
    window = window.take((index >= 0) & (window.events != Event.HIDE))
    index = items.index(window.item_ids)
    start = np.searchsorted(window.user_ids, histories.user_ids)
    size = np.searchsorted(window.user_ids, histories.user_ids, side="right") - start
    query = np.repeat(np.arange(len(histories)), size)
    event = np.arange(len(query)) - np.repeat(np.cumsum(size) - size - start, size)
    later = window.timestamps[event] >= histories.as_of[query]
    query, event = query[later], event[later]
    shape = (len(histories), len(items))
    made = CSR((np.ones(len(query), np.float32), (query, index[event])), shape=shape)
    made.sum_duplicates()
    row, column = seen_cells(histories, items)
    seen = np.isin(
        np.repeat(np.arange(len(histories)), np.diff(made.indptr)) * len(items) + made.indices,
        row * len(items) + column,
    )
    made.data[:] = np.where(seen, np.float32(0.0), np.float32(1.0))
    made.eliminate_zeros()
    return made
