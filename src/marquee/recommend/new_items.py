"""
New items: what nobody has watched yet, scored through what it is like.

A model knows the items of its fit data. `WithNewItems` puts the other items of the catalogue behind them:
each gets the mean of the model's scores of its nearest known items by content, drawn towards the lowest
score the less it is like any of them. So a new item is as personal as the model, on the same scale, in
every list, filter and explanation, the moment it is in the catalogue; and an event with it counts as one
with its nearest known item.

Source:
    Gantner et al. 2010, "Learning attribute-to-feature mappings for cold-start recommendations" (by kNN).
"""

from dataclasses import replace
from typing import Final, Protocol

import numpy as np

from marquee.data.dataset import Catalog, Histories
from marquee.data.ranked import top_k
from marquee.data.schema import CSR, Ids, Index, Matrix, Vector
from marquee.data.vocabulary import Vocabulary
from marquee.recommend.similar import content_vectors

__all__ = ["Scorer", "WithNewItems"]

NEIGHBOURS: Final = 20
DOUBT: Final = 0.1
"""Total likeness at which a new item is believed half."""
BLOCK: Final = 512


class Scorer(Protocol):
    """What lists and explanations need of a model; every fitted `Recommender` is one."""

    @property
    def items(self) -> Vocabulary:
        """The columns of `score`."""

    @property
    def item_counts(self) -> Index:
        """(n_items,) interactions per item in the fit data."""

    def score(self, histories: Histories) -> Matrix:
        """(n, n_items) finite float32, greater is better."""


class WithNewItems:
    """
    A scorer whose vocabulary is followed by the catalogue's items that it does not know.

    Args:
        model: a fitted model.
        catalog: facts of known and new items.

    Attributes:
        items: the model's vocabulary, then the new items by id.
        item_counts: (n_items,) 0 for new items.
    """

    def __init__(self, model: Scorer, catalog: Catalog) -> None:
        known = model.items
        new_ids = np.setdiff1d(catalog.item_ids, known.ids)
        self._model = model
        self.items = Vocabulary(np.concatenate([known.ids, new_ids]))
        self.item_counts = np.concatenate([model.item_counts, np.zeros(len(new_ids), np.int64)])
        self._weights, self._nearest = _neighbours(content_vectors(self.items, catalog), len(known))
        self._lowest = 1.0 - np.asarray(self._weights.sum(axis=0), dtype=np.float32).ravel()  # (n_new,)

    def score(self, histories: Histories) -> Matrix:
        """(n, n_items) the model's scores, then those of the new items."""
        n_known = len(self._model.items)
        index = self.items.index(histories.item_ids)
        new = index >= n_known
        if new.any():
            nearest = self._nearest[np.where(new, index - n_known, 0)]
            stand_ins = np.where(new & (nearest >= 0), self.items.ids[nearest], histories.item_ids)
            histories = replace(histories, item_ids=stand_ins)
        scores = np.empty((len(histories), len(self.items)), np.float32)
        scores[:, :n_known] = self._model.score(histories)
        known = scores[:, :n_known]
        scores[:, n_known:] = known @ self._weights
        if n_known:
            scores[:, n_known:] += known.min(axis=1, keepdims=True) * self._lowest
        return scores

    def neighbours(self, item_id: int) -> tuple[Ids, Vector]:
        """
        What a new item is scored by.

        Returns:
            (m,) external ids of known items, those most like it first, and their weights; none of an item
            that is not new.
        """
        column = int(self.items.index([item_id])[0]) - len(self._model.items)
        if column < 0:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        weights = self._weights[:, column].tocoo()
        order = np.lexsort((weights.coords[0], -weights.data))
        return self.items.ids[weights.coords[0][order]], weights.data[order]


def _neighbours(vectors: CSR, n_known: int) -> tuple[CSR, Index]:
    """
    Weights (n_known, n_new) of known items in new ones, columns summing to less than 1, and the nearest known
    item (n_new,) of each new one, -1 where none is like it.
    """
    known, new = vectors[:n_known].T.tocsr(), vectors[n_known:]
    n_new = new.shape[0]
    rows, columns, weights = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    nearest = np.full(n_new, -1, dtype=np.int64)
    for start in range(0, n_new if n_known else 0, BLOCK):
        index, likeness = top_k((new[start : start + BLOCK] @ known).toarray(), NEIGHBOURS)
        likeness = np.nan_to_num(np.maximum(likeness, 0.0))
        # Squares: one film of the same franchise tells more than many of the same decade.
        share = likeness**2 / np.maximum((likeness**2).sum(axis=1, keepdims=True), np.float32(1e-12))
        total = likeness.sum(axis=1, keepdims=True)
        share *= total / (total + np.float32(DOUBT))
        nearest[start : start + BLOCK] = np.where(likeness[:, 0] > 0, index[:, 0], -1)
        row, place = np.nonzero(share)
        rows.append(index[row, place])
        columns.append(start + row)
        weights.append(share[row, place])
    made: CSR = CSR(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), shape=(n_known, n_new)
    )
    return made, nearest
