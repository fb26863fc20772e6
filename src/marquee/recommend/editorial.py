"""
Editors: what people ask for, whatever the model says.

A boost is added to an item's score in standard deviations of all scores of the same user, so that it means
the same for every model and user; it moves the item and leaves the score that is shown alone. A pinned item
comes first wherever it qualifies and the user has not seen it. What is blocked is never shown: that is for
`filters.ItemFacts`.
"""

from dataclasses import dataclass, field

import numpy as np

from marquee.data.schema import Ids, Index, Matrix, Vector
from marquee.data.vocabulary import Vocabulary

__all__ = ["Choices", "Editorial"]


def _no_ids() -> Ids:
    return np.empty(0, np.int64)


def _no_boosts() -> Vector:
    return np.empty(0, np.float32)


@dataclass(frozen=True, eq=False, slots=True)
class Editorial:
    """
    What editors ask for.

    Attributes:
        pinned: external ids that come first, in this order.
        boosted: (m,) external ids.
        boosts: (m,) what is added to their scores, in standard deviations; below 0 they sink.
    """

    pinned: Ids = field(default_factory=_no_ids)
    boosted: Ids = field(default_factory=_no_ids)
    boosts: Vector = field(default_factory=_no_boosts)


class Choices:
    """
    What editors ask for, of the items of a vocabulary.

    Attributes:
        pinned: external ids, in the editors' order.
    """

    def __init__(self, editorial: Editorial, items: Vocabulary) -> None:
        pinned = items.index(editorial.pinned)
        self._pinned: Index = pinned[pinned >= 0]
        self.pinned: list[int] = items.ids[self._pinned].tolist()
        boosted = items.index(editorial.boosted)
        used = (boosted >= 0) & (editorial.boosts != 0)
        self._boosted: Index = boosted[used]
        self._boosts: Vector = editorial.boosts[used].astype(np.float32)
        self._touched: Index = np.union1d(self._pinned, self._boosted)

    def __bool__(self) -> bool:
        return len(self._touched) > 0

    def as_scored(self, scores: Matrix) -> Matrix:
        """(n, m) a copy of the scores of the items that `boost` and `take_first` change."""
        return scores[:, self._touched]

    def boost(self, scores: Matrix) -> None:
        """Move the scores of boosted items, in place."""
        if len(self._boosted):
            scores[:, self._boosted] += scores.std(axis=1, keepdims=True) * self._boosts

    def take_first(self, scores: Matrix, k: int) -> Index:
        """
        Take the pinned items out of the scores, in place.

        Returns:
            (n, ≤ k) those that were open to each row, -1 as padding behind them.
        """
        is_open = scores[:, self._pinned] > -np.inf  # (n, p)
        scores[:, self._pinned] = -np.inf
        order = np.argsort(~is_open, axis=1, kind="stable")[:, :k]
        return np.where(np.take_along_axis(is_open, order, axis=1), self._pinned[order], -1)

    def restore(self, values: Matrix, chosen: Index, as_scored: Matrix) -> None:
        """Put the scores of the model back into the (n, k) values of lists, in place."""
        place = np.minimum(np.searchsorted(self._touched, chosen), len(self._touched) - 1)
        touched = self._touched[place] == chosen
        values[touched] = np.take_along_axis(as_scored, place, axis=1)[touched]
