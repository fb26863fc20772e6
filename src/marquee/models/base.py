"""
What a recommender is.

A model is fitted on interactions and answers for histories: a user *is* their history, so a new event
counts at once, without retraining (fold-in). All state that answers need is a flat dictionary of arrays
plus a JSON-able dictionary, so that a model is stored without pickle and mapped without copying.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from marquee.data.dataset import Catalog, Histories, Interactions
from marquee.data.ranked import RankedItems, top_k
from marquee.data.schema import Ids, Index, Matrix
from marquee.data.vocabulary import Vocabulary
from marquee.errors import NotFittedError

__all__ = [
    "ModelConfig",
    "ModelState",
    "Progress",
    "Recommender",
    "Tunable",
    "silent",
    "tunable",
]

SCORE_ROWS = 256
"""Histories scored at a time by `recommend`: bounds the dense (rows, n_items) block near the cache."""


class Progress:
    """What a long `fit` reports; the default is silent. Subclass it to draw a bar or log to a tracker."""

    def total(self, steps: int, unit: str) -> None:
        """The number of steps to come."""

    def step(self, metrics: Mapping[str, float] | None = None) -> None:
        """One step is done, with its metrics (for example the losses of an epoch)."""


silent = Progress()


@dataclass(frozen=True)
class Tunable:
    """The range of a hyper-parameter that a search may use."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] | None = None


def tunable(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    log: bool = False,
    choices: Sequence[Any] | None = None,
) -> Any:
    """A config field with its documentation and, if a range or choices are given, its search space."""
    searched = low is not None or choices is not None
    space = Tunable(low, high, log, tuple(choices) if choices is not None else None) if searched else None
    return field(default=default, metadata={"doc": doc, "space": space})


@dataclass(frozen=True)
class ModelConfig:
    """Hyper-parameters of a model: frozen, JSON-able, logged whole with each run."""

    seed: int = tunable(0, "Seed of every random choice of the model.")

    @classmethod
    def search_space(cls) -> dict[str, Tunable]:
        """The fields that a search may vary, by name."""
        return {f.name: f.metadata["space"] for f in fields(cls) if f.metadata.get("space") is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """
        A config from plain values (a file, flags, a manifest); lists become tuples.

        Raises:
            ValueError: an unknown field, with the known ones.
        """
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"{cls.__name__} has no field {unknown}; known: {sorted(known)}")
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-able values."""
        return asdict(self)


@dataclass(frozen=True)
class ModelState:
    """
    Everything a fitted model needs to answer.

    Attributes:
        arrays: name → array; names of nested models are joined by "/".
        meta: JSON-able facts beside the arrays, the config among them under "config".
    """

    arrays: dict[str, NDArray[Any]]
    meta: dict[str, Any]

    def nested(self, prefix: str) -> "ModelState":
        """The part of a nested model, stored under `prefix`."""
        cut = len(prefix) + 1
        arrays = {k[cut:]: v for k, v in self.arrays.items() if k.startswith(prefix + "/")}
        return ModelState(arrays, self.meta[prefix])

    @classmethod
    def join(cls, parts: Mapping[str, "ModelState"], meta: Mapping[str, Any]) -> "ModelState":
        """One state of several models, each under its prefix."""
        arrays = {f"{prefix}/{k}": v for prefix, part in parts.items() for k, v in part.arrays.items()}
        return cls(arrays, {**meta, **{prefix: part.meta for prefix, part in parts.items()}})


class Recommender(ABC):
    """
    A model that scores every item of its vocabulary for a history.

    Subclasses set `name` and `Config`, and implement `fit`, `score`, `state` and `from_state`; they pass
    the conformance suite of `marquee.testing`.

    Attributes:
        items: the catalogue of the model, most frequent in the fit data first (set by `fit`).
        item_counts: (n_items,) interactions per item in the fit data, descending.
    """

    name: ClassVar[str]
    Config: ClassVar[type[ModelConfig]] = ModelConfig

    def __init__(self, config: ModelConfig | None = None) -> None:
        self.config = config if config is not None else self.Config()
        self._items: Vocabulary | None = None
        self._item_counts: Index | None = None

    @classmethod
    def trainable(cls) -> bool:
        """Whether `fit` has what it needs here; a model that serves may need more to train."""
        return True

    @property
    def items(self) -> Vocabulary:
        """The item vocabulary."""
        if self._items is None:
            raise NotFittedError(
                f"The model {self.name!r} is not fitted.", fix="Call fit() or load a bundle."
            )
        return self._items

    @property
    def item_counts(self) -> Index:
        """(n_items,) interactions per item in the fit data."""
        if self._item_counts is None:
            raise NotFittedError(
                f"The model {self.name!r} is not fitted.", fix="Call fit() or load a bundle."
            )
        return self._item_counts

    @abstractmethod
    def fit(
        self, interactions: Interactions, catalog: Catalog | None = None, *, progress: Progress = silent
    ) -> Self:
        """
        Learn from interactions.

        Args:
            interactions: the fit data; nothing later than a query may be in it.
            catalog: facts of items; models that use none accept and ignore it.
            progress: told of each step.

        Returns:
            The model itself.
        """

    @abstractmethod
    def score(self, histories: Histories) -> Matrix:
        """
        Scores of all items for each history; greater is better.

        Returns:
            (n, n_items) float32, finite, columns in the order of `items`. A row depends on its own
            history only, and an empty history is answered too (by popularity, as a rule). The caller
            may write into the array unless it is read-only.
        """

    @abstractmethod
    def state(self) -> ModelState:
        """Everything `from_state` needs to answer the same, float for float."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: ModelState) -> Self:
        """
        The model of a state; arrays may be read-only memory maps and are not copied.

        Raises:
            ModelError: the state is not of this model.
        """

    def recommend(
        self, histories: Histories | Sequence[int], k: int = 10, *, exclude_history: bool = True
    ) -> RankedItems:
        """
        The k best items of each history.

        Args:
            histories: n histories, or one plain list of item ids, oldest first.
            k: list length, > 0; lists are shorter (padded) where fewer items are left.
            exclude_history: leave out every item that the history names, whatever the event.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        batch = histories if isinstance(histories, Histories) else Histories.of_items(histories)
        parts = [
            self._recommend_block(batch.take(slice(start, start + SCORE_ROWS)), k, exclude_history)
            for start in range(0, max(len(batch), 1), SCORE_ROWS)
        ]
        return RankedItems(
            np.concatenate([part.item_ids for part in parts]), np.concatenate([part.scores for part in parts])
        )

    def _recommend_block(self, histories: Histories, k: int, exclude_history: bool) -> RankedItems:
        scores = self.score(histories)
        if exclude_history:
            index = self.items.index(histories.item_ids)
            known = index >= 0
            if not scores.flags.writeable:
                scores = scores.copy()
            scores[histories.rows[known], index[known]] = -np.inf
        return RankedItems.from_indices(*top_k(scores, k), self.items.ids)

    def share_items(self, items: Vocabulary) -> None:
        """Hold an equal vocabulary of another model instead of one's own: it is compared in no time."""
        if self.items == items:
            self._items = items

    def _set_items(self, interactions: Interactions, new_items: Ids | None = None) -> None:
        """Make the vocabulary and the counts of the fit data, items without interactions behind the rest."""
        self._items = Vocabulary.by_count(interactions.item_ids)
        if new_items is not None:
            unseen = np.setdiff1d(new_items, self._items.ids)
            self._items = Vocabulary(np.concatenate([self._items.ids, unseen]))
        self._item_counts = np.bincount(
            self._items.index(interactions.item_ids), minlength=len(self._items)
        ).astype(np.int64)

    def _items_state(self) -> dict[str, NDArray[Any]]:
        return {"item_ids": self.items.ids, "item_counts": self.item_counts}

    def _restore_items(self, state: ModelState) -> None:
        self._items = Vocabulary(state.arrays["item_ids"])
        self._item_counts = state.arrays["item_counts"]
