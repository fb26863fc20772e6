"""Interactions to split: written out as triples, or drawn."""

import numpy as np

from marquee.data.dataset import Interactions


def rows(triples: list[tuple[int, int, int]], **columns: object) -> Interactions:
    users, items, times = np.array(triples, dtype=np.int64).reshape(-1, 3).T
    return Interactions.of(users, items, times, **columns)


def random_rows(seed: int, n: int = 400, n_users: int = 12, n_times: int = 150) -> Interactions:
    generator = np.random.default_rng(seed)
    users, items = generator.integers(1, n_users + 1, n), generator.integers(1, 60, n)
    made = Interactions.of(users, items, generator.integers(0, n_times, n), ratings=(users + items) % 10 + 1)
    return made.take(generator.permutation(n))
