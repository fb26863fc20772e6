"""Rankers: served arrays equal the library they were trained with."""

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marquee.errors import ModelError
from marquee.models.base import ModelState
from marquee.models.ranker import (
    MISSING,
    BlendedRanker,
    LinearRanker,
    PairRanker,
    TreeRanker,
    ranker_from_state,
)

LISTS, SIZE, FEATURES = 30, 20, 6
INDPTR = np.arange(0, LISTS * SIZE + 1, SIZE)


def _lists(seed: int = 0, missing: float = 0.1):
    """Lists in which feature 0 decides, with unknown values."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((LISTS * SIZE, FEATURES)).astype(np.float32)
    chosen = (X[:, 0] + 0.5 * rng.standard_normal(len(X)) > 1.2).astype(np.float32)
    X[rng.random(X.shape) < missing] = np.nan
    return X, chosen


def _booster(X, chosen, *, seed: int, leaves: int, trees: int = 12, **parameters):
    data = lightgbm.Dataset(np.where(np.isnan(X), MISSING, X), chosen, group=np.diff(INDPTR))
    chosen_parameters = {
        "objective": "lambdarank",
        "num_leaves": leaves,
        "min_data_in_leaf": 2,
        "use_missing": False,
        "seed": seed,
        "verbosity": -1,
        "num_threads": 1,
        "feature_fraction": 0.7,
        **parameters,
    }
    return lightgbm.train(chosen_parameters, data, trees)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    leaves=st.integers(2, 8),
    missing=st.sampled_from([0.0, 0.2, 0.9]),
    rows=st.sampled_from([1, 2, 511, 513]),
)
def test_tree_scores_equal_lightgbm_bit_for_bit(seed: int, leaves: int, missing: float, rows: int) -> None:
    """Random boosters, unknown values, values on the very thresholds, and block borders."""
    X, chosen = _lists(seed, missing)
    booster = _booster(X, chosen, seed=seed, leaves=leaves)
    ranker = TreeRanker().adopt(booster.dump_model())
    rng = np.random.default_rng(seed)
    fresh = X[rng.integers(0, len(X), rows)] + rng.choice([0.0, 1e-7, 0.3], (rows, 1)).astype(np.float32)
    on_edge = ranker._threshold[np.isfinite(ranker._threshold)]
    if len(on_edge):
        fresh[rng.random(fresh.shape) < 0.3] = rng.choice(on_edge)
    expected = booster.predict(np.where(np.isnan(fresh), MISSING, fresh))
    np.testing.assert_array_equal(ranker.predict(fresh), expected)


def test_trees_without_a_split_score_alike() -> None:
    X, _ = _lists()
    booster = _booster(X, np.zeros(len(X), np.float32), seed=0, leaves=4)
    scores = TreeRanker().adopt(booster.dump_model()).predict(X)
    np.testing.assert_array_equal(scores, booster.predict(np.where(np.isnan(X), MISSING, X)))


def test_trees_of_more_leaves_are_refused() -> None:
    X, chosen = _lists()
    booster = _booster(X, chosen, seed=0, leaves=20)
    with pytest.raises(ModelError, match="leaves"):
        TreeRanker().adopt(booster.dump_model())
    with pytest.raises(ValueError, match="leaves"):
        TreeRanker(leaves=9)


@pytest.mark.parametrize(
    "ranker",
    [
        TreeRanker(trees=20, min_pairs=10),
        LinearRanker(),
        BlendedRanker([TreeRanker(trees=20, min_pairs=10), LinearRanker()]),
    ],
    ids=["trees", "linear", "blend"],
)
def test_fitted_ranker_finds_the_deciding_feature_and_survives_its_state(ranker: PairRanker) -> None:
    X, chosen = _lists(missing=0.05)
    ranker.fit(X, chosen, INDPTR)
    scores = ranker.predict(X).reshape(LISTS, SIZE)
    best = chosen.reshape(LISTS, SIZE)[np.arange(LISTS), scores.argmax(axis=1)]
    assert best.mean() > 2 * chosen.mean()
    assert ranker.importance().argmax() == 0
    assert ranker.importance().sum() == pytest.approx(1.0, abs=1e-5)
    state = ranker.state()
    frozen = ModelState({name: array.copy() for name, array in state.arrays.items()}, state.meta)
    for array in frozen.arrays.values():
        array.flags.writeable = False
    np.testing.assert_array_equal(ranker_from_state(frozen).predict(X), ranker.predict(X))
    np.testing.assert_array_equal(ranker.predict(X[3:4]), ranker.predict(X)[3:4])


def test_linear_gradient_is_zero_at_the_weights_found() -> None:
    """Known answer: with one informative feature and no ridge the chosen share follows the softmax."""
    X = np.array([[1.0], [0.0], [1.0], [0.0]], np.float32)
    chosen = np.array([1, 0, 0, 1], np.float32)
    # The feature is chosen in one of two lists: no preference.
    weights = LinearRanker(ridge=1e-6).fit(X, chosen, np.array([0, 2, 4])).state().arrays["weights"]
    assert weights[0] == pytest.approx(0.0, abs=1e-3)


def test_unfitted_linear_ranker_follows_its_prior() -> None:
    X = np.array([[1.0, np.nan], [0.5, 9.0]], np.float32)
    np.testing.assert_allclose(LinearRanker(prior=np.array([2.0, 0.0], np.float32)).predict(X), [2.0, 1.0])


def test_heavy_ridge_keeps_the_prior() -> None:
    X, chosen = _lists(missing=0.0)
    prior = np.linspace(0, 1, FEATURES).astype(np.float32)
    fitted = LinearRanker(ridge=1e6, prior=prior).fit(X, chosen, INDPTR)
    np.testing.assert_allclose(fitted.state().arrays["weights"], prior, atol=1e-4)


def test_unknown_kind_of_ranker_is_refused() -> None:
    with pytest.raises(ModelError, match="kind"):
        ranker_from_state(ModelState({}, {"kind": "oracle"}))
