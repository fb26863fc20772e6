"""Trees: served arrays equal the library they were trained with."""

import sys

import lightgbm
import numpy as np
import pytest
from chosen_lists import INDPTR, chosen_lists
from hypothesis import given, settings
from hypothesis import strategies as st

from marquee.errors import ModelError
from marquee.models.tree_ranker import MISSING, TreeRanker


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
    X, chosen = chosen_lists(seed, missing)
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
    X, _ = chosen_lists()
    booster = _booster(X, np.zeros(len(X), np.float32), seed=0, leaves=4)
    scores = TreeRanker().adopt(booster.dump_model()).predict(X)
    np.testing.assert_array_equal(scores, booster.predict(np.where(np.isnan(X), MISSING, X)))


def test_trees_of_more_leaves_are_refused() -> None:
    X, chosen = chosen_lists()
    booster = _booster(X, chosen, seed=0, leaves=20)
    with pytest.raises(ModelError, match="leaves"):
        TreeRanker().adopt(booster.dump_model())
    with pytest.raises(ValueError, match="leaves"):
        TreeRanker(leaves=9)


@pytest.mark.parametrize(
    ("source", "said", "fix"),
    [
        ("raise OSError('libgomp.so.1: cannot open shared object file')", "libgomp.so.1: cannot", "libgomp1"),
        ("import nothing_of_this_name", "is not installed", "make setup"),
    ],
)
def test_library_that_cannot_be_loaded_is_named_with_its_remedy(monkeypatch, tmp_path, source, said, fix):
    (tmp_path / "lightgbm.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lightgbm")
    with pytest.raises(ModelError, match=said) as caught:
        TreeRanker().fit(np.zeros((2, 1), np.float32), np.array([0, 1], np.float32), np.array([0, 2]))
    assert fix in caught.value.fix
