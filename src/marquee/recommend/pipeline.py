"""
From histories to lists, the same way offline, in batch and in a request.

    history → scores of every item, new ones included → editors' boosts → what may not be shown is taken
    out → the best few → variety → exploration → editors' pins → top-k

A watched, rated, liked, hidden or disliked item never comes back; one that was only clicked may.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from marquee.data.dataset import Catalog, Histories
from marquee.data.ranked import RankedItems, top_k
from marquee.data.schema import Event, Ids, Index, Matrix
from marquee.models.base import SCORE_ROWS
from marquee.recommend.diversify import Diversifier
from marquee.recommend.editorial import Choices, Editorial
from marquee.recommend.explore import explore
from marquee.recommend.filters import Filters, ItemFacts, Mask
from marquee.recommend.new_items import Scorer, WithNewItems

__all__ = ["RecommendationPipeline", "RecommendedItems", "unavailable"]

POOL: Final = 100
"""The best items that variety chooses from (three times k for long lists)."""
COLD_DIAL: Final = 0.6
"""The least variety of a list for somebody of whom nothing is known."""
UNCERTAIN_POOL: Final = 20
"""Uncertain items of each user that exploration draws from."""
ANYTHING: Final = Filters()
NO_WISHES: Final = Editorial()
SPARSE_MASK: Final = 1 / 16
"""Up to this share of hidden items it is faster to name them than to go through all."""
_CLICK, _HIDE = int(Event.CLICK), int(Event.HIDE)  # plain integers compare faster


@dataclass(frozen=True, eq=False, slots=True)
class RecommendedItems(RankedItems):
    """
    Ranked lists, and how they came about.

    Attributes:
        propensities: (n, k) float32 probability that this item is shown in this place, NaN behind the end.
        explored: (n, k) which places were given to exploration.
        personal: (n,) whether anything known of the user went into the list.
        qualified: (n,) items that could have been shown; lists are shorter than k only where these are fewer.
    """

    propensities: Matrix
    explored: NDArray[np.bool_]
    personal: NDArray[np.bool_]
    qualified: Index


class RecommendationPipeline:
    """
    A scorer with everything around it that makes a list fit to show.

    Args:
        model: a fitted recommender.
        catalog: facts for filters and variety. Its items that the model does not know join through their
            content. Filters that ask for facts find only what is in it.
        blocked: external ids that are never shown: removed items, and what editors block.
        editorial: what editors pin and boost.

    Attributes:
        model: as given.
        scorer: the model with the new items of the catalogue; what explanations ask.
        facts: of the scorer's items.
        choices: of the editors.
    """

    def __init__(
        self,
        model: Scorer,
        catalog: Catalog | None = None,
        *,
        blocked: Ids | None = None,
        editorial: Editorial = NO_WISHES,
    ) -> None:
        self.model = model
        self.scorer: Scorer = model
        if catalog is not None and (model.items.index(catalog.item_ids) < 0).any():
            self.scorer = WithNewItems(model, catalog)
        self.facts = ItemFacts(self.scorer.items, catalog, blocked)
        self.choices = Choices(editorial, self.scorer.items)
        self._catalog = catalog
        counts = self.scorer.item_counts
        self._uncertain: Index = np.flatnonzero(counts <= np.median(counts)) if len(counts) else counts
        self._place = np.full(len(counts), -1, dtype=np.int64)  # (n_items,) of each in `_uncertain`
        self._place[self._uncertain] = np.arange(len(self._uncertain))

    def recommend(
        self,
        histories: Histories,
        k: int = 10,
        *,
        filters: Filters = ANYTHING,
        seen: tuple[Index, Ids] | None = None,
        diversity: float = 0.0,
        exploration: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> RecommendedItems:
        """
        The k best items of each history that may be shown.

        Args:
            histories: n histories, all their events.
            k: list length, > 0; lists are shorter (padded) where fewer items qualify.
            filters: what every item must satisfy.
            seen: rows (ascending) and external ids of what single histories may not get, beyond their own.
            diversity: 0 (the best by score) to 1 (as varied as the best `POOL` allow).
            exploration: expected share of places for items with few or no interactions, 0–1.
            rng: for exploration; same state, same lists.

        Returns:
            n ranked lists; scores are the model's, and descend only where nothing re-ranked them.

        Raises:
            ValueError: k < 1, a dial outside [0, 1], or exploration without a generator.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        if not 0.0 <= diversity <= 1.0:
            raise ValueError(f"diversity must lie in [0, 1], not {diversity}")
        if exploration and rng is None:
            raise ValueError("exploration needs a random generator")
        mask = self.facts.mask(filters)
        if len(histories) <= SCORE_ROWS:
            return self._block(histories, k, mask, seen, diversity, exploration, rng)
        parts = []
        for start in range(0, len(histories), SCORE_ROWS):
            part = slice(start, start + SCORE_ROWS)
            its_seen = None
            if seen is not None:
                cells = slice(*np.searchsorted(seen[0], [part.start, part.stop]))
                its_seen = seen[0][cells] - start, seen[1][cells]
            parts.append(self._block(histories.take(part), k, mask, its_seen, diversity, exploration, rng))
        return _joined(parts)

    def varied(self, ranking: Index, k: int, diversity: float) -> Index:
        """
        The k items of a ranking that are best together, for nobody in particular.

        Args:
            ranking: item indices, best first.
            diversity: 0 (the first k) to 1 (as varied as the first `POOL` allow).
        """
        if self._diversifier is None:
            return ranking[:k]
        pool = ranking[None, : max(POOL, 3 * k)]
        taste = self._diversifier.taste(Histories.of_items([]), self.scorer.items)
        chosen: Index = self._diversifier.rerank(pool, k, np.array([diversity], np.float32), taste)[0]
        return chosen[chosen >= 0]

    def warm_up(self) -> None:
        """Do now what the first varied list would otherwise wait for."""
        self.recommend(Histories.of_items([]), 1, diversity=1.0)

    def _block(
        self,
        histories: Histories,
        k: int,
        mask: Mask,
        seen: tuple[Index, Ids] | None,
        diversity: float,
        exploration: float,
        rng: np.random.Generator | None,
    ) -> RecommendedItems:
        items = self.scorer.items
        index = items.index(histories.item_ids)
        rows, known = histories.rows, index >= 0
        scores = self.scorer.score(histories)
        if not scores.flags.writeable:
            scores = scores.copy()
        as_scored = self.choices.as_scored(scores)
        self.choices.boost(scores)
        _hide(scores, mask)
        taken = known & unavailable(histories)
        scores[rows[taken], index[taken]] = -np.inf
        if seen is not None:
            other = items.index(seen[1])
            scores[seen[0][other >= 0], other[other >= 0]] = -np.inf
        # On single rows far faster than along an axis.
        qualified = np.array([np.count_nonzero(row > -np.inf) for row in scores], dtype=np.int64)
        telling = known & (histories.events != _HIDE)
        personal = np.bincount(rows[telling], minlength=len(histories)) > 0
        first = self.choices.take_first(scores, k)
        chosen = self._chosen(histories, scores, personal, k, diversity)
        propensities = np.where(chosen >= 0, np.float32(1.0), np.float32(np.nan))
        explored = np.zeros(chosen.shape, dtype=bool)
        if exploration and rng is not None:
            pool = self._uncertain_pool(scores, chosen)
            chosen, propensities, explored = explore(chosen, pool, exploration, rng)
        if first.shape[1]:
            chosen, propensities, explored = _behind(first, chosen, propensities, explored)
        values = np.take_along_axis(scores, np.maximum(chosen, 0), axis=1) if len(items) else propensities
        if self.choices:
            self.choices.restore(values, chosen, as_scored)
        ranked = RankedItems.from_indices(chosen, values, items.ids)
        return RecommendedItems(ranked.item_ids, ranked.scores, propensities, explored, personal, qualified)

    def _chosen(
        self,
        histories: Histories,
        scores: Matrix,
        personal: NDArray[np.bool_],
        k: int,
        diversity: float,
    ) -> Index:
        """(n, k) item indices before exploration."""
        cold = np.flatnonzero(~personal)
        dials = np.where(personal, diversity, max(diversity, COLD_DIAL)).astype(np.float32)
        if self._diversifier is None or not (diversity or len(cold)):
            return top_k(scores, k)[0]
        pools, _ = top_k(scores, max(POOL, 3 * k))
        chosen = pools[:, :k].copy()
        varied = np.flatnonzero(dials > 0)
        part = histories if len(varied) == len(histories) else histories.take(varied)
        taste = self._diversifier.taste(part, self.scorer.items)
        chosen[varied] = self._diversifier.rerank(pools[varied], k, dials[varied], taste)
        return chosen

    def _uncertain_pool(self, scores: Matrix, chosen: Index) -> Index:
        """(n, m) the best uncertain items outside the lists."""
        among = np.take(scores, self._uncertain, axis=1)
        listed = np.where(chosen >= 0, self._place[np.maximum(chosen, 0)], -1)
        row, column = np.nonzero(listed >= 0)
        among[row, listed[row, column]] = -np.inf
        best, _ = top_k(among, UNCERTAIN_POOL)
        return np.where(best >= 0, self._uncertain[np.maximum(best, 0)], -1)

    @cached_property
    def _diversifier(self) -> Diversifier | None:
        if self._catalog is None or not len(self.scorer.items):
            return None
        return Diversifier.of_catalog(self.scorer.items, self._catalog)


def unavailable(histories: Histories) -> NDArray[np.bool_]:
    """(n_events,) which events take their item out of the user's lists: all but clicks."""
    return np.asarray((histories.events != _CLICK) | ~np.isnan(histories.ratings))


def _hide(scores: Matrix, mask: Mask) -> None:
    """Take what a mask leaves out of all rows, in place."""
    n_hidden = len(mask) - np.count_nonzero(mask)
    if n_hidden > SPARSE_MASK * len(mask):
        np.copyto(scores, np.float32(-np.inf), where=~mask)
    elif n_hidden:
        scores[:, np.flatnonzero(~mask)] = -np.inf


def _behind(
    first: Index, chosen: Index, propensities: Matrix, explored: NDArray[np.bool_]
) -> tuple[Index, Matrix, NDArray[np.bool_]]:
    """Lists, of the same length, that begin with other items, -1 being padding behind those."""
    k = chosen.shape[1]
    order = np.argsort(np.hstack([first < 0, np.zeros(chosen.shape, bool)]), axis=1, kind="stable")[:, :k]

    def joined(ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[Any]:
        return np.take_along_axis(np.hstack([ours, theirs]), order, axis=1)

    always = np.ones(first.shape, np.float32)
    return joined(first, chosen), joined(always, propensities), joined(always < 0, explored)


def _joined(parts: list[RecommendedItems]) -> RecommendedItems:
    return RecommendedItems(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("item_ids", "scores", "propensities", "explored", "personal", "qualified")
        )
    )
