"""
Drawing by look-up, and choosing by sorting packed keys.

A key packs (user of a block: 12 bits, film or cost: 28, exposure of the block: 23) into one integer:
sorting integers is several times faster than a lexsort of columns.
"""

from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from marquee.data.schema import Index

__all__ = [
    "EXPOSURE_BITS",
    "EXPOSURE_MASK",
    "MOST_USERS",
    "USER_SHIFT",
    "VALUE_BITS",
    "VALUE_MASK",
    "distinct",
    "first_of_each",
    "pack",
    "quantiles",
    "resolution",
    "sort_groups",
]

VALUE_BITS: Final = 28
EXPOSURE_BITS: Final = 23
USER_SHIFT: Final = VALUE_BITS + EXPOSURE_BITS
VALUE_MASK: Final = (1 << VALUE_BITS) - 1
EXPOSURE_MASK: Final = (1 << EXPOSURE_BITS) - 1
MOST_USERS: Final = 1 << (63 - USER_SHIFT)


def resolution(n: int) -> int:
    """Quantiles, a power of two, that tell the weights of n things apart."""
    return 1 << int(np.clip(np.ceil(np.log2(16 * n)), 12, 24))


def quantiles(weights: NDArray[np.floating], resolution: int) -> NDArray[np.integer]:
    """(n, resolution) columns of a weight matrix, each as often as its weight: sampling by look-up."""
    places = (np.arange(resolution) + 0.5) / resolution
    cumulative = np.cumsum(weights, axis=1, dtype=np.float64)
    rows = [np.searchsorted(row / row[-1], places, side="right") for row in cumulative]
    last = weights.shape[1] - 1
    table: NDArray[Any] = np.minimum(np.stack(rows), last)
    return table.astype(np.min_scalar_type(last))  # small: it is read at random


def pack(user: Index, value: NDArray[np.integer], exposure: Index) -> Index:
    """Sort keys of (user, film or cost, exposure)."""
    key = user << USER_SHIFT
    key |= value.astype(np.int64) << EXPOSURE_BITS
    key |= exposure
    return key


def sort_groups(key: Index, lengths: Index) -> Index:
    """
    Keys sorted within consecutive groups.

    Groups of similar length are sorted as the rows of one padded matrix: short rows sort by a network,
    ten times faster than the whole array does.

    Args:
        key: (lengths.sum(),).
        lengths: (n_groups,) best ascending, so that few rows need padding.
    """
    made = np.empty_like(key)
    ends = np.cumsum(lengths)
    size_class = np.maximum.accumulate(np.frexp(lengths)[1])
    cuts = [0, *(np.flatnonzero(np.diff(size_class)) + 1).tolist(), len(lengths)]
    for first, last in pairwise(cuts):
        part = slice(ends[first] - lengths[first], ends[last - 1])
        own = np.arange(lengths[first:last].max()) < lengths[first:last, None]
        rows = np.full(own.shape, np.iinfo(np.int64).max)
        rows[own] = key[part]
        rows.sort(axis=1)
        made[part] = rows[own]
    return made


def distinct(key: Index) -> Index:
    """Of sorted keys the first of each (user, film)."""
    pair = key >> EXPOSURE_BITS
    keep = np.ones(len(key), dtype=bool)
    np.not_equal(pair[1:], pair[:-1], out=keep[1:])
    return key[keep]


def first_of_each(available: Index, wanted: Index) -> tuple[Index, Index]:
    """Rows of the first `wanted` of each group of `available` rows, and their place in the group."""
    slot = np.arange(wanted.sum()) - np.repeat(np.cumsum(wanted) - wanted, wanted)
    return slot + np.repeat(np.cumsum(available) - available, wanted), slot
