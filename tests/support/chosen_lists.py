"""Lists for rankers to learn from."""

import numpy as np

LISTS, SIZE, FEATURES = 30, 20, 6
INDPTR = np.arange(0, LISTS * SIZE + 1, SIZE)


def chosen_lists(seed: int = 0, missing: float = 0.1):
    """Lists in which feature 0 decides, with unknown values."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((LISTS * SIZE, FEATURES)).astype(np.float32)
    chosen = (X[:, 0] + 0.5 * rng.standard_normal(len(X)) > 1.2).astype(np.float32)
    X[rng.random(X.shape) < missing] = np.nan
    return X, chosen
