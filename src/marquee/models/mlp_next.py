"""
A multi-layer perceptron that names a user's next item.

The network of `mlp` (numbers embedded periodically, hidden layers with batch normalisation and ReLU,
softmax) reads a profile of the history: genres, eras, popularity level, ratings, share watched, recency
and activity, and a few factors of the newest items. Its answer is a correction of what is known without
it: the logarithm of the time-decayed popularity as of the moment of the example, whose scale is learnt, and
a linear view of the history (item factors, ridge regression), each factor with a learnt gain. So it
starts as a good linear model and departs from it as far as examples that came later say so.

An example is a user at a moment of theirs: the history before it, and the items after it as a
distribution in which the nearer weigh more. Items of the history, and those nobody had chosen by then,
cannot be the answer. How many epochs help is found on the newest rows by a network that knows only those
before them; the final one is trained on all for as long.

Source:
    Covington et al. 2016, "Deep neural networks for YouTube recommendations" (next item, example age);
    Cheng et al. 2016, "Wide & deep learning for recommender systems" (the linear shortcut);
    Liang et al. 2018, "Variational autoencoders for collaborative filtering" (multinomial likelihood).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from marquee.data.dataset import Catalog, Histories, Interactions
from marquee.data.schema import CSR, Event, Index, Matrix, Microseconds, Vector
from marquee.errors import DataError, ModelError
from marquee.models._inputs import Floats64
from marquee.models._network import Network
from marquee.models._profile import NUMBERS, Profiles
from marquee.models._training import Rows, Schedule, train
from marquee.models.base import ModelState, Progress, Recommender, silent, tunable
from marquee.models.checkpoints import Checkpoints
from marquee.models.recency import RecencyConfig

__all__ = ["MlpNext", "MlpNextConfig"]

MICROSECONDS_PER_DAY = 86_400_000_000
MOMENTS = 64
"""Moments between which popularity is taken to stand still."""
IMPOSSIBLE = -1e4
"""Logit of a class that was not there yet."""
FEWEST_EXAMPLES = 30
"""Validation examples without which the epochs are not searched for."""


@dataclass(frozen=True)
class MlpNextConfig(RecencyConfig):
    """Hyper-parameters of `MlpNext`."""

    training_half_life_days: float | None = tunable(
        1460.0,
        "Age at which a training row counts half in the linear view; none: all count alike.",
        choices=(None, 365.0, 730.0, 1460.0),
    )
    recent_half_life_events: float = tunable(
        10.0, "The same as history_half_life_events, for the tastes of late.", low=2.0, high=30.0, log=True
    )
    popularity_half_life_days: float = tunable(
        365.0, "Age at which an interaction counts half in popularity.", low=30.0, high=1460.0, log=True
    )
    all_time_share: float = tunable(
        0.03, "What an interaction of any age counts in popularity at least.", low=0.0, high=0.3
    )
    factors: int = tunable(256, "Item factors of the linear view.", choices=(64, 128, 256, 512))
    factor_inputs: int = tunable(32, "Factors of the newest items that the network reads.")
    ridge: float = tunable(300.0, "λ of the linear view.", low=20.0, high=2000.0, log=True)
    linear_gain: float = tunable(
        30.0, "Where the gains of the linear view start.", low=5.0, high=60.0, log=True
    )
    popularity_scale: float = tunable(
        0.6, "Where the scale of log-popularity starts.", low=0.1, high=1.0, log=True
    )
    classes: int = tunable(4000, "Most frequent items with an output of their own; the others share one.")
    hidden: tuple[int, ...] = tunable((128, 64), "Widths of the hidden layers.")
    frequencies: int = tunable(8, "Sines and cosines per numeric input.", low=4, high=32, log=True)
    frequency_scale: float = tunable(
        0.5, "Standard deviation of the initial frequencies.", low=0.1, high=4, log=True
    )
    dropout: tuple[float, float] = tunable((0.2, 0.5), "Share of inputs, of hidden units left out of a step.")
    weight_decay: float = tunable(0.1, "Decoupled weight decay.", low=1e-3, high=1.0, log=True)
    learning_rate: float = tunable(1e-4, "Step size of Adam.", low=1e-5, high=1e-3, log=True)
    batch_rows: int = tunable(64, "Examples of a training step at least.", choices=(32, 64, 128))
    max_epochs: int = tunable(4, "Epochs at most.")
    patience: int = tunable(2, "Epochs without a better validation loss before training stops.")
    validation_fraction: float = tunable(0.1, "Share of the rows, the newest, that decides when to stop.")
    examples_per_user: int = tunable(12, "Moments drawn of a user who is active at the end of the fit data.")
    max_examples: int = tunable(100_000, "Moments drawn in all at most: bounds the time of large data.")
    example_half_life_days: float = tunable(
        1460.0, "Age of a user's newest event at which half as many are drawn.", low=180.0, high=3650.0
    )
    kept_events: float = tunable(0.4, "Least share of an example's history that is kept; the rest is chance.")
    target_half_life_events: float = tunable(
        30.0, "Later items after which one weighs half in the answer.", low=1.0, high=100.0, log=True
    )
    target_events: int = tunable(200, "Later items in the answer at most.")

    def __post_init__(self) -> None:
        if not self.hidden:
            raise ValueError("hidden must name at least one layer")
        if not 0 < self.validation_fraction < 1 or not 0 < self.kept_events <= 1:
            raise ValueError("validation_fraction and kept_events must be shares above 0")
        for name in ("factors", "classes", "frequencies", "batch_rows", "max_epochs", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


class MlpNext(Recommender):
    """
    See the module.

    Attributes:
        report: what training did: examples, epochs, losses, and the learnt scale of popularity.
        epochs: metrics of each epoch that `fit` trained the final network for (not part of the state).
    """

    name = "mlp_next"
    Config = MlpNextConfig
    config: MlpNextConfig
    _popularity: Vector  # (n_items,) logarithm of the share of the item, as of the end of the fit data
    _profiles: Profiles | None = None
    _network: Network | None = None

    def __init__(self, config: MlpNextConfig | None = None) -> None:
        super().__init__(config)
        self.report: dict[str, float] = {}
        self.epochs: list[dict[str, float]] = []

    def fit(
        self,
        interactions: Interactions,
        catalog: Catalog | None = None,
        *,
        progress: Progress = silent,
        checkpoints: Checkpoints | None = None,
    ) -> Self:
        """
        Learn to name the items that came next; see `Recommender.fit`.

        Args:
            interactions, catalog, progress: as there; `progress` gets the losses of each epoch.
            checkpoints: where to save each epoch; a fit of the same data and config resumes there.

        Raises:
            DataError: there is nothing to learn from.
        """
        rows = interactions.positives().sorted()
        if not len(rows):
            raise DataError("There are no interactions to train on.", fix="Ingest or simulate some.")
        config = self.config
        self._profiles = self._network = None
        self.report, self.epochs = {}, []
        progress.total(2 * config.max_epochs, "epoch")
        steps = _Steps(progress)
        cut = int(rows.timestamps[int(len(rows) * (1.0 - config.validation_fraction))])
        epochs = config.max_epochs
        if len(past := rows.before(cut)):
            self._set_items(past)
            training = _Task(self, past, catalog)
            examples = training.examples()
            newest = training.newest_examples(rows, cut)
            if len(newest) >= FEWEST_EXAMPLES and len(examples):
                _, epochs = self._train(training, examples, newest, epochs, steps, checkpoints, "search")
        self._set_items(rows)
        training = _Task(self, rows, catalog)
        self._popularity = np.log(training.shares[-1]).astype(np.float32)
        examples = training.examples()
        self.report = {"examples": len(examples), "epochs": epochs}
        if len(examples):
            network, _ = self._train(training, examples, None, epochs, steps, checkpoints, "final")
            self._profiles = training.profiles
            # A network of its own lets go of the buffers of training and of the offsets of the past.
            self._network = self._new_network(training.profiles).restore(network.parameters, network.running)
            self.report |= {**self.epochs[-1], "popularity_scale": network.offset_scale}
        return self

    def score(self, histories: Histories) -> Matrix:
        """Logarithms of probabilities; without a known event, of time-decayed popularity."""
        index = self.items.index(histories.item_ids)
        known = (index >= 0) & (histories.events != Event.HIDE)
        scores: Matrix = np.tile(self._popularity, (len(histories), 1))
        answered = np.flatnonzero(np.bincount(histories.rows[known], minlength=len(histories)))
        if self._network is None or self._profiles is None or not len(answered):
            return scores
        inputs = self._profiles.encode(histories.take(answered))
        answers = self._network.log_probabilities(inputs, np.zeros(len(answered), np.int64))
        n = min(self.config.classes, len(self.items))
        if n < len(self.items):
            rest = self._popularity[n:] - np.log(np.exp(self._popularity[n:]).sum())
            scores[np.ix_(answered, np.arange(n, len(self.items)))] = answers[:, n:] + rest
        scores[answered, :n] = answers[:, :n]
        return scores

    def state(self) -> ModelState:
        """Popularity, and where examples were found, the weights and all that profiles need."""
        arrays = {**self._items_state(), "log_popularity": self._popularity}
        if self._network is not None and self._profiles is not None:
            arrays |= {"parameters": self._network.parameters, "running": self._network.running}
            arrays |= {f"profiles.{name}": array for name, array in self._profiles.arrays.items()}
        return ModelState(arrays, {"config": self.config.to_dict(), "report": self.report})

    @classmethod
    def from_state(cls, state: ModelState) -> Self:
        """See `Recommender.from_state`."""
        model = cls(cls.Config.from_dict(state.meta["config"]))
        try:
            model._restore_items(state)
            model._popularity = state.arrays["log_popularity"]
            if "parameters" in state.arrays:
                cut = len("profiles.")
                stored = {k[cut:]: v for k, v in state.arrays.items() if k.startswith("profiles.")}
                long, recent = model._views()
                model._profiles = Profiles(
                    model.items, stored, long=long, recent=recent, seen_factors=model.config.factor_inputs
                )
                model._network = model._new_network(model._profiles).restore(
                    state.arrays["parameters"], state.arrays["running"]
                )
        except (KeyError, ValueError) as error:
            raise ModelError(f"This is not the state of an {cls.name!r}: {error}") from error
        model.report = dict(state.meta["report"])
        return model

    def _views(self) -> tuple[RecencyConfig, RecencyConfig]:
        values = {name: getattr(self.config, name) for name in RecencyConfig().to_dict()}
        long = RecencyConfig(**values)
        recent = replace(
            long, history_half_life_events=self.config.recent_half_life_events, history_half_life_days=None
        )
        return long, recent

    def _new_network(self, profiles: Profiles, offsets: Matrix | None = None) -> Network:
        config = self.config
        if offsets is None:
            offsets = _with_rest(np.exp(self._popularity[None].astype(np.float64)), config.classes)
        n = min(config.classes, len(self.items))
        # The output that all other items share has no factors.
        basis = np.zeros((profiles.n_factors, offsets.shape[1]), np.float32)
        basis[:, :n] = profiles.basis[:, :n]
        return Network(
            len(NUMBERS),
            config.frequencies,
            config.hidden,
            offsets.shape[1],
            n_plain=profiles.n_plain,
            basis=basis,
            offsets=offsets,
            dropout=config.dropout,
        )

    def _train(
        self,
        task: "_Task",
        examples: Rows,
        newest: Rows | None,
        epochs: int,
        progress: Progress,
        checkpoints: Checkpoints | None,
        part: str,
    ) -> tuple[Network, int]:
        config = self.config
        network = self._new_network(task.profiles, task.offsets)
        nothing = examples.take(slice(0, 0))
        schedule = Schedule(
            config.seed,
            config.learning_rate,
            config.batch_rows,
            max(config.batch_rows, 256),
            epochs,
            epochs * len(examples),
            # The final network is trained for a known number of epochs.
            config.patience if newest is not None else epochs,
            0.0 if newest is not None else -np.inf,
            (config.frequency_scale,) * len(NUMBERS),
            config.weight_decay,
        )
        if checkpoints is not None:
            checkpoints = Checkpoints(Path(checkpoints.directory) / part, keep=checkpoints.keep)
        self.epochs, best = train(
            network,
            {"train": examples, "validation": newest if newest is not None else nothing, "test": nothing},
            schedule,
            progress=progress,
            shortcut=(config.linear_gain, config.popularity_scale),
            checkpoints=checkpoints,
        )
        return network, best


class _Steps(Progress):
    """The steps of two trainings as those of one."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def step(self, metrics: Mapping[str, float] | None = None) -> None:
        self._progress.step(metrics)


class _Task:
    """Fit data as what the network trains on: profiles, popularity through time, examples."""

    def __init__(self, model: MlpNext, rows: Interactions, catalog: Catalog | None) -> None:
        self.config, self.rows, self.items = model.config, rows, model.items
        self.n_classes = min(self.config.classes, len(self.items))
        self.rng = np.random.default_rng(self.config.seed)
        self.moments, self.shares = _popularity(
            rows,
            self.items.index(rows.item_ids),
            self.config.popularity_half_life_days,
            self.config.all_time_share,
        )
        self.offsets = _with_rest(self.shares, self.config.classes)
        long, recent = model._views()
        self.profiles = Profiles.learn(
            rows,
            self.items,
            catalog,
            self.shares[-1],
            long=long,
            recent=recent,
            n_factors=self.config.factors,
            seen_factors=self.config.factor_inputs,
            ridge=self.config.ridge,
        )

    def examples(self) -> Rows:
        """Users at moments drawn from the fit data, more of those active of late."""
        rows, config = self.rows, self.config
        order = np.lexsort((rows.timestamps, rows.user_ids))
        users, times = rows.user_ids[order], rows.timestamps[order]
        starts = np.flatnonzero(np.append(True, users[1:] != users[:-1]))
        lengths = np.diff(np.append(starts, len(users)))
        age_days = (rows.timestamps[-1] - times[starts + lengths - 1]) / MICROSECONDS_PER_DAY
        expected = config.examples_per_user * np.exp2(-age_days / config.example_half_life_days)
        expected *= min(1.0, config.max_examples / max(float(expected.sum()), 1.0))
        drawn = np.where(lengths > 1, np.floor(expected + self.rng.random(len(starts))), 0).astype(np.int64)
        first = np.repeat(starts, drawn)
        position = first + 1 + (self.rng.random(len(first)) * np.repeat(lengths - 1, drawn)).astype(np.int64)
        later = times[position] > times[first]
        users, moments = users[first[later]], times[position[later]]
        histories = Histories.gather(rows, users, moments)
        kept = self.rng.uniform(config.kept_events, 1.0, len(histories))
        thinned = histories.where(self.rng.random(len(histories.item_ids)) < kept[histories.rows])
        self.profiles.scale_by(thinned)
        return self._rows(histories, thinned, rows, own_rows=True)

    def newest_examples(self, rows: Interactions, cut: int) -> Rows:
        """Each user with a history, in the middle of their rows from the cut on."""
        order = np.lexsort((rows.timestamps, rows.user_ids))
        order = order[rows.timestamps[order] >= cut]
        users, starts, n = np.unique(rows.user_ids[order], return_index=True, return_counts=True)
        moments = rows.timestamps[order][starts + n // 2]
        histories = Histories.gather(rows, users, moments)
        answers = rows.take(rows.timestamps >= cut)
        return self._rows(histories, histories, answers, own_rows=False)

    def _rows(self, histories: Histories, seen: Histories, answers: Interactions, *, own_rows: bool) -> Rows:
        when = np.searchsorted(self.moments, histories.as_of, side="right") - 1
        when = np.clip(when, 0, len(self.moments) - 1)
        index = self.items.index(histories.item_ids)
        known = (index >= 0) & (index < self.n_classes)
        shape = (len(histories), self.offsets.shape[1])
        past = _cells(histories.rows[known], index[known], np.ones(int(known.sum())), shape)
        targets = self._targets(histories, answers, shape)
        which = np.repeat(np.arange(shape[0]), np.diff(targets.indptr))
        targets.data[self.offsets[when[which], targets.indices] <= IMPOSSIBLE] = 0.0
        targets = CSR(targets - targets.multiply(past))
        targets.eliminate_zeros()
        targets.sort_indices()
        totals = np.asarray(targets.sum(axis=1)).ravel()
        answered = np.flatnonzero((totals > 0) & (np.diff(past.indptr) > 0))
        targets.data /= np.repeat(totals, np.diff(targets.indptr)).astype(np.float32)
        inputs = self.profiles.encode(seen.take(answered), own_rows=own_rows)
        return Rows(inputs, CSR(targets[answered]), when[answered], CSR(past[answered]))

    def _targets(self, histories: Histories, answers: Interactions, shape: tuple[int, int]) -> CSR:
        order = np.lexsort((answers.item_ids, answers.timestamps, answers.user_ids))
        users, times = answers.user_ids[order], answers.timestamps[order]
        index = self.items.index(answers.item_ids[order])
        stops = np.searchsorted(users, histories.user_ids, side="right")
        starts = np.searchsorted(users, histories.user_ids, side="left")
        for i, moment in enumerate(histories.as_of):
            starts[i] += np.searchsorted(times[starts[i] : stops[i]], moment)
        lengths = np.minimum(stops - starts, self.config.target_events)
        rank = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        classes = index[np.repeat(starts, lengths) + rank]
        weights = np.where(classes >= 0, np.exp2(-rank / self.config.target_half_life_events), 0.0)
        rows = np.repeat(np.arange(len(histories)), lengths)
        return _cells(rows, np.clip(classes, 0, shape[1] - 1), weights, shape)


def _cells(rows: Index, columns: Index, values: Floats64, shape: tuple[int, int]) -> CSR:
    made = CSR((values.astype(np.float32), (rows, columns)), shape=shape)
    made.sum_duplicates()
    made.eliminate_zeros()
    return made


def _popularity(
    rows: Interactions, index: Index, half_life_days: float, all_time_share: float
) -> tuple[Microseconds, Floats64]:
    """
    Time-decayed popularity through time, each from the rows before its moment alone.

    Returns:
        (n_moments,) ascending, and (n_moments, n_items) shares, 0 where an item was not there yet. The last
        are those of the end of the fit data.
    """
    times, n_items = rows.timestamps, int(index.max()) + 1
    at = np.unique(np.linspace(0, len(times) - 1, MOMENTS + 1).astype(np.int64)[1:])
    moments = np.append(np.unique(times[at])[:-1], times[-1] + 1)
    shares = np.empty((len(moments), n_items))
    decayed, ever, start, before = np.zeros(n_items), np.zeros(n_items), 0, times[0]
    for i, moment in enumerate(moments):
        stop = int(np.searchsorted(times, moment, side="left"))
        part, age = index[start:stop], (moment - times[start:stop]) / MICROSECONDS_PER_DAY
        decayed *= np.exp2(-(moment - before) / MICROSECONDS_PER_DAY / half_life_days)
        decayed += np.bincount(part, np.exp2(-age / half_life_days), minlength=n_items)
        ever += np.bincount(part, minlength=n_items)
        counted = decayed + all_time_share * ever
        shares[i] = counted / max(float(counted.sum()), 1e-300)
        start, before = stop, moment
    return moments, shares


def _with_rest(shares: Floats64, classes: int) -> Matrix:
    """(n, n_classes [+ 1]) logits of the classes and, where there are more items, of all others together."""
    n = min(classes, shares.shape[1])
    kept = shares if n == shares.shape[1] else np.hstack([shares[:, :n], shares[:, n:].sum(axis=1)[:, None]])
    return np.log(kept, out=np.full(kept.shape, IMPOSSIBLE), where=kept > 0).astype(np.float32)
