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
from marquee.data.schema import Event, Matrix, Vector
from marquee.errors import DataError, ModelError
from marquee.models._examples import ExampleConfig, Examples, class_logits
from marquee.models._inputs import Floats64
from marquee.models._network import Network
from marquee.models._profile import NUMBERS, Profiles
from marquee.models._training import Rows, Schedule, train
from marquee.models.base import ModelState, Progress, Recommender, silent, tunable
from marquee.models.checkpoints import Checkpoints
from marquee.models.recency import RecencyConfig

__all__ = ["MlpNext", "MlpNextConfig"]

FEWEST_EXAMPLES = 30
"""Validation examples without which the epochs are not searched for."""


@dataclass(frozen=True)
class MlpNextConfig(ExampleConfig):
    """Hyper-parameters of `MlpNext`."""

    training_half_life_days: float | None = tunable(
        1460.0,
        "Age at which a training row counts half in the linear view; none: all count alike.",
        choices=(None, 365.0, 730.0, 1460.0),
    )
    recent_half_life_events: float = tunable(
        10.0, "The same as history_half_life_events, for the tastes of late.", low=2.0, high=30.0, log=True
    )
    factors: int = tunable(256, "Item factors of the linear view.", choices=(64, 128, 256, 512))
    factor_inputs: int = tunable(32, "Factors of the newest items that the network reads.")
    ridge: float = tunable(500.0, "λ of the linear view.", low=20.0, high=2000.0, log=True)
    linear_gain: float = tunable(
        30.0, "Where the gains of the linear view start.", low=5.0, high=60.0, log=True
    )
    popularity_scale: float = tunable(
        0.4, "Where the scale of log-popularity starts.", low=0.1, high=1.0, log=True
    )
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
            training = self._examples(past, catalog)
            examples = training.draw()
            newest = training.newest(rows, cut)
            if len(newest) >= FEWEST_EXAMPLES and len(examples):
                _, epochs = self._train(training, examples, newest, epochs, steps, checkpoints, "search")
        self._set_items(rows)
        training = self._examples(rows, catalog)
        self._popularity = np.log(training.shares[-1]).astype(np.float32)
        examples = training.draw()
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

    def _examples(self, rows: Interactions, catalog: Catalog | None) -> Examples:
        config, (long, recent) = self.config, self._views()

        def learn(popularity: Floats64) -> Profiles:
            return Profiles.learn(
                rows,
                self.items,
                catalog,
                popularity,
                long=long,
                recent=recent,
                n_factors=config.factors,
                seen_factors=config.factor_inputs,
                ridge=config.ridge,
            )

        return Examples(rows, self.items, learn, config)

    def _new_network(self, profiles: Profiles, offsets: Matrix | None = None) -> Network:
        config = self.config
        if offsets is None:
            offsets = class_logits(np.exp(self._popularity[None].astype(np.float64)), config.classes)
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
        task: Examples,
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
