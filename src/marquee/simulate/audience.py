"""
A virtual audience: who watches what, when, for how long, and how they rate it.

Each user has a taste over genres and eras, an activity and a clock. Films come before their eyes from
shelves: the whole catalogue by popularity, and the shelves of their favourite genres. Of what they are
shown they choose by affinity, with noise and with less attention the further down it was: a
Plackett-Luce choice without replacement, drawn with Gumbel noise. How long they watch and how they
rate follows affinity, with noise.

Users are made in blocks with a random stream each, so that any part of an audience is the same however
it is asked for, memory is bounded by a block, and time per interaction does not depend on the number
of users or films.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from marquee.data import Catalog, Event, Interactions, Vocabulary
from marquee.data.schema import Index, Matrix, Vector
from marquee.simulate.config import AudienceConfig
from marquee.simulate.draws import (
    EXPOSURE_BITS,
    EXPOSURE_MASK,
    MOST_USERS,
    USER_SHIFT,
    VALUE_BITS,
    VALUE_MASK,
    distinct,
    first_of_each,
    pack,
    quantiles,
    resolution,
    sort_groups,
)
from marquee.simulate.truth import Appeal, Truth, gather_affinity, runtime_seconds

__all__ = ["Audience", "Simulation"]

MICROSECONDS_PER_DAY: Final = 86_400_000_000
MICROSECONDS_PER_HOUR: Final = 3_600_000_000

MOST_TIMES_MEAN: Final = 20
"""The busiest user has at most this many times the mean number of interactions."""
SLOTS: Final = 16
"""Resolution of a user's division of attention between shelves, a power of two."""
TIME_SLOTS: Final = 1 << 12
RATING_STEPS_PER_POINT: Final = 2

# Share of viewing that starts in each hour of the user's clock.
# fmt: off
WEEKDAY_HOURS: Final = (
    6, 3, 1.5, 0.8, 0.5, 0.5, 0.8, 1.2, 1.2, 1.2, 1.2, 1.5, 2.2, 2.2, 2, 2.2, 3, 5, 9, 15, 20, 22, 18, 11,
)
WEEKEND_HOURS: Final = (
    9, 6, 3.5, 2, 1, 0.7, 0.7, 1.2, 2.2, 3.5, 4.5, 5, 6, 7.5, 9, 9.5, 9.5, 10, 12, 16, 20, 22, 20, 14,
)
# fmt: on


@dataclass(frozen=True, eq=False, slots=True)
class Simulation:
    """
    What an audience did, and why.

    Attributes:
        interactions: `WATCH` events with rating and watch_seconds on each row, in the order of
            (time, user, item).
        truth: the tastes behind them.
    """

    interactions: Interactions
    truth: Truth


@dataclass(frozen=True, eq=False, slots=True)
class _Traits:
    """The lasting traits of the b users of a block, by number."""

    tastes: Matrix  # (b, width) as in Truth
    slots: NDArray[np.uint8]  # (SLOTS, b) the shelf behind each slot of attention
    activity: Index  # (b,) interactions
    utc_offset_hours: Vector  # (b,)
    leniency: Vector  # (b,) points of rating

    def take(self, rows: Index) -> "_Traits":
        return _Traits(
            self.tastes[rows],
            self.slots[:, rows],
            self.activity[rows],
            self.utc_offset_hours[rows],
            self.leniency[rows],
        )


class Audience:
    """
    Virtual users of a catalogue.

    Args:
        catalog: the films; genres, release date and runtime are used, and may be unknown.
        popularity: (n_items,) ≥ 0 in the order of `catalog.item_ids`, a fact from outside (for example
            TMDB's); NaN where unknown counts as the least of the known.
        config: size, habits and noise.

    Raises:
        ValueError: the catalogue is empty or too large, or popularity does not fit it.
    """

    def __init__(self, catalog: Catalog, popularity: ArrayLike, config: AudienceConfig | None = None) -> None:
        self.config = config if config is not None else AudienceConfig()
        self._items = catalog.items
        self._appeal = Appeal.of(catalog)
        self._runtime_seconds = runtime_seconds(catalog)
        n_items, mean = len(catalog), self.config.interactions_per_user
        most_exposures = 1 << (EXPOSURE_BITS - 1)
        if not 1 <= n_items <= most_exposures:
            raise ValueError(f"An audience needs 1 to {most_exposures} films, not {n_items}")
        self._most = min(
            n_items, int(np.ceil(MOST_TIMES_MEAN * mean)), most_exposures // self.config.exposures
        )
        most_shown = self._most * self.config.exposures + n_items
        self._block = max(1, min(MOST_USERS, (1 << EXPOSURE_BITS) // most_shown))

        weights = self._weights(popularity)
        self._popularity_rank = np.argsort(np.argsort(-weights, kind="stable"), kind="stable")
        members = np.vstack([np.ones((1, n_items), dtype=bool), self._appeal.genre_members()])
        self._shelf = self._shelf_probabilities(weights, members)
        self._resolution = resolution(n_items)
        self._shelf_table = quantiles(self._shelf, self._resolution)
        self._first_day, self._day_table, self._weekend = self._calendar()
        self._minute_table = quantiles(
            np.array([WEEKDAY_HOURS, WEEKEND_HOURS]).repeat(60, axis=1), TIME_SLOTS
        )
        noise = (np.arange(1 << 16) + 0.5) / (1 << 16)
        self._gumbel_table = -np.log(-np.log(noise)).astype(np.float32)

    def simulate(self) -> Simulation:
        """All interactions in memory, in the order of time, with the truth behind them."""
        return Simulation(_concatenate(list(self._blocks())).sorted(), self.truth())

    def chunks(self, n_rows_per_chunk: int) -> Iterator[Interactions]:
        """
        The same interactions as a stream in bounded memory, user by user, a user's rows in no order.

        Args:
            n_rows_per_chunk: rows of each chunk but the last, > 0; has no influence on the rows.

        Raises:
            ValueError: n_rows_per_chunk < 1.
        """
        if n_rows_per_chunk < 1:
            raise ValueError(f"n_rows_per_chunk must be at least 1, not {n_rows_per_chunk}")
        return self._chunks(n_rows_per_chunk)

    def truth(self) -> Truth:
        """The tastes of all users, without simulating what they do."""
        config = self.config
        blocks = [self._traits(first) for first in range(0, config.users, self._block)]
        slots = np.concatenate([block.slots for block in blocks], axis=1)
        shares = np.stack([(slots == shelf).mean(axis=0) for shelf in range(len(self._shelf))], axis=1)
        return Truth(
            users=Vocabulary(config.first_user_id + np.arange(config.users)),
            items=self._items,
            appeal=self._appeal,
            tastes=np.concatenate([block.tastes for block in blocks]),
            exposure=shares.astype(np.float32),
            shelf=self._shelf,
            shelf_lengths=np.concatenate([block.activity for block in blocks]) * config.exposures,
            utc_offset_hours=np.concatenate([block.utc_offset_hours for block in blocks]),
            choice_sharpness=config.choice_sharpness,
            position_bias=config.position_bias,
        )

    def _chunks(self, n: int) -> Iterator[Interactions]:
        waiting: list[Interactions] = []
        rows = 0
        for block in self._blocks():
            waiting.append(block)
            rows += len(block)
            if rows < n:
                continue
            joined = _concatenate(waiting)
            for start in range(0, rows - n + 1, n):
                yield joined.take(slice(start, start + n))
            waiting = [joined.take(slice(rows - rows % n, rows))]
            rows %= n
        if rows:
            yield _concatenate(waiting)

    def _blocks(self) -> Iterator[Interactions]:
        for first in range(0, self.config.users, self._block):
            yield self._watch(first, self._traits(first))

    def _random(self, first: int, stream: int) -> np.random.Generator:
        return np.random.Generator(np.random.SFC64([self.config.seed, first, stream]))

    def _traits(self, first: int) -> _Traits:
        """Traits of the users of the block that starts with user `first`."""
        config, random = self.config, self._random(first, 0)
        n = min(self._block, config.users - first)

        # Common genres and eras have more friends; the root keeps rare ones alive.
        draws = random.standard_exponential((n, self._appeal.width - 1), dtype=np.float32)
        logs = np.float32(config.taste_sharpness) * np.log(draws + np.float32(1e-6))
        logs += np.log(self._appeal.counts()).astype(np.float32) / 2
        genres, eras = (_softmax(part) for part in np.split(logs, [len(self._appeal.genres)], axis=1))
        tastes = np.concatenate(
            [(1 - config.era_share) * genres, config.era_share * eras, np.zeros((n, 1), np.float32)], axis=1
        )

        # Slot s belongs to the shelf in whose part of [0, SLOTS) its middle lies: systematic sampling.
        slots = np.zeros((SLOTS, n), dtype=np.uint8)
        middles = (np.arange(SLOTS, dtype=np.float32) + 0.5)[:, None]
        bounds = np.full(n, (1 - config.browse_share) * SLOTS, dtype=np.float32)
        for genre in range(len(self._appeal.genres)):
            slots += bounds <= middles
            bounds += config.browse_share * SLOTS * genres[:, genre]

        # Stratified normals, so that a small audience has the activity that was asked for as well.
        normal = ndtri((random.permutation(n) + random.random(n)) / n)
        spread = config.activity_spread
        activity = config.interactions_per_user * np.exp(spread * normal - spread**2 / 2)
        at_least = 1 if config.interactions_per_user >= 1 else 0
        counts = np.floor(activity + random.random(n)).clip(at_least, self._most).astype(np.int64)
        offsets = np.asarray(config.utc_offset_hours, dtype=np.float32)
        return _Traits(
            tastes.astype(np.float32, copy=False),
            slots,
            counts,
            offsets[random.integers(0, len(offsets), n)],
            (config.rating_bias_spread * random.standard_normal(n)).astype(np.float32),
        )

    def _watch(self, first: int, traits: _Traits) -> Interactions:
        """What the users of a block watch, user by user, the least active first."""
        random = self._random(first, 1)
        order = np.argsort(traits.activity, kind="stable")
        traits = traits.take(order)
        user, item, affinity = self._choose(traits, random)
        n = len(user)
        seconds, ratings = self._enjoy(traits, user, item, affinity, random)
        return Interactions(
            self.config.first_user_id + first + order.take(user),
            self._items.ids.take(item),
            self._moments(traits, user, random),
            np.full(n, int(Event.WATCH), dtype=np.int8),
            ratings,
            seconds,
        )

    def _choose(self, traits: _Traits, random: np.random.Generator) -> tuple[Index, Index, Vector]:
        """Users, films and affinities of the rows of a block: `activity` distinct films for each user."""
        config = self.config
        key = self._shown(traits, random)
        user, item = key >> USER_SHIFT, key >> EXPOSURE_BITS & VALUE_MASK
        shown = traits.activity * config.exposures
        position = (key & EXPOSURE_MASK) - (np.cumsum(shown) - shown).take(user)
        np.minimum(position, shown.take(user), out=position)  # the rest of the catalogue: "far down"

        affinity = gather_affinity(traits.tastes, self._appeal.columns, user, item)
        cost = np.log1p(position.astype(np.float32)) * np.float32(config.position_bias)
        cost -= affinity * np.float32(config.choice_sharpness)
        cost -= self._gumbel_table.take(random.integers(0, 1 << 16, len(user), dtype=np.uint16))
        cost += np.float32(config.choice_sharpness + 16)  # Gumbel draws stay below 12: costs are positive
        # The bits of positive floats are in the order of the floats.
        order = cost.view(np.uint32) >> (32 - VALUE_BITS)
        candidates = np.bincount(user, minlength=len(traits.activity))
        ranked = sort_groups(pack(user, order, np.arange(len(user))), candidates)

        place, slot = first_of_each(candidates, traits.activity)
        chosen = ranked.take(place) & EXPOSURE_MASK
        if config.rewatch_rate > 0:
            again = random.random(len(place)) < config.rewatch_rate
            earlier = (
                np.arange(len(place)) - slot + np.floor(slot * random.random(len(place))).astype(np.int64)
            )
            chosen = np.where(again, chosen.take(earlier), chosen)
        return user.take(chosen), item.take(chosen), affinity.take(chosen)

    def _shown(self, traits: _Traits, random: np.random.Generator) -> Index:
        """Sorted keys (user, film, first exposure) of the distinct films that each user is shown."""
        shown = traits.activity * self.config.exposures
        user = np.repeat(np.arange(len(shown)), shown)
        bits = random.integers(0, 1 << 32, len(user), dtype=np.uint32)
        slot = (bits & (SLOTS - 1)).astype(np.int64)
        shelf = traits.slots.ravel().take(slot * len(shown) + user).astype(np.int64)
        place = (bits >> 8) & (self._resolution - 1)  # a power of two as well
        item = self._shelf_table.ravel().take(shelf * self._resolution + place)
        key = distinct(sort_groups(pack(user, item, np.arange(len(user))), shown))

        found = np.bincount(key >> USER_SHIFT, minlength=len(shown))
        short = np.flatnonzero(found < traits.activity)
        if len(short):  # who wants more than was shown looks through the whole catalogue
            n_items = len(self._items)
            rest = pack(
                np.repeat(short, n_items),
                np.tile(np.arange(n_items), len(short)),
                np.tile(len(user) + self._popularity_rank, len(short)),
            )
            # Both parts are in order: a stable sort only merges them.
            key = distinct(np.sort(np.concatenate([key, rest]), kind="stable"))
        return key

    def _enjoy(
        self, traits: _Traits, user: Index, item: Index, affinity: Vector, random: np.random.Generator
    ) -> tuple[Vector, Vector]:
        """Seconds watched and ratings of rows."""
        config, n = self.config, len(user)
        logit = random.standard_normal(n, dtype=np.float32) * np.float32(config.watch_noise)
        logit += 4 * affinity
        share = 1.1 / (1 + np.exp(-logit.clip(-30, 30)))  # beyond 1: seen to the end
        runtime = self._runtime_seconds.take(item)
        seconds = np.floor(runtime * np.minimum(share, 1))

        ratings = random.standard_normal(n, dtype=np.float32) * np.float32(config.rating_noise)
        ratings += traits.leniency.take(user) + 4.5 + 4 * affinity
        steps = np.rint(ratings * RATING_STEPS_PER_POINT) / RATING_STEPS_PER_POINT
        return seconds, steps.clip(0, 10)

    def _moments(self, traits: _Traits, user: Index, random: np.random.Generator) -> Index:
        """Moments of rows, by the calendar and clock of each user."""
        n, window = len(user), self.config.days * MICROSECONDS_PER_DAY
        day = self._day_table.take(random.integers(0, len(self._day_table), n, dtype=np.uint32))
        place = random.integers(0, TIME_SLOTS, n, dtype=np.uint16)
        minute = self._minute_table.ravel().take(self._weekend.take(day) * TIME_SLOTS + place)
        moment = day * MICROSECONDS_PER_DAY + minute * np.int64(60_000_000)
        moment += random.integers(0, 60_000_000, n, dtype=np.uint32)
        offset = (traits.utc_offset_hours * MICROSECONDS_PER_HOUR).astype(np.int64)
        start = self.config.end - window
        # Whole days are moved from one edge of the window to the other: the hour stays what it is.
        moment += self._first_day * MICROSECONDS_PER_DAY - start - offset.take(user)
        moment[moment < 0] += window
        moment[moment >= window] -= window
        return moment + start

    def _weights(self, popularity: ArrayLike) -> NDArray[np.float64]:
        """(n_items,) exposure weights in (0, 1]."""
        values = np.asarray(popularity, dtype=np.float64)
        if values.shape != (len(self._items),):
            raise ValueError(f"popularity must be of shape ({len(self._items)},), not {values.shape}")
        known = ~np.isnan(values)
        if not (values[known] >= 0).all() or np.isinf(values).any():
            raise ValueError("popularity must be finite and not negative")
        values = np.where(known, values, values[known].min() if known.any() else 1.0)
        relative = values / values.max() if values.max() > 0 else np.ones_like(values)
        return np.asarray(relative.clip(1e-9) ** self.config.popularity_exponent)

    def _shelf_probabilities(self, weights: NDArray[np.float64], members: NDArray[np.bool_]) -> Matrix:
        floor = self.config.exposure_floor
        shelf = np.where(members, weights, 0)
        shelf = (1 - floor) * shelf / shelf.sum(axis=1, keepdims=True)
        return np.asarray(shelf + floor * members / members.sum(axis=1, keepdims=True), dtype=np.float32)

    def _calendar(self) -> tuple[int, Index, Index]:
        """First UTC day of the window, quantiles of the days by activity, and whether each is a weekend."""
        first = (self.config.end - self.config.days * MICROSECONDS_PER_DAY) // MICROSECONDS_PER_DAY
        weekday = (first + np.arange(self.config.days) + 3) % 7  # day 0 was a Thursday
        weekend = (weekday >= 5).astype(np.int64)
        weights = np.where(weekend, self.config.weekend_factor, 1.0)
        days = quantiles(weights[None], resolution(self.config.days))[0]
        return int(first), days.astype(np.int64), weekend


def _concatenate(parts: list[Interactions]) -> Interactions:
    if len(parts) == 1:
        return parts[0]
    columns = (np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Interactions))
    return Interactions(*columns)


def _softmax(logs: Matrix) -> Matrix:
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)
