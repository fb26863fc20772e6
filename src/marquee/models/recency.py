"""
How much an event still says: the weights of training rows and of histories.

Tastes and catalogues drift, so that old interactions say less about tomorrow. A training row counts
2^(-age / half-life) by its age at the end of the fit data; an event of a history counts less the more
events and the more days lie between it and the user's newest one.

Source:
    Koren 2009, "Collaborative filtering with temporal dynamics"; Ding & Li 2005, "Time weight
    collaborative filtering".
"""

import threading
import weakref
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from marquee.data.dataset import Histories, Interactions
from marquee.data.schema import CSR, Event, Float32, Index
from marquee.data.vocabulary import Vocabulary
from marquee.models.base import ModelConfig, tunable

__all__ = ["RecencyConfig", "history_matrix", "training_matrix"]

MICROSECONDS_PER_DAY = 86_400_000_000
LEAST_WEIGHT = 1e-6
Float64 = NDArray[np.float64]
RECENT: Final = 8
"""Histories of which each thread keeps the matrices."""


@dataclass(frozen=True)
class RecencyConfig(ModelConfig):
    """Hyper-parameters of the models that weigh by recency."""

    training_half_life_days: float | None = tunable(
        730.0,
        "Age at which a training row counts half; none: all count alike.",
        choices=(None, 180.0, 365.0, 730.0, 1460.0),
    )
    history_half_life_events: float | None = tunable(
        100.0,
        "Newer events of the user after which an event counts half; none: all count alike.",
        choices=(None, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0),
    )
    history_half_life_days: float | None = tunable(
        180.0,
        "Days before the user's newest event at which an event counts half; none: all count alike.",
        choices=(None, 7.0, 30.0, 90.0, 180.0, 365.0),
    )
    rating_weight: float = tunable(
        0.5, "How much a rating above the user's mean adds to the weight of its row.", low=0.0, high=1.0
    )


def training_matrix(rows: Interactions, items: Vocabulary, config: RecencyConfig) -> CSR:
    """
    User × item matrix of the fit data.

    The value is the square root of the decay, so that a pair of rows counts their (geometric) mean
    decay in the Gram matrix, times the liking; of a repeated pair the largest counts.

    Returns:
        (n_users, n_items) float32 CSR with sorted indices, users in the order of their id.
    """
    users = Vocabulary(np.unique(rows.user_ids))
    row = users.index(rows.user_ids)
    column = items.index(rows.item_ids)
    values = _liking(row, rows.ratings, config.rating_weight)
    if config.training_half_life_days is not None:
        age_days = (rows.timestamps.max(initial=0) - rows.timestamps) / MICROSECONDS_PER_DAY
        decay = np.exp2(-0.5 * age_days / config.training_half_life_days)
        values *= np.maximum(decay, LEAST_WEIGHT).astype(np.float32)
    cells = row * len(items) + column
    cells, order = _sorted_cells(cells, len(users) * len(items))
    first, row, column = _distinct(cells, len(items))
    indptr = np.append(0, np.cumsum(np.bincount(row, minlength=len(users))))
    return CSR((_largest(values[order], first), column, indptr), shape=(len(users), len(items)))


def history_matrix(histories: Histories, items: Vocabulary, config: RecencyConfig) -> CSR:
    """
    History × item matrix of the known positive events, weighted in (0, 2].

    Returns:
        (n, n_items) float32 CSR with sorted indices, shared with others that ask the same: not to be
        written into.
    """
    kept: list[_Events] = _recent.__dict__.setdefault("events", [])
    for events in kept:
        if events.of is histories and events.items() == items:
            return events.matrix(config)
    events = _Events(histories, items)
    _recent.events = [events, *kept[: RECENT - 1]]
    return events.matrix(config)


class _Events:
    """
    The known positive events of histories, and the matrices that were made of them.

    Matrices of different settings differ in their values alone. What is remembered here keeps no bundle
    mapped.
    """

    def __init__(self, histories: Histories, items: Vocabulary) -> None:
        self.of = histories
        self.items = weakref.ref(items)
        column = items.index(histories.item_ids)
        positive = (column >= 0) & (histories.events != Event.HIDE)
        self._known, column = histories.where(positive), column[positive]
        self._rows = self._known.rows
        n_items = len(items)
        cells, self._order = _sorted_cells(self._rows * n_items + column, len(histories) * n_items)
        self._first, row, self._columns = _distinct(cells, n_items)
        self._indptr = np.append(0, np.cumsum(np.bincount(row, minlength=len(histories))))
        self._shape = (len(histories), n_items)
        self._matrices: dict[tuple[float | None, ...], CSR] = {}
        self._likings: dict[float, Float32] = {}

    def matrix(self, config: RecencyConfig) -> CSR:
        """As `history_matrix`."""
        settings = (
            config.history_half_life_events,
            config.history_half_life_days,
            config.rating_weight,
        )
        made = self._matrices.get(settings)
        if made is None:
            values = _largest(self._weights(config)[self._order], self._first)
            made = CSR((values, self._columns, self._indptr), shape=self._shape)
            self._matrices[settings] = made
        return made

    def _weights(self, config: RecencyConfig) -> Float32:
        halvings = np.zeros(len(self._rows))
        if config.history_half_life_events is not None:
            halvings += self._later / config.history_half_life_events
        if config.history_half_life_days is not None:
            halvings += self._age_days / config.history_half_life_days
        weights = np.maximum(np.exp2(-halvings), LEAST_WEIGHT)
        strength = config.rating_weight
        if strength not in self._likings:
            self._likings[strength] = _liking(self._rows, self._known.ratings, strength)
        return weights.astype(np.float32) * self._likings[strength]

    @cached_property
    def _later(self) -> Float64:
        """(n_events,) newer events; those of one moment have no order: each gets their mean position."""
        n, rows = len(self._rows), self._rows
        moved = (rows[1:] != rows[:-1]) | (self._known.timestamps[1:] != self._known.timestamps[:-1])
        starts = np.flatnonzero(np.append(True, moved)[:n])
        sizes = np.diff(np.append(starts, n))
        middle: Float64 = np.repeat(starts + (sizes + 1) / 2, sizes)
        return self._known.indptr[1:][rows] - middle

    @cached_property
    def _age_days(self) -> Float64:
        """(n_events,) before the newest event of the same history."""
        times = self._known.timestamps
        return (times[self._known.indptr[1:][self._rows] - 1] - times) / MICROSECONDS_PER_DAY


_recent = threading.local()
"""Of the newest histories of each thread: the sources of one recommender ask for the same."""


def _distinct(cells: Index, n_items: int) -> tuple[Index, Index, Index]:
    """Of ascending cell numbers: where each first occurs, its row and its column."""
    first = np.flatnonzero(np.append(True, cells[1:] != cells[:-1])[: len(cells)])
    row, column = np.divmod(cells[first], max(n_items, 1))
    return first, row, column


def _largest(values: Float32, first: Index) -> Float32:
    """The largest value of each run."""
    return np.maximum.reduceat(values, first) if len(first) < len(values) else values


def _sorted_cells(cells: Index, n_cells: int) -> tuple[Index, Index]:
    """Cell numbers in ascending order, and where each was."""
    bits = len(cells).bit_length()
    if n_cells.bit_length() + bits > 63:
        order = np.argsort(cells, kind="stable")
        return cells[order], order
    # Number and place in one integer: a sort is several times faster than an argsort.
    both = np.sort((cells << bits) | np.arange(len(cells)))
    return both >> bits, both & ((1 << bits) - 1)


def _liking(rows: Index, ratings: Float32, strength: float) -> Float32:
    """(n,) factors in [0.1, 2], above 1 for what the user of the row rated above their mean."""
    factors = np.ones(len(ratings), np.float32)
    rated = ~np.isnan(ratings)
    if strength and rated.any():
        who, stars = rows[rated], ratings[rated].astype(np.float64)
        mean = np.bincount(who, stars) / np.maximum(np.bincount(who), 1)
        # 3 is what separates an indifferent from a loved item on the scale of ten.
        factors[rated] = np.clip(1.0 + strength * (stars - mean[who]) / 3.0, 0.1, 2.0)
    return factors
