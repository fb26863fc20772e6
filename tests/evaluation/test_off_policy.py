"""The truth of the simulated audience lies in the interval of its estimate from logs."""

import numpy as np
import pyarrow as pa
import pytest

from marquee.data import Catalog
from marquee.evaluation.off_policy import ips, places, snips
from marquee.recommend.explore import explore
from marquee.simulate import Audience, AudienceConfig

K = 5
POOL = 10
N_USERS = 400
VISITS = 5


@pytest.fixture(scope="module")
def world():
    """Lists of popular items, pools to explore, and the true probability of a click of each user and item."""
    n_items = 60
    genres = ["Drama", "Comedy", "Action", "Horror", "Romance"]
    catalog = Catalog(
        pa.table(
            {
                "item_id": np.arange(n_items),
                "title": [f"Film {i}" for i in range(n_items)],
                "genres": [[genres[i % 5]] for i in range(n_items)],
            }
        )
    )
    config = AudienceConfig(users=N_USERS, seed=3)
    truth = Audience(catalog, np.linspace(1, 100, n_items), config).truth()
    users = np.repeat(truth.users.ids, VISITS)
    affinity = truth.affinity(truth.users.ids)
    clicks = np.repeat(0.6 * affinity / affinity.max(), VISITS, axis=0)  # (n, n_items)
    noticed = (1.0 + np.arange(K)) ** -truth.position_bias
    popular = np.tile(np.arange(n_items - 1, n_items - 1 - K, -1), (len(users), 1))
    pool = np.tile(np.arange(n_items - 1 - K, n_items - 1 - K - POOL, -1), (len(users), 1))
    return users, clicks, noticed, popular, pool


def target_lists(clicks, popular, pool):
    """Places 2 and 4 show what the user likes best of the pool, the others the popular list in its order."""
    order = np.argsort(-np.take_along_axis(clicks, pool, axis=1), axis=1)
    best = np.take_along_axis(pool, order, axis=1)
    columns = [popular[:, 0], best[:, 0], popular[:, 1], best[:, 1], popular[:, 2]]
    return np.stack(columns, axis=1)


def truth_of(lists, clicks, noticed):
    return float((np.take_along_axis(clicks, lists, axis=1) * noticed).sum(axis=1).mean())


def logged(world, random):
    _, clicks, noticed, popular, pool = world
    shown, propensities, _ = explore(popular, pool, 0.4, random)
    chance = np.take_along_axis(clicks, shown, axis=1) * noticed
    rewards = random.random(chance.shape) < chance
    return shown, propensities, rewards


@pytest.mark.parametrize("estimate", [ips, snips])
def test_truth_lies_in_the_interval(world, estimate):
    users, clicks, noticed, popular, pool = world
    wanted = target_lists(clicks, popular, pool)
    truth = truth_of(wanted, clicks, noticed)
    random = np.random.default_rng(0)
    found = []
    for _ in range(100):
        shown, propensities, rewards = logged(world, random)
        found.append(estimate(rewards, propensities, places(shown, wanted), users))
    assert np.mean([each.low <= truth <= each.high for each in found]) >= 0.88
    assert np.mean([each.value for each in found]) == pytest.approx(truth, rel=0.03)


def test_self_normalised_estimate_is_less_noisy(world):
    users, clicks, _, popular, pool = world
    wanted = target_lists(clicks, popular, pool)
    random = np.random.default_rng(1)
    widths = []
    for _ in range(20):
        shown, propensities, rewards = logged(world, random)
        target = places(shown, wanted)
        made = [estimate(rewards, propensities, target, users) for estimate in (ips, snips)]
        widths.append([each.high - each.low for each in made])
    plain, normalised = np.mean(widths, axis=0)
    assert normalised < plain


def test_logging_policy_itself_is_worth_what_it_earned(world):
    users, *_ = world
    _, propensities, rewards = logged(world, np.random.default_rng(2))
    for estimate in (ips, snips):
        found = estimate(rewards, propensities, propensities, users)
        assert found.value == pytest.approx(rewards.sum(axis=1).mean())
        assert found.effective == pytest.approx(len(users))


def test_cut_weights_are_counted_and_make_the_value_smaller(world):
    users, clicks, _, popular, pool = world
    shown, propensities, rewards = logged(world, np.random.default_rng(3))
    target = places(shown, target_lists(clicks, popular, pool))
    whole, cut = (ips(rewards, propensities, target, users, largest_weight=w) for w in (np.inf, 5.0))
    assert whole.clipped == 0
    assert cut.clipped > 0
    assert cut.value < whole.value


def test_padding_earns_nothing():
    shown = np.array([[7, -1], [7, -1]])
    target = places(shown, np.array([[7, 8], [7, -1]]))
    found = ips([[1, 0], [1, 0]], [[1.0, np.nan], [1.0, np.nan]], target, np.array([1, 2]))
    assert found.value == 1.0


def test_no_logs_are_worth_nothing_known():
    nothing = np.zeros((0, 3))
    assert np.isnan(ips(nothing, nothing, nothing, np.zeros(0, dtype=np.int64)).value)


def test_item_shown_with_no_chance_is_refused():
    with pytest.raises(ValueError, match="not positive"):
        ips([[1]], [[0.0]], [[1.0]], np.array([1]))
