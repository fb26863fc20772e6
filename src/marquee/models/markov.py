"""
Windowed Markov chain: what people go on to after the items of late.

For each user in time order, each event counts as followed by the next `window` ones, the nearer the
more; counts are divided by how often the earlier item was followed at all, so that a row is a smoothed
distribution over next items. A history scores the sum of the rows of its items, mostly of the newest.

Source:
    Shani et al. 2005, "An MDP-based recommender system" (skipping and clustering of Markov chains).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from marquee.data.dataset import Catalog, Histories, Interactions
from marquee.data.schema import CSR, Matrix, Vector
from marquee.errors import ModelError
from marquee.models.base import ModelState, Progress, Recommender, silent, tunable
from marquee.models.recency import RecencyConfig, history_matrix, training_matrix
from marquee.models.row_sums import RowSums, narrow

__all__ = ["Markov", "MarkovConfig"]


@dataclass(frozen=True)
class MarkovConfig(RecencyConfig):
    """Hyper-parameters of `Markov`."""

    history_half_life_events: float | None = tunable(
        20.0,
        "Newer events of the user after which an event counts half; none: all count alike.",
        choices=(None, 2.0, 5.0, 10.0, 20.0, 50.0),
    )
    window: int = tunable(40, "Following events that count.", choices=(1, 5, 10, 20, 40))
    step_half_life: float = tunable(
        20.0, "Steps after which a following event counts half.", low=1.0, high=50.0, log=True
    )
    smoothing: float = tunable(
        30.0, "Added to the number of times an item was followed.", low=0.0, high=100.0
    )

    newest_rows: int = tunable(5_000_000, "Rows of the fit data that are counted, the newest; bounds memory.")
    followers: int | None = tunable(None, "Most likely next items kept of each item; none: all.")

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"window must be at least 1, not {self.window}")


class Markov(Recommender):
    """Items by how often they follow those of the history."""

    name = "markov"
    Config = MarkovConfig
    config: MarkovConfig
    _popularity: Vector  # (n_items,) for empty histories
    _next: RowSums  # (n_items, n_items) row i: what follows i

    def fit(
        self, interactions: Interactions, catalog: Catalog | None = None, *, progress: Progress = silent
    ) -> Self:
        """Count what follows what; see `Recommender.fit`."""
        rows = interactions.positives()
        self._set_items(rows)
        n_items = len(self.items)
        weights = training_matrix(rows, self.items, self.config)  # (n_users, n_items)
        user_ids = np.unique(rows.user_ids)
        norms = np.bincount(weights.indices, weights.data.astype(np.float64) ** 2, minlength=n_items)
        self._popularity = (norms / max(norms.max(initial=0.0), 1e-12)).astype(np.float32)
        rows = rows.sorted().take(slice(-self.config.newest_rows, None))
        rows = rows.take(np.argsort(rows.user_ids, kind="stable"))
        users = np.searchsorted(user_ids, rows.user_ids)
        column = self.items.index(rows.item_ids)
        # A row of the fit data weighs what it weighs elsewhere: its age and rating.
        value = np.asarray(weights[users, column]).ravel().astype(np.float32)
        shape = (n_items, n_items)
        counts: CSR = CSR((np.empty(0, np.float32), (np.empty(0, np.int64),) * 2), shape=shape)
        progress.total(self.config.window, "steps")
        for step in range(1, self.config.window + 1):
            follows = (users[step:] == users[:-step]) & (rows.timestamps[step:] > rows.timestamps[:-step])
            decay = np.float32(0.5 ** ((step - 1) / self.config.step_half_life))
            pairs = (column[:-step][follows], column[step:][follows])
            weight = decay * value[:-step][follows] * value[step:][follows]
            counts = (counts + CSR((weight, pairs), shape=shape)).tocsr()
            progress.step()
        total = np.asarray(counts.sum(axis=1)).ravel() + self.config.smoothing
        counts.data /= np.repeat(total, np.diff(counts.indptr)).astype(np.float32) + np.float32(1e-12)
        if self.config.followers is not None:
            counts = _largest_of_rows(counts, self.config.followers)
        counts.sort_indices()
        self._next = RowSums(narrow(counts))
        return self

    def score(self, histories: Histories) -> Matrix:
        """Product of history and transitions; without a known event, popularity."""
        H = history_matrix(histories, self.items, self.config)  # (n, n_items)
        scores = self._next(H)
        scores[np.diff(H.indptr) == 0] = self._popularity
        return scores

    def state(self) -> ModelState:
        """Item ids, counts, popularity and the transitions."""
        arrays = {
            **self._items_state(),
            "popularity": self._popularity,
            "data": self._next.matrix.data,
            "indices": self._next.matrix.indices,
            "indptr": self._next.matrix.indptr,
        }
        return ModelState(arrays, {"config": self.config.to_dict()})

    @classmethod
    def from_state(cls, state: ModelState) -> Self:
        """See `Recommender.from_state`."""
        model = cls(cls.Config.from_dict(state.meta["config"]))
        if "indptr" not in state.arrays:
            raise ModelError("The state holds no transitions.", fix="Train the model again.")
        model._restore_items(state)
        model._popularity = state.arrays["popularity"]
        n = len(model.items)
        parts = (state.arrays["data"], state.arrays["indices"], state.arrays["indptr"])
        model._next = RowSums(CSR(parts, shape=(n, n)))
        return model


def _largest_of_rows(matrix: CSR, k: int) -> CSR:
    """The k greatest entries of each row."""
    kept = np.ones(matrix.nnz, dtype=bool)
    for row in np.flatnonzero(np.diff(matrix.indptr) > k):
        start, stop = matrix.indptr[row], matrix.indptr[row + 1]
        kept[start:stop][np.argpartition(matrix.data[start:stop], -k)[:-k]] = False
    sizes = np.minimum(np.diff(matrix.indptr), k)
    return CSR((matrix.data[kept], matrix.indices[kept], np.append(0, np.cumsum(sizes))), shape=matrix.shape)
