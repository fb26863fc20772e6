"""
From histories to lists, the same way offline, in batch and in a request.

    history → scores of every item → what the user must not get is taken out → top-k

A watched, rated, liked, hidden or disliked item never comes back; one that was only clicked may.
"""

import numpy as np
from numpy.typing import NDArray

from marquee.data.dataset import Histories
from marquee.data.ranked import RankedItems, top_k
from marquee.data.schema import Event, Ids
from marquee.models.base import SCORE_ROWS, Recommender

__all__ = ["RecommendationPipeline"]

_KEEPS_ITEM = (Event.CLICK,)
"""Events after which an item may still be recommended."""


class RecommendationPipeline:
    """
    A scorer with everything around it that makes a list fit to show.

    Args:
        model: a fitted recommender.
    """

    def __init__(self, model: Recommender) -> None:
        self.model = model

    def recommend(self, histories: Histories, k: int = 10, *, exclude: Ids | None = None) -> RankedItems:
        """
        The k best items of each history that may be shown.

        Args:
            histories: n histories, all their events.
            k: list length, > 0; lists are shorter (padded) where fewer items are left.
            exclude: external ids that nobody may get in this call.

        Returns:
            n ranked lists.

        Raises:
            ValueError: k < 1.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        blocks = [
            self._block(histories.take(slice(start, start + SCORE_ROWS)), k, exclude)
            for start in range(0, max(len(histories), 1), SCORE_ROWS)
        ]
        return RankedItems(
            np.concatenate([block.item_ids for block in blocks]),
            np.concatenate([block.scores for block in blocks]),
        )

    def _block(self, histories: Histories, k: int, exclude: Ids | None) -> RankedItems:
        items = self.model.items
        scores = np.array(self.model.score(histories), dtype=np.float32)
        taken = unavailable(histories)
        column = items.index(histories.item_ids[taken])
        scores[histories.rows[taken][column >= 0], column[column >= 0]] = -np.inf
        if exclude is not None:
            column = items.index(exclude)
            scores[:, column[column >= 0]] = -np.inf
        return RankedItems.from_indices(*top_k(scores, k), items.ids)


def unavailable(histories: Histories) -> NDArray[np.bool_]:
    """(n_events,) which events take their item out of the user's lists."""
    return ~np.isin(histories.events, [int(event) for event in _KEEPS_ITEM])
