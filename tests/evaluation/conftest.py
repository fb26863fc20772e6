from collections.abc import Callable
from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from marquee.data.dataset import Catalog, Interactions


def make_interactions(seed: int = 0, n: int = 1200, n_users: int = 40, n_items: int = 80) -> Interactions:
    """Ratings of items by Zipf's law, no pair twice, in random order."""
    generator = np.random.default_rng(seed)
    weights = 1.0 / np.arange(1, n_items + 1)
    pairs = generator.choice(
        n_users * n_items, n, replace=False, p=np.tile(weights / weights.sum() / n_users, n_users)
    )
    return Interactions.of(
        pairs // n_items + 1,
        pairs % n_items + 100,
        generator.integers(0, 10**9, n),
        ratings=generator.integers(1, 11, n),
    )


@pytest.fixture(scope="session")
def interactions() -> Interactions:
    return make_interactions()


@pytest.fixture(scope="session")
def make() -> Callable[..., Interactions]:
    return make_interactions


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    ids = np.arange(100, 190)  # ten of them have no rating
    genres = [[("Drama", "Comedy", "War", "Crime")[i] for i in {item % 4, item % 3}] for item in ids]
    return Catalog(
        pa.table(
            {
                "item_id": ids,
                "title": [f"Film {item}" for item in ids],
                "genres": genres,
                "release_date": [date(1969 - item % 5, 6, 1) for item in ids.tolist()],
            }
        )
    )
