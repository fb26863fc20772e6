"""
LambdaMART: gradient-boosted trees whose gradients are the change of NDCG that swapping two candidates would
make.

It is trained by LightGBM and served as arrays: with at most eight leaves a tree is seven conditions and a
byte. Each condition that is false rules out the leaves on its left; the lowest bit that is left names the
leaf, and a table of 256 values per tree names its score. All trees and pairs are worked off by a few NumPy
calls, with sums in LightGBM's own order, so that scores equal its own bit for bit.

Source:
    Burges 2010, "From RankNet to LambdaRank to LambdaMART"; Lucchese et al. 2015, "QuickScorer"; Ke et al.
    2017, "LightGBM".
"""

from collections.abc import Mapping
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from marquee.data.schema import Index, Matrix, Vector
from marquee.errors import ModelError
from marquee.models.base import ModelState
from marquee.models.pair_ranker import BLOCK, PairRanker, Scores, ordered_sums

__all__ = ["TreeRanker", "load_lightgbm"]

MAX_LEAVES: Final = 8
MISSING: Final = np.float32(-1e30)
"""What trees see in place of NaN: below every value, so that a split may set it apart."""


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
        """
        See `PairRanker.fit`.

        Raises:
            ModelError: LightGBM cannot be loaded here.
        """
        lightgbm = load_lightgbm()
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
        return ordered_sums(self._table.take(alive + self._offset))


def load_lightgbm() -> Any:
    """
    LightGBM, which only training needs: what serves has its trees as arrays.

    Raises:
        ModelError: it is not installed, or the library of the system that its own needs is not there.
    """
    try:
        import lightgbm
    except ImportError as error:
        raise ModelError(
            "LightGBM, which trains rankers, is not installed.",
            fix="Run: pip install 'marquee-recsys[train]' (in a checkout: make setup).",
        ) from error
    except OSError as error:
        raise ModelError(
            f"LightGBM, which trains rankers, cannot be loaded: {error}.",
            fix="Install OpenMP: apt install libgomp1, dnf install libgomp, or on macOS brew install libomp.",
        ) from error
    return lightgbm


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


def _mapped(features: Matrix) -> Matrix:
    """Features as trees see them: NaN is a value below all others."""
    return np.where(np.isnan(features), MISSING, features).astype(np.float32, copy=False)


def _rounded_down(threshold: float) -> np.float32:
    """The greatest float32 that is not above: it splits float32 values alike."""
    rounded = np.float32(threshold)
    return np.nextafter(rounded, np.float32(-np.inf)) if float(rounded) > threshold else rounded
