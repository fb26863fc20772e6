"""
The two-stage recommender: several models propose, a ranker that knows more decides.

    history → first stage (candidates and their scores) → features of each pair → ranker → list

The ranker learns from queries whose answers are known: `fit` cuts windows out of the end of its data, fits
the first stage before each of them, and asks what the users of the window went on to choose. Then the
first stage is fitted anew on everything. So it learns from the past only, in evaluation as in production,
and a list is made of the same steps in both.

`TwoStage` ranks by the mean of gradient-boosted trees and a softmax regression; `LinearStack` by the
regression alone: no LightGBM, faster, and nearly as good.

Lists are re-ranked with an eye on exposure: an item that the lists of many users hold already must be a
little better to be in one more. What that costs each item is learnt at fit time, since a request sees no
other user's list.

Past `LARGE_ROWS` rows the models learn from the newest events of each user, since the heaviest users cost
the square of theirs; past `LARGE_ITEMS` items the sources are held in less memory, and only what they
propose is scored and ranked. Neither touches smaller data.

Source:
    Covington et al. 2016, "Deep neural networks for YouTube recommendations" (two stages); Wolpert 1992
    (stacking); Abdollahpouri et al. 2019, "Managing popularity bias in recommender systems with
    personalized re-ranking".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Self

import numpy as np

from marquee.data.dataset import Catalog, Histories, Interactions
from marquee.data.ranked import RankedItems
from marquee.data.schema import CSR, Matrix, Vector
from marquee.data.vocabulary import Vocabulary
from marquee.features.port import HistoricalJoin, join_as_of
from marquee.models import model_class
from marquee.models.base import ModelConfig, ModelState, Progress, Recommender, silent, tunable
from marquee.models.pair_ranker import PairRanker
from marquee.models.ranker import BlendedRanker, LinearRanker, ranker_from_state
from marquee.models.tree_ranker import TreeRanker
from marquee.recommend.candidates import Candidates
from marquee.recommend.content_facts import ContentFacts
from marquee.recommend.exposure import exposure_penalty
from marquee.recommend.first_stage import (
    SOURCES,
    TIMELESS,
    USER_EVENTS,
    FirstStage,
    fitted_source,
    mapped,
    score_names,
)
from marquee.recommend.pair_features import PairFeatures
from marquee.recommend.past_queries import PastItems, PastLists, past_queries

__all__ = ["LinearStack", "TwoStage", "TwoStageConfig"]

LARGE_ROWS: Final = 2_000_000
"""Past so many rows the newest events of each user are enough, and fewer queries."""
LARGE_QUERIES: Final = 6_000
"""Asked of the newest window alone: a window more costs a fit of every source."""

BLOCK_CELLS: Final = 4_000_000
"""Cells of one dense (histories, n_items) score matrix: bounds memory."""
LEAST_LISTS: Final = 20
"""With fewer lists to learn from the ranker stays at its prior."""


@dataclass(frozen=True)
class TwoStageConfig(ModelConfig):
    """Hyper-parameters of `TwoStage` and `LinearStack`."""

    sources: tuple[str, ...] = tunable(tuple(SOURCES), "First-stage models, of `SOURCES`.")
    depth: int = tunable(60, "Items that each source proposes.", choices=(30, 60, 100, 200))
    windows: int = tunable(8, "Past windows to learn from, at most.", low=1, high=20)
    window_share: float = tunable(0.05, "Size of such a window in rows, as a share of the fit data.")
    least_share: float = tunable(0.1, "Share of the rows before the oldest window, at least.")
    points: tuple[float, ...] = tunable(
        (0.25, 0.5, 0.75), "Where in a user's rows of a window they are asked, as a share."
    )
    queries: int = tunable(20_000, "Past queries to learn from: when they are enough, windows are saved.")
    ridge: float = tunable(1.0, "Regularisation of the regression.", low=0.03, high=30.0, log=True)
    trees: int = tunable(150, "Trees of the ranker.", low=20, high=400)
    leaves: int = tunable(7, "Leaves per tree.", choices=(3, 5, 7, 8))
    learning_rate: float = tunable(0.05, "Shrinkage of each tree.", low=0.005, high=0.1, log=True)
    min_pairs: int = tunable(200, "Least pairs of a leaf.", choices=(50, 100, 200, 500))
    exposure: float = tunable(
        1.5, "What being in all lists costs, in standard deviations of the scores.", low=0.0, high=3.0
    )
    exposure_users: int = tunable(300, "Newest users whose lists tell the exposure.")
    threads: int = tunable(1, "Threads of LightGBM.")

    def __post_init__(self) -> None:
        unknown = sorted(set(self.sources) - set(SOURCES))
        if unknown or not self.sources:
            raise ValueError(f"sources must be some of {list(SOURCES)}, not {list(self.sources)}")


class TwoStage(Recommender):
    """Items by a ranker over the candidates of several models."""

    name: ClassVar[str] = "two_stage"
    Config = TwoStageConfig
    config: TwoStageConfig
    _stage: FirstStage
    _ranker: PairRanker
    _penalty: Vector  # (n_items,) what exposure costs

    def fit(
        self,
        interactions: Interactions,
        catalog: Catalog | None = None,
        *,
        progress: Progress = silent,
        join: HistoricalJoin = join_as_of,
    ) -> Self:
        """
        Learn to rank from past windows, then fit the first stage on everything; see `Recommender.fit`.

        Args:
            interactions, catalog, progress: as there.
            join: how the lists that the ranker learns from get what was known of their items.
        """
        config = self.config
        rows = interactions.sorted()
        starts = self._window_starts(len(rows))
        progress.total(len(starts) + 2, "windows")
        lists: list[PastLists] = []
        wanted = config.queries if len(rows) <= LARGE_ROWS else min(config.queries, LARGE_QUERIES)
        facts = ContentFacts.of(catalog)
        fixed = self._timeless_sources(rows, starts, catalog)
        past = PastItems(join)
        rng = np.random.default_rng(config.seed)
        for start, stop in starts:
            if wanted > 0:
                lists.append(self._lists_of(rows, start, stop, catalog, facts, fixed, past, wanted, rng))
                wanted -= len(lists[-1].indptr) - 1
            progress.step()
        names = PairFeatures(score_names(config.sources)).names
        self._ranker = self._learnt(PastLists.joined(lists, len(names)), names)
        lists.clear()
        progress.step()
        newest = _newest_of_each(rows)
        self._set_items(newest.positives())
        self._stage = self._first_stage(newest, catalog, facts, self.items, {})
        self._penalty = self._exposure_penalty(rows)
        progress.step()
        return self

    def score(self, histories: Histories) -> Matrix:
        """
        Candidates by the ranker, and below them all the rest by the first source.

        What a history has already is never a candidate.
        """
        scores = np.empty((len(histories), len(self.items)), np.float32)
        for rows in _blocks(len(histories), len(self.items)):
            block = histories.take(rows)
            candidates, first = self._stage.candidates(block)
            ranked = self._ranked(block, candidates)
            low, high = first.min(axis=1, keepdims=True), first.max(axis=1, keepdims=True)
            floor = np.zeros(len(block), np.float32)
            np.minimum.at(floor, candidates.rows, ranked)
            rest = np.subtract(first, low, out=scores[rows])
            rest /= np.maximum(high - low, np.float32(1e-12))  # in [0, 1]
            rest += floor[:, None] - np.float32(2.0)
            scores[rows.start + candidates.rows, candidates.items] = ranked
        return scores

    def recommend(
        self, histories: Histories | Sequence[int], k: int = 10, *, exclude_history: bool = True
    ) -> RankedItems:
        """See `Recommender.recommend`; in blocks that suit the size of the catalogue."""
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        batch = histories if isinstance(histories, Histories) else Histories.of_items(histories)
        parts = mapped(
            lambda rows: self._recommend_block(batch.take(rows), k, exclude_history),
            _blocks(max(len(batch), 1), len(self.items)),
            self.config.threads,
        )
        return RankedItems(
            np.concatenate([part.item_ids for part in parts]), np.concatenate([part.scores for part in parts])
        )

    def state(self) -> ModelState:
        """Both stages and the exposure penalty."""
        parts = {
            **{f"source_{name}": model.state() for name, model in self._sources().items()},
            "features": self._stage.features.state(),
            "ranker": self._ranker.state(),
        }
        joined = ModelState.join(parts, {"config": self.config.to_dict()})
        arrays = {**joined.arrays, **self._items_state(), "penalty": self._penalty}
        return ModelState(arrays, joined.meta)

    @classmethod
    def from_state(cls, state: ModelState) -> Self:
        """See `Recommender.from_state`."""
        model = cls(cls.Config.from_dict(state.meta["config"]))
        model._restore_items(state)
        model._penalty = state.arrays["penalty"]
        models = {
            name: model_class(SOURCES[name][0]).from_state(state.nested(f"source_{name}"))
            for name in model.config.sources
        }
        features = PairFeatures.from_state(state.nested("features"), model.items)
        model._stage = FirstStage(models, features, model.items, model.config.depth)
        model._ranker = ranker_from_state(state.nested("ranker"))
        return model

    def _recommend_block(self, histories: Histories, k: int, exclude_history: bool) -> RankedItems:
        if not exclude_history or not self._stage.large:
            return super()._recommend_block(histories, k, exclude_history)
        candidates = self._stage.candidates(histories)[0]
        index = self.items.index(histories.item_ids)
        named = histories.rows * len(self.items) + index
        row, item = candidates.rows, candidates.items
        kept = ~np.isin(row * len(self.items) + item, named[index >= 0])
        row, item, scores = row[kept], item[kept], self._ranked(histories, candidates)[kept]
        order = np.lexsort((item, -scores, row))
        sizes = np.bincount(row, minlength=len(histories))
        place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        order, place = order[place < k], place[place < k]
        indices = np.full((len(histories), k), -1, np.int64)
        values = np.full((len(histories), k), np.nan, np.float32)
        indices[row[order], place], values[row[order], place] = item[order], scores[order]
        made = RankedItems.from_indices(indices, values, self.items.ids)
        # Where too little is proposed, all the rest of the catalogue stands below it.
        short = np.flatnonzero(sizes < k)
        if len(short):
            whole = super()._recommend_block(histories.take(short), k, exclude_history)
            made.item_ids[short], made.scores[short] = whole.item_ids, whole.scores
        return made

    def _sources(self) -> dict[str, Recommender]:
        self.items  # noqa: B018 - raises before fit
        return self._stage.models

    def _make_ranker(self) -> PairRanker:
        config = self.config
        trees = TreeRanker(
            trees=config.trees,
            leaves=config.leaves,
            learning_rate=config.learning_rate,
            min_pairs=config.min_pairs,
            threads=config.threads,
        )
        return BlendedRanker([trees, LinearRanker(ridge=config.ridge)])

    def _learnt(self, lists: PastLists, names: Sequence[str]) -> PairRanker:
        """The ranker of past lists; with too few of them, the mean of the personal sources."""
        prior = np.array(
            [float(name.endswith("_z") and not name.startswith(("popularity", "content"))) for name in names],
            dtype=np.float32,
        )
        if len(lists.indptr) - 1 < LEAST_LISTS:
            return LinearRanker(prior=prior / max(float(prior.sum()), 1.0))
        return self._make_ranker().fit(lists.features, lists.chosen, lists.indptr, seed=self.config.seed)

    def _first_stage(
        self,
        rows: Interactions,
        catalog: Catalog | None,
        facts: ContentFacts,
        items: Vocabulary,
        fixed: Mapping[str, Recommender],
    ) -> FirstStage:
        config = self.config
        return FirstStage.fitted(
            rows,
            catalog,
            facts,
            items,
            fixed,
            sources=config.sources,
            depth=config.depth,
            seed=config.seed,
            threads=config.threads,
        )

    def _window_starts(self, n_rows: int) -> list[tuple[int, int]]:
        """(start, stop) of the past windows, newest first."""
        config = self.config
        found = []
        for number in range(config.windows if n_rows <= LARGE_ROWS else 1):
            stop = round(n_rows * (1.0 - number * config.window_share))
            start = round(n_rows * (1.0 - (number + 1) * config.window_share))
            if start < config.least_share * n_rows or start < 1 or stop <= start:
                break
            found.append((start, stop))
        return found

    def _timeless_sources(
        self, rows: Interactions, starts: Sequence[tuple[int, int]], catalog: Catalog | None
    ) -> dict[str, Recommender]:
        """Sources that live on facts alone: fitted once, on the rows before the oldest window."""
        names = [name for name in self.config.sources if SOURCES[name][0] in TIMELESS]
        if not starts:
            return {}
        oldest = _newest_of_each(rows.take(slice(0, starts[-1][0])))
        return {name: fitted_source(name, oldest, catalog, self.config.seed) for name in names}

    def _lists_of(
        self,
        rows: Interactions,
        start: int,
        stop: int,
        catalog: Catalog | None,
        facts: ContentFacts,
        fixed: Mapping[str, Recommender],
        past: PastItems,
        wanted: int,
        rng: np.random.Generator,
    ) -> PastLists:
        """Lists of a past window, of candidates that models of before the window propose."""
        fit = _newest_of_each(rows.take(slice(0, start)))
        items = Vocabulary.by_count(fit.positives().item_ids)
        stage = self._first_stage(fit, catalog, facts, items, fixed)
        past.join(stage.features, int(fit.timestamps[-1]) + 1)
        histories, truth = past_queries(rows, start, stop, self.config.points, items)
        if len(histories) > wanted:
            kept = np.sort(rng.choice(len(histories), wanted, replace=False))
            histories, truth = histories.take(kept), CSR(truth[kept])

        def lists_of(block: slice) -> PastLists:
            asked = histories.take(block)
            candidates = stage.candidates(asked)[0]
            chosen = np.asarray(truth[block][candidates.rows, candidates.items]).ravel()
            return PastLists(
                stage.features.compute(asked, candidates), chosen.astype(np.float32), candidates.indptr
            ).with_hits()

        parts = mapped(lists_of, _blocks(len(histories), len(items)), self.config.threads)
        return PastLists.joined(parts, len(stage.features.names))

    def _ranked(self, histories: Histories, candidates: Candidates) -> Vector:
        """(n_pairs,) float32 final scores."""
        scores = self._ranker.predict(self._stage.features.compute(histories, candidates))
        return (scores - self._penalty[candidates.items]).astype(np.float32)

    def _exposure_penalty(self, rows: Interactions) -> Vector:
        """(n_items,) the cost at which the lists of the newest users share exposure more evenly."""
        penalty = np.zeros(len(self.items), np.float32)
        self._penalty = penalty
        if not self.config.exposure or not len(rows):
            return penalty
        newest_first = rows.user_ids[::-1]
        users, first = np.unique(newest_first, return_index=True)
        users = np.sort(users[np.argsort(first, kind="stable")][: self.config.exposure_users])
        histories = rows.take(np.isin(rows.user_ids, users)).histories()
        kept = []
        for block in _blocks(len(histories), len(self.items)):
            asked = histories.take(block)
            candidates = self._stage.candidates(asked)[0]
            kept.append((candidates, self._ranked(asked, candidates)))
        return exposure_penalty(kept, len(self.items), self.config.exposure)


class LinearStack(TwoStage):
    """The same first stage under the regression alone: the fast fallback."""

    name: ClassVar[str] = "linear_stack"

    def _make_ranker(self) -> PairRanker:
        return LinearRanker(ridge=self.config.ridge)


def _blocks(n: int, n_items: int) -> Iterator[slice]:
    step = max(1, min(256, BLOCK_CELLS // max(n_items, 1)))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def _newest_of_each(rows: Interactions) -> Interactions:
    """Of many rows in the global order the newest `USER_EVENTS` of each user; few rows as they are."""
    if len(rows) <= LARGE_ROWS:
        return rows
    by_user = np.argsort(rows.user_ids, kind="stable")
    _, sizes = np.unique(rows.user_ids, return_counts=True)
    left = np.repeat(np.cumsum(sizes), sizes) - np.arange(len(rows))  # 1 for the newest of a user
    kept = np.zeros(len(rows), dtype=bool)
    kept[by_user[left <= USER_EVENTS]] = True
    return rows.take(kept)
