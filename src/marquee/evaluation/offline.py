"""
One protocol for every model.

    split in windows → fit → rank the whole catalogue → metrics per query → means with intervals

Every model is fitted anew in each window and asked the same queries, so that any two can be compared query by
query. An oracle and a random ranker are always there as ceiling and floor.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from marquee.data.dataset import Catalog, Histories, Interactions
from marquee.data.leaks import check_window
from marquee.data.ranked import RankedItems
from marquee.data.split import Protocol, split, summarise
from marquee.data.vocabulary import Vocabulary
from marquee.data.windows import GroundTruth, Window
from marquee.errors import DataError
from marquee.evaluation.metrics import (
    PerQuery,
    calibration,
    content_vectors,
    coverage,
    genre_vectors,
    hit_rate,
    hits,
    intra_list_distance,
    mrr,
    ndcg,
    popularity_percentile,
    recall,
)
from marquee.evaluation.ranking import (
    K,
    Lists,
    PlainModel,
    RankingCache,
    Rankings,
    WindowModel,
    oracle_lists,
    random_lists,
    rank_window,
)
from marquee.evaluation.results import Evaluation, Kind, ModelResult
from marquee.evaluation.slices import CUTS, history_slices, is_tail, is_young
from marquee.models.base import Progress, silent

__all__ = [
    "Factory",
    "KnownBest",
    "WindowModel",
    "evaluate",
]

TOP: Final = 10
"""List length of all metrics but recall."""

ORACLE: Final = "oracle"
RANDOM: Final = "random"
KNOWN_BEST: Final = "known best"

Factory = Callable[[], PlainModel | WindowModel]
KnownBest = Callable[[Histories, int], RankedItems]


def evaluate(
    models: Mapping[str, Factory],
    interactions: Interactions,
    catalog: Catalog | None = None,
    protocol: Protocol = "rolling",
    *,
    stage: Literal["test", "tuning"] = "test",
    min_rating: float | None = None,
    slices: bool = True,
    known_best: KnownBest | None = None,
    windows: Sequence[Window] | None = None,
    cache: Path | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """
    Fit and judge models under a protocol.

    Args:
        models: name → a callable that makes an unfitted model; it is called once per window. A
            `WindowModel` also gets the queries of earlier windows.
        interactions: all rows, any order.
        catalog: facts of items: for models that use them, for diversity and calibration.
        protocol: `rolling`, `global` or `last`.
        stage: `test` windows, or `tuning` windows, where choices are made.
        min_rating: only rows rated at least this (0–10) are ground truth; the lists stay the same.
        slices: also break down by slice, for which histories are ranked again, cut to their last items.
        known_best: (histories, k) → the best lists there can be, where the truth is known (a simulated
            audience).
        windows: the split of these very interactions, if it is there already; it is checked for leaks again.
        cache: directory of earlier rankings, by content of data, configuration and code.
        progress: told of one step per model and window.

    Raises:
        DataError: a window leaks, or there is no query at all.
        ValueError: an unknown protocol, or a model has the name of a reference.
    """
    taken = sorted({ORACLE, RANDOM, KNOWN_BEST} & set(models))
    if taken:
        raise ValueError(f"The names {taken} are those of reference rankings; give the models others")
    if windows is None:
        windows = split(interactions, protocol)
    else:
        for window in windows:
            check_window(window)
    asked = [window for window in windows if window.tuning == (stage == "tuning") and len(window)]
    if not asked:
        raise DataError(
            f"The protocol {protocol!r} finds no query in {len(interactions)} interactions.",
            fix="Give more interactions, or try another protocol.",
        )
    kept = RankingCache(cache, _digest(interactions, catalog, protocol) if cache is not None else "")
    facts = _Facts(catalog)
    tallies: dict[str, _Tally] = {name: _Tally("model") for name in models}
    progress.total(len(asked) * len(models), "windows")
    for window in asked:
        judge = _Judge(window, facts, min_rating, slices)
        earlier = [other for other in windows if other.index < window.index]
        for name, factory in models.items():
            rankings = _rank(factory, window, earlier, catalog, kept, cuts=slices)
            progress.step({f"{name}/ndcg_at_10": tallies[name].add(judge, rankings)})
        for name, kind, rankings in _references(judge, known_best):
            tallies.setdefault(name, _Tally(kind)).add(judge, rankings)
    return Evaluation(
        protocol,
        stage,
        summarise(asked),
        np.concatenate([window.histories.user_ids for window in asked]),
        np.repeat(np.arange(len(asked)), [len(window) for window in asked]),
        {name: tally.result(name) for name, tally in tallies.items()},
    )


def _rank(
    factory: Factory,
    window: Window,
    earlier: Sequence[Window],
    catalog: Catalog | None,
    cache: RankingCache,
    *,
    cuts: bool,
) -> Rankings:
    model = factory()
    path = cache.path(model, window, cuts=cuts)
    found = cache.load(path) if path is not None else None
    if found is None:
        found = rank_window(model, window, earlier, catalog, cuts=cuts)
        if path is not None:
            cache.save(path, found)
    return found


def _references(judge: "_Judge", known_best: KnownBest | None) -> list[tuple[str, Kind, Rankings]]:
    window, catalogue = judge.window, judge.catalogue
    inputs = {"all": window.histories}
    if judge.slices:
        inputs |= {name: window.histories.last(n_items) for name, n_items in CUTS.items()}
    generator = np.random.default_rng(window.index)
    ceiling = dict.fromkeys(inputs, oracle_lists(judge.truth, catalogue))
    ceiling |= {name: oracle_lists(part, catalogue) for name, part in judge.parts.items()}
    floor = {name: random_lists(histories, catalogue, generator) for name, histories in inputs.items()}
    made: list[tuple[str, Kind, Rankings]] = [
        (ORACLE, "ceiling", Rankings(ceiling, 0.0, 0.0)),
        (RANDOM, "floor", Rankings(floor, 0.0, 0.0)),
    ]
    if known_best is not None:
        best = {name: known_best(histories, K).item_ids for name, histories in inputs.items()}
        made.append((KNOWN_BEST, "known best", Rankings(best, 0.0, 0.0)))
    return made


def _digest(interactions: Interactions, catalog: Catalog | None, protocol: Protocol) -> str:
    sha = hashlib.sha256(protocol.encode())
    sha.update(interactions.sorted().digest().encode())
    if catalog is not None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, catalog.table.schema) as writer:
            writer.write_table(catalog.table)
        sha.update(sink.getvalue())
    return sha.hexdigest()


class _Facts:
    """What is known of the items, as the measures of diversity need it."""

    def __init__(self, catalog: Catalog | None) -> None:
        self.catalog = catalog
        self.items = catalog.items if catalog is not None else Vocabulary([])
        self.genres = genre_vectors(catalog)
        self.content = content_vectors(catalog)


@dataclass(eq=False)
class _Judge:
    """Everything about one window that turns lists into metrics, computed once for all models."""

    window: Window
    facts: "_Facts"
    min_rating: float | None
    slices: bool

    def __post_init__(self) -> None:
        window = self.window
        self.catalogue = window.catalogue()
        rows = window.fit.positives()
        counts = np.bincount(self.catalogue.index(rows.item_ids), minlength=len(self.catalogue))
        # The last, index -1, is for what nobody has chosen yet.
        self.percentile = np.append(popularity_percentile(counts), 0.0)
        truth = window.truth
        if self.min_rating is not None:
            truth = truth.where(truth.ratings >= self.min_rating)
        self.truth = truth
        self.masks: dict[str, NDArray[np.bool_]] = {}
        self.parts: dict[str, GroundTruth] = {}
        if self.slices:
            self.masks = history_slices(window.histories)
            self.parts = {
                "tail_items": truth.where(is_tail(truth.item_ids, self.catalogue)),
                "young_items": truth.where(is_young(truth, self.facts.catalog)),
            }

    def metrics(self, lists: Lists) -> dict[str, PerQuery]:
        """All metrics of lists against the whole ground truth."""
        made = self._accuracy(lists, self.truth)
        top = lists[:, :TOP]
        column = self.facts.items.index(top.ravel()).reshape(top.shape)
        made["popularity"] = self._popularity(top)
        made["novelty"] = 1.0 - made["popularity"]
        made["diversity"] = intra_list_distance(column, self.facts.genres, jaccard=True)
        made["content_diversity"] = intra_list_distance(column, self.facts.content)
        made["calibration"] = calibration(column, self.window.histories, self.facts.items, self.facts.genres)
        asked = self.truth.lengths > 0
        return {metric: np.where(asked, values, np.nan) for metric, values in made.items()}

    def by_slice(self, rankings: Rankings) -> dict[str, dict[str, PerQuery]]:
        """Slice → metric → values, `all` first."""
        whole = rankings.lists["all"]
        made = {"all": self.metrics(whole)}
        for name, mask in self.masks.items():
            made[name] = {metric: np.where(mask, v, np.nan) for metric, v in made["all"].items()}
        for name in CUTS if self.slices else ():
            made[name] = self.metrics(rankings.lists[name])
        for name, part in self.parts.items():
            # The same lists for every model; the oracle names the best ones for these items.
            made[name] = self._accuracy(rankings.lists.get(name, whole), part)
        return made

    def coverage(self, rankings: Rankings) -> dict[str, float]:
        """Slice → share of the catalogue in the lists of its queries."""
        whole = rankings.lists["all"]
        made = {
            name: coverage(lists, self.catalogue, TOP)
            for name, lists in rankings.lists.items()
            if name not in self.parts
        }
        return made | {name: coverage(whole[mask], self.catalogue, TOP) for name, mask in self.masks.items()}

    def listed_new(self, lists: Lists) -> int:
        """Places that hold an item outside the catalogue."""
        return int(((lists >= 0) & (self.catalogue.index(lists.ravel()).reshape(lists.shape) < 0)).sum())

    def _accuracy(self, lists: Lists, truth: GroundTruth) -> dict[str, PerQuery]:
        found, n_truth = hits(lists, truth), truth.lengths
        return {
            "ndcg_at_10": ndcg(found, n_truth, TOP),
            "recall_at_20": recall(found, n_truth, K),
            "hr_at_10": hit_rate(found, n_truth, TOP),
            "mrr_at_10": mrr(found, n_truth, TOP),
        }

    def _popularity(self, top: Lists) -> PerQuery:
        """Mean popularity percentile; an item that nobody has chosen yet stands at 0."""
        listed = top >= 0
        value = self.percentile[self.catalogue.index(top.ravel()).reshape(top.shape)]
        n = listed.sum(axis=1)
        total = np.where(listed, value, 0.0).sum(axis=1)
        return np.asarray(np.divide(total, n, out=np.full(len(top), np.nan), where=n > 0))


@dataclass(eq=False)
class _Tally:
    """The figures of one model, window by window."""

    kind: Kind
    metrics: list[dict[str, dict[str, PerQuery]]] = field(default_factory=list)
    coverage: list[dict[str, float]] = field(default_factory=list)
    listed_new: int = 0
    fit_seconds: float = 0.0
    score_seconds: float = 0.0
    curve: Sequence[Mapping[str, float]] = ()

    def add(self, judge: _Judge, rankings: Rankings) -> float:
        """Count a window; returns its mean NDCG@10."""
        self.metrics.append(judge.by_slice(rankings))
        self.coverage.append(judge.coverage(rankings))
        self.listed_new += judge.listed_new(rankings.lists["all"])
        self.fit_seconds += rankings.fit_seconds
        self.score_seconds += rankings.score_seconds
        self.curve = rankings.curve
        values = self.metrics[-1]["all"]["ndcg_at_10"]
        return float(values[np.isfinite(values)].sum() / max(np.isfinite(values).sum(), 1))

    def result(self, name: str) -> ModelResult:
        first = self.metrics[0]
        return ModelResult(
            name,
            self.kind,
            {
                part: {m: np.concatenate([window[part][m] for window in self.metrics]) for m in first[part]}
                for part in first
            },
            {part: np.array([window[part] for window in self.coverage]) for part in self.coverage[0]},
            self.listed_new,
            self.fit_seconds,
            self.score_seconds,
            self.curve,
        )
