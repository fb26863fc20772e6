"""
How far a histogram has moved, and whether that is more than chance.

The size is the population stability index (PSI). Whether to believe it is asked of a two-sample test on the
same histograms. Events are not independent: those of one user are alike, and a day has its own weather. A
plain chi-square test takes each for a witness of its own and finds drift every week. So the spread of the
days of the reference around what their weekdays have in common is measured (Pearson's over-dispersion), and
the statistic of the window is judged against that spread, by the F distribution, since the spread is only
estimated. What a window is compared with has its mix of weekdays.

Source:
    Siddiqi 2006, Credit Risk Scorecards (PSI and its thresholds, 0.1 and 0.25).
    Yurdakul 2018, Statistical Properties of Population Stability Index (its expectation without drift).
    McCullagh & Nelder 1989, Generalized Linear Models, 4.5 (over-dispersion, quasi-likelihood F test).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

__all__ = ["Shift", "compare", "psi"]

Counts = NDArray[np.float64]

SMOOTHING: Final = 0.5
"""Events added to each bin, so that an empty one costs something finite."""
LEAST_EXPECTED: Final = 5.0
"""Events that a window must be expected to have in a bin; smaller bins are taken together."""


@dataclass(frozen=True, slots=True)
class Shift:
    """
    A window against its reference.

    Attributes:
        psi: population stability index of the histograms as they are.
        noise: what it would be by chance, on the average.
        p_value: probability of such a difference by chance.
        dispersion: how much more days differ than independent events would; ≥ 1.
        events, reference_events: behind it.
    """

    psi: float
    noise: float
    p_value: float
    dispersion: float
    events: float
    reference_events: float

    @property
    def effect(self) -> float:
        """The index beyond what chance makes of it, ≥ 0."""
        return max(self.psi - self.noise, 0.0)

    def matters(self, effect: float, significance: float) -> bool:
        """Whether it is as large as that and hardly chance."""
        return self.effect >= effect and self.p_value <= significance


def psi(reference: ArrayLike, window: ArrayLike, *, smoothing: float = SMOOTHING) -> float:
    """
    Population stability index Σ (w − r) ln(w / r) of the shares of two histograms; 0 where one is empty.

    Args:
        reference, window: (n_bins,) counts ≥ 0.
        smoothing: added to each bin of both.
    """
    r, w = np.asarray(reference, np.float64), np.asarray(window, np.float64)
    if not (r.sum() > 0 and w.sum() > 0):
        return 0.0
    r, w = r + smoothing, w + smoothing
    r, w = r / r.sum(), w / w.sum()
    used = (r > 0) | (w > 0)
    with np.errstate(divide="ignore"):
        return float(((w - r)[used] * np.log(w[used] / r[used])).sum())


def compare(
    reference: ArrayLike,
    window: ArrayLike,
    *,
    phases: ArrayLike | None = None,
    window_phases: ArrayLike | None = None,
) -> Shift | None:
    """
    Compare a window with the days before it.

    Args:
        reference: (n_days, n_bins) counts ≥ 0 of the days of the reference.
        window: (n_window_days, n_bins) of those of the window.
        phases, window_phases: of each day, such as its weekday; default: all alike.

    Returns:
        None where nothing can be said: no events, a single bin, or too few days to tell a spread from.
    """
    r, w = np.atleast_2d(np.asarray(reference, np.float64)), np.atleast_2d(np.asarray(window, np.float64))
    of_r = np.zeros(len(r), np.int64) if phases is None else np.asarray(phases, np.int64)
    of_w = np.zeros(len(w), np.int64) if window_phases is None else np.asarray(window_phases, np.int64)
    full = r.sum(axis=1) > 0
    r, of_r = r[full], of_r[full]
    events = float(w.sum())
    if len(r) < 3 or not events > 0:
        return None
    r, w = _merged(r, w)
    n_bins = r.shape[1]
    if n_bins < 2:
        return None
    shares, effective = _expected(r, of_r, w, of_w)
    observed = w.sum(axis=0)
    dispersion, freedom = _dispersion(r, of_r)
    statistic = ((observed - events * shares) ** 2 / (events * shares)).sum() / (1 + events / effective)
    p_value = float(stats.f.sf(statistic / (n_bins - 1) / dispersion, n_bins - 1, freedom))
    noise = dispersion * (n_bins - 1) * (1 / events + 1 / effective)
    index = psi(shares * effective, observed)
    return Shift(index, noise, p_value, dispersion, events, float(r.sum()))


def _merged(r: Counts, w: Counts) -> tuple[Counts, Counts]:
    """The same with the bins too small to be judged in one."""
    pooled = r.sum(axis=0) / r.sum()
    both = (r.sum(axis=0) + w.sum(axis=0)) / (r.sum() + w.sum())
    # A bin that the reference hardly knows counts when the window is full of it.
    small = np.maximum(pooled, both) * w.sum() < LEAST_EXPECTED
    if small.sum() > 1:
        r, w = (np.column_stack([each[:, ~small], each[:, small].sum(axis=1)]) for each in (r, w))
    used = r.sum(axis=0) + w.sum(axis=0) > 0
    return r[:, used], w[:, used]


def _expected(r: Counts, of_r: NDArray[np.int64], w: Counts, of_w: NDArray[np.int64]) -> tuple[Counts, float]:
    """(n_bins,) shares of a window of such a mix of phases, and the events that this is worth."""
    pooled = r.sum(axis=0) + SMOOTHING
    pooled /= pooled.sum()
    shares, uncertainty = np.zeros(r.shape[1]), 0.0
    for phase in np.unique(of_w):
        part = w[of_w == phase].sum() / w.sum()
        own = r[of_r == phase].sum(axis=0)
        if own.sum() == 0:
            own = r.sum(axis=0)
        mixed = own + SMOOTHING * r.shape[1] * pooled
        shares += part * mixed / mixed.sum()
        uncertainty += part**2 / own.sum()
    return shares / shares.sum(), float(1 / uncertainty)


def _dispersion(r: Counts, of_r: NDArray[np.int64]) -> tuple[float, int]:
    """How much more days differ from others of their phase than chance would have it, and its freedom."""
    phases = np.unique(of_r)
    if len(r) - len(phases) < len(r) / 2:  # too few of each: then the phases themselves count as weather
        of_r, phases = np.zeros(len(r), np.int64), np.zeros(1, np.int64)
    statistic, freedom = 0.0, 0
    for phase in phases:
        days = r[of_r == phase]
        expected = days.sum(axis=1, keepdims=True) * (days.sum(axis=0) / days.sum())
        known = expected > 0
        statistic += float(((days - expected)[known] ** 2 / expected[known]).sum())
        freedom += (len(days) - 1) * max(int(known.any(axis=0).sum()) - 1, 0)
    freedom = max(freedom, 1)
    return max(statistic / freedom, 1.0), freedom
