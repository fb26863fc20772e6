"""
What the gate is told: figures of a challenger and the champion, measured here.

**Accuracy, by recipe.** A bundle is fitted on all data there are, so that nothing is left to ask it fairly.
What is compared is the two recipes, model and configuration: both are fitted anew in the newest test windows
of the rolling protocol and asked the same queries, with nothing later than the cut. That favours neither,
and the champion least: it is judged as fresh as the challenger, although it serves with older data. How
many windows there are depends on the number of interactions; lists are cached by content of data, code and
configuration, so that a champion that was judged on these data is not fitted again.

**A recipe on newer data.** When both are of one recipe there is nothing to tell apart, and a retrained model
would never replace the one before. Then newer data win; size, latency and behaviour are judged as ever.

**Size, latency, behaviour, by bundle.** They are measured on the challenger's bundle as it would serve: in
the `RecommendationPipeline`, with the histories of the users who were active last.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from time import perf_counter, process_time
from typing import Any, Final

import numpy as np

from marquee.config import GateSettings
from marquee.data import Catalog, Histories, Interactions
from marquee.data.schema import Ids
from marquee.data.split import split
from marquee.data.windows import Window
from marquee.errors import (
    DataError,
    IncompatibleBundleError,
    ModelError,
    NotFoundError,
    RegistryError,
    StoreError,
)
from marquee.evaluation.checks import check_behaviour
from marquee.evaluation.gate import (
    CHALLENGER,
    CHAMPION,
    Contender,
    GateLimits,
    GateReport,
    Measured,
    decide,
    undecided,
)
from marquee.evaluation.offline import evaluate
from marquee.evaluation.predictor_gate import PredictorLimits, PredictorReport, decide_predictor
from marquee.models import ModelConfig, Recommender, model_class
from marquee.models.base import Progress
from marquee.models.mlp import Mlp
from marquee.models.popularity import Popularity
from marquee.pipelines.run import RunContext
from marquee.pipelines.snapshots import snapshot_extent
from marquee.recommend import RecommendationPipeline
from marquee.store import bundles
from marquee.store.bundles import Bundle
from marquee.store.repositories import interactions as interaction_rows
from marquee.store.repositories import items as item_rows
from marquee.store.repositories.deployments import Deployment

__all__ = ["judge", "judge_predictor"]

WINDOWS: Final = ((200_000, 6), (2_000_000, 3))
"""Up to so many interactions, so many windows; beyond, one."""
CHECKED_USERS: Final = 200
REQUEST_EVENTS: Final = 200
"""Newest events of a user that a request reads."""
REPLAYED: Final = 100
WARM_UP: Final = 10
MIB: Final = 1024**2


def judge(context: RunContext, challenger: Deployment, champion: Deployment | None) -> GateReport:
    """
    Measure both and let the gate decide.

    Args:
        context: of the run; told of progress.
        challenger: whose bundle it is about.
        champion: what serves; None: popularity.

    Raises:
        DataError: there are no interactions.
        IncompatibleBundleError: the challenger's bundle does not verify, or its model is not installed.
    """
    context.progress("measure", 0, 1)
    bundle = bundles.load(context.objects, challenger.bundle, context.settings.paths.bundles)
    model = bundle.recommender()
    data = _Data.read(context)
    checks = check_behaviour(model, data.catalog, data.users, blocked=data.blocked)
    latency = _request_ms(model, data) if all(check.passed for check in checks) else math.nan
    measured = Measured(bundle.size / MIB, latency, checks)
    context.progress("measure", 1, 1)
    sides = _contender(challenger), _contender(champion)
    limits = _limits(context.settings.gate)
    try:
        own, its = _recipe(context, challenger), _recipe(context, champion)
        evaluation = evaluate(
            {CHALLENGER: own.make, CHAMPION: its.make},
            data.interactions,
            data.catalog,
            windows=_windows(data.interactions),
            cache=context.settings.paths.evaluations,
            progress=_Reported(context),
        )
    except (DataError, ModelError, NotFoundError, RegistryError) as error:
        return undecided(error.message, *sides, measured, limits)
    return decide(evaluation, *sides, measured, limits, newer=own.newer_than(its))


def judge_predictor(bundle: Bundle, settings: GateSettings) -> PredictorReport:
    """
    Measure a predictor and let its gate decide.

    Raises:
        ValueError: the bundle is not of an `mlp`.
    """
    model = bundle.recommender()
    if not isinstance(model, Mlp):
        raise ValueError(f"A predictor is an {Mlp.name!r}, not the {bundle.ref.model!r} {bundle.ref.version}")
    events = np.random.default_rng(0).uniform((0, 0, 0), (10, 1_000, 10_000), (WARM_UP + REPLAYED, 3))
    latency = _p95_ms(
        lambda event: model.predict(rating=event[0], popularity=event[1], watch_seconds=event[2]), events
    )
    limits = PredictorLimits(settings.min_accuracy, settings.max_cross_entropy, settings.max_latency_ms)
    measured = {name: value for name, value in bundle.manifest["metrics"].items() if value is not None}
    return decide_predictor(measured, latency, limits)


@dataclass(frozen=True, eq=False)
class _Data:
    """What the database knows."""

    interactions: Interactions
    catalog: Catalog
    blocked: Ids
    users: Histories  # of those who were active last

    @classmethod
    def read(cls, context: RunContext) -> "_Data":
        interactions = interaction_rows.load(context.database)
        if not len(interactions):
            raise DataError("There are no interactions to judge by.", fix="Run: marquee pipeline run")
        with context.database.begin() as connection:
            blocked = item_rows.not_shown(connection)
        newest = interactions.take(np.argsort(-interactions.timestamps, kind="stable")).user_ids
        ids, first = np.unique(newest, return_index=True)
        users = np.sort(ids[np.argsort(first)][:CHECKED_USERS])
        rows = interactions.take(np.isin(interactions.user_ids, users))
        histories = rows.histories().last(REQUEST_EVENTS)
        return cls(interactions, item_rows.load_catalog(context.database), blocked, histories)


@dataclass(frozen=True)
class _Recipe:
    """
    What a bundle is made by.

    Attributes:
        extent: of the data that it was fitted on, greater for newer ones; None where not known.
    """

    kind: type[Recommender]
    config: ModelConfig
    extent: tuple[datetime, int] | None

    def make(self) -> Recommender:
        """A model that is not fitted."""
        return self.kind(self.config)

    def newer_than(self, other: "_Recipe") -> str | None:
        """How much newer the data are, in words; None if they are not, or the recipe is another."""
        if (self.kind, self.config) != (other.kind, other.config) or None in (self.extent, other.extent):
            return None
        assert self.extent is not None
        assert other.extent is not None
        if self.extent <= other.extent:
            return None
        (last, rows), (its_last, its_rows) = self.extent, other.extent
        return (
            f"up to {last:%Y-%m-%d %H:%M} instead of {its_last:%Y-%m-%d %H:%M} UTC, {rows - its_rows:+,} rows"
        )


def _recipe(context: RunContext, deployed: Deployment | None) -> _Recipe:
    if deployed is None:
        return _Recipe(Popularity, Popularity.Config(), None)
    manifest = bundles.read_manifest(context.objects, deployed.bundle)
    try:
        kind = model_class(deployed.model)
        config = kind.Config.from_dict(manifest["meta"]["config"])
    except (ValueError, KeyError) as error:
        raise IncompatibleBundleError(
            f"The model of {deployed.model}/{deployed.version} cannot be made again: {error}.",
            fix="Install the package that provides it.",
        ) from error
    if not kind.trainable():
        raise ModelError(f"The model {deployed.model!r} cannot be fitted on this machine.")
    try:
        extent = snapshot_extent(context.objects, manifest["snapshot"])
    except (StoreError, NotFoundError):
        extent = None
    return _Recipe(kind, config, extent)


def _windows(interactions: Interactions) -> Sequence[Window]:
    """The newest test windows, fewer of more data."""
    number = next((windows for rows, windows in WINDOWS if len(interactions) <= rows), 1)
    return [window for window in split(interactions, "rolling") if not window.tuning][-number:]


def _request_ms(model: Recommender, data: _Data) -> float:
    """95th percentile of single requests, of one user after the other."""
    pipeline = RecommendationPipeline(model, data.catalog, blocked=data.blocked)
    pipeline.warm_up()
    rows = np.arange(WARM_UP + REPLAYED) % len(data.users)
    return _p95_ms(pipeline.recommend, [data.users.take(rows[i : i + 1]) for i in range(len(rows))])


def _p95_ms(answer: Callable[[Any], Any], requests: Iterable[Any]) -> float:
    """
    95th percentile of the times of calls after the first few.

    A gate must not depend on who else uses the processor: where a call took longer than the processor worked
    for this process, the latter counts.
    """
    seconds = []
    for request in requests:
        started, worked = perf_counter(), process_time()
        answer(request)
        seconds.append(min(perf_counter() - started, process_time() - worked))
    return float(np.percentile(seconds[WARM_UP:], 95) * 1e3)


def _contender(deployed: Deployment | None) -> Contender:
    if deployed is None:
        return Contender(Popularity.name)
    return Contender(deployed.model, deployed.version, deployed.digest)


def _limits(settings: GateSettings) -> GateLimits:
    return GateLimits(**{field.name: getattr(settings, field.name) for field in fields(GateLimits)})


class _Reported(Progress):
    """The windows that are ranked, for the run's row and the bars."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._done, self._total = 0, 0

    def total(self, steps: int, unit: str) -> None:
        self._done, self._total = 0, steps
        self._context.progress("compare", 0, steps)

    def step(self, metrics: Mapping[str, float] | None = None) -> None:
        self._done += 1
        self._context.progress("compare", self._done, self._total)
