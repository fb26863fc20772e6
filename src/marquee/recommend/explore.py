"""
Exploration: a set share of places goes to uncertain items, with known probabilities.

A list of k is explored in m places, m being share · k rounded up or down at random so that its mean is exact.
The m places are drawn uniformly from the k, and filled with items drawn uniformly without replacement from a
pool that shares no item with the list; the other places take the list in its order. So the probability that
an item stands in a place, over everything that is drawn, has a closed form:

- an explored item: E[m] / k · 1 / pool size;
- item r of the list in place s ≥ r: that s − r of the first s − 1 places are explored and s is not,
  C(s − 1, s − r) · C(k − s, m − s + r) / C(k, m), averaged over the two values of m.

These are the propensities that off-policy estimates divide by.
"""

from functools import lru_cache
from math import comb, floor

import numpy as np
from numpy.typing import NDArray

from marquee.data.schema import Index, Matrix

__all__ = ["explore"]


def explore(
    lists: Index, pool: Index, share: float, rng: np.random.Generator
) -> tuple[Index, Matrix, NDArray[np.bool_]]:
    """
    Give a share of the places of lists to items of a pool.

    A list that is not full stays as it is, and no more places are explored than its pool has items.

    Args:
        lists: (n, k) item indices in rank order, -1 as padding.
        pool: (n, m) item indices not in the list, -1 as padding behind them.
        share: of places, in [0, 1].
        rng: same state, same answer.

    Returns:
        (n, k) lists; (n, k) float32 probability of the item in its place, NaN as padding; (n, k) which places
        were explored.

    Raises:
        ValueError: a share outside [0, 1].
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"The share of exploration must lie in [0, 1], not {share}")
    n, k = lists.shape
    size = (pool >= 0).sum(axis=1)
    most = np.where((lists >= 0).all(axis=1), np.minimum(size, k), 0)  # (n,)
    least = floor(share * k)
    up = share * k - least
    low, high = np.minimum(least, most), np.minimum(least + 1, most)
    m = np.where(rng.random(n) < up, high, low)  # (n,)
    explored = _drawn_order(rng, np.ones((n, k), dtype=bool)).argsort(axis=1) < m[:, None]
    order = _drawn_order(rng, pool >= 0)
    from_list = np.maximum(np.cumsum(~explored, axis=1) - 1, 0)
    from_pool = np.cumsum(explored, axis=1) - 1
    shown = np.take_along_axis(lists, from_list, axis=1)
    if pool.shape[1]:
        drawn = np.take_along_axis(order, np.clip(from_pool, 0, pool.shape[1] - 1), axis=1)
        shown = np.where(explored, np.take_along_axis(pool, drawn, axis=1), shown)
    places = np.arange(k)
    kept = np.zeros((n, k))
    for number, weight in ((low, 1.0 - up), (high, up)):
        values, row = np.unique(number, return_inverse=True)
        tables = np.stack([_kept_probabilities(k, int(value)) for value in values]) if n else kept[None]
        if n:
            kept += weight * tables[row[:, None], places, from_list]
    mean = (1.0 - up) * low + up * high
    by_chance = (mean / k / np.maximum(size, 1))[:, None]
    propensities = np.where(explored, by_chance, kept).astype(np.float32)
    return shown, np.where(shown >= 0, propensities, np.float32(np.nan)), explored


def _drawn_order(rng: np.random.Generator, present: NDArray[np.bool_]) -> Index:
    """(n, m) a uniform order of the present columns of each row, the absent ones behind them."""
    return np.where(present, rng.random(present.shape), 2.0).argsort(axis=1)


@lru_cache(maxsize=256)
def _kept_probabilities(k: int, m: int) -> NDArray[np.float64]:
    """(k, k) probability that place s holds item r of the list (both from 0), with m explored places of k."""
    made = np.zeros((k, k))
    for s in range(1, k + 1):
        for r in range(1, s + 1):
            if m - s + r >= 0:
                made[s - 1, r - 1] = comb(s - 1, s - r) * comb(k - s, m - s + r) / comb(k, m)
    return made
