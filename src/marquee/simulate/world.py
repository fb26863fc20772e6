"""
What is true of an audience at a moment, and what its visitors do with a list.

A visitor chooses at most one film of a list, by affinity and with less attention the further down it
stands, against doing something else: the same Plackett-Luce choice as in `audience`, with an outside
option.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from marquee.data.schema import Ids, Vector
from marquee.simulate.config import AudienceConfig, LiveConfig
from marquee.simulate.truth import Truth

__all__ = ["World"]


def _none() -> Ids:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False, slots=True)
class World:
    """
    The truth about an audience, and what follows from it.

    Attributes:
        runtime: (n_items,) seconds, in the order of `truth.items`.
        talked_about: films of the catalogue that everybody speaks of.
        talk: share of the visitors who come to watch one of these.
        broken: share of the users whose client reports no clicks, and 0 seconds of whatever was watched.
    """

    truth: Truth
    audience: AudienceConfig
    runtime: Vector
    talked_about: Ids = field(default_factory=_none)
    talk: float = 0.0
    broken: float = 0.0

    def affinity(self, user_id: int, item_ids: Sequence[int]) -> Vector:
        """(n,) affinities, 0 for films that came after the audience."""
        index = self.truth.items.index(np.asarray(item_ids, dtype=np.int64))
        made = np.zeros(len(index), dtype=np.float32)
        known = index >= 0
        if known.any():
            made[known] = self.truth.affinity([user_id], np.asarray(item_ids)[known])[0]
        return made

    def choose(self, affinity: Vector, config: LiveConfig, random: np.random.Generator) -> int | None:
        """The place of the film chosen of a list, None for something else."""
        truth = self.truth
        appeal = truth.choice_sharpness * affinity - truth.position_bias * np.log1p(np.arange(len(affinity)))
        options = np.append(appeal, truth.choice_sharpness * config.outside)
        chosen = int((options + random.gumbel(size=len(options))).argmax())
        return None if chosen == len(affinity) else chosen

    def come_for(self, user_id: int, random: np.random.Generator) -> int | None:
        """The film that a visitor comes to watch, one that is talked about; None for whatever there is."""
        if self.talk == 0 or random.random() >= self.talk:
            return None
        appeal = self.truth.choice_sharpness * self.truth.affinity([user_id], self.talked_about)[0]
        return int(self.talked_about[(appeal + random.gumbel(size=len(appeal))).argmax()])

    def find_elsewhere(self, user_id: int, random: np.random.Generator) -> int:
        """A film come across without a list: by popularity and affinity."""
        appeal = self.truth.choice_sharpness * self.truth.affinity([user_id])[0]
        appeal = appeal + np.log(self.truth.shelf[0].clip(1e-12))
        return int(self.truth.items.ids[(appeal + random.gumbel(size=len(appeal))).argmax()])

    def watch(
        self, item_id: int, affinity: float, config: LiveConfig, random: np.random.Generator
    ) -> list[dict[str, Any]]:
        """What watching a film leaves behind, as in `audience`."""
        index = self.truth.items.index(np.array([item_id]))[0]
        runtime = float(self.runtime[index] if index >= 0 else np.median(self.runtime))
        share = 1.1 / (1 + math.exp(-(4 * affinity + self.audience.watch_noise * random.standard_normal())))
        made: list[dict[str, Any]] = [
            {"item_id": item_id, "event": "watch", "watch_seconds": math.floor(runtime * min(share, 1.0))}
        ]
        rating = 4.5 + 4 * affinity + self.audience.rating_noise * random.standard_normal()
        if random.random() < config.rates:
            made.append(
                {"item_id": item_id, "event": "rate", "rating": min(max(round(2 * rating) / 2, 0), 10)}
            )
        return made

    def reported(self, user_id: int, events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """What the user's client makes of what they did."""
        random = np.random.default_rng([self.audience.seed, user_id])
        if self.broken == 0 or random.random() >= self.broken:
            return list(events)
        return [
            {**event, "watch_seconds": 0} if event["event"] == "watch" else event
            for event in events
            if event["event"] != "click"
        ]
