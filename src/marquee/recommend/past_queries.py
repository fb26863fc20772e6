"""
Questions whose answers are already known: what users of a past window went on to choose.

A ranker learns from them. The window is cut out of the fit data, so that nothing of the present can reach it,
and each of its users is asked several times, at different points of their rows: early in a session as well
as late.
"""

from collections.abc import Sequence

import numpy as np

from marquee.data.dataset import Histories, Interactions
from marquee.data.schema import CSR, Event
from marquee.data.vocabulary import Vocabulary
from marquee.recommend.candidates import seen_cells

__all__ = ["past_queries"]


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
