"""Numbers as a network takes them: spread by the quantiles of the training data, missing ones marked."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from marquee.data.schema import Matrix

__all__ = ["Columns", "Floats64", "encode_numbers", "quantile_knots"]

MAX_KNOTS = 1024
"""Points that describe the distribution of an input."""

Floats64 = NDArray[np.float64]
Columns = Mapping[str, Floats64]


def quantile_knots(values: Floats64) -> Floats64:
    """
    Points that describe the distribution of an input.

    Args:
        values: (n,) numbers, NaN where missing.

    Returns:
        (≤ `MAX_KNOTS`,) ascending quantiles of the distinct values, so that what few rows have gets as
        much room as what many have; none where all are missing.
    """
    distinct = np.unique(values[~np.isnan(values)])
    if len(distinct) <= MAX_KNOTS:
        return distinct
    return distinct[np.linspace(0, len(distinct) - 1, MAX_KNOTS).round().astype(np.int64)]


def encode_numbers(columns: Columns, knots: Columns) -> Matrix:
    """
    Columns as inputs of the network.

    Args:
        columns: name → (n,) numbers, NaN where missing.
        knots: name → quantiles, in the order of the inputs.

    Returns:
        (n, 2 · n_inputs) levels in [-1, 1], 0 where missing; then 1 where missing.
    """
    names = tuple(knots)
    encoded = np.zeros((len(columns[names[0]]), 2 * len(names)), np.float32)
    for position, name in enumerate(names):
        values, points = columns[name], knots[name]
        missing = np.isnan(values) if len(points) else np.ones(len(values), bool)
        if len(points) > 1:
            levels = np.interp(values, points, np.linspace(-1.0, 1.0, len(points)))
            encoded[:, position] = np.where(missing, 0.0, levels)
        encoded[:, len(names) + position] = missing
    return encoded
