"""Interactions with a known truth: users who each love one genre."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from marquee.data.dataset import Catalog, Interactions
from marquee.data.schema import Event, Index

__all__ = ["PlantedTastes", "planted_tastes"]

MICROSECONDS_PER_HOUR = 3_600_000_000
GENRES = ("Western", "Horror", "Romance", "Animation")


@dataclass(frozen=True, eq=False)
class PlantedTastes:
    """
    Users who each love one genre, and the truth about them.

    Attributes:
        interactions: what they watched, rated and (once each) hid; some at the same moment.
        catalog: the items with their genre.
        genre_of_item: item id → index of its genre.
        user_ids, genre_of_user: (n_users,) who loves which genre.
    """

    interactions: Interactions
    catalog: Catalog
    genre_of_item: Mapping[int, int]
    user_ids: Index
    genre_of_user: Index

    def renamed(self, rename: Callable[[Any], Any]) -> "PlantedTastes":
        """The same tastes over other item ids; the function must preserve their order."""
        rows = self.interactions
        return PlantedTastes(
            Interactions(
                rows.user_ids,
                rename(rows.item_ids),
                rows.timestamps,
                rows.events,
                rows.ratings,
                rows.watch_seconds,
            ),
            Catalog(self.catalog.table.set_column(0, "item_id", pa.array(rename(self.catalog.item_ids)))),
            {rename(item): genre for item, genre in self.genre_of_item.items()},
            self.user_ids,
            self.genre_of_user,
        )


@cache
def planted_tastes(
    *, n_users: int = 80, n_items: int = 48, events_per_user: int = 9, loyalty: float = 0.9, seed: int = 0
) -> PlantedTastes:
    """
    Interactions in which each user draws mostly from one of four genres.

    Args:
        n_users, n_items: sizes.
        events_per_user: watched or rated items of each user, all different.
        loyalty: probability that an event is of the loved genre.
        seed: the same seed gives the same rows.
    """
    rng = np.random.default_rng(seed)
    item_ids = 10 + 3 * np.arange(n_items)
    genre_of_item = np.arange(n_items) % len(GENRES)
    genre_of_user = np.arange(n_users) % len(GENRES)
    popularity = 1.0 / (1.0 + np.arange(n_items) // len(GENRES))
    runtimes = rng.integers(80, 180, n_items)
    users, items, hours, events, ratings, seconds = [], [], [], [], [], []
    for user in range(n_users):
        loved = genre_of_item == genre_of_user[user]
        weights = popularity * np.where(loved, loyalty / loved.mean(), (1 - loyalty) / (~loved).mean())
        drawn = rng.choice(n_items, events_per_user + 1, replace=False, p=weights / weights.sum())
        *watched, hidden = drawn.tolist()
        when = np.sort(rng.integers(0, 30 * 24, events_per_user))
        for position, (item, hour) in enumerate(zip(watched, when.tolist(), strict=True)):
            rated = position % 3 == 0
            users.append(user)
            items.append(item)
            hours.append(hour)
            events.append(Event.RATE if rated else Event.WATCH)
            ratings.append(rng.uniform(6, 10) if loved[item] else rng.uniform(3, 7))
            seconds.append(np.nan if rated else runtimes[item] * 60 * rng.uniform(0.7, 1.0))
        users.append(user)
        items.append(hidden)
        hours.append(int(when[-1]))
        events.append(Event.HIDE)
        ratings.append(np.nan)
        seconds.append(np.nan)
    interactions = Interactions.of(
        np.array(users) + 1,
        item_ids[items],
        np.array(hours) * MICROSECONDS_PER_HOUR,
        events=np.array(events),
        ratings=np.array(ratings),
        watch_seconds=np.array(seconds),
    )
    catalog = Catalog(
        pa.table(
            {
                "item_id": item_ids,
                "title": [f"Film {item}" for item in item_ids],
                "runtime_minutes": runtimes,
                "genres": [[GENRES[genre]] for genre in genre_of_item],
                "keywords": [[f"{GENRES[genre].lower()} classic"] for genre in genre_of_item],
                "original_language": ["en"] * n_items,
                "overview": [f"A {GENRES[genre].lower()} story." for genre in genre_of_item],
            }
        )
    )
    truth = dict(zip(item_ids.tolist(), genre_of_item.tolist(), strict=True))
    return PlantedTastes(interactions, catalog, truth, np.arange(n_users) + 1, genre_of_user)
