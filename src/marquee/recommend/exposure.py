"""
What exposure costs: an item that the lists of many users hold must be a little better to be in one more.

Source:
    Abdollahpouri et al. 2019, "Managing popularity bias in recommender systems with personalized re-ranking".
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from marquee.data.schema import Index, Vector
from marquee.recommend.candidates import Candidates

__all__ = ["exposure_penalty"]

EXPOSED_LIST: Final = 10
"""Length of the lists whose exposure is evened out."""
EXPOSURE_ROUNDS: Final = 8


def exposure_penalty(lists: Sequence[tuple[Candidates, Vector]], n_items: int, exposure: float) -> Vector:
    """
    The cost at which lists share exposure more evenly.

    Args:
        lists: candidates, and the (n_pairs,) scores that order them.
        n_items: items of the catalogue.
        exposure: what being in all lists costs, in standard deviations of the scores.

    Returns:
        (n_items,) float32, to be subtracted from the scores.
    """
    deviations = [
        np.std(scores[a:b])
        for c, scores in lists
        for a, b in zip(c.indptr[:-1], c.indptr[1:], strict=True)
        if b > a
    ]
    unit = exposure * float(np.mean(deviations)) if deviations else 0.0
    n_lists = sum(len(candidates) for candidates, _ in lists)
    penalty = np.zeros(n_items, np.float32)
    for _ in range(EXPOSURE_ROUNDS):
        exposed = np.zeros(n_items)
        for candidates, scores in lists:
            np.add.at(exposed, _listed(candidates, scores - penalty[candidates.items]), 1.0)
        # As a multiple of what an item would get if all had the same; its logarithm is 1 at most.
        even = exposed * n_items / max(n_lists * EXPOSED_LIST, 1)
        cost = np.log1p(even) / np.log1p(max(n_items / EXPOSED_LIST, 1.0))
        # Halfway each time: an item that is pushed out of all lists must be able to come back.
        penalty = (0.5 * (penalty + unit * cost)).astype(np.float32)
    return penalty


def _listed(candidates: Candidates, scores: NDArray[Any]) -> Index:
    """The items of all top lists, with repetition."""
    order = np.lexsort((candidates.items, -scores, candidates.rows))
    place = np.arange(len(order)) - candidates.indptr[:-1][candidates.rows]
    return candidates.items[order[place < EXPOSED_LIST]]
