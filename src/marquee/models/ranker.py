"""
Rankers that need no library, and how each is made from its state.

`LinearRanker` is a list-wise softmax regression: a fraction of the cost of trees. `BlendedRanker` is the mean
of others, such as of this and of trees: their errors are not the same.

Source:
    Cao et al. 2007, "Learning to rank: from pairwise approach to listwise approach".
"""

from collections.abc import Sequence
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from marquee.data.schema import Index, Matrix, Vector
from marquee.errors import ModelError
from marquee.models.base import ModelState
from marquee.models.pair_ranker import BLOCK, PairRanker, Scores, ordered_sums
from marquee.models.tree_ranker import TreeRanker

__all__ = ["BlendedRanker", "LinearRanker", "ranker_from_state"]

CLIP: Final = 4.0
"""Standard deviations at which the linear ranker cuts off a feature."""


class LinearRanker(PairRanker):
    """
    Softmax regression over lists.

    Args:
        ridge: L2 regularisation of the weights of the standardised features, per list.
        prior: (n_features,) weights towards which it shrinks, and which it has unfitted; default 0.
        columns: the features it uses; default: all.
    """

    def __init__(
        self,
        *,
        ridge: float = 0.01,
        prior: Vector | None = None,
        columns: Sequence[int] | None = None,
    ) -> None:
        self._ridge = ridge
        self._prior = prior
        self._columns = columns
        if prior is not None:
            self._set(np.zeros(len(prior)), np.ones(len(prior)), np.asarray(prior, dtype=np.float64))

    def fit(self, features: Matrix, chosen: Vector, indptr: Index, *, seed: int = 0) -> Self:
        """See `PairRanker.fit`; nothing here is random."""
        from scipy.optimize import minimize  # training only: what serves can be without it

        n_features = features.shape[1]
        known = np.isfinite(features)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, features, 0.0).sum(axis=0, dtype=np.float64) / count
        deviation = np.sqrt((np.where(known, features - mean, 0.0) ** 2).sum(axis=0) / count)
        used = np.zeros(n_features, dtype=bool)
        used[slice(None) if self._columns is None else list(self._columns)] = True
        used &= deviation > 1e-6
        self._set(mean, np.where(used, deviation, np.inf), np.zeros(n_features))
        X = self._standardised(features.T).T[:, used]
        prior = np.zeros(int(used.sum())) if self._prior is None else self._prior[used].astype(np.float64)
        lists = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        n_chosen = np.bincount(lists, chosen, minlength=len(indptr) - 1)
        target = (chosen / np.maximum(n_chosen, 1.0)[lists]).astype(np.float64)
        target_mean = X.T @ target.astype(np.float32)
        starts, n_lists = indptr[:-1], float((n_chosen > 0).sum())

        def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            scores = (X @ weights.astype(np.float32)).astype(np.float64)
            top = np.maximum.reduceat(scores, starts)
            odds = np.exp(scores - top[lists])
            total = np.add.reduceat(odds, starts)
            asked = n_chosen > 0
            value = float((np.log(total) + top)[asked].sum() - scores @ target)
            share = np.where(asked[lists], odds / total[lists], 0.0)
            slope = X.T @ share.astype(np.float32) - target_mean
            away = weights - prior
            return (
                value / n_lists + 0.5 * self._ridge * float(away @ away),
                slope / n_lists + self._ridge * away,
            )

        found = minimize(loss, prior, jac=True, method="L-BFGS-B", options={"maxiter": 200})
        weights = np.zeros(n_features)
        weights[used] = found.x
        self._set(mean, np.where(used, deviation, np.inf), weights)
        return self

    def predict(self, features: Matrix) -> Scores:
        """See `PairRanker.predict`."""
        scores = np.zeros(len(features), np.float64)
        for start in range(0, len(features), BLOCK):
            rows = slice(start, start + BLOCK)
            terms = self._standardised(features[rows].T)
            terms *= self._weights[:, None]
            scores[rows] = ordered_sums(np.ascontiguousarray(terms))
        return scores

    def importance(self) -> Vector:
        """See `PairRanker.importance`: by the size of the standardised weights."""
        size = np.abs(self._weights).astype(np.float32)
        return size / max(float(size.sum()), 1e-12)

    def state(self) -> ModelState:
        """Means, deviations and weights."""
        arrays: dict[str, NDArray[Any]] = {
            "mean": self._mean,
            "deviation": self._deviation,
            "weights": self._weights,
        }
        return ModelState(arrays, {"kind": "linear"})

    @classmethod
    def from_state(cls, state: ModelState) -> Self:
        """See `PairRanker.from_state`."""
        made = cls()
        made._set(state.arrays["mean"], state.arrays["deviation"], state.arrays["weights"])
        return made

    def _set(
        self, mean: NDArray[np.float64], deviation: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> None:
        self._mean, self._deviation = np.asarray(mean, np.float32), np.asarray(deviation, np.float32)
        self._weights = np.asarray(weights, np.float32)

    def _standardised(self, columns: Matrix) -> Matrix:
        """(n_features, n): unknown is the mean, and outliers end at `CLIP`."""
        scaled = columns - self._mean[:, None]
        scaled /= self._deviation[:, None]
        np.clip(scaled, -CLIP, CLIP, out=scaled)
        np.copyto(scaled, np.float32(0.0), where=np.isnan(scaled))
        return scaled


class BlendedRanker(PairRanker):
    """
    The mean of other rankers, each scaled to a deviation of 1 within the lists it learnt from.

    Args:
        parts: rankers to fit.
    """

    def __init__(self, parts: Sequence[PairRanker]) -> None:
        self._parts = tuple(parts)
        self._scales = np.ones(len(self._parts))

    def fit(self, features: Matrix, chosen: Vector, indptr: Index, *, seed: int = 0) -> Self:
        """See `PairRanker.fit`."""
        sizes = np.diff(indptr)
        lists = np.repeat(np.arange(len(sizes)), sizes)
        for number, part in enumerate(self._parts):
            scores = part.fit(features, chosen, indptr, seed=seed).predict(features)
            mean = np.bincount(lists, scores, minlength=len(sizes)) / np.maximum(sizes, 1)
            deviation = float(np.sqrt(np.mean((scores - mean[lists]) ** 2)))
            self._scales[number] = 1.0 / max(deviation, 1e-9)
        return self

    def predict(self, features: Matrix) -> Scores:
        """See `PairRanker.predict`."""
        total = np.zeros(len(features))
        for part, scale in zip(self._parts, self._scales, strict=True):
            total += scale / len(self._parts) * part.predict(features)
        return total

    def importance(self) -> Vector:
        """See `PairRanker.importance`."""
        mean: Vector = np.mean([part.importance() for part in self._parts], axis=0, dtype=np.float32)
        return mean

    def state(self) -> ModelState:
        """The states of the parts and their scales."""
        parts = {f"part_{number}": part.state() for number, part in enumerate(self._parts)}
        joined = ModelState.join(parts, {"kind": "blend", "parts": len(parts)})
        return ModelState({**joined.arrays, "scales": self._scales}, joined.meta)

    @classmethod
    def from_state(cls, state: ModelState) -> Self:
        """See `PairRanker.from_state`."""
        made = cls([ranker_from_state(state.nested(f"part_{n}")) for n in range(state.meta["parts"])])
        made._scales = state.arrays["scales"]
        return made


def ranker_from_state(state: ModelState) -> PairRanker:
    """
    The ranker of a state, of whichever kind.

    Raises:
        ModelError: an unknown kind.
    """
    kinds: dict[str, type[PairRanker]] = {"trees": TreeRanker, "linear": LinearRanker, "blend": BlendedRanker}
    kind = state.meta.get("kind")
    if kind not in kinds:
        raise ModelError(f"Unknown kind of ranker: {kind!r}.", fix="Train the model again.")
    return kinds[kind].from_state(state)
