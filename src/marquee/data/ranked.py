"""Ranked lists of items: what every recommender returns."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marquee.data.schema import Ids, Index, Matrix, Vector

__all__ = ["Keys", "RankedItems", "pack", "rank_keys", "top_k", "unpack"]

Keys = NDArray[np.uint64]  # of (score, column) pairs, see `rank_keys`
LOW = np.uint64((1 << 32) - 1)


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
    keys = np.sort(pack(rows, rank_keys(scores[rows, columns], columns), n), axis=1)[:, ::-1][:, :width]
    indices[:, : keys.shape[1]], values[:, : keys.shape[1]] = unpack(keys)
    return indices, values


def rank_keys(scores: Vector, columns: Index) -> Keys:
    """
    Integers that order (score, column) pairs: greater is the greater score, then the lower column.

    A sort of integers is vectorised and needs no second pass for ties.

    Args:
        scores: (n,) float32, finite.
        columns: (n,) below 2³².

    Returns:
        (n,) all above 0, which stands for no pair.
    """
    bits = (scores + np.float32(0.0)).view(np.uint32)  # -0 becomes 0, which it equals
    # Floats ascend as their bits do; those below 0 the other way round, and before the rest.
    ascending = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return (ascending.astype(np.uint64) << np.uint64(32)) | (LOW - columns.astype(np.uint64))


def unpack(keys: Keys) -> tuple[Index, Matrix]:
    """Columns and scores of keys of any shape; -1 and NaN where there is none."""
    ascending = (keys >> np.uint64(32)).astype(np.uint32)
    bits = np.where(ascending >> 31, ascending & np.uint32((1 << 31) - 1), ~ascending)
    found = keys > 0
    columns = np.where(found, (LOW - (keys & LOW)).astype(np.int64), -1)
    return columns, np.where(found, bits.view(np.float32), np.float32(np.nan))


def pack(rows: Index, keys: Keys, n: int) -> Keys:
    """
    Keys of ascending rows as one row each.

    Returns:
        (n, most keys of a row), 0 as padding.
    """
    counts = np.bincount(rows, minlength=n)
    width = int(counts.max(initial=0))
    packed = np.zeros((n, width), np.uint64)
    packed.ravel()[
        np.arange(len(rows)) + np.repeat(np.arange(n) * width - np.cumsum(counts) + counts, counts)
    ] = keys
    return packed


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
