"""
How sure a figure is: the bootstrap over users.

Users are drawn with replacement and a user's queries stay together, since their errors are alike. Two models
are compared on the differences of the same queries, which takes the queries' own difficulty out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from marquee.data.schema import Ids

__all__ = ["Bootstrap", "Interval"]

PERCENTILES: Final = (2.5, 97.5)
BLOCK_CELLS: Final = 1 << 23
"""Resamples are drawn in blocks of at most this many (resample, user) cells: 64 MiB."""


@dataclass(frozen=True, slots=True)
class Interval:
    """
    A mean and its 95 % interval.

    Attributes:
        mean: NaN when there is no query.
        low, high: the 2.5 and 97.5 percentiles of the resampled means.
        n: queries behind it.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.low > 0.0

    @property
    def significant(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0.0 or self.high < 0.0


class Bootstrap:
    """
    The same resamples of users for every figure of an evaluation.

    Args:
        user_ids: (n_queries,) whose query each is.
        resamples: number of bootstrap samples.
        seed: same seed, same resamples.
    """

    def __init__(self, user_ids: Ids, *, resamples: int = 2000, seed: int = 0) -> None:
        if resamples < 1:
            raise ValueError(f"resamples must be at least 1, not {resamples}")
        _, self._user = np.unique(np.asarray(user_ids, dtype=np.int64), return_inverse=True)
        self.n_users = int(self._user.max(initial=-1)) + 1
        self.resamples = resamples
        self.seed = seed
        self._kept: NDArray[np.float64] | None = None

    def interval(self, values: ArrayLike) -> Interval:
        """
        The mean of a metric.

        Args:
            values: (n_queries,); NaN where the metric is not defined for the query.
        """
        return self.intervals(np.asarray(values, dtype=np.float64)[:, None])[0]

    def difference(self, values: ArrayLike, reference: ArrayLike) -> Interval:
        """
        The paired difference of two models.

        Args:
            values, reference: (n_queries,) of the same queries; positive means `values` is better.
        """
        return self.interval(np.asarray(values, np.float64) - np.asarray(reference, np.float64))

    def intervals(self, values: NDArray[np.float64]) -> list[Interval]:
        """
        The means of many metrics at once.

        Args:
            values: (n_queries, m); NaN as in `interval`.
        """
        if len(values) != len(self._user):
            raise ValueError(f"{len(self._user)} queries, but {len(values)} values")
        n_metrics = values.shape[1]
        defined = np.isfinite(values)
        sums = np.zeros((self.n_users, 2 * n_metrics))  # sums and numbers of queries per user
        np.add.at(sums[:, :n_metrics], self._user, np.where(defined, values, 0.0))
        np.add.at(sums[:, n_metrics:], self._user, defined.astype(np.float64))
        if not self.n_users:
            return [Interval(float("nan"), float("nan"), float("nan"), 0)] * n_metrics
        drawn = np.concatenate([weights @ sums for weights in self._weights()])
        means = np.full((self.resamples, n_metrics), np.nan)
        np.divide(drawn[:, :n_metrics], drawn[:, n_metrics:], out=means, where=drawn[:, n_metrics:] > 0)
        return [self._interval(sums, means, m, n_metrics) for m in range(n_metrics)]

    def _interval(
        self, sums: NDArray[np.float64], means: NDArray[np.float64], metric: int, n_metrics: int
    ) -> Interval:
        n = int(sums[:, n_metrics + metric].sum())
        # A resample may miss every user of a small slice: it tells nothing then.
        told = means[:, metric][np.isfinite(means[:, metric])]
        if n == 0 or not len(told):
            return Interval(float("nan"), float("nan"), float("nan"), n)
        low, high = np.percentile(told, PERCENTILES)
        return Interval(float(sums[:, metric].sum() / n), float(low), float(high), n)

    def _weights(self) -> Iterator[NDArray[np.float64]]:
        """(block, n_users) how often each user was drawn, block by block, the same at every pass."""
        if self._kept is not None:
            yield self._kept
            return
        generator = np.random.default_rng(self.seed)
        block = min(max(1, BLOCK_CELLS // self.n_users), self.resamples)
        for start in range(0, self.resamples, block):
            rows = min(block, self.resamples - start)
            drawn = generator.integers(self.n_users, size=(rows, self.n_users))
            drawn += np.arange(rows)[:, None] * self.n_users
            counts = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
            weights = counts.astype(np.float64)
            if rows == self.resamples:
                self._kept = weights
            yield weights
