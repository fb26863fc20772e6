"""
Which queries and which items a figure is broken down by.

A mean over everybody hides those a model serves badly: new users, heavy users, lovers of the tail, and
whoever wants what came out this year.
"""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from marquee.data.dataset import Catalog, Histories
from marquee.data.schema import Ids
from marquee.data.vocabulary import Vocabulary
from marquee.data.windows import GroundTruth

__all__ = [
    "CUTS",
    "HISTORY_SLICES",
    "ITEM_SLICES",
    "MIN_JUDGED_QUERIES",
    "SLICES",
    "history_slices",
    "is_tail",
    "is_young",
]

CUTS: Final = {"last_1": 1, "last_3": 3}
"""Cold start: every history cut to its last items."""
HISTORY_SLICES: Final = {
    "history_under_20": (0, 20),
    "history_20_to_99": (20, 100),
    "history_100_up": (100, None),
}
"""Queries by the number of distinct items in the history: from, up to but not including."""
ITEM_SLICES: Final = ("tail_items", "young_items")
"""The ground truth restricted to some items; the lists stay as they are."""
SLICES: Final = (*HISTORY_SLICES, *CUTS, *ITEM_SLICES)

MIN_JUDGED_QUERIES: Final = 50
"""A slice with fewer queries is reported, not judged."""
HEAD_SHARE: Final = 0.2
"""The share of the catalogue, by count, that is not tail."""
YEAR_DAYS: Final = 365
DAY_MICROSECONDS: Final = 86_400_000_000
UNKNOWN_DAY: Final = int(np.iinfo(np.int32).min)


def history_slices(histories: Histories) -> dict[str, NDArray[np.bool_]]:
    """(n,) mask of the queries of each slice by length of history."""
    items = np.unique(histories.item_ids, return_inverse=True)[1]
    stride = int(items.max(initial=0)) + 1
    pairs = np.unique(histories.rows * stride + items)
    lengths = np.bincount(pairs // stride, minlength=len(histories))
    return {
        name: (lengths >= low) & (lengths < (high if high is not None else np.inf))
        for name, (low, high) in HISTORY_SLICES.items()
    }


def is_tail(item_ids: Ids, catalogue: Vocabulary) -> NDArray[np.bool_]:
    """
    Which items are outside the most frequent 20 % of the catalogue; those outside the catalogue are too.

    Args:
        item_ids: (n,) external ids.
        catalogue: items by count, most frequent first.
    """
    index = catalogue.index(item_ids)
    return (index < 0) | (index >= round(HEAD_SHARE * len(catalogue)))


def is_young(truth: GroundTruth, catalog: Catalog | None) -> NDArray[np.bool_]:
    """
    (n_truth,) which chosen items were released less than a year before; an unknown date is not young.

    Args:
        truth: items with the moment of each choice.
        catalog: release dates.
    """
    made = np.zeros(len(truth.item_ids), dtype=bool)
    if catalog is None:
        return made
    rows = catalog.items.index(truth.item_ids)
    days = catalog.table["release_date"].cast(pa.int32())
    released = np.asarray(pc.fill_null(days, UNKNOWN_DAY).to_numpy(), dtype=np.int64)
    known = rows >= 0
    day = truth.timestamps[known] // DAY_MICROSECONDS
    made[known] = (released[rows[known]] != UNKNOWN_DAY) & (day - released[rows[known]] < YEAR_DAYS)
    return made
