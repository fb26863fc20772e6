import numpy as np
import pytest

from marquee.recommend.explore import explore

K, DRAWS = 5, 60_000


def lists(n: int, *, k: int = K) -> np.ndarray:
    return np.tile(np.arange(k), (n, 1))


@pytest.mark.parametrize("share", [0.1, 0.4, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("n_pool", [2, 3, 8])
def test_propensities_are_the_frequencies(share, n_pool):
    """Every (place, item) that is ever shown is shown as often as its recorded probability says."""
    pool = np.tile(np.r_[100 + np.arange(n_pool), -1], (DRAWS, 1))
    shown, propensities, _ = explore(lists(DRAWS), pool, share, np.random.default_rng(1))
    for place in range(K):
        items, first, counts = np.unique(shown[:, place], return_index=True, return_counts=True)
        stated = propensities[first, place]
        assert stated.sum() == pytest.approx(1.0, abs=1e-5)
        error = 5 * np.sqrt(stated * (1 - stated) / DRAWS) + 1e-6
        assert (np.abs(counts / DRAWS - stated) <= error).all(), (items, stated)
        for item, probability in zip(items, stated, strict=True):
            np.testing.assert_allclose(propensities[shown[:, place] == item, place], probability)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 1.0])
def test_explored_places_are_the_set_share(share):
    pool = np.tile(100 + np.arange(K), (DRAWS, 1))
    _, _, explored = explore(lists(DRAWS), pool, share, np.random.default_rng(2))
    assert explored.mean() == pytest.approx(share, abs=0.005)
    counts = explored.sum(axis=1)
    assert set(counts.tolist()) <= {int(share * K), int(share * K) + 1}


def test_lists_keep_their_order_and_repeat_nothing():
    pool = np.tile(100 + np.arange(3), (500, 1))
    shown, _, explored = explore(lists(500), pool, 0.4, np.random.default_rng(3))
    for row, places in zip(shown, explored, strict=True):
        assert len(set(row.tolist())) == K
        assert row[~places].tolist() == list(range((~places).sum()))
        assert (row[places] >= 100).all()


def test_share_of_zero_and_lists_that_are_not_full_stay_as_they_are():
    short = np.array([[3, 4, -1], [5, 6, 7]])
    shown, propensities, explored = explore(short, np.array([[9], [9]]), 1.0, np.random.default_rng(0))
    assert shown[0].tolist() == [3, 4, -1]
    np.testing.assert_array_equal(propensities[0], np.float32([1, 1, np.nan]))
    assert explored.sum(axis=1).tolist() == [0, 1]  # the pool has one item
    shown, propensities, _ = explore(short, np.array([[9], [9]]), 0.0, np.random.default_rng(0))
    np.testing.assert_array_equal(shown, short)
    assert np.nanmin(propensities) == 1.0
    nothing, _, _ = explore(short, np.empty((2, 0), np.int64), 0.5, np.random.default_rng(0))
    np.testing.assert_array_equal(nothing, short)


def test_same_generator_state_gives_the_same_lists():
    pool = np.tile(100 + np.arange(6), (50, 1))
    one, other = (explore(lists(50), pool, 0.3, np.random.default_rng(7))[0] for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_no_lists_give_no_lists():
    shown, propensities, explored = explore(
        lists(0), np.empty((0, 4), np.int64), 0.3, np.random.default_rng(0)
    )
    assert shown.shape == propensities.shape == explored.shape == (0, K)


def test_share_outside_zero_to_one_is_refused():
    with pytest.raises(ValueError, match=r"1\.5"):
        explore(lists(1), np.array([[9]]), 1.5, np.random.default_rng(0))
