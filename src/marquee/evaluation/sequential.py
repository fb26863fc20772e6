"""
Statistics of online experiments that may be looked at as often as one likes.

A test that is made again and again until it is significant calls almost every A/A test in the end. What is
here holds for all looks together: with probability at least 1 − α no look is ever wrong.

Users are the units, since the impressions of a user are alike. A metric is a ratio of sums over users
(clicks by answers, say); its variance comes from the linearisation y − R·x of each user. All that is needed
of an arm are six sums, which a database adds up.

Source:
    Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, Time-uniform central limit theory and asymptotic
    confidence sequences, theorem 2.2 (the normal mixture of Robbins 1970), in the time of information 1/s².
    Deng, Knoblich & Lu 2018, Applying the delta method in metric analytics (ratio metrics).
    Lindon & Malek 2022, Anytime-valid inference for multinomial count data (sample ratio).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

__all__ = ["Difference", "Moments", "SampleRatio", "compare", "exceeds", "sample_ratio"]

MIN_USERS: Final = 50
"""Users of an arm, and a fifth as many with a value other than 0, from which the central limit is trusted."""
MIN_ACTIVE_USERS: Final = 10
RATIO_ALARM: Final = 0.001
RATIO_CONCENTRATION: Final = 1_000.0
"""How closely a wrong division of users is expected to resemble the planned one: some per cent off."""


@dataclass(frozen=True, slots=True)
class Moments:
    """
    What an arm knows of a ratio metric: sums over its users of their own sums y and x.

    Attributes:
        n: users with x > 0.
        active: users with y ≠ 0.
        y, x, yy, xy, xx: sums over users of y, x, y², x·y, x².
    """

    n: int
    active: int
    y: float
    x: float
    yy: float
    xy: float
    xx: float

    @classmethod
    def of(cls, y: ArrayLike, x: ArrayLike | None = None) -> "Moments":
        """
        Of arrays.

        Args:
            y: (n_users,) numerators.
            x: (n_users,) denominators ≥ 0; default: 1 each, a mean over users.
        """
        top = np.asarray(y, dtype=np.float64)
        below = np.ones_like(top) if x is None else np.asarray(x, dtype=np.float64)
        top, below = top[below > 0], below[below > 0]
        return cls(
            len(top),
            int((top != 0).sum()),
            float(top.sum()),
            float(below.sum()),
            float(top @ top),
            float(top @ below),
            float(below @ below),
        )

    @property
    def ratio(self) -> float:
        """The metric, NaN where nothing was counted."""
        return self.y / self.x if self.x > 0 else float("nan")

    @property
    def variance(self) -> float:
        """Of the ratio as an estimate; NaN with fewer than two users."""
        if self.n < 2 or not self.x > 0:
            return float("nan")
        squares = self.yy - 2 * self.ratio * self.xy + self.ratio**2 * self.xx
        return max(squares, 0.0) / self.x**2 * self.n / (self.n - 1)

    @property
    def enough(self) -> bool:
        """Whether its ratio is about normal."""
        return self.n >= MIN_USERS and self.active >= MIN_ACTIVE_USERS and self.variance > 0

    def interval(self, alpha: float = 0.05) -> tuple[float, float]:
        """The ratio's interval for a single look."""
        half = float(special.ndtri(1 - alpha / 2)) * self.variance**0.5
        return self.ratio - half, self.ratio + half


@dataclass(frozen=True, slots=True)
class Difference:
    """
    What an arm's metric has over another's.

    Attributes:
        value: the difference.
        low, high: its interval, right for a single look that was planned.
        always_low, always_high: its interval, right at all looks together; infinite while the arms have too
            few users.
    """

    value: float
    low: float
    high: float
    always_low: float
    always_high: float

    @property
    def better(self) -> bool:
        """Whether it is decided that the difference is positive."""
        return self.always_low > 0

    @property
    def worse(self) -> bool:
        """Whether it is decided that the difference is negative."""
        return self.always_high < 0


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """
    Whether users are divided as planned.

    Attributes:
        p_value: of Pearson's χ², right for a single look.
        always_p_value: right at all looks together.
    """

    p_value: float
    always_p_value: float

    @property
    def alarm(self) -> bool:
        """Whether the division is not as planned: what the arms show then means nothing."""
        return self.always_p_value < RATIO_ALARM


def compare(
    arm: Moments, reference: Moments, *, effect: float, alpha: float = 0.05, times: float = 1.0
) -> Difference:
    """
    The difference arm − times · reference of two independent arms.

    Args:
        effect: a difference that matters, > 0: the always-valid interval is tightest about when a difference
            of this size can be told at all. It must not depend on which arm looks better.
        alpha: probability that the intervals are allowed to miss the truth.
        times: 0.9 asks whether the arm keeps 90 % of the reference.

    Raises:
        ValueError: effect ≤ 0.
    """
    if not effect > 0:
        raise ValueError(f"The effect must be positive, not {effect}")
    value = arm.ratio - times * reference.ratio
    variance = arm.variance + times**2 * reference.variance
    fixed = float(special.ndtri(1 - alpha / 2)) * variance**0.5
    always = float("inf")
    if arm.enough and reference.enough:
        time = effect**2 / variance
        always = (variance * (1 + 1 / time) * (np.log1p(time) - 2 * np.log(alpha))) ** 0.5
    return Difference(value, value - fixed, value + fixed, value - float(always), value + float(always))


def exceeds(events: int, trials: int, limit: float, *, alpha: float = 0.05) -> bool:
    """
    Whether a rate is above a limit, exact and at all looks together.

    The likelihood of what was counted, averaged over all rates above the limit, by that at the limit is a
    test martingale: it ever reaches 1/α with probability at most α where the rate is not above the limit.

    Args:
        events: how often it happened, of `trials`.
        limit: in (0, 1).
    """
    if not 0 < limit < 1:
        raise ValueError(f"The limit must lie in (0, 1), not {limit}")
    a, b = events + 1, trials - events + 1
    above = special.betaincc(a, b, limit)
    if not above > 0:
        return False
    average = special.betaln(a, b) + np.log(above) - np.log1p(-limit)
    at_limit = events * np.log(limit) + (trials - events) * np.log1p(-limit)
    return bool(average - at_limit >= -np.log(alpha))


def sample_ratio(users: Sequence[int], shares: Sequence[float]) -> SampleRatio:
    """
    Compare the users of each arm with their planned shares.

    Args:
        users: of each arm.
        shares: planned, summing to 1.
    """
    counts, planned = np.asarray(users, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    total = counts.sum()
    if not total > 0:
        return SampleRatio(1.0, 1.0)
    chi = float(((counts - total * planned) ** 2 / (total * planned)).sum())
    prior = RATIO_CONCENTRATION * planned
    alternative = (
        special.gammaln(RATIO_CONCENTRATION)
        - special.gammaln(RATIO_CONCENTRATION + total)
        + (special.gammaln(prior + counts) - special.gammaln(prior)).sum()
    )
    log_evidence = float(alternative - (counts * np.log(planned)).sum())
    return SampleRatio(float(special.chdtrc(len(counts) - 1, chi)), float(np.exp(min(0.0, -log_evidence))))
