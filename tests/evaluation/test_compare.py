import numpy as np
import pytest

from marquee.evaluation import compare
from marquee.evaluation.compare import Bootstrap


def test_interval_equals_a_plain_bootstrap_over_users():
    generator = np.random.default_rng(0)
    users = generator.integers(0, 15, 60)
    values = generator.random(60)
    found = Bootstrap(users, resamples=300, seed=4).interval(values)

    names = np.unique(users)
    draws = np.random.default_rng(4).integers(len(names), size=(300, len(names)))
    means = [np.concatenate([values[users == names[u]] for u in draw]).mean() for draw in draws]
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(means, (2.5, 97.5))))
    assert found.n == 60


def test_interval_covers_the_truth_about_95_times_in_100():
    generator = np.random.default_rng(1)
    covered = 0
    for trial in range(300):
        users = np.repeat(np.arange(80), 2)
        # Two queries of a user share most of their error, which an interval over queries would miss.
        values = 0.3 + np.repeat(generator.normal(0, 0.1, 80), 2) + generator.normal(0, 0.02, 160)
        found = Bootstrap(users, resamples=400, seed=trial).interval(values)
        covered += found.low <= 0.3 <= found.high
    assert 0.90 <= covered / 300 <= 0.985


def test_queries_of_a_user_stay_together():
    users = np.repeat([1, 2], 50)
    values = np.repeat([0.0, 1.0], 50)
    found = Bootstrap(users).interval(values)
    # With two users a quarter of the resamples holds only one of them.
    assert (found.low, found.high) == (0.0, 1.0)


def test_paired_difference_is_sharper_than_two_intervals():
    generator = np.random.default_rng(2)
    base = generator.random(200)
    bootstrap = Bootstrap(np.arange(200))
    better = bootstrap.difference(base + 0.01 + generator.normal(0, 0.01, 200), base)
    same = bootstrap.difference(base, base)

    assert better.above_zero
    assert better.significant
    assert (same.mean, same.low, same.high) == (0.0, 0.0, 0.0)
    assert not same.significant


def test_undefined_queries_are_left_out():
    bootstrap = Bootstrap([1, 2, 3, 4])
    assert bootstrap.interval([0.5, np.nan, 0.5, np.nan]).n == 2
    assert bootstrap.interval([0.5, np.nan, 0.5, np.nan]).mean == 0.5
    assert np.isnan(bootstrap.interval([np.nan] * 4).low)


def test_no_query_gives_no_interval():
    assert np.isnan(Bootstrap([]).interval([]).mean)


def test_same_seed_gives_the_same_interval_in_blocks_or_at_once(monkeypatch):
    values = np.random.default_rng(0).random((40, 3))
    at_once = Bootstrap(np.arange(40)).intervals(values)
    monkeypatch.setattr(compare, "BLOCK_CELLS", 40 * 7)
    blocked = Bootstrap(np.arange(40)).intervals(values)

    for one, other in zip(at_once, blocked, strict=True):
        assert (one.low, one.high) == pytest.approx((other.low, other.high))


def test_wrong_length_is_refused():
    with pytest.raises(ValueError, match="3 queries, but 2 values"):
        Bootstrap([1, 2, 3]).interval([0.1, 0.2])
