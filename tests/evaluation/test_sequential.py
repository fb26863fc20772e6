"""Looking early does no harm, and what is there is found."""

import numpy as np
import pytest
from scipy import stats

from marquee.evaluation.sequential import Moments, compare, exceeds, sample_ratio

ALPHA = 0.05
LOOKS = 100


def looks(random, *, experiments, users, visits, rates, spread=0.5):
    """
    Clicks of returning users, added up at each look.

    Returns:
        (experiments, LOOKS, 2, 7) moments of two arms; users arrive during the first half and go on
        visiting, each with a rate of their own.
    """
    made = np.zeros((experiments, LOOKS, 2, 7))
    for arm, rate in enumerate(rates):
        shape = (experiments, users)
        own = (rate * random.lognormal(-(spread**2) / 2, spread, shape)).clip(0, 1)
        arrives = random.integers(0, LOOKS // 2, shape)
        x, y = np.zeros(shape), np.zeros(shape)
        for look in range(LOOKS):
            new = random.binomial(1, visits / LOOKS, shape) * (arrives <= look)
            y += random.binomial(new, own)
            x += new
            sums = [x > 0, y > 0, y, x, y * y, x * y, x * x]
            made[:, look, arm] = np.stack([each.sum(axis=1) for each in sums], axis=-1)
    return made


def differences(made, effect):
    for experiment in made:
        yield [
            compare(Moments(*look[1]), Moments(*look[0]), effect=effect, alpha=ALPHA) for look in experiment
        ]


def test_equal_arms_are_not_called_in_a_hundred_looks():
    made = looks(np.random.default_rng(0), experiments=400, users=400, visits=20, rates=(0.2, 0.2))
    always, single = [], []
    for each in differences(made, effect=0.02):
        always.append(any(look.better or look.worse for look in each))
        single.append(any(look.low > 0 or look.high < 0 for look in each))
    assert np.mean(always) <= ALPHA
    assert np.mean(single) > 0.2  # what peeking at the usual interval does


def test_equal_arms_with_rare_clicks_are_not_called():
    made = looks(np.random.default_rng(1), experiments=300, users=400, visits=8, rates=(0.02, 0.02))
    assert np.mean([any(d.better or d.worse for d in each) for each in differences(made, 0.002)]) <= ALPHA


def test_planted_difference_is_found_and_lies_in_the_interval():
    made = looks(np.random.default_rng(2), experiments=60, users=1500, visits=20, rates=(0.2, 0.23))
    found = list(differences(made, effect=0.02))
    assert np.mean([each[-1].better for each in found]) > 0.9
    assert not any(look.worse for each in found for look in each)
    missed = [any(not d.always_low <= 0.03 <= d.always_high for d in each) for each in found]
    assert np.mean(missed) <= ALPHA


def test_few_users_decide_nothing():
    arm, other = Moments.of(np.ones(20) - np.eye(20)[0], np.ones(20)), Moments.of(np.eye(20)[0], np.ones(20))
    found = compare(arm, other, effect=0.1)
    assert found.value > 0.8
    assert not found.better
    assert found.always_high == np.inf


def test_variance_of_a_ratio_is_that_of_its_resamples():
    random = np.random.default_rng(3)
    x = random.integers(1, 20, 600).astype(float)
    y = random.binomial(x.astype(int), random.beta(2, 6, 600)).astype(float)
    rows = random.integers(0, 600, (4000, 600))
    resampled = y[rows].sum(axis=1) / x[rows].sum(axis=1)
    assert Moments.of(y, x).variance == pytest.approx(resampled.var(), rel=0.1)


def test_moments_of_ones_are_those_of_the_mean():
    values = np.random.default_rng(4).normal(3, 2, 500)
    moments = Moments.of(values)
    assert moments.ratio == pytest.approx(values.mean())
    assert moments.variance == pytest.approx(values.var(ddof=1) / 500)


def test_keeping_a_share_of_the_reference_is_tested_as_asked():
    random = np.random.default_rng(5)
    good = Moments.of(random.binomial(1, 0.30, 20_000))
    bad = Moments.of(random.binomial(1, 0.20, 20_000))
    assert compare(bad, good, effect=0.03, times=0.9).worse
    assert compare(good, good, effect=0.03, times=0.9).better


def test_always_valid_interval_is_wider_than_that_of_one_look():
    arm = Moments.of(np.random.default_rng(6).binomial(1, 0.3, 5_000))
    found = compare(arm, arm, effect=0.03)
    assert found.always_low < found.low < 0 < found.high < found.always_high


def test_rate_at_the_limit_is_hardly_ever_called_above_it():
    random = np.random.default_rng(7)
    events = np.cumsum(random.random((300, 2000)) < 0.05, axis=1)
    trials = np.arange(1, 2001)
    looked = trials[9::20]
    called = [any(exceeds(int(row[n - 1]), int(n), 0.05, alpha=ALPHA) for n in looked) for row in events]
    assert np.mean(called) <= ALPHA


@pytest.mark.parametrize(("events", "trials", "above"), [(100, 100, True), (20, 100, True), (0, 1000, False)])
def test_rate_far_from_the_limit_is_told(events, trials, above):
    assert exceeds(events, trials, 0.02) is above


def test_nothing_counted_exceeds_nothing():
    assert not exceeds(0, 0, 0.5)


def test_division_as_planned_raises_no_alarm():
    random = np.random.default_rng(8)
    alarms = 0
    for _ in range(100):
        in_arm = np.cumsum(random.random(5_000) < 0.2)
        alarms += any(
            sample_ratio([int(n - in_arm[n - 1]), int(in_arm[n - 1])], [0.8, 0.2]).alarm
            for n in range(50, 5_001, 50)
        )
    assert alarms == 0


def test_lost_users_of_an_arm_raise_the_alarm():
    found = sample_ratio([10_000, 9_200], [0.5, 0.5])
    assert found.alarm
    assert found.p_value == pytest.approx(stats.chisquare([10_000, 9_200]).pvalue)


def test_no_users_raise_no_alarm():
    assert not sample_ratio([0, 0], [0.5, 0.5]).alarm
