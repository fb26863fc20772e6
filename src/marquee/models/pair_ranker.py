"""What every ranker can: order candidates by what is known of each (history, item) pair."""

from abc import ABC, abstractmethod
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from marquee.data.schema import Index, Matrix, Vector
from marquee.models.base import ModelState

__all__ = ["BLOCK", "PairRanker", "Scores", "ordered_sums"]

Scores = NDArray[np.float64]  # (n_pairs,)

BLOCK: Final = 512
"""Pairs scored at a time: what is known of them stays in the cache."""


class PairRanker(ABC):
    """Orders candidates; fitted on lists of pairs of which some were chosen."""

    @abstractmethod
    def fit(self, features: Matrix, chosen: Vector, indptr: Index, *, seed: int = 0) -> Self:
        """
        Learn to put what was chosen first.

        Args:
            features: (n_pairs, n_features), NaN where unknown.
            chosen: (n_pairs,) 1 or 0.
            indptr: (n_lists + 1,) offsets of the lists.
            seed: of random choices.
        """

    @abstractmethod
    def predict(self, features: Matrix) -> Scores:
        """(n_pairs,) scores, greater is better; comparable within a list."""

    @abstractmethod
    def importance(self) -> Vector:
        """(n_features,) share of each feature in the decisions, ≥ 0, of sum 1 (or all 0)."""

    @abstractmethod
    def state(self) -> ModelState:
        """Everything `from_state` needs."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: ModelState) -> Self:
        """The ranker of a state."""


def ordered_sums(terms: NDArray[Any]) -> NDArray[Any]:
    """(n,) sums over the first axis of (m, n), each in its order and the same alone and among others."""
    if terms.shape[1] == 1:  # a single column would be summed pairwise, which rounds otherwise
        return np.asarray(np.add.reduce(np.repeat(terms, 2, axis=1), axis=0)[:1])
    return np.asarray(np.add.reduce(terms, axis=0))
