"""
How the world of an audience changes under a recommender's feet.

Each change is what a platform meets sooner or later: tastes move to other genres, new films come out, one
film is on everybody's lips, or the client that reports what people do breaks.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from marquee.data import Vocabulary
from marquee.data.schema import Ids, Matrix
from marquee.simulate.truth import UNKNOWN, Truth
from marquee.simulate.world import World

__all__ = ["DriftConfig", "DriftKind", "drifted"]

DriftKind = Literal["taste", "releases", "popularity", "feed"]

FASHIONS: Final = 3
"""Genres that tastes move to."""
RELEASED_SHARE: Final = 0.05
"""New films per film of the catalogue."""
FIRST_RELEASE: Final = 1_000_000_000
"""New films are numbered from here on, out of the way of films that a source knows."""


@dataclass(frozen=True, slots=True)
class DriftConfig:
    """
    A change of the world.

    Attributes:
        kind: `taste`: everybody's taste moves to one of a few genres; `releases`: new films are put into
            the catalogue and watched; `popularity`: everybody watches one film that few knew; `feed`:
            clients report no clicks, and 0 seconds of whatever was watched.
        after: visits before it.
        strength: in (0, 1]; the share of the tastes that moves, of the visitors who come for a new film or
            for that one, or of the users whose client breaks.
    """

    kind: DriftKind
    after: int = 0
    strength: float = 0.8

    def __post_init__(self) -> None:
        if self.kind not in get_args(DriftKind):
            raise ValueError(f"drift must be one of {', '.join(get_args(DriftKind))}, not {self.kind!r}")
        if self.after < 0:
            raise ValueError(f"Drift comes after 0 visits or more, not {self.after}")
        if not 0 < self.strength <= 1:
            raise ValueError(f"The strength of drift must lie in (0, 1], not {self.strength}")


def drifted(world: World, drift: DriftConfig) -> tuple[World, list[dict[str, Any]]]:
    """
    The world after a change, and the films that came out, as `PUT /v1/items` takes them.

    What comes out and who is talked about depends on the seed of the audience.
    """
    random = np.random.default_rng([world.audience.seed, len(world.truth.items)])
    if drift.kind == "taste":
        return replace(world, truth=_moved(world.truth, drift.strength, random)), []
    if drift.kind == "releases":
        return _released(world, drift.strength, random)
    if drift.kind == "popularity":
        return replace(world, talked_about=_sleeper(world.truth, random), talk=drift.strength), []
    return replace(world, broken=drift.strength), []


def _moved(truth: Truth, strength: float, random: np.random.Generator) -> Truth:
    """Part of each user's taste for genres goes to one of a few genres that were loved in the middling."""
    n = len(truth.appeal.genres)
    order = np.argsort(-truth.tastes[:, :n].mean(axis=0), kind="stable")
    # More of the most loved would hardly show, and the least loved have films too few to be a fashion.
    fashions = order[n // 2 :][:FASHIONS]
    own = fashions[random.integers(0, len(fashions), len(truth.users))]

    def moved(shares: Matrix, columns: slice) -> Matrix:
        made = shares.copy()
        made[:, columns] *= 1 - strength
        made[np.arange(len(made)), columns.start + own] += strength * shares[:, columns].sum(axis=1)
        return made

    return replace(
        truth, tastes=moved(truth.tastes, slice(0, n)), exposure=moved(truth.exposure, slice(1, 1 + n))
    )


def _released(
    world: World, strength: float, random: np.random.Generator
) -> tuple[World, list[dict[str, Any]]]:
    """New films of the genres of films there are, of this decade."""
    truth = world.truth
    known, appeal = truth.items.ids, truth.appeal
    n = max(1, round(RELEASED_SHARE * len(known)))
    ids = max(FIRST_RELEASE, int(known.max()) + 1) + np.arange(n)
    like = random.integers(0, len(known), n)
    today = datetime.now(UTC).date()
    decade = f"{today.year // 10 * 10}s"
    columns = appeal.columns[:, like].copy()
    columns[-1] = (
        appeal.width - 1 if decade not in appeal.eras else len(appeal.genres) + appeal.eras.index(decade)
    )
    films = [
        {
            "item_id": int(item_id),
            "title": f"New film {number}",
            "release_date": today.isoformat(),
            "runtime_minutes": max(1, round(float(world.runtime[row]) / 60)),
            "genres": _genres(appeal.genres, columns[:-1, place]),
        }
        for place, (number, item_id, row) in enumerate(zip(range(1, n + 1), ids, like, strict=True))
    ]
    unseen = np.zeros((len(truth.shelf), n), dtype=truth.shelf.dtype)
    released = replace(
        truth,
        items=Vocabulary(np.concatenate([known, ids])),
        appeal=replace(appeal, columns=np.concatenate([appeal.columns, columns], axis=1)),
        shelf=np.concatenate([truth.shelf, unseen], axis=1),
    )
    runtime = np.concatenate([world.runtime, world.runtime[like]])
    return replace(world, truth=released, runtime=runtime, talked_about=ids, talk=strength), films


def _genres(names: tuple[str, ...], columns: NDArray[np.int32]) -> list[str]:
    found = [names[column] for column in columns if column < len(names)]
    return [name for name in found if name != UNKNOWN]


def _sleeper(truth: Truth, random: np.random.Generator) -> Ids:
    """One film of the less popular half."""
    unpopular = np.argsort(truth.shelf[0], kind="stable")[: max(1, len(truth.items) // 2)]
    return truth.items.ids.take(random.choice(unpopular, 1))
