"""Ranked lists of items: what every recommender returns."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marquee.data.schema import Ids, Index, Matrix

__all__ = ["RankedItems", "top_k"]


@dataclass(frozen=True, eq=False, slots=True)
class RankedItems:
    """
    One ranked list per query, best first.

    Attributes:
        item_ids: (n, k) external ids, -1 behind the end of a shorter list.
        scores: (n, k) float32, NaN behind the end.
    """

    item_ids: NDArray[np.int64]
    scores: Matrix

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def k(self) -> int:
        """List length."""
        return int(self.item_ids.shape[1])

    def rows(self) -> Iterator[list[tuple[int, float]]]:
        """Each list as (item id, score) pairs, without padding."""
        for ids, scores in zip(self.item_ids, self.scores, strict=True):
            n = int((ids >= 0).sum())
            yield list(zip(ids[:n].tolist(), scores[:n].tolist(), strict=True))

    @classmethod
    def from_indices(cls, indices: Index, scores: Matrix, ids: Ids) -> "RankedItems":
        """
        Lists of dense indices (as from `top_k`) as lists of external ids.

        Args:
            indices: (n, k) dense indices, -1 as padding.
            scores: (n, k).
            ids: (n_items,) external id of each index.
        """
        found = indices >= 0
        if not len(ids):
            return cls(np.full(indices.shape, -1, np.int64), np.full(indices.shape, np.nan, np.float32))
        return cls(
            np.where(found, ids[np.where(found, indices, 0)], -1),
            np.where(found, scores, np.nan).astype(np.float32),
        )


def top_k(scores: Matrix, k: int) -> tuple[Index, Matrix]:
    """
    The k best columns of each row; of equal scores the lower column first.

    Args:
        scores: (n, m) float32; -inf and NaN mark what must not be returned.
        k: list length, > 0; may exceed m.

    Returns:
        (n, k) columns, -1 as padding, and (n, k) their scores, NaN as padding.
    """
    n, m = scores.shape
    width = min(k, m)
    indices = np.full((n, k), -1, dtype=np.int64)
    values = np.full((n, k), np.nan, dtype=np.float32)
    if n == 0 or width == 0:
        return indices, values
    rows, columns = _candidates(scores, width)
    counts = np.bincount(rows, minlength=n)
    offset = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    # (n, most candidates of a row): columns ascend, so that a stable sort puts the lower of equals first.
    packed = np.full((n, max(int(counts.max()), width)), -np.inf, dtype=np.float32)
    source = np.full(packed.shape, -1, dtype=np.int64)
    packed[rows, offset] = scores[rows, columns]
    source[rows, offset] = columns
    order = np.argsort(-packed, axis=1, kind="stable")[:, :width]
    chosen = np.take_along_axis(packed, order, axis=1)
    indices[:, :width] = np.take_along_axis(source, order, axis=1)
    values[:, :width] = np.where(chosen > -np.inf, chosen, np.nan)
    return indices, values


def _candidates(scores: Matrix, k: int) -> tuple[Index, Index]:
    """
    Few entries of each row that hold its k best: (row, column) pairs in row-major order.

    The k-th greatest maximum of any partition of a row into groups is at most its k-th greatest entry,
    and with a few times k groups not much less; maxima stream through memory once, where a full
    partition shuffles it.
    """
    n, m = scores.shape
    groups = min(m, 8 * k)
    depth = m // groups
    maxima = np.maximum.reduce(scores[:, : depth * groups].reshape(n, depth, groups), axis=1)
    maxima[np.isnan(maxima)] = -np.inf  # a lower threshold is still one
    threshold = np.partition(maxima, groups - k, axis=1)[:, groups - k]  # (n,)
    above = scores >= np.maximum(threshold, np.finfo(np.float32).min)[:, None]
    counts = np.array([np.count_nonzero(row) for row in above])  # on single rows far faster than a sum
    # Where many tie, as in sparse scores, the lower columns among the equals are enough.
    for row in np.flatnonzero(counts > 4 * k + 64):
        clean = np.where(np.isnan(scores[row]), -np.inf, scores[row])
        least = np.partition(clean, m - k)[m - k]
        equal = np.flatnonzero(clean == least)[: max(k - int((clean > least).sum()), 0)]
        above[row] = clean > least
        above[row, equal] = True
    flat = np.flatnonzero(above)
    rows = flat // m
    return rows, flat - rows * m
