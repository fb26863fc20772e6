"""
A multi-layer perceptron that names the film of an event.

Inputs are numbers of one event (rating, popularity of its item, seconds watched), the answer is a
probability for every item. Each input is spread by its training quantiles and embedded periodically, as
Gorishniy et al. 2022 do for tabular data. The inputs nearly identify the item, so the accuracy on rows
split at random checks the network, not its recommendations. As a recommender, its probabilities are
averaged over the newest events of a user.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from marquee.data.dataset import Catalog, Histories, Interactions
from marquee.data.ranked import top_k
from marquee.data.schema import Event, Index, Matrix
from marquee.data.vocabulary import Vocabulary
from marquee.errors import DataError, ModelError, NotFittedError
from marquee.models._inputs import Columns, Floats64, encode_numbers, quantile_knots
from marquee.models._network import Network
from marquee.models._training import Rows, Schedule, train
from marquee.models.base import ModelConfig, ModelState, Progress, Recommender, silent, tunable
from marquee.models.checkpoints import Checkpoints

__all__ = ["Mlp", "MlpConfig"]

MICROSECONDS_PER_HOUR = 3_600_000_000
SCORED_ELEMENTS = 16_777_216
"""Probabilities held at a time by `score`: 64 MiB."""
SUMMED_ELEMENTS = 16_384
"""Exponentials held at a time by `most_probable`: 64 KiB."""

_EVENT_INPUTS: dict[str, Callable[[Interactions | Histories], ArrayLike]] = {
    "rating": lambda rows: rows.ratings,
    "watch_seconds": lambda rows: rows.watch_seconds,
    "hour_of_day": lambda rows: rows.timestamps // MICROSECONDS_PER_HOUR % 24,
}
_ITEM_INPUTS: dict[str, Callable[[pa.Table], pa.ChunkedArray]] = {
    "runtime_minutes": lambda facts: facts["runtime_minutes"],
    "release_year": lambda facts: pc.year(facts["release_date"]),
}
_KNOWN_INPUTS = (*_EVENT_INPUTS, "log_popularity", *_ITEM_INPUTS)
_NOTHING = (np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True)
class MlpConfig(ModelConfig):
    """Hyper-parameters of `Mlp`."""

    inputs: tuple[str, ...] = tunable(
        ("rating", "log_popularity", "watch_seconds"),
        f"Numeric inputs of an event; known: {', '.join(_KNOWN_INPUTS)}.",
    )
    hidden: tuple[int, ...] = tunable((256, 256), "Widths of the hidden layers.")
    frequencies: int = tunable(16, "Sines and cosines per input.", low=4, high=64, log=True)
    item_frequency_scale: float = tunable(
        16.0,
        "Standard deviation of the initial frequencies of facts of items, which are exact.",
        low=1,
        high=32,
        log=True,
    )
    event_frequency_scale: float = tunable(
        0.2,
        "Standard deviation of the initial frequencies of facts of events, which are noisy.",
        low=0.1,
        high=4,
        log=True,
    )
    learning_rate: float = tunable(2e-3, "Step size of Adam.", low=1e-4, high=1e-2, log=True)
    batch_rows: int = tunable(32, "Rows of a training step at least.", choices=(32, 64, 128))
    max_batch_rows: int = tunable(256, "Rows of a training step at most; steps grow with the data.")
    max_epochs: int = tunable(60, "Epochs at most.")
    max_row_visits: int = tunable(
        300_000, "Rows seen in all epochs together at most: bounds the time of large data."
    )
    patience: int = tunable(6, "Epochs without a better validation loss before training stops.")
    min_improvement: float = tunable(0.001, "Fall of the validation loss, in nats, that counts as better.")
    validation_fraction: float = tunable(0.1, "Share of the rows that decides when to stop.")
    test_fraction: float = tunable(0.1, "Share of the rows that is only measured.")
    history_events: int = tunable(10, "Newest events of a user whose answers are averaged.")

    def __post_init__(self) -> None:
        unknown = sorted(set(self.inputs) - set(_KNOWN_INPUTS))
        if unknown or not self.inputs:
            raise ValueError(f"inputs must be some of {_KNOWN_INPUTS}, not {self.inputs}")
        if min(self.validation_fraction, self.test_fraction) < 0 or (
            self.validation_fraction + self.test_fraction >= 1
        ):
            raise ValueError("validation_fraction and test_fraction must be ≥ 0 and leave rows to train on")
        if not self.hidden:
            raise ValueError("hidden must name at least one layer")
        for name in ("frequencies", "batch_rows", "max_epochs", "patience", "history_events"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


class Mlp(Recommender):
    """
    See the module.

    Attributes:
        report: what training did: rows of each part, rows left out because their item is not in the
            training rows, epochs, and the metrics of the weights that were kept.
        epochs: metrics of each epoch of `fit` (not part of the state).
    """

    name = "mlp"
    Config = MlpConfig
    config: MlpConfig

    def __init__(self, config: MlpConfig | None = None) -> None:
        super().__init__(config)
        self.report: dict[str, float] = {}
        self.epochs: list[dict[str, float]] = []
        self._knots: dict[str, Floats64] = {}
        self._item_inputs: dict[str, Floats64] = {}
        self._network: Network | None = None

    def fit(
        self,
        interactions: Interactions,
        catalog: Catalog | None = None,
        *,
        progress: Progress = silent,
        item_popularity: Mapping[int, float] | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> Self:
        """
        Learn to name the item of an event; see `Recommender.fit`.

        Args:
            interactions, catalog, progress: as there; `progress` gets loss and accuracy on training,
                validation and test rows of each epoch.
            item_popularity: popularity ≥ 0 by item id, as it was known at the time of the fit; default:
                the number of interactions in the fit data, which tells nothing of the future.
            checkpoints: where to save each epoch; a fit of the same data and config resumes there.

        Raises:
            DataError: there is nothing to learn from.
        """
        rows = interactions.positives().sorted()
        if not len(rows):
            raise DataError("There are no interactions to train on.", fix="Ingest or simulate some.")
        part_of_row = self._split(len(rows))
        self._set_items(rows.take(part_of_row == 0))
        labels = self.items.index(rows.item_ids)
        if item_popularity is None:
            popularity = _counts(self.items, rows)
        else:
            popularity = np.array([item_popularity.get(int(i), np.nan) for i in self.items.ids])
        self._item_inputs = self._facts_of_items(catalog, popularity)
        columns = self._columns(rows, labels)
        in_training = part_of_row == 0
        self._knots = {name: quantile_knots(columns[name][in_training]) for name in self.config.inputs}
        inputs, known = encode_numbers(columns, self._knots), labels >= 0
        parts = {
            name: Rows(inputs[chosen], labels[chosen])
            for part, name in enumerate(("train", "validation", "test"))
            for chosen in [(part_of_row == part) & known]
        }
        network = self._new_network()
        self.epochs, best = train(
            network, parts, self._schedule(), progress=progress, checkpoints=checkpoints
        )
        # A network of its own lets go of the buffers of training.
        self._network = self._new_network().restore(network.parameters, network.running)
        self.report = {
            **{f"{name}_rows": len(part) for name, part in parts.items()},
            "left_out_rows": int((~known).sum()),
            "epochs": len(self.epochs),
            "best_epoch": best,
            **self.epochs[best - 1],
        }
        return self

    def predict(
        self,
        rating: ArrayLike = np.nan,
        popularity: ArrayLike = np.nan,
        watch_seconds: ArrayLike = np.nan,
        **others: ArrayLike,
    ) -> Matrix:
        """
        Probabilities of all items for single events.

        Args:
            rating: (n,) or one number, 0–10; NaN where unknown, as for all inputs.
            popularity: in the unit of `item_popularity` in `fit`, not its logarithm.
            watch_seconds: ≥ 0.
            others: further inputs of the config by name.

        Returns:
            (n, n_items) float32, columns in the order of `items`, rows sum to 1. A row is the same to
            the bit in whatever batch it is asked.
        """
        return self._probabilities(self._inputs(rating, popularity, watch_seconds, **others))

    def most_probable(
        self,
        rating: ArrayLike,
        popularity: ArrayLike,
        watch_seconds: ArrayLike,
        *,
        k: int,
        excluded: tuple[Index, Index] = _NOTHING,
    ) -> tuple[Index, Matrix]:
        """
        The k most probable items after single events, without the probabilities of all the others.

        Args:
            rating, popularity, watch_seconds: (n,) as in `predict`.
            k: list length, > 0; may exceed the number of items.
            excluded: (m,) rows and (m,) columns that are not to be returned; the others' probabilities
                stay what they are.

        Returns:
            (n, k) columns, -1 as padding, best first, of equal ones the lower column; (n, k) their
            probabilities, NaN as padding. A row is the same to the bit in whatever batch it is asked.
        """
        inputs = self._inputs(rating, popularity, watch_seconds)
        logits = self._trained().logits(encode_numbers(inputs, self._knots))
        greatest = logits.max(axis=1, keepdims=True)
        mass = _mass(logits, greatest)
        logits[excluded] = -np.inf
        columns, best = top_k(logits, k)
        return columns, np.exp(best - greatest) / mass

    def score(self, histories: Histories) -> Matrix:
        """Probabilities averaged over the newest events; item frequencies where there are none."""
        shares = self.item_counts / max(int(self.item_counts.sum()), 1)
        scores: Matrix = np.tile(shares.astype(np.float32), (len(histories), 1))
        known = (self.items.index(histories.item_ids) >= 0) & (histories.events != Event.HIDE)
        recent = histories.where(known).last(self.config.history_events)
        labels = self.items.index(recent.item_ids)
        columns = self._columns(recent, labels)
        answered = np.flatnonzero(recent.lengths)
        step = max(1, SCORED_ELEMENTS // (len(self.items) * self.config.history_events))
        for start in range(0, len(answered), step):
            block = answered[start : start + step]
            first, last = recent.indptr[block[0]], recent.indptr[block[-1] + 1]
            answers = self._probabilities({name: column[first:last] for name, column in columns.items()})
            sums = np.add.reduceat(answers, recent.indptr[block] - first, axis=0)
            scores[block] = sums / recent.lengths[block, None].astype(np.float32)
        return scores

    def state(self) -> ModelState:
        """Weights, running statistics, quantiles of the inputs and facts of the items."""
        network = self._trained()
        return ModelState(
            {
                **self._items_state(),
                "parameters": network.parameters,
                "running": network.running,
                **{f"knots.{name}": values for name, values in self._knots.items()},
                **{f"items.{name}": values for name, values in self._item_inputs.items()},
            },
            {"config": self.config.to_dict(), "report": self.report},
        )

    @classmethod
    def from_state(cls, state: ModelState) -> Self:
        """See `Recommender.from_state`."""
        model = cls(cls.Config.from_dict(state.meta["config"]))
        try:
            model._restore_items(state)
            model._knots = {name: state.arrays[f"knots.{name}"] for name in model.config.inputs}
            model._item_inputs = {
                name: state.arrays[f"items.{name}"]
                for name in model.config.inputs
                if name not in _EVENT_INPUTS
            }
            model._network = model._new_network().restore(state.arrays["parameters"], state.arrays["running"])
        except (KeyError, ValueError) as error:
            raise ModelError(f"This is not the state of an {cls.name!r}: {error}") from error
        model.report = dict(state.meta["report"])
        return model

    def _split(self, n_rows: int) -> NDArray[np.int8]:
        # As the task is defined, rows are split at random: 0 train, 1 validation, 2 test.
        order = np.random.default_rng(self.config.seed).permutation(n_rows)
        validation = int(n_rows * self.config.validation_fraction)
        test = int(n_rows * self.config.test_fraction)
        part = np.zeros(n_rows, np.int8)
        part[order[:validation]] = 1
        part[order[validation : validation + test]] = 2
        return part

    def _schedule(self) -> Schedule:
        config = self.config
        return Schedule(
            config.seed,
            config.learning_rate,
            config.batch_rows,
            config.max_batch_rows,
            config.max_epochs,
            config.max_row_visits,
            config.patience,
            config.min_improvement,
            tuple(
                config.event_frequency_scale if name in _EVENT_INPUTS else config.item_frequency_scale
                for name in config.inputs
            ),
        )

    def _new_network(self) -> Network:
        config = self.config
        return Network(len(config.inputs), config.frequencies, config.hidden, len(self.items))

    def _trained(self) -> Network:
        if self._network is None:
            raise NotFittedError(
                f"The model {self.name!r} is not fitted.", fix="Call fit() or load a bundle."
            )
        return self._network

    def _facts_of_items(self, catalog: Catalog | None, popularity: Floats64) -> dict[str, Floats64]:
        facts = catalog.align(self.items) if catalog is not None else None
        made = {}
        for name in self.config.inputs:
            if name == "log_popularity":
                made[name] = _log_popularity(popularity)
            elif name in _ITEM_INPUTS:
                column = pa.nulls(len(self.items)) if facts is None else _ITEM_INPUTS[name](facts)
                made[name] = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return made

    def _columns(self, rows: Interactions | Histories, labels: Index) -> dict[str, Floats64]:
        columns = {}
        for name in self.config.inputs:
            if name in _EVENT_INPUTS:
                columns[name] = np.asarray(_EVENT_INPUTS[name](rows), dtype=np.float64)
            else:
                facts = self._item_inputs[name]
                columns[name] = np.where(labels >= 0, facts[labels], np.nan)
        return columns

    def _inputs(
        self, rating: ArrayLike, popularity: ArrayLike, watch_seconds: ArrayLike, **others: ArrayLike
    ) -> Columns:
        given = {
            "rating": np.asarray(rating, dtype=np.float32),
            "log_popularity": _log_popularity(popularity),
            "watch_seconds": np.asarray(watch_seconds, dtype=np.float32),
            **others,
        }
        unused = sorted(set(others) - set(self.config.inputs))
        if unused:
            raise ValueError(f"Unknown inputs {unused}; the model takes {self.config.inputs}")
        wanted = [np.atleast_1d(np.asarray(given.get(name, np.nan), float)) for name in self.config.inputs]
        return dict(zip(self.config.inputs, np.broadcast_arrays(*wanted), strict=True))

    def _probabilities(self, columns: Columns) -> Matrix:
        network = self._trained()
        answers: Matrix = network.log_probabilities(encode_numbers(columns, self._knots))
        return np.exp(answers, out=answers)


def _mass(logits: Matrix, greatest: Matrix) -> Matrix:
    """
    (n, 1) sums of the exponentials of each row, less its greatest.

    Little by little in one small buffer: the system takes its time to hand out large ones again and again.
    """
    n, m = logits.shape
    step = max(1, SUMMED_ELEMENTS // m)
    buffer = np.empty((min(step, n), m), np.float32)
    mass = np.empty((n, 1), np.float32)
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        part = buffer[: rows.stop - start]
        np.subtract(logits[rows], greatest[rows], out=part)
        np.exp(part, out=part)
        np.sum(part, axis=1, keepdims=True, out=mass[rows])
    return mass


def _log_popularity(popularity: ArrayLike) -> Floats64:
    logarithm: Floats64 = np.log1p(np.maximum(np.asarray(popularity, dtype=np.float64), 0.0))
    return logarithm


def _counts(items: Vocabulary, rows: Interactions) -> Floats64:
    index = items.index(rows.item_ids)
    return np.bincount(index[index >= 0], minlength=len(items)).astype(np.float64)
