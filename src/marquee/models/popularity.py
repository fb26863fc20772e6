"""
Popularity: the same list for everyone, all-time or of late.

The baseline that every other model must beat and the fallback when there is none. With a half-life,
an interaction counts 2^(-age / half-life): Koren's "time-aware popularity", the strongest model that
knows nothing of the user.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from marquee.data.dataset import Catalog, Histories, Interactions
from marquee.data.schema import Matrix, Vector
from marquee.models.base import ModelConfig, ModelState, Progress, Recommender, silent, tunable

__all__ = ["Popularity", "PopularityConfig"]

MICROSECONDS_PER_DAY = 86_400_000_000


@dataclass(frozen=True)
class PopularityConfig(ModelConfig):
    """Hyper-parameters of `Popularity`."""

    half_life_days: float | None = tunable(
        None,
        "Age at which an interaction counts half; none: all count alike.",
        choices=(None, 7, 14, 30, 60, 120, 365),
    )


class Popularity(Recommender):
    """Items by their (time-decayed) number of interactions."""

    name = "popularity"
    Config = PopularityConfig
    config: PopularityConfig
    _scores: Vector

    def fit(
        self, interactions: Interactions, catalog: Catalog | None = None, *, progress: Progress = silent
    ) -> Self:
        """Count the interactions of each item; see `Recommender.fit`."""
        rows = interactions.positives()
        self._set_items(rows)
        index = self.items.index(rows.item_ids)
        half_life = self.config.half_life_days
        if half_life is None:
            weights = np.ones(len(rows))
        else:
            age = (rows.timestamps.max(initial=0) - rows.timestamps) / MICROSECONDS_PER_DAY
            weights = np.exp2(-age / half_life)
        counts = np.bincount(index, weights, minlength=len(self.items))
        self._scores = (counts / max(counts.max(initial=0.0), 1e-12)).astype(np.float32)
        return self

    def score(self, histories: Histories) -> Matrix:
        """The same scores in [0, 1] for every history."""
        shape = (len(histories), len(self.items))
        return np.broadcast_to(self._scores, shape)

    def state(self) -> ModelState:
        """Item ids, counts and scores."""
        return ModelState({**self._items_state(), "scores": self._scores}, {"config": self.config.to_dict()})

    @classmethod
    def from_state(cls, state: ModelState) -> Self:
        """See `Recommender.from_state`."""
        model = cls(cls.Config.from_dict(state.meta["config"]))
        model._restore_items(state)
        model._scores = state.arrays["scores"]
        return model
