"""
Explanations: the items of the history that a recommendation rests on.

They are taken from the scoring itself, whatever the model: the recommended item is scored again without each
item of the history (all its events), and the share of that item is the part of the score that goes with it,

    share_j = (score − score without j) / |score|.

So removing the named item lowers the score by exactly that share of it (raises it, if negative: something the
user did that speaks against the item). For a linear model of equal weights it is the summand of j, and the
shares add up to 1; where recency weighs, what is left moves up, and the shares say so too. The only item of
a history has a share of 1: without it nothing personal is left.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from marquee.data.dataset import Histories
from marquee.data.schema import Event, Ids, Matrix
from marquee.recommend.new_items import Scorer

__all__ = ["Explanation", "FeatureReasons", "Reason", "contributions", "explain"]

SCORED_ELEMENTS: Final = 2**22
"""Scores held at a time: bounds memory at long histories and large catalogues."""

FeatureReasons = Callable[[Histories, Ids], Sequence[Sequence[str]]]
"""(one history, (m,) item ids) → for each item its strongest features in words, strongest first."""


@dataclass(frozen=True, slots=True)
class Reason:
    """An item of the history and the share of the score that goes with it."""

    item_id: int
    share: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """
    Why an item was recommended.

    Attributes:
        item_id: the recommended item.
        score: the model's score of it.
        because: items of the history, greatest share first, only shares > 0.
        features: what else speaks for it, in words; empty unless the model can tell.
    """

    item_id: int
    score: float
    because: tuple[Reason, ...]
    features: tuple[str, ...] = ()


def explain(
    scorer: Scorer,
    history: Histories,
    item_ids: Ids | Sequence[int],
    *,
    n: int = 3,
    newest: int = 200,
    feature_reasons: FeatureReasons | None = None,
) -> list[Explanation]:
    """
    Explain recommended items to one user.

    Args:
        scorer: what scored them (`RecommendationPipeline.scorer`).
        history: one history, the same that was scored.
        item_ids: (m,) external ids of recommended items.
        n: reasons per item.
        newest: items of the history that are tried, the newest; bounds the work.
        feature_reasons: names the features in words; default: the scorer's own method of that name, if it
            has one.

    Returns:
        m explanations in the order of the ids; what is unknown has a score of NaN and no reasons.
    """
    wanted = np.asarray(item_ids, dtype=np.int64)
    past, shares, scores = contributions(scorer, history, wanted, newest=newest)
    describe = feature_reasons or getattr(scorer, "feature_reasons", None)
    words: Sequence[Sequence[str]] = describe(history, wanted) if describe else [()] * len(wanted)
    made = []
    for column, (item_id, score) in enumerate(zip(wanted.tolist(), scores.tolist(), strict=True)):
        best = np.argsort(-shares[:, column], kind="stable")[:n]
        because = tuple(Reason(int(past[j]), float(shares[j, column])) for j in best if shares[j, column] > 0)
        made.append(Explanation(item_id, score, because, tuple(words[column])))
    return made


def contributions(
    scorer: Scorer, history: Histories, item_ids: Ids, *, newest: int = 200
) -> tuple[Ids, NDArray[np.float64], NDArray[np.float64]]:
    """
    The share of every item of a history in the scores of some items.

    Returns:
        (h,) external ids of the history's known items that were not hidden, newest first; (h, m) shares, 0
        where a score is 0; (m,) scores, NaN for items unknown to the scorer.

    Raises:
        ValueError: not exactly one history.
    """
    if len(history) != 1:
        raise ValueError(f"One history is explained at a time, not {len(history)}")
    column = scorer.items.index(item_ids)
    told = (history.events != Event.HIDE) & (scorer.items.index(history.item_ids) >= 0)
    names, first = np.unique(history.item_ids[told][::-1], return_index=True)
    past = names[np.argsort(first)]  # newest first
    full = np.where(column >= 0, _columns(scorer, history, column)[0], np.nan)
    tried = past[:newest]
    without = np.empty((len(tried), len(column)), np.float64)
    step = max(1, SCORED_ELEMENTS // max(len(scorer.items), 1))
    for start in range(0, len(tried), step):
        block = tried[start : start + step]
        without[start : start + step] = _columns(scorer, _leave_one_out(history, block), column)
    size = np.abs(full)
    shares = np.divide(full - without, size, out=np.zeros_like(without), where=size > 0)
    if len(past) == 1:
        shares[:, size > 0] = 1.0
    return tried, shares, full


def _leave_one_out(history: Histories, item_ids: Ids) -> Histories:
    """One copy of a history per item, without the item."""
    copies = history.take(np.zeros(len(item_ids), dtype=np.int64))
    return copies.where(copies.item_ids != item_ids[copies.rows])


def _columns(scorer: Scorer, histories: Histories, column: NDArray[np.int64]) -> Matrix:
    scores: Matrix = scorer.score(histories)[:, np.maximum(column, 0)]
    return scores
