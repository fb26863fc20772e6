"""Known values and properties of the index and its test."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from marquee.monitoring.drift import compare, psi

SHARES = np.array([0.4, 0.3, 0.2, 0.1])
COUNTS = arrays(np.int64, 6, elements=st.integers(0, 10_000))


def test_index_of_shares_worked_by_hand() -> None:
    by_hand = 0.1 * math.log(0.6 / 0.5) - 0.1 * math.log(0.4 / 0.5)
    assert psi([50, 50], [60, 40], smoothing=0) == pytest.approx(by_hand)


def test_index_of_three_bins_as_published() -> None:
    """The example of credit scoring: 0.25/0.5/0.25 against 0.2/0.5/0.3."""
    assert psi([250, 500, 250], [200, 500, 300], smoothing=0) == pytest.approx(0.0202733, abs=1e-6)


def test_index_of_an_empty_histogram_is_zero() -> None:
    assert psi([0, 0], [1, 2]) == 0.0
    assert psi([3, 4], [0, 0]) == 0.0


def test_bin_that_emptied_costs_something_finite() -> None:
    assert 0.5 < psi([50, 50], [100, 0]) < math.inf


@given(COUNTS, COUNTS)
def test_index_is_symmetric_and_not_negative(one: np.ndarray, other: np.ndarray) -> None:
    assert psi(one, other) >= 0
    assert psi(one, other) == pytest.approx(psi(other, one))


@given(COUNTS, st.permutations(range(6)))
def test_index_does_not_depend_on_the_order_of_bins(counts: np.ndarray, order: list[int]) -> None:
    other = counts[::-1]
    assert psi(counts[order], other[order]) == pytest.approx(psi(counts, other))


@given(COUNTS)
def test_index_of_the_same_histogram_is_zero(counts: np.ndarray) -> None:
    assert psi(counts, counts) == 0.0


def test_false_alarms_of_independent_events_are_as_rare_as_said() -> None:
    rng = np.random.default_rng(1)
    values = [
        compare(rng.multinomial(300, SHARES, 28), rng.multinomial(300, SHARES, 2)) for _ in range(1_000)
    ]
    chances = np.array([value.p_value for value in values if value is not None])
    assert len(chances) == 1_000
    assert 0.02 <= (chances <= 0.05).mean() <= 0.07
    assert np.mean([value.psi for value in values]) == pytest.approx(
        np.mean([value.noise for value in values]), rel=0.2
    )


def test_days_with_a_weather_of_their_own_raise_no_alarm_where_a_plain_test_would() -> None:
    rng = np.random.default_rng(2)

    def days(n: int) -> np.ndarray:
        return np.array([rng.multinomial(2_000, rng.dirichlet(100 * SHARES)) for _ in range(n)])

    honest, plain = [], []
    for _ in range(300):
        reference, window = days(28), days(1)
        shift = compare(reference, window)
        assert shift is not None
        assert shift.dispersion > 5
        honest.append(shift.p_value <= 0.01)
        expected = 2_000 * reference.sum(axis=0) / reference.sum()
        plain.append(((window[0] - expected) ** 2 / expected).sum() > 11.34)  # 1 % of chi-square, 3 degrees
    assert np.mean(honest) <= 0.04
    assert np.mean(plain) > 0.5


def test_shift_is_found_and_measured() -> None:
    rng = np.random.default_rng(3)
    moved = np.array([0.15, 0.3, 0.2, 0.35])
    shift = compare(rng.multinomial(300, SHARES, 28), rng.multinomial(300, moved, 2))
    assert shift is not None
    assert shift.effect == pytest.approx(psi(SHARES * 1e6, moved * 1e6), abs=0.15)
    assert shift.matters(0.2, 0.001)


def test_small_shift_that_is_certain_does_not_matter() -> None:
    rng = np.random.default_rng(4)
    moved = np.array([0.42, 0.28, 0.2, 0.1])
    shift = compare(rng.multinomial(100_000, SHARES, 28), rng.multinomial(100_000, moved, 7))
    assert shift is not None
    assert shift.p_value < 1e-6
    assert not shift.matters(0.2, 0.001)


def test_large_shift_of_few_events_is_not_believed() -> None:
    shift = compare(np.tile([400, 300, 200, 100], (28, 1)), [[12, 10, 7, 11]])
    assert shift is not None
    assert shift.psi > 0.2
    assert not shift.matters(0.2, 0.001)


def test_weekend_is_compared_with_weekends() -> None:
    rng = np.random.default_rng(5)
    weekend = np.array([0.1, 0.2, 0.3, 0.4])
    phases = np.arange(28) % 7
    reference = np.array([rng.multinomial(1_000, weekend if day >= 5 else SHARES) for day in phases])
    window = rng.multinomial(1_000, weekend, 1)
    aligned = compare(reference, window, phases=phases, window_phases=[5])
    pooled = compare(reference, window)
    assert aligned is not None
    assert pooled is not None
    assert aligned.effect < 0.02 < 0.2 < pooled.effect
    assert aligned.p_value > 0.001


def test_phase_that_the_reference_lacks_is_compared_with_all_of_it() -> None:
    rng = np.random.default_rng(6)
    shift = compare(
        rng.multinomial(500, SHARES, 14),
        rng.multinomial(500, SHARES, 1),
        phases=[0, 1] * 7,
        window_phases=[6],
    )
    assert shift is not None
    assert shift.p_value > 0.001


@pytest.mark.parametrize(
    ("reference", "window"),
    [
        (np.ones((2, 3)) * 50, [[50, 50, 50]]),
        (np.ones((28, 3)) * 50, [[0, 0, 0]]),
        (np.ones((28, 1)) * 50, [[50]]),
        (np.zeros((28, 3)), [[50, 50, 50]]),
    ],
    ids=["too few days", "empty window", "one bin", "empty reference"],
)
def test_nothing_is_said_where_nothing_can_be(reference: np.ndarray, window: list[list[int]]) -> None:
    assert compare(reference, window) is None


def test_rare_bins_are_taken_together() -> None:
    reference = np.tile([500.0, 480, *[0.1] * 200], (28, 1))
    window = np.array([[500.0, 480, *[0.0] * 195, 1, 1, 1, 1, 1]])
    shift = compare(reference, window)
    assert shift is not None
    assert shift.effect < 0.05
