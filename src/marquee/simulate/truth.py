"""
What a simulation knows and a recommender has to find out.

A film serves a taste by its genres and its era: the affinity of a user for a film is the share of the
user's taste that the film serves, in [0, 1].
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from marquee.data import Catalog, Interactions, RankedItems, Vocabulary, top_k
from marquee.data.schema import Ids, Index, Matrix, Vector

__all__ = ["Appeal", "Truth", "gather_affinity"]

UNKNOWN = "unknown"
GENRES_PER_ITEM = 4
RANKED_ROWS = 1024
"""Users ranked at a time: bounds the dense (rows, n_items) block."""


@dataclass(frozen=True, eq=False, slots=True)
class Appeal:
    """
    Which tastes each film serves.

    A taste vector has one column per genre, then one per era, then one that is always 0 and stands for
    "no further genre".

    Attributes:
        genres: names, sorted; films without any have the genre "unknown".
        eras: names of decades ("1990s"), sorted; films without a date have the era "unknown".
        columns: (GENRES_PER_ITEM + 1, n_items) columns of the taste vector that a film serves.
    """

    genres: tuple[str, ...]
    eras: tuple[str, ...]
    columns: NDArray[np.int32]

    @classmethod
    def of(cls, catalog: Catalog) -> "Appeal":
        """The appeal of each film by its first genres and its decade."""
        listed = [
            list(dict.fromkeys(genres or [UNKNOWN]))[:GENRES_PER_ITEM]
            for genres in catalog.table["genres"].to_pylist()
        ]
        decades = [
            f"{date.year // 10 * 10}s" if date is not None else UNKNOWN
            for date in catalog.table["release_date"].to_pylist()
        ]
        genres = tuple(sorted({genre for item in listed for genre in item}))
        eras = tuple(sorted(set(decades)))
        genre_column = {genre: column for column, genre in enumerate(genres)}
        era_column = {era: len(genres) + column for column, era in enumerate(eras)}
        columns = np.full((GENRES_PER_ITEM + 1, len(catalog)), len(genres) + len(eras), dtype=np.int32)
        for item, (names, era) in enumerate(zip(listed, decades, strict=True)):
            columns[: len(names), item] = [genre_column[name] for name in names]
            columns[-1, item] = era_column[era]
        return cls(genres, eras, columns)

    @property
    def width(self) -> int:
        """Length of a taste vector."""
        return len(self.genres) + len(self.eras) + 1

    def counts(self) -> Index:
        """(width - 1,) films that serve each genre and era."""
        return np.bincount(self.columns.ravel(), minlength=self.width)[:-1].astype(np.int64)

    def genre_members(self) -> NDArray[np.bool_]:
        """(n_genres, n_items) whether a film is of a genre."""
        return np.stack([(self.columns[:-1] == genre).any(axis=0) for genre in range(len(self.genres))])


def gather_affinity(tastes: Matrix, columns: NDArray[np.int32], users: NDArray[Any], items: Index) -> Vector:
    """
    Affinity of pairs: the sum of what each film serves of the user's taste.

    Args:
        tastes: (n_users, width) taste vectors.
        columns: as in `Appeal`.
        users: (n,) rows of `tastes`.
        items: (n,) item indices.
    """
    flat = tastes.ravel()
    offset = users * tastes.shape[1]
    affinity: Vector = flat.take(offset + columns[0].take(items))
    for column in columns[1:]:
        affinity += flat.take(offset + column.take(items))
    return affinity


@dataclass(frozen=True, eq=False, slots=True)
class Truth:
    """
    The planted tastes of the users of a simulation, and the ranking that follows from them.

    Attributes:
        users: user ids in row order.
        items: item ids in column order.
        appeal: which tastes each film serves.
        tastes: (n_users, width) share of taste per genre and era, in the columns of `appeal`.
        exposure: (n_users, 1 + n_genres) share of the films shown to a user that come from the whole
            catalogue and from the shelf of each genre.
        shelf: (1 + n_genres, n_items) probability of each film on each shelf.
        shelf_lengths: (n_users,) films shown to each user in all.
        utc_offset_hours: (n_users,) the user's clock minus UTC.
        choice_sharpness, position_bias: as in `AudienceConfig`.
    """

    users: Vocabulary
    items: Vocabulary
    appeal: Appeal
    tastes: Matrix
    exposure: Matrix
    shelf: Matrix
    shelf_lengths: Index
    utc_offset_hours: Vector
    choice_sharpness: float
    position_bias: float

    @property
    def genre_tastes(self) -> Matrix:
        """(n_users, n_genres) taste over `appeal.genres`, summing to 1 (0 where era alone counts)."""
        return _shares(self.tastes[:, : len(self.appeal.genres)])

    @property
    def era_tastes(self) -> Matrix:
        """(n_users, n_eras) taste over `appeal.eras`, summing to 1 (0 where genre alone counts)."""
        return _shares(self.tastes[:, len(self.appeal.genres) : -1])

    def affinity(self, user_ids: ArrayLike, item_ids: ArrayLike | None = None) -> Matrix:
        """
        How much of their taste films serve.

        Args:
            user_ids: (n,) users of the simulation.
            item_ids: (m,) films of its catalogue; default: all, in the order of `items`.

        Returns:
            (n, m) affinities in [0, 1].

        Raises:
            ValueError: an id is not part of the simulation.
        """
        rows = _known(self.users, user_ids, "user")
        columns = np.arange(len(self.items)) if item_ids is None else _known(self.items, item_ids, "item")
        users, items = np.repeat(rows, len(columns)), np.tile(columns, len(rows))
        pairs = gather_affinity(self.tastes, self.appeal.columns, users, items)
        return pairs.reshape(len(rows), len(columns))

    def expected_ranking(
        self, user_ids: ArrayLike, k: int = 10, *, exclude: Interactions | None = None
    ) -> RankedItems:
        """
        The films that each user is most likely to watch next: what no model can beat but by luck.

        Args:
            user_ids: (n,) users of the simulation.
            k: list length, > 0.
            exclude: leave out the films that the user has a row with here.

        Returns:
            Lists with the logarithm of the (unnormalised) probability of a watch as scores.

        Raises:
            ValueError: an id is not part of the simulation, or k < 1.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        ids = np.asarray(user_ids, dtype=np.int64)
        parts = [
            self._ranked(ids[start : start + RANKED_ROWS], k, exclude)
            for start in range(0, max(len(ids), 1), RANKED_ROWS)
        ]
        return RankedItems(
            np.concatenate([part.item_ids for part in parts]), np.concatenate([part.scores for part in parts])
        )

    def _ranked(self, user_ids: Ids, k: int, exclude: Interactions | None) -> RankedItems:
        rows = _known(self.users, user_ids, "user")
        scores = self.choice_sharpness * self.affinity(user_ids) + self._log_notice(rows)
        if exclude is not None:
            seen = exclude.matrix(Vocabulary(np.unique(user_ids)), self.items)
            order = np.searchsorted(np.unique(user_ids), user_ids)
            seen_rows, seen_items = seen[order].nonzero()
            scores[seen_rows, seen_items] = -np.inf
        return RankedItems.from_indices(*top_k(scores, k), self.items.ids)

    def _log_notice(self, rows: Index) -> Matrix:
        """(n, n_items) log of the chance to be shown at all, discounted by the expected first position."""
        shown = (self.exposure[rows] @ self.shelf).astype(np.float64).clip(1e-12, 1 - 1e-9)
        length = self.shelf_lengths[rows, None].astype(np.float64).clip(1)
        never = np.exp(length * np.log1p(-shown))
        ever = -np.expm1(length * np.log1p(-shown))
        first = ((1 - shown) / shown - length * never / ever).clip(0)  # mean of a truncated geometric
        return np.asarray(np.log(ever) - self.position_bias * np.log1p(first), dtype=np.float32)


def runtime_seconds(catalog: Catalog) -> Vector:
    """(n_items,) length of each film; of an unknown one the median of the known, or 100 minutes."""
    minutes = catalog.table["runtime_minutes"].cast(pa.float64()).to_numpy().copy()
    known = np.nan_to_num(minutes) > 0
    minutes[~known] = np.median(minutes[known]) if known.any() else 100.0
    return np.asarray(minutes * 60, dtype=np.float32)


def _shares(weights: Matrix) -> Matrix:
    total = weights.sum(axis=1, keepdims=True)
    shares: Matrix = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    return shares


def _known(vocabulary: Vocabulary, ids: ArrayLike, kind: str) -> Index:
    wanted = np.asarray(ids, dtype=np.int64)
    index = vocabulary.index(wanted)
    if (index < 0).any():
        raise ValueError(f"Not part of the simulation: {kind} {int(wanted[index < 0][0])}")
    return index
