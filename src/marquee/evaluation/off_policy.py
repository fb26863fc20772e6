"""
What another policy would have earned, from the logged impressions of this one.

Each shown item is weighted with how much more probable the other policy would have put it in its place.
That is unbiased where the reward of a place depends on its item and the place alone, and where the logging
policy shows with some probability whatever the other one shows; exploration with known propensities
(`marquee.recommend.explore`) is for that.

Source:
    Horvitz & Thompson 1952 (IPS); Swaminathan & Joachims 2015, The self-normalized estimator for
    counterfactual learning (SNIPS); Li et al. 2018, Offline evaluation of ranking policies with click
    models, section 4.3 (weights by item and position).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from marquee.data.schema import Ids, Matrix

__all__ = ["PolicyValue", "ips", "places", "snips"]

Z: Final = 1.959963984540054


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """
    Mean reward of a list under a policy.

    Attributes:
        value: rewards of a list, summed over its places, mean over lists.
        low, high: its 95 % interval, users as units; NaN with fewer than two users.
        effective: lists that the logged ones are worth, (Σw)² / Σw², of the place where that is least.
        clipped: share of weights that were cut to the largest allowed; each makes the value too small.
    """

    value: float
    low: float
    high: float
    effective: float
    clipped: float


def places(shown: Ids, other: Ids) -> Matrix:
    """
    The probabilities with which a policy without chance puts the shown items where they stood.

    Args:
        shown: (n, k) logged item ids, -1 as padding.
        other: (n, k) the lists of the other policy for the same requests.

    Returns:
        (n, k) 1 where both have the same item, else 0.
    """
    return np.asarray((shown == other) & (shown >= 0), dtype=np.float32)


def ips(
    rewards: ArrayLike,
    propensities: ArrayLike,
    target: ArrayLike,
    user_ids: Ids,
    *,
    largest_weight: float = np.inf,
) -> PolicyValue:
    """
    Inverse propensity scoring: unbiased, noisy where weights are large.

    Args:
        rewards: (n, k) of each place of each logged list.
        propensities: (n, k) probability that the logging policy put the item there; NaN where none stood.
        target: (n, k) the same of the policy that is asked for.
        user_ids: (n,) whose list each was.
        largest_weight: greater ones are cut: less noise, a value that is too small.

    Raises:
        ValueError: shapes that differ, or a propensity ≤ 0 where the other policy's is not 0.
    """
    earned, weights, clipped = _weighted(rewards, propensities, target, largest_weight)
    return _value((weights * earned).sum(axis=1), np.asarray(user_ids), weights, clipped)


def snips(
    rewards: ArrayLike,
    propensities: ArrayLike,
    target: ArrayLike,
    user_ids: Ids,
    *,
    largest_weight: float = np.inf,
) -> PolicyValue:
    """
    Self-normalised: each place by the weights it got rather than by those to be expected.

    Far less noisy than `ips` and barely biased; arguments as there. A place that the other policy would never
    have filled as logged adds nothing.
    """
    earned, weights, clipped = _weighted(rewards, propensities, target, largest_weight)
    n = len(earned)
    total = weights.sum(axis=0)  # (k,)
    told = total > 0
    mean = np.divide((weights * earned).sum(axis=0), total, out=np.zeros_like(total), where=told)
    scale = np.divide(n, total, out=np.zeros_like(total), where=told)
    # The linearisation of a ratio: what a list adds beyond the mean of its places.
    parts = mean.sum() + (weights * (earned - mean) * scale).sum(axis=1)
    return _value(parts, np.asarray(user_ids), weights, clipped)


def _weighted(
    rewards: ArrayLike, propensities: ArrayLike, target: ArrayLike, largest: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """(n, k) rewards and weights, 0 where no item stood, and the share of weights that were cut."""
    earned = np.asarray(rewards, dtype=np.float64)
    logged = np.asarray(propensities, dtype=np.float64)
    wanted = np.asarray(target, dtype=np.float64)
    if not earned.shape == logged.shape == wanted.shape or earned.ndim != 2:
        raise ValueError(f"Shapes differ: {earned.shape}, {logged.shape} and {wanted.shape}")
    stood = ~np.isnan(logged)
    if (logged[stood] <= 0).any():
        raise ValueError("An item was shown whose propensity is not positive")
    weights = np.divide(wanted, logged, out=np.zeros_like(logged), where=stood)
    used = weights > 0
    clipped = float((weights > largest).sum() / max(used.sum(), 1))
    return np.where(stood, earned, 0.0), np.minimum(weights, largest), clipped


def _value(
    parts: NDArray[np.float64], user_ids: Ids, weights: NDArray[np.float64], clipped: float
) -> PolicyValue:
    """The mean of what lists add, users as units."""
    n = len(parts)
    if not n:
        return PolicyValue(float("nan"), float("nan"), float("nan"), 0.0, clipped)
    value = float(parts.mean())
    _, user = np.unique(user_ids, return_inverse=True)
    sums = np.bincount(user, weights=parts - value)
    users = len(sums)
    spread = users / (users - 1) * float(sums @ sums) if users > 1 else float("nan")
    half = Z * spread**0.5 / n
    squares = (weights**2).sum(axis=0)
    effective = np.divide(weights.sum(axis=0) ** 2, squares, out=np.zeros_like(squares), where=squares > 0)
    return PolicyValue(value, value - half, value + half, float(effective.min(initial=n)), clipped)
