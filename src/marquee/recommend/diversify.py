"""
Diversity: the same taste in fewer near-copies.

A list S is grown greedily from a pool of the best items, each step taking the item with the greatest gain of

    (1 − w) · Σ 1 / log₂(1 + rank)  +  w · [ log det L_S + (1 − w) · |S| · Σ_g √(p_g q_g(S)) ],    w = dial².

The first term is what the places of the undiversified list are worth. The determinant of the items'
similarities L is the volume that they span, so that a near-copy adds nothing (a determinantal point process,
by the fast greedy MAP inference of Chen et al., one row of a Cholesky factor per step). The last term keeps
the genres q of the list to the genres p of the history (calibration, with Hellinger's affinity in place of
the KL divergence, which needs no smoothing); it fades towards the end of the dial, where nothing but variety
counts. Relevance counts by rank, so that the dial means the same for every model. The square makes its steps
even. At 0 the list is untouched.

Source:
    Chen, Zhang & Zhou 2018, "Fast greedy MAP inference for determinantal point process to improve
    recommendation diversity"; Steck 2018, "Calibrated recommendations"; Achlioptas 2003, "Database-friendly
    random projections" (sketches).
"""

from typing import Final, Self

import numpy as np

from marquee.data.dataset import Catalog, Histories
from marquee.data.schema import CSR, Event, Float32, Index, Matrix, Vector
from marquee.data.vocabulary import Vocabulary
from marquee.features.encode import encode_items, tf_idf

__all__ = ["Diversifier"]

SKETCH: Final = 64
"""Numbers per item that stand for its keywords, people and franchise: cosines within about ±0.12."""
GENRE_SHARE: Final = 0.5
"""What genres count in the similarity of two items; the rest is their sketch."""
BLOCK_ROWS: Final = 256
LEAST_VOLUME: Final = np.float32(1e-4)


class Diversifier:
    """
    Re-ranks pools of items by relevance, variety and calibration.

    Args:
        vectors: (n_items, d) float32 whose dot products are similarities in about [0, 1].
        genres: (n_items, n_genres) float32, each row one unit spread over the item's genres, or zeros.
    """

    def __init__(self, vectors: Matrix, genres: Matrix) -> None:
        self._vectors = vectors
        self._genres = genres

    @classmethod
    def of_catalog(cls, items: Vocabulary, catalog: Catalog) -> Self:
        """From the facts of a vocabulary's items."""
        genres = encode_items(catalog, items, ("genres",)).matrix
        dense = genres.toarray().astype(np.float32)
        size = np.maximum(dense.sum(axis=1, keepdims=True), 1.0)
        facts = tf_idf(encode_items(catalog, items, ("keywords", "people", "collection"), min_items=2).matrix)
        vectors = np.hstack(
            [np.sqrt(GENRE_SHARE) * dense / np.sqrt(size), np.sqrt(1.0 - GENRE_SHARE) * _sketch(facts)]
        )
        return cls(vectors.astype(np.float32), dense / size)

    def taste(self, histories: Histories, items: Vocabulary) -> Matrix:
        """(n, n_genres) share of each genre among the items of the history that were not hidden."""
        index = items.index(histories.item_ids)
        used = (index >= 0) & (histories.events != Event.HIDE)
        lengths = np.bincount(histories.rows[used], minlength=len(histories))
        mass = np.zeros((len(histories), self._genres.shape[1]), np.float32)
        told = np.flatnonzero(lengths)
        if len(told):
            starts = (np.cumsum(lengths) - lengths)[told]
            mass[told] = np.add.reduceat(self._genres[index[used]], starts, axis=0)
        return np.asarray(mass / np.maximum(mass.sum(axis=1, keepdims=True), np.float32(1e-9)))

    def rerank(self, pools: Index, k: int, dials: Vector, taste: Matrix) -> Index:
        """
        The k items of each pool that are best together.

        Args:
            pools: (n, m) item indices, best first, -1 as padding behind them.
            k: list length.
            dials: (n,) in [0, 1].
            taste: (n, n_genres) as from `taste`.

        Returns:
            (n, k) item indices in rank order, -1 as padding.
        """
        made = np.full((len(pools), k), -1, dtype=np.int64)
        for start in range(0, len(pools), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            made[rows] = self._greedy(pools[rows], k, dials[rows, None].astype(np.float32), taste[rows])
        return made

    def _greedy(self, pools: Index, k: int, dials: Matrix, taste: Matrix) -> Index:
        n, m = pools.shape
        every = np.arange(n)
        vectors = self._vectors[pools]  # (n, m, d)
        wanted = np.sqrt(taste)[:, :, None]  # (n, n_genres, 1)
        genres = self._genres[pools]  # (n, m, n_genres)
        weight = dials**2
        worth = (1.0 - weight) / np.log2(np.arange(2, m + 2, dtype=np.float32))  # (n, m)
        worth[pools < 0] = -np.inf
        volume = np.ones((n, m), np.float32)  # d²: what an item adds to the determinant
        factor = np.zeros((min(k, m), n, m), np.float32)  # columns of the Cholesky factor
        mass = np.zeros((n, 1, genres.shape[2]), np.float32)
        affinity = np.zeros((n, 1), np.float32)
        chosen = np.full((n, k), -1, dtype=np.int64)
        for step in range(min(k, m)):
            # |S| · Σ √(p q) is √|S| · Σ √(p · mass), as q = mass / |S|.
            after = (np.sqrt(mass + genres) @ wanted)[:, :, 0] * np.float32(np.sqrt(step + 1))
            best = np.argmax(worth + weight * (np.log(volume) + (1.0 - weight) * (after - affinity)), axis=1)
            open_ = worth[every, best] > -np.inf
            chosen[open_, step] = pools[every, best][open_]
            likeness = (vectors @ vectors[every, best][:, :, None])[:, :, 0]  # (n, m)
            likeness[every, best] = 1.0
            pivot = factor[:step, every, best]  # (step, n)
            column = likeness - np.einsum("tnm,tn->nm", factor[:step], pivot)
            column /= np.sqrt(volume[every, best])[:, None]
            factor[step] = column
            volume = np.maximum(volume - column**2, LEAST_VOLUME)
            mass += genres[every, best][:, None]
            affinity = after[every, best][:, None]
            worth[every, best] = -np.inf
        return chosen


def _sketch(facts: CSR) -> Float32:
    """(n_items, SKETCH) random projections of rows, which keep their cosines."""
    signs = np.random.default_rng(0).choice(np.array([-1, 1], np.float32), (facts.shape[1], SKETCH))
    projected = np.asarray(facts @ signs, dtype=np.float32)
    # Of unit length again, so that no similarity of an item exceeds that with itself.
    return np.asarray(projected / np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-9))
