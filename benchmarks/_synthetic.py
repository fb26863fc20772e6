"""Ratings as they are in the field, made in bounded memory: latent tastes, few hits and a long tail, time."""

import datetime as dt

import numpy as np
import pyarrow as pa

from marquee.data import Catalog, Interactions
from marquee.data.schema import Ids

N_TASTES, USERS_AT_A_TIME = 48, 20_000
FIRST_DAY, DAYS = dt.date(2015, 1, 1), 3 * 365
DAY = 86_400 * 10**6


def interactions(
    n: int, n_users: int | None = None, n_items: int | None = None, seed: int = 0, spread: float = 1.1
) -> Interactions:
    """
    About n ratings (a little fewer: nobody rates an item twice).

    Each user mixes a few of 48 tastes; a taste prefers some items of a catalogue whose popularity falls
    as a power law. Activity is log-normal, at least 10; a user's events lie within some weeks, in order.

    Args:
        n: how many, before repeated pairs are dropped.
        n_users: default n / 150.
        n_items: default 12 √n: 3,800 at 10⁵, 12,000 at 10⁶, 38,000 at 10⁷.
        seed: same seed, same rows.
        spread: of the activity of users, the σ of its logarithm; 0: all have the same number.
    """
    n_users, n_items = n_users or max(n // 150, 50), n_items or catalogue_size(n)
    rng = np.random.default_rng(seed)
    activity = rng.lognormal(0.0, spread, n_users)
    wanted = np.minimum(10 + (activity * (n / n_users - 10) / activity.mean()).astype(np.int64), n_items // 8)
    tastes = _tastes(n_items, np.random.default_rng(seed + 1))
    # One ascending array for all tastes: a draw u of taste z is found as z + u.
    ladder = (
        np.cumsum(tastes, axis=1) / tastes.sum(axis=1, keepdims=True) + np.arange(N_TASTES)[:, None]
    ).ravel()
    columns: list[list[np.ndarray]] = [[], [], [], []]
    for first in range(0, n_users, USERS_AT_A_TIME):
        counts = wanted[first : first + USERS_AT_A_TIME]
        users, items, order = _draw(counts, ladder, n_items, rng)
        start = rng.integers(0, (DAYS - 90) * DAY, len(counts))
        pace = rng.lognormal(np.log(DAY), 1.0, len(counts)) * 30 / np.maximum(counts, 30)
        times = start[users] + np.minimum(order * pace[users], 90 * DAY).astype(np.int64)
        stars = np.clip(np.round(7.0 + 1.8 * rng.standard_normal(len(users), np.float32)), 1.0, 10.0)
        for column, part in zip(columns, (users + first, items, times, stars), strict=True):
            column.append(part)
    user_ids, item_ids, timestamps, ratings = (np.concatenate(parts) for parts in columns)
    began = (FIRST_DAY - dt.date(1970, 1, 1)).days * DAY
    return Interactions.of(user_ids + 1, item_ids + 1, timestamps + began, ratings=ratings)


def catalogue_size(n: int) -> int:
    """Items for n interactions."""
    return int(12 * np.sqrt(n))


def catalog(n_items: int, seed: int = 0) -> Catalog:
    """Facts of the items: the genres of an item are the tastes that prefer it most."""
    tastes = _tastes(n_items, np.random.default_rng(seed + 1))
    rng = np.random.default_rng(seed + 2)
    best = np.argsort(-tastes, axis=0, kind="stable")[:3].T  # (n_items, 3)
    names = np.array([f"genre {i % 19}" for i in range(N_TASTES)])
    released = np.datetime64(FIRST_DAY) - (rng.exponential(4000, n_items)).astype("timedelta64[D]")
    return Catalog(
        pa.table(
            {
                "item_id": np.arange(1, n_items + 1),
                "title": [f"Film {i}" for i in range(1, n_items + 1)],
                "genres": [sorted(set(row)) for row in names[best].tolist()],
                "release_date": pa.array(released),
                "runtime_minutes": pa.array(rng.integers(60, 200, n_items), pa.int32()),
                "original_language": rng.choice(["en", "fr", "ko", "es"], n_items, p=[0.7, 0.1, 0.1, 0.1]),
            }
        )
    )


def _tastes(n_items: int, rng: np.random.Generator) -> np.ndarray:
    """(48, n_items) how often each taste takes each item."""
    popularity = 1.0 / (50.0 + np.arange(n_items))
    return popularity * np.exp(1.5 * rng.standard_normal((N_TASTES, n_items)))


def _draw(counts: Ids, ladder: np.ndarray, n_items: int, rng: np.random.Generator) -> tuple[Ids, Ids, Ids]:
    """User, item and place in the user's sequence of each event, without repeated pairs."""
    drawn = counts + counts // 4  # some repeat
    users = np.repeat(np.arange(len(counts)), drawn)
    # Each user has four tastes, of which the first is taken most.
    own = rng.integers(0, N_TASTES, (len(counts), 4))
    taste = own[users, np.minimum(rng.geometric(0.5, len(users)) - 1, 3)]
    found = np.searchsorted(ladder, taste + rng.random(len(users)), side="right") - taste * n_items
    items = np.clip(found, 0, n_items - 1)
    _, kept = np.unique(users * n_items + items, return_index=True)
    kept.sort()
    users, items = users[kept], items[kept]
    sizes = np.bincount(users, minlength=len(counts))
    order = np.arange(len(users)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    inside = order < counts[users]
    return users[inside], items[inside], order[inside]
