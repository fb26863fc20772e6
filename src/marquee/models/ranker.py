"""
Rankers: the second stage, which orders candidates by what is known of each (history, item) pair.

`TreeRanker` is LambdaMART: gradient-boosted trees whose gradients are the change of NDCG that swapping two
candidates would make. It is trained by LightGBM and served as arrays: with at most eight leaves a tree is
seven conditions and a byte. Each condition that is false rules out the leaves on its left; the lowest bit
that is left names the leaf, and a table of 256 values per tree names its score. All trees and pairs are
worked off by a few NumPy calls, with sums in LightGBM's own order, so that scores equal its own bit for bit.

`LinearRanker` is a list-wise softmax regression of the same features: a fraction of the cost, no library.
`BlendedRanker` is the mean of both: their errors are not the same.

Source:
    Burges 2010, "From RankNet to LambdaRank to LambdaMART"; Lucchese et al. 2015, "QuickScorer"; Ke et al.
    2017, "LightGBM"; Cao et al. 2007, "Learning to rank: from pairwise approach to listwise approach".
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from marquee.data.schema import Index, Matrix, Vector
from marquee.errors import ModelError
from marquee.models.base import ModelState

__all__ = ["BlendedRanker", "LinearRanker", "PairRanker", "TreeRanker", "ranker_from_state"]

Scores = NDArray[np.float64]  # (n_pairs,)

MAX_LEAVES: Final = 8
MISSING: Final = np.float32(-1e30)
"""What trees see in place of NaN: below every value, so that a split may set it apart."""
BLOCK: Final = 512
"""Pairs scored at a time: their conditions stay in the cache."""
CLIP: Final = 4.0
"""Standard deviations at which the linear ranker cuts off a feature."""


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


class TreeRanker(PairRanker):
    """
    LambdaMART.

    Args:
        trees: number of trees.
        leaves: leaves per tree, 2–8.
        learning_rate: shrinkage of each tree.
        min_pairs: least pairs of a leaf.
        feature_share: share of the features that each tree sees.
        list_share: share of the lists that each tree sees.
        truncation: positions of the list that count in training.
        threads: of LightGBM.
    """

    def __init__(
        self,
        *,
        trees: int = 200,
        leaves: int = 7,
        learning_rate: float = 0.05,
        min_pairs: int = 50,
        feature_share: float = 0.5,
        list_share: float = 0.7,
        truncation: int = 15,
        threads: int = 1,
    ) -> None:
        if not 2 <= leaves <= MAX_LEAVES:
            raise ValueError(f"leaves must be 2 to {MAX_LEAVES}, not {leaves}")
        self._trees = trees
        self._parameters = {
            "objective": "lambdarank",
            "num_leaves": leaves,
            "learning_rate": learning_rate,
            "min_data_in_leaf": min_pairs,
            "feature_fraction": feature_share,
            "bagging_fraction": list_share,
            "bagging_freq": 1,
            "bagging_by_query": True,
            "lambdarank_truncation_level": truncation,
            "label_gain": [0, 1],
            "max_bin": 127,
            "use_missing": False,
            "num_threads": threads,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }

    def fit(self, features: Matrix, chosen: Vector, indptr: Index, *, seed: int = 0) -> Self:
        """See `PairRanker.fit`."""
        import lightgbm  # training only: serving needs arrays

        data = lightgbm.Dataset(
            _mapped(features), chosen, group=np.diff(indptr), params={"verbosity": -1, "max_bin": 127}
        )
        booster = lightgbm.train({**self._parameters, "seed": seed}, data, self._trees)
        return self.adopt(booster.dump_model())

    def adopt(self, model: Mapping[str, Any]) -> Self:
        """
        Take over the trees of a LightGBM model.

        Args:
            model: as from `Booster.dump_model()`: numerical splits only, at most eight leaves per tree,
                trained on features without NaN.

        Raises:
            ModelError: a tree that cannot be held.
        """
        trees = [_Tree(info["tree_structure"]) for info in model["tree_info"]]
        width = MAX_LEAVES - 1
        self._feature = np.zeros((len(trees), width), np.int32)
        self._threshold = np.full((len(trees), width), np.inf, np.float32)  # inf: never false
        self._mask = np.full((len(trees), width), 0xFF, np.uint8)
        self._leaf = np.zeros((len(trees), MAX_LEAVES), np.float64)
        for row, tree in enumerate(trees):
            n = len(tree.features)
            self._feature[row, :n] = tree.features
            self._threshold[row, :n] = [_rounded_down(value) for value in tree.thresholds]
            self._mask[row, :n] = tree.masks
            self._leaf[row, : len(tree.leaves)] = tree.leaves
        gains = np.zeros(int(model["max_feature_idx"]) + 1, np.float64)
        for tree in trees:
            np.add.at(gains, np.array(tree.features, dtype=np.int64), tree.gains)
        self._gains = gains.astype(np.float32)
        self._prepare()
        return self

    def predict(self, features: Matrix) -> Scores:
        """See `PairRanker.predict`."""
        scores = np.zeros(len(features), np.float64)
        for start in range(0, len(features), BLOCK):
            rows = slice(start, start + BLOCK)
            scores[rows] = self._predict_block(np.ascontiguousarray(features[rows].T))
        return scores

    def importance(self) -> Vector:
        """See `PairRanker.importance`: by the gain of the splits."""
        return self._gains / max(float(self._gains.sum()), 1e-12)

    def state(self) -> ModelState:
        """The conditions and leaf values of all trees."""
        arrays: dict[str, NDArray[Any]] = {
            "feature": self._feature,
            "threshold": self._threshold,
            "mask": self._mask,
            "leaf": self._leaf,
            "gains": self._gains,
        }
        return ModelState(arrays, {"kind": "trees"})

    @classmethod
    def from_state(cls, state: ModelState) -> Self:
        """See `PairRanker.from_state`."""
        made = cls()
        arrays = state.arrays
        made._feature, made._threshold = arrays["feature"], arrays["threshold"]
        made._mask, made._leaf, made._gains = arrays["mask"], arrays["leaf"], arrays["gains"]
        made._prepare()
        return made

    def _prepare(self) -> None:
        """Tables that follow from the state, in the shape that scoring wants."""
        # (7, n_trees): the conditions of one position of all trees lie together.
        self._features_by_place = np.ascontiguousarray(self._feature.T)
        self._thresholds_by_place = np.ascontiguousarray(self._threshold.T)[:, :, None]
        self._masks_by_place = np.ascontiguousarray(self._mask.T)[:, :, None]
        lowest = np.array([(byte & -byte).bit_length() - 1 if byte else 0 for byte in range(256)])
        self._table = self._leaf[:, lowest].ravel()  # (n_trees * 256,)
        self._offset = (np.arange(len(self._leaf)) * 256)[:, None]

    def _predict_block(self, columns: Matrix) -> Scores:
        """(n,) scores of (n_features, n)."""
        alive = np.full((len(self._leaf), columns.shape[1]), 0xFF, np.uint8)
        asked = np.empty(alive.shape, np.float32)
        false = np.empty(alive.shape, bool)
        masks_or_all = false.view(np.uint8)
        for features, thresholds, masks in zip(
            self._features_by_place, self._thresholds_by_place, self._masks_by_place, strict=True
        ):
            np.take(columns, features, axis=0, out=asked, mode="clip")  # (n_trees, n)
            # What is missing is above no threshold, as if it were `MISSING`.
            np.greater(asked, thresholds, out=false)
            # A true condition, 0 - 1, leaves all leaves; a false one, 1 - 1, those of its mask.
            masks_or_all -= 1
            masks_or_all |= masks
            alive &= masks_or_all
        return _sums(self._table.take(alive + self._offset))


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
            scores[rows] = _sums(np.ascontiguousarray(terms))
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


class _Tree:
    """A tree of LightGBM with its leaves numbered from left to right."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self.features: list[int] = []
        self.thresholds: list[float] = []
        self.masks: list[int] = []
        self.gains: list[float] = []
        self.leaves: list[float] = []
        self._walk(root)
        if len(self.leaves) > MAX_LEAVES:
            raise ModelError(
                f"A tree has {len(self.leaves)} leaves.", fix=f"Train with at most {MAX_LEAVES} leaves."
            )

    def _walk(self, node: Mapping[str, Any]) -> None:
        if "leaf_value" in node:
            self.leaves.append(float(node["leaf_value"]))
            return
        if node["decision_type"] != "<=":
            raise ModelError(
                f"A split of the kind {node['decision_type']!r} cannot be held.",
                fix="Use numerical features.",
            )
        first = len(self.leaves)
        self._walk(node["left_child"])
        ruled_out = sum(1 << leaf for leaf in range(first, len(self.leaves)))
        self._walk(node["right_child"])
        self.features.append(int(node["split_feature"]))
        self.thresholds.append(float(node["threshold"]))
        self.masks.append(0xFF & ~ruled_out)
        self.gains.append(float(node["split_gain"]))


def _sums(terms: NDArray[Any]) -> NDArray[Any]:
    """(n,) sums over the first axis of (m, n), each in its order and the same alone and among others."""
    if terms.shape[1] == 1:  # a single column would be summed pairwise, which rounds otherwise
        return np.asarray(np.add.reduce(np.repeat(terms, 2, axis=1), axis=0)[:1])
    return np.asarray(np.add.reduce(terms, axis=0))


def _mapped(features: Matrix) -> Matrix:
    """Features as trees see them: NaN is a value below all others."""
    return np.where(np.isnan(features), MISSING, features).astype(np.float32, copy=False)


def _rounded_down(threshold: float) -> np.float32:
    """The greatest float32 that is not above: it splits float32 values alike."""
    rounded = np.float32(threshold)
    return np.nextafter(rounded, np.float32(-np.inf)) if float(rounded) > threshold else rounded
