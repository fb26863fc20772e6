"""
The first stage of the two: several models propose, and say what they think of every candidate.

Past `LARGE_ITEMS` items the models are held in less memory, and know a user by the newest events alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Self, TypeVar

import numpy as np

from marquee.data.dataset import Catalog, Histories, Interactions
from marquee.data.schema import Matrix
from marquee.data.vocabulary import Vocabulary
from marquee.models import model_class
from marquee.models.base import Recommender
from marquee.recommend.candidates import Candidates, gather_candidates, seen_cells
from marquee.recommend.content_facts import ContentFacts
from marquee.recommend.pair_features import PairFeatures

__all__ = ["SOURCES", "TIMELESS", "USER_EVENTS", "FirstStage", "fitted_source", "mapped", "score_names"]

A = TypeVar("A")
B = TypeVar("B")

SOURCES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "ease": ("ease", {}),
    "ease_recent": ("ease", {"training_half_life_days": 180.0, "history_half_life_events": 20.0}),
    "item_knn": ("item_knn", {}),
    "item_knn_cosine": ("item_knn", {"similarity": "cosine", "history_half_life_events": 20.0}),
    "ials": ("ials", {}),
    "markov": ("markov", {}),
    "content": ("content", {}),
    "popularity": ("popularity", {}),
    "popularity_365": ("popularity", {"half_life_days": 365}),
    "popularity_60": ("popularity", {"half_life_days": 60}),
    "popularity_14": ("popularity", {"half_life_days": 14}),
}
"""First-stage models by name: the model and how it differs from its defaults."""

TIMELESS: Final = frozenset({"content"})
"""Models whose scores follow from facts, not from interactions."""

VIEWS: Final[dict[str, tuple[str, int]]] = {
    "item_knn_last_3": ("item_knn", 3),
    "ease_last_10": ("ease", 10),
    "markov_last_3": ("markov", 3),
    "content_last_5": ("content", 5),
}
"""Further scores from the newest events alone: the source and their number. They propose nothing."""

LARGE_ITEMS: Final = 20_000
"""Past so many items the sources are held in less memory, and only candidates are ranked."""
LARGE_SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "ease": {"dense_items": 8_000, "tail_neighbours": 32},
    "ials": {"iterations": 8},
    "item_knn": {"neighbours": 200},
    "markov": {"followers": 200, "newest_rows": 1_000_000},
}
"""How models of large catalogues differ, by model."""
USER_EVENTS: Final = 100
"""Newest events of a user that large data are learnt from and scored by."""


class FirstStage:
    """The fitted sources and the features of what they propose."""

    def __init__(
        self, models: dict[str, Recommender], features: PairFeatures, items: Vocabulary, depth: int
    ) -> None:
        self.models = models
        self.features = features
        self._items = items
        self._depth = depth
        for model in models.values():
            model.share_items(items)

    @classmethod
    def fitted(
        cls,
        rows: Interactions,
        catalog: Catalog | None,
        facts: ContentFacts,
        items: Vocabulary,
        fixed: Mapping[str, Recommender],
        *,
        sources: Sequence[str],
        depth: int,
        seed: int,
        threads: int,
    ) -> Self:
        """
        Fit every source but the fixed ones, and the features, on the same rows.

        Args:
            rows: in the global order.
            catalog: what is known of items now, for the sources.
            facts: the same for the features.
            items: what is ranked, in the order of all scores.
            fixed: sources that are fitted already, by name.
            sources: names of `SOURCES`.
            depth: items that each source proposes.
            seed: for every source.
            threads: how many sources to fit at a time where the catalogue is large.
        """
        known = None
        if catalog is not None:
            # Items without interactions are not ranked, so the sources need not know them.
            known = Catalog(catalog.table.take(np.flatnonzero(items.index(catalog.item_ids) >= 0)))
        missing = [name for name in sources if name not in fixed]
        made = mapped(
            lambda name: fitted_source(name, rows, known, seed),
            missing,
            threads if len(items) > LARGE_ITEMS else 1,
        )
        models = {**fixed, **dict(zip(missing, made, strict=True))}
        features = PairFeatures(score_names(sources)).fit(rows.positives(), facts, items)
        return cls({name: models[name] for name in sources}, features, items, depth)

    @property
    def large(self) -> bool:
        """Whether only what is proposed shall be ranked."""
        return len(self._items) > LARGE_ITEMS

    def candidates(self, histories: Histories) -> tuple[Candidates, Matrix]:
        """The candidates, and (n, n_items) what the first source says of every item."""
        seen = seen_cells(histories, self._items)
        scores = list(self._scores(histories))
        return gather_candidates(scores, seen, self._depth, len(self.models)), scores[0]

    def _scores(self, histories: Histories) -> Iterator[Matrix]:
        """(n, n_items) of each source, then of each view."""
        # What nobody knows must not take the place of newer events in a view.
        histories = histories.where(self._items.index(histories.item_ids) >= 0)
        if self.large:
            histories = histories.last(USER_EVENTS)
        for name in self.models:
            yield self._scored(name, histories)
        views = {name: VIEWS[name] for name in self.features.sources if name in VIEWS}
        newest = {n: histories.last(n) for n in {n for _, n in views.values()}}
        for source, n in views.values():
            yield self._scored(source, newest[n])

    def _scored(self, name: str, histories: Histories) -> Matrix:
        """(n, n_items) scores in the common order, 0 where a source does not know an item."""
        model = self.models[name]
        scores = model.score(histories)
        if model.items == self._items:
            return scores
        column = model.items.index(self._items.ids)
        return np.where(column >= 0, scores[:, np.maximum(column, 0)], np.float32(0.0))


def fitted_source(name: str, rows: Interactions, catalog: Catalog | None, seed: int) -> Recommender:
    """One of `SOURCES`, fitted on rows in the global order."""
    kind, settings = SOURCES[name]
    if len(np.unique(rows.item_ids)) > LARGE_ITEMS:
        settings = {**settings, **LARGE_SETTINGS.get(kind, {})}
    made = model_class(kind)
    return made(made.Config.from_dict({"seed": seed, **settings})).fit(rows, catalog)


def score_names(sources: Sequence[str]) -> tuple[str, ...]:
    """The sources, and the views of those that are among them."""
    return (*sources, *(name for name, (source, _) in VIEWS.items() if source in sources))


def mapped(call: Callable[[A], B], values: Iterable[A], threads: int) -> list[B]:
    """The answers in order; by several threads, of which NumPy, SciPy and BLAS make use."""
    if threads <= 1:
        return [call(value) for value in values]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(call, values))
