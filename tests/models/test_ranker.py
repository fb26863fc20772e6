"""Rankers: what each of them learns and keeps."""

import numpy as np
import pytest
from chosen_lists import FEATURES, INDPTR, LISTS, SIZE, chosen_lists

from marquee.errors import ModelError
from marquee.models.base import ModelState
from marquee.models.pair_ranker import PairRanker
from marquee.models.ranker import BlendedRanker, LinearRanker, ranker_from_state
from marquee.models.tree_ranker import TreeRanker


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
    X, chosen = chosen_lists(missing=0.05)
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
    X, chosen = chosen_lists(missing=0.0)
    prior = np.linspace(0, 1, FEATURES).astype(np.float32)
    fitted = LinearRanker(ridge=1e6, prior=prior).fit(X, chosen, INDPTR)
    np.testing.assert_allclose(fitted.state().arrays["weights"], prior, atol=1e-4)


def test_unknown_kind_of_ranker_is_refused() -> None:
    with pytest.raises(ModelError, match="kind"):
        ranker_from_state(ModelState({}, {"kind": "oracle"}))
