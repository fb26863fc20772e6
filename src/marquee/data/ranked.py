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
    clean = np.where(np.isnan(scores), -np.inf, scores).astype(np.float32, copy=False)
    indices = np.full((n, k), -1, dtype=np.int64)
    values = np.full((n, k), np.nan, dtype=np.float32)
    if width == 0:
        return indices, values
    if width < m:
        part = np.argpartition(-clean, width - 1, axis=1)[:, :width]
        threshold = np.take_along_axis(clean, part, axis=1).min(axis=1)
        # argpartition picks any of the columns that tie at the threshold: repair those rows.
        tied = (clean == threshold[:, None]).sum(axis=1) > (
            np.take_along_axis(clean, part, axis=1) == threshold[:, None]
        ).sum(axis=1)
        for row in np.flatnonzero(tied):
            above = np.flatnonzero(clean[row] > threshold[row])
            equal = np.flatnonzero(clean[row] == threshold[row])[: width - len(above)]
            part[row] = np.concatenate([above, equal])
        part.sort(axis=1)
    else:
        part = np.broadcast_to(np.arange(m), (n, m))
    chosen = np.take_along_axis(clean, part, axis=1)
    order = np.argsort(-chosen, axis=1, kind="stable")
    chosen = np.take_along_axis(chosen, order, axis=1)
    allowed = chosen > -np.inf
    indices[:, :width] = np.where(allowed, np.take_along_axis(part, order, axis=1), -1)
    values[:, :width] = np.where(allowed, chosen, np.nan)
    return indices, values
