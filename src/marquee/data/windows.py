"""What is asked at one cut in time: queries, and what the users went on to choose."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from marquee.data.dataset import Histories, Interactions
from marquee.data.schema import CSR, Ids, Index, Microseconds, Vector
from marquee.data.vocabulary import Vocabulary

__all__ = ["GroundTruth", "Window", "offsets"]


@dataclass(frozen=True, eq=False, slots=True)
class GroundTruth:
    """
    What the users of n queries went on to choose. Query i owns `indptr[i]:indptr[i + 1]`.

    Attributes:
        indptr: (n + 1,) offsets.
        item_ids: (n_truth,) external ids, distinct within a query.
        timestamps: (n_truth,) microseconds since 1970-01-01 UTC.
        ratings: (n_truth,) 0–10, NaN where the event carries none.
    """

    indptr: Index
    item_ids: Ids
    timestamps: Microseconds
    ratings: Vector

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def lengths(self) -> Index:
        """(n,) number of items of each query."""
        return np.diff(self.indptr)

    @property
    def rows(self) -> Index:
        """(n_truth,) the query to which each item belongs."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def where(self, mask: NDArray[np.bool_]) -> Self:
        """The same queries with only the items of a (n_truth,) mask."""
        lengths = np.bincount(self.rows[mask], minlength=len(self))
        return type(self)(offsets(lengths), self.item_ids[mask], self.timestamps[mask], self.ratings[mask])

    def matrix(self, items: Vocabulary) -> CSR:
        """(n, n_items) float32 CSR with 1 for each item of the ground truth that is in the vocabulary."""
        column = items.index(self.item_ids)
        known = column >= 0
        made = CSR(
            (np.ones(int(known.sum()), np.float32), (self.rows[known], column[known])),
            shape=(len(self), len(items)),
        )
        made.sort_indices()
        return made


@dataclass(frozen=True, eq=False, slots=True)
class Window:
    """
    One cut in time with its queries.

    Attributes:
        name: for reports, e.g. `rolling-4`.
        index: position among the windows of its protocol.
        tuning: hyper-parameters may be chosen on it; otherwise it is for the test.
        fit: the rows a model may learn from, in the global order.
        histories: n queries: all that is known of a user at the moment of the query.
        truth: n ground truths.
        users_apart: the fit data is only free of each user's own future (`last`), not of everybody's.
    """

    name: str
    index: int
    tuning: bool
    fit: Interactions
    histories: Histories
    truth: GroundTruth
    users_apart: bool = False

    def __len__(self) -> int:
        return len(self.histories)

    def catalogue(self) -> Vocabulary:
        """The items with at least one row in the fit data (hiding one does not count)."""
        return Vocabulary.by_count(self.fit.positives().item_ids)

    def blind(self) -> "Window":
        """The same fit data without the queries: all that a model of this window may see of it."""
        nothing = np.zeros(0, dtype=np.int64)
        return Window(
            self.name,
            self.index,
            self.tuning,
            self.fit,
            self.histories.take(nothing),
            GroundTruth(np.zeros(1, np.int64), nothing, nothing, np.zeros(0, np.float32)),
            self.users_apart,
        )


def offsets(lengths: Index) -> Index:
    """(n + 1,) where each of n runs of these lengths begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
