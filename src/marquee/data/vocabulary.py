"""External ids ↔ dense indices."""

import hashlib
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from marquee.data.schema import Ids, Index

__all__ = ["Vocabulary"]


class Vocabulary:
    """
    A fixed, ordered set of external ids.

    The order is the dense index. Item vocabularies are made by `by_count`: most frequent first, then
    the lower id, so that "equal scores: higher count, then lower id" is simply "lower index first".

    Args:
        ids: (n,) distinct external ids in index order.

    Raises:
        ValueError: ids repeat or are not one-dimensional.
    """

    def __init__(self, ids: ArrayLike) -> None:
        self.ids: Ids = np.ascontiguousarray(ids, dtype=np.int64)
        if self.ids.ndim != 1:
            raise ValueError(f"ids must be one-dimensional, not of shape {self.ids.shape}")
        self._order = np.argsort(self.ids, kind="stable")
        self._sorted = self.ids[self._order]
        if len(self.ids) > 1 and bool((self._sorted[1:] == self._sorted[:-1]).any()):
            raise ValueError("ids must be distinct")
        self._table = self._made_table()
        self._beyond = np.uint64(0 if self._table is None else len(self._table) - 1)

    @classmethod
    def by_count(cls, ids: ArrayLike) -> Self:
        """
        The distinct values of `ids`, most frequent first, then the lower id.

        Args:
            ids: (n,) external ids with repetition.
        """
        unique, counts = np.unique(np.asarray(ids, dtype=np.int64), return_counts=True)
        return cls(unique[np.lexsort((unique, -counts))])

    def __len__(self) -> int:
        return len(self.ids)

    def __eq__(self, other: object) -> bool:
        return other is self or (isinstance(other, Vocabulary) and np.array_equal(self.ids, other.ids))

    __hash__ = None  # type: ignore[assignment]

    def __contains__(self, external_id: int) -> bool:
        return bool(self.index([external_id])[0] >= 0)

    def index(self, ids: Ids | Sequence[int]) -> Index:
        """
        Dense indices of external ids.

        Args:
            ids: (n,) external ids.

        Returns:
            (n,) indices, -1 where the id is not in the vocabulary.
        """
        wanted = np.asarray(ids, dtype=np.int64)
        if not len(self.ids):
            return np.full(wanted.shape, -1, dtype=np.int64)
        if self._table is not None:
            # As unsigned numbers, ids below the first are beyond the last, too: there the table ends with -1.
            place = np.minimum((wanted - self._sorted[0]).view(np.uint64), self._beyond)
            return np.asarray(self._table[place.view(np.int64)])
        position = np.minimum(np.searchsorted(self._sorted, wanted), len(self.ids) - 1)
        return np.where(self._sorted[position] == wanted, self._order[position], -1)

    def digest(self) -> str:
        """SHA-256 of the ids in index order, as hexadecimal."""
        return hashlib.sha256(self.ids.astype("<i8", copy=False).tobytes()).hexdigest()

    def _made_table(self) -> Index | None:
        """(last id - first id + 2,) index of each id where that is not much: many times faster to ask."""
        if not len(self.ids) or int(self._sorted[-1]) - int(self._sorted[0]) > 16 * len(self.ids) + 65_536:
            return None
        table = np.full(int(self._sorted[-1]) - int(self._sorted[0]) + 2, -1, dtype=np.int64)
        table[self._sorted - self._sorted[0]] = self._order
        return table
