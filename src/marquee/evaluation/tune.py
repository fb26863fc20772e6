"""
Hyper-parameter search on the tuning windows.

The test windows are never read here. A search is resumable: give the same storage again and it goes on where
it stopped, also after a kill.
"""

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import numpy as np

from marquee.data.dataset import Catalog, Interactions
from marquee.data.split import Protocol, split
from marquee.evaluation.offline import evaluate
from marquee.models.base import ModelConfig, Progress, Recommender, Tunable, silent

__all__ = ["Trial", "TuneResult", "tune"]

RANDOM_TRIALS: Final = 10
"""Trials before the sampler models what it has seen."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration and its mean NDCG@10 over all tuning queries."""

    number: int
    values: dict[str, Any]
    ndcg_at_10: float


@dataclass(frozen=True, slots=True)
class TuneResult:
    """
    What a search found.

    Attributes:
        config: the best configuration; the default one unless another was better.
        value: its mean NDCG@10 over all tuning queries.
        trials: all finished trials, also of earlier sessions, in order.
    """

    config: ModelConfig
    value: float
    trials: list[Trial]


def tune(
    model: type[Recommender],
    interactions: Interactions,
    catalog: Catalog | None = None,
    *,
    minutes: float | None = None,
    trials: int | None = 50,
    storage: Path | str | None = None,
    protocol: Protocol = "rolling",
    seed: int = 0,
    progress: Progress = silent,
) -> TuneResult:
    """
    Search the space of a model's configuration.

    The first trial is the default configuration. The trial under way when the time is up is finished.

    Args:
        model: the class; its `Config.search_space()` is searched.
        interactions: all rows, any order.
        catalog: facts of items.
        minutes: budget of this session; None: no limit.
        trials: finished trials to reach in all, those of earlier sessions counted; None: no limit.
        storage: a file (journal) or the URL of a database, so that a search can be resumed; None: memory.
        protocol: whose tuning windows are used.
        seed: of the sampler.
        progress: told of each trial.

    Returns:
        The best configuration and all trials.

    Raises:
        ValueError: the model has no search space, or neither `minutes` nor `trials` is given.
    """
    import optuna

    space = model.Config.search_space()
    if not space:
        raise ValueError(f"The model {model.name!r} has no search space")
    if minutes is None and trials is None:
        raise ValueError("Give minutes or trials, or the search would never end")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with _storage(storage) as kept:
        study = optuna.create_study(
            # A new space, data or protocol is a new search, also in the same storage.
            study_name=f"{model.name}-{protocol}-{interactions.sorted().digest()[:12]}-{_digest(space)}",
            storage=kept,
            load_if_exists=True,
            direction="maximize",
        )
        finished = (optuna.trial.TrialState.COMPLETE,)
        done = len(study.get_trials(deepcopy=False, states=finished))
        # With the same seed a resumed sampler would draw its first configurations again.
        study.sampler = optuna.samplers.TPESampler(seed=seed + done, n_startup_trials=RANDOM_TRIALS)
        default = model.Config()
        windows = [window for window in split(interactions, protocol) if window.tuning]
        if not done:
            study.enqueue_trial({name: _stored(getattr(default, name), space[name]) for name in space})
        left = None if trials is None else max(trials - done, 0)
        if left is not None:
            progress.total(left, "trials")

        def objective(trial: optuna.Trial) -> float:
            values = {name: _suggest(trial, name, space[name], getattr(default, name)) for name in space}
            config = model.Config(**values)
            evaluation = evaluate(
                {model.name: lambda: model(config)},
                interactions,
                catalog,
                protocol,
                stage="tuning",
                slices=False,
                windows=windows,
            )
            value = evaluation.results[model.name].mean("ndcg_at_10")
            progress.step({"ndcg_at_10": value})
            return value

        deadline = perf_counter() + 60.0 * (minutes if minutes is not None else math.inf)

        def stop_in_time(study: optuna.Study, _: object) -> None:
            if perf_counter() >= deadline:
                study.stop()

        if left != 0:
            study.optimize(objective, n_trials=left, callbacks=[stop_in_time])
        found = [
            Trial(trial.number, _values(trial.params, space), float(trial.values[0]))
            for trial in study.get_trials(deepcopy=False, states=finished)
        ]
    best = max(found, key=lambda trial: (trial.ndcg_at_10, -trial.number))
    return TuneResult(model.Config(**best.values), best.ndcg_at_10, found)


@contextmanager
def _storage(storage: Path | str | None) -> Iterator[Any]:
    """Where a search is kept, as Optuna takes it; connections to a database are closed on leaving."""
    from optuna.storages import RDBStorage
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    if storage is None:
        yield None
    elif isinstance(storage, str) and "://" in storage:
        database = RDBStorage(storage)
        try:
            yield database
        finally:
            database.remove_session()
            database.engine.dispose()
    else:
        path = Path(storage)
        path.parent.mkdir(parents=True, exist_ok=True)
        yield JournalStorage(JournalFileBackend(str(path)))


def _digest(space: dict[str, Tunable]) -> str:
    return hashlib.sha256(repr(sorted(space.items())).encode()).hexdigest()[:8]


def _stored(value: Any, space: Tunable) -> Any:
    """A value as the search keeps it: of choices, the position, since they need not be plain values."""
    return space.choices.index(value) if space.choices is not None else value


def _values(params: dict[str, Any], space: dict[str, Tunable]) -> dict[str, Any]:
    return {
        name: choices[value] if (choices := space[name].choices) is not None else value
        for name, value in params.items()
    }


def _suggest(trial: Any, name: str, space: Tunable, default: Any) -> Any:
    if space.choices is not None:
        return space.choices[trial.suggest_categorical(name, list(range(len(space.choices))))]
    if isinstance(default, int | np.integer) and not isinstance(default, bool):
        return trial.suggest_int(name, int(space.low or 0), int(space.high or 0), log=space.log)
    return trial.suggest_float(name, space.low, space.high, log=space.log)
