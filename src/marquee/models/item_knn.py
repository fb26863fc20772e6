"""
ItemKNN: items that share users with the items of the history.

The similarity of two items is the product of their columns in a weighted user × item matrix; each item
keeps its K most similar ones, and an item scores the sum over the history of its similarity to each
event's item, weighted by how recent the event is.

- `cosine`: columns of length 1, damped by a shrinkage so that two items with one user in common are not
  perfect twins.
- `bm25`: an item is a document whose words are its users; users of many items say little (idf), and
  popular items are normalised by their length.

Source:
    Sarwar et al. 2001, "Item-based collaborative filtering recommendation algorithms"; Deshpande &
    Karypis 2004; Robertson & Zaragoza 2009 (BM25); Bell & Koren 2007 (shrinkage).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from marquee.data.dataset import Catalog, Histories, Interactions
from marquee.data.ranked import top_k
from marquee.data.schema import CSR, Index, Matrix, Vector
from marquee.errors import ModelError
from marquee.models.base import ModelState, Progress, Recommender, silent, tunable
from marquee.models.recency import RecencyConfig, history_matrix, training_matrix
from marquee.models.row_sums import RowSums, narrow

__all__ = ["ItemKnn", "ItemKnnConfig"]

BLOCK = 256
SPARSE_MACS_PER_SECOND, MIXED_MACS_PER_SECOND = 1.3e8, 1.7e9  # of SciPy, on one core


@dataclass(frozen=True)
class ItemKnnConfig(RecencyConfig):
    """Hyper-parameters of `ItemKnn`."""

    history_half_life_days: float | None = tunable(
        90.0,
        "Days before the user's newest event at which an event counts half; none: all count alike.",
        choices=(None, 7.0, 30.0, 90.0, 180.0, 365.0),
    )
    similarity: str = tunable("bm25", "How items are compared.", choices=("cosine", "bm25"))
    neighbours: int = tunable(500, "K: similar items kept of each item.", choices=(50, 100, 200, 500, 1000))
    shrinkage: float = tunable(30.0, "Added to the denominator of the cosine.", low=0.0, high=100.0)
    bm25_saturation: float = tunable(
        1.0, "k1 of BM25: large values leave the weights as they are.", low=0.1, high=100.0, log=True
    )
    bm25_length: float = tunable(0.2, "b of BM25: how much popular items are normalised.", low=0.0, high=1.0)

    def __post_init__(self) -> None:
        if self.similarity not in ("cosine", "bm25"):
            raise ValueError(f"similarity must be cosine or bm25, not {self.similarity!r}")
        if self.neighbours < 1:
            raise ValueError(f"neighbours must be at least 1, not {self.neighbours}")


class ItemKnn(Recommender):
    """Items by their similarity to those of the history."""

    name = "item_knn"
    Config = ItemKnnConfig
    config: ItemKnnConfig
    _popularity: Vector  # (n_items,) for empty histories
    _similar: RowSums  # (n_items, n_items) row i: the neighbours of i

    def fit(
        self, interactions: Interactions, catalog: Catalog | None = None, *, progress: Progress = silent
    ) -> Self:
        """Compare all items with one another; see `Recommender.fit`."""
        rows = interactions.positives()
        self._set_items(rows)
        X = training_matrix(rows, self.items, self.config)  # (n_users, n_items)
        norms = np.bincount(X.indices, X.data.astype(np.float64) ** 2, minlength=X.shape[1])
        self._popularity = (norms / max(norms.max(initial=0.0), 1e-12)).astype(np.float32)
        if self.config.similarity == "bm25":
            X = _bm25(X, self.config.bm25_saturation, self.config.bm25_length)
        self._similar = RowSums(self._neighbours(X, np.sqrt(norms).astype(np.float32), progress))
        return self

    def score(self, histories: Histories) -> Matrix:
        """Product of history and similarity; without a known event, popularity."""
        H = history_matrix(histories, self.items, self.config)  # (n, n_items)
        scores = self._similar(H)
        scores[np.diff(H.indptr) == 0] = self._popularity
        return scores

    def state(self) -> ModelState:
        """Item ids, counts, popularity and the similarities."""
        arrays = {
            **self._items_state(),
            "popularity": self._popularity,
            "data": self._similar.matrix.data,
            "indices": self._similar.matrix.indices,
            "indptr": self._similar.matrix.indptr,
        }
        return ModelState(arrays, {"config": self.config.to_dict()})

    @classmethod
    def from_state(cls, state: ModelState) -> Self:
        """See `Recommender.from_state`."""
        model = cls(cls.Config.from_dict(state.meta["config"]))
        if "indptr" not in state.arrays:
            raise ModelError("The state holds no similarities.", fix="Train the model again.")
        model._restore_items(state)
        model._popularity = state.arrays["popularity"]
        n = len(model.items)
        parts = (state.arrays["data"], state.arrays["indices"], state.arrays["indptr"])
        model._similar = RowSums(CSR(parts, shape=(n, n)))
        return model

    def _neighbours(self, X: CSR, lengths: Vector, progress: Progress) -> CSR:
        """
        The K greatest entries of each row of XᵀX off its diagonal, a block of rows at a time.

        Args:
            X: (n_users, n_items).
            lengths: (n_items,) Euclidean lengths of the columns, for the cosine.
        """
        by_item = CSR(X.T)
        n_items, k = X.shape[1], min(self.config.neighbours, X.shape[1])
        progress.total(-(-n_items // BLOCK), "blocks of items")
        data, indices, sizes = [], [], []
        for start in range(0, n_items, BLOCK):
            rows = np.arange(start, min(start + BLOCK, n_items))
            shared = _shared(X, by_item, rows)  # (n_block, n_items)
            if self.config.similarity == "cosine":
                shared /= lengths[rows, None] * lengths + np.float32(self.config.shrinkage)
            shared[rows - start, rows] = 0.0
            np.putmask(shared, shared <= 0.0, -np.inf)
            columns, values = top_k(shared, k)
            order = np.argsort(np.where(columns < 0, n_items, columns), axis=1)
            columns = np.take_along_axis(columns, order, axis=1)
            values = np.take_along_axis(values, order, axis=1)
            found = columns >= 0
            data.append(values[found])
            indices.append(columns[found])
            sizes.append(found.sum(axis=1))
            progress.step()
        indptr = np.append(0, np.cumsum(np.concatenate(sizes, dtype=np.int64)))
        parts = (np.concatenate(data), np.concatenate(indices), indptr)
        return narrow(CSR(parts, shape=(n_items, n_items)))


def _shared(X: CSR, by_item: CSR, rows: Index) -> Matrix:
    """(n_block, n_items) products of some columns of X, ascending and adjacent, with all."""
    block = slice(rows[0], rows[-1] + 1)
    mine = CSR(by_item[block])
    products = float(np.diff(X.indptr)[mine.indices].sum())
    if products / SPARSE_MACS_PER_SECOND < X.nnz * len(rows) / MIXED_MACS_PER_SECOND:
        return np.asarray((mine @ X).toarray())
    return np.ascontiguousarray((by_item @ CSR(mine.T).toarray()).T)


def _bm25(X: CSR, saturation: float, length_weight: float) -> CSR:
    """X (n_users, n_items) with the BM25 weight of each user in each item."""
    n_users, n_items = X.shape
    users = np.repeat(np.arange(n_users), np.diff(X.indptr))
    lengths = np.bincount(X.indices, X.data, minlength=n_items)
    relative = 1.0 - length_weight + length_weight * lengths / max(lengths.mean(), 1e-12)
    # The form that stays positive for a user of every item.
    activity = np.diff(X.indptr)
    rarity = np.log1p((n_items - activity + 0.5) / (activity + 0.5))
    values = X.data * (saturation + 1.0) / (saturation * relative[X.indices] + X.data) * rarity[users]
    return CSR((values.astype(np.float32), X.indices, X.indptr), shape=X.shape)
