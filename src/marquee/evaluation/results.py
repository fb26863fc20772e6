"""What an evaluation found, query by query, so that any two models can be compared in pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import numpy as np

from marquee.data.schema import Ids, Index
from marquee.data.split import Protocol, WindowSummary
from marquee.evaluation.compare import Bootstrap, Interval
from marquee.evaluation.metrics import PerQuery
from marquee.evaluation.slices import MIN_JUDGED_QUERIES

__all__ = ["ACCURACY", "Evaluation", "Kind", "ModelResult"]

ACCURACY: Final = ("ndcg_at_10", "recall_at_20", "hr_at_10", "mrr_at_10")
"""The metrics that item slices have; the others are `popularity, novelty, diversity, content_diversity,
calibration`."""

Kind = Literal["model", "ceiling", "floor", "known best"]


@dataclass(frozen=True, eq=False)
class ModelResult:
    """
    One model under one protocol.

    Attributes:
        name: as given to `evaluate`.
        kind: a model, or a reference ranking.
        metrics: slice (`all` first) → metric → (n_queries,) values, NaN for queries outside the slice.
        coverage: slice → (n_windows,) share of the catalogue that anybody's top 10 holds.
        listed_new: places of the lists that hold an item outside the catalogue (only models that rank new
            items by content have any).
        fit_seconds, score_seconds: summed over the windows, as measured when they were computed.
        curve: what the fit of the last window reported after each of its steps.
    """

    name: str
    kind: Kind
    metrics: dict[str, dict[str, PerQuery]]
    coverage: dict[str, PerQuery]
    listed_new: int
    fit_seconds: float
    score_seconds: float
    curve: Sequence[Mapping[str, float]] = ()

    def mean(self, metric: str, within: str = "all") -> float:
        """The plain mean of a metric over the queries of a slice (of coverage: over windows)."""
        values = self.coverage[within] if metric == "coverage_at_10" else self.metrics[within][metric]
        values = values[np.isfinite(values)]
        return float(values.mean()) if len(values) else float("nan")

    def n_queries(self, within: str = "all") -> int:
        """Queries of a slice."""
        return int(np.isfinite(self.metrics[within]["ndcg_at_10"]).sum())

    def judged(self, within: str) -> bool:
        """Whether a slice has enough queries to say anything."""
        return self.n_queries(within) >= MIN_JUDGED_QUERIES


@dataclass(frozen=True, eq=False)
class Evaluation:
    """
    All models of one run, query by query.

    Attributes:
        protocol: `rolling`, `global` or `last`.
        stage: `test` or `tuning` windows.
        windows: what each window asked.
        user_ids, window_index: (n_queries,) whose query it is, in which of `windows`.
        results: name → result, in the order given; then the references.
    """

    protocol: Protocol
    stage: Literal["test", "tuning"]
    windows: list[WindowSummary]
    user_ids: Ids
    window_index: Index
    results: dict[str, ModelResult]

    @cached_property
    def bootstrap(self) -> Bootstrap:
        """The resamples of users that all intervals share."""
        return Bootstrap(self.user_ids)

    @property
    def n_queries(self) -> int:
        """Queries of all windows together."""
        return len(self.user_ids)

    def models(self) -> list[ModelResult]:
        """The models proper, without references, best NDCG@10 first."""
        found = [result for result in self.results.values() if result.kind == "model"]
        return sorted(found, key=lambda result: -result.mean("ndcg_at_10"))

    def interval(self, name: str, metric: str = "ndcg_at_10", within: str = "all") -> Interval:
        """The mean of a metric with its 95 % interval."""
        if metric == "ndcg_at_10":
            return self._ndcg_intervals[name, within]
        return self.bootstrap.interval(self.results[name].metrics[within][metric])

    def difference(
        self, name: str, reference: str, metric: str = "ndcg_at_10", within: str = "all"
    ) -> Interval:
        """The paired difference of two models: positive means that `name` is better."""
        return self.bootstrap.difference(
            self.results[name].metrics[within][metric], self.results[reference].metrics[within][metric]
        )

    @cached_property
    def _ndcg_intervals(self) -> dict[tuple[str, str], Interval]:
        """Of every model and slice in one pass over the resamples, which cost more than the means."""
        values = {
            (name, part): metrics["ndcg_at_10"]
            for name, result in self.results.items()
            for part, metrics in result.metrics.items()
        }
        intervals = self.bootstrap.intervals(np.stack(list(values.values()), axis=1))
        return dict(zip(values, intervals, strict=True))
