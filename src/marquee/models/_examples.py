"""
Examples of what users chose next, each as of its own moment.

An example is a user at a moment of theirs: the history before it, and the items after it as a
distribution in which the nearer weigh more. Its offset is the popularity as of that moment; items of the
history, and those that nobody had chosen by then, cannot be the answer.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from marquee.data.dataset import Histories, Interactions
from marquee.data.schema import CSR, Index, Matrix, Microseconds
from marquee.data.vocabulary import Vocabulary
from marquee.models._inputs import Floats64
from marquee.models._profile import Profiles
from marquee.models._training import Rows
from marquee.models.base import tunable
from marquee.models.recency import RecencyConfig

__all__ = ["ExampleConfig", "Examples", "class_logits", "popularity_through_time"]

MICROSECONDS_PER_DAY = 86_400_000_000
MOMENTS = 64
"""Moments between which popularity is taken to stand still."""
IMPOSSIBLE = -1e4
"""Logit of a class that was not there yet."""


@dataclass(frozen=True)
class ExampleConfig(RecencyConfig):
    """Hyper-parameters of the examples."""

    popularity_half_life_days: float = tunable(
        365.0, "Age at which an interaction counts half in popularity.", low=30.0, high=1460.0, log=True
    )
    all_time_share: float = tunable(
        0.03, "What an interaction of any age counts in popularity at least.", low=0.0, high=0.3
    )
    classes: int = tunable(4000, "Most frequent items with an output of their own; the others share one.")
    examples_per_user: int = tunable(12, "Moments drawn of a user who is active at the end of the fit data.")
    max_examples: int = tunable(100_000, "Moments drawn in all at most: bounds the time of large data.")
    example_half_life_days: float = tunable(
        1460.0, "Age of a user's newest event at which half as many are drawn.", low=180.0, high=3650.0
    )
    kept_events: float = tunable(0.4, "Least share of an example's history that is kept; the rest is chance.")
    target_half_life_events: float = tunable(
        30.0, "Later items after which one weighs half in the answer.", low=1.0, high=100.0, log=True
    )
    target_events: int = tunable(200, "Later items in the answer at most.")


class Examples:
    """
    Fit data as what the network trains on.

    Args:
        rows: positives in the global order; at least one.
        items: their vocabulary, most frequent first.
        profiles: of these rows, given the popularity at their end.
        config: how examples are drawn.

    Attributes:
        shares: (n_moments, n_items) popularity through time; the last as of the end of the rows.
        offsets: (n_moments, n_outputs) its logarithm, by class.
    """

    def __init__(
        self,
        rows: Interactions,
        items: Vocabulary,
        profiles: Callable[[Floats64], Profiles],
        config: ExampleConfig,
    ) -> None:
        self.config, self.rows, self.items = config, rows, items
        self.n_classes = min(config.classes, len(items))
        self.rng = np.random.default_rng(config.seed)
        self.moments, self.shares = popularity_through_time(
            rows,
            self.items.index(rows.item_ids),
            self.config.popularity_half_life_days,
            self.config.all_time_share,
        )
        self.offsets = class_logits(self.shares, self.config.classes)
        self.profiles = profiles(self.shares[-1])

    def draw(self) -> Rows:
        """Users at moments drawn from the fit data, more of those active of late."""
        rows, config = self.rows, self.config
        order = np.lexsort((rows.timestamps, rows.user_ids))
        users, times = rows.user_ids[order], rows.timestamps[order]
        starts = np.flatnonzero(np.append(True, users[1:] != users[:-1]))
        lengths = np.diff(np.append(starts, len(users)))
        age_days = (rows.timestamps[-1] - times[starts + lengths - 1]) / MICROSECONDS_PER_DAY
        expected = config.examples_per_user * np.exp2(-age_days / config.example_half_life_days)
        expected *= min(1.0, config.max_examples / max(float(expected.sum()), 1.0))
        drawn = np.where(lengths > 1, np.floor(expected + self.rng.random(len(starts))), 0).astype(np.int64)
        first = np.repeat(starts, drawn)
        position = first + 1 + (self.rng.random(len(first)) * np.repeat(lengths - 1, drawn)).astype(np.int64)
        later = times[position] > times[first]
        users, moments = users[first[later]], times[position[later]]
        histories = Histories.gather(rows, users, moments)
        kept = self.rng.uniform(config.kept_events, 1.0, len(histories))
        thinned = histories.where(self.rng.random(len(histories.item_ids)) < kept[histories.rows])
        self.profiles.scale_by(thinned)
        return self._rows(histories, thinned, rows, own_rows=True)

    def newest(self, rows: Interactions, cut: int) -> Rows:
        """Each user with a history, in the middle of their rows from the cut on."""
        order = np.lexsort((rows.timestamps, rows.user_ids))
        order = order[rows.timestamps[order] >= cut]
        users, starts, n = np.unique(rows.user_ids[order], return_index=True, return_counts=True)
        moments = rows.timestamps[order][starts + n // 2]
        histories = Histories.gather(rows, users, moments)
        answers = rows.take(rows.timestamps >= cut)
        return self._rows(histories, histories, answers, own_rows=False)

    def _rows(self, histories: Histories, seen: Histories, answers: Interactions, *, own_rows: bool) -> Rows:
        when = np.searchsorted(self.moments, histories.as_of, side="right") - 1
        when = np.clip(when, 0, len(self.moments) - 1)
        index = self.items.index(histories.item_ids)
        known = (index >= 0) & (index < self.n_classes)
        shape = (len(histories), self.offsets.shape[1])
        past = _cells(histories.rows[known], index[known], np.ones(int(known.sum())), shape)
        targets = self._targets(histories, answers, shape)
        which = np.repeat(np.arange(shape[0]), np.diff(targets.indptr))
        targets.data[self.offsets[when[which], targets.indices] <= IMPOSSIBLE] = 0.0
        targets = CSR(targets - targets.multiply(past))
        targets.eliminate_zeros()
        targets.sort_indices()
        totals = np.asarray(targets.sum(axis=1)).ravel()
        answered = np.flatnonzero((totals > 0) & (np.diff(past.indptr) > 0))
        targets.data /= np.repeat(totals, np.diff(targets.indptr)).astype(np.float32)
        inputs = self.profiles.encode(seen.take(answered), own_rows=own_rows)
        return Rows(inputs, CSR(targets[answered]), when[answered], CSR(past[answered]))

    def _targets(self, histories: Histories, answers: Interactions, shape: tuple[int, int]) -> CSR:
        order = np.lexsort((answers.item_ids, answers.timestamps, answers.user_ids))
        users, times = answers.user_ids[order], answers.timestamps[order]
        index = self.items.index(answers.item_ids[order])
        stops = np.searchsorted(users, histories.user_ids, side="right")
        starts = np.searchsorted(users, histories.user_ids, side="left")
        for i, moment in enumerate(histories.as_of):
            starts[i] += np.searchsorted(times[starts[i] : stops[i]], moment)
        lengths = np.minimum(stops - starts, self.config.target_events)
        rank = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        classes = index[np.repeat(starts, lengths) + rank]
        weights = np.where(classes >= 0, np.exp2(-rank / self.config.target_half_life_events), 0.0)
        rows = np.repeat(np.arange(len(histories)), lengths)
        return _cells(rows, np.clip(classes, 0, shape[1] - 1), weights, shape)


def _cells(rows: Index, columns: Index, values: Floats64, shape: tuple[int, int]) -> CSR:
    made = CSR((values.astype(np.float32), (rows, columns)), shape=shape)
    made.sum_duplicates()
    made.eliminate_zeros()
    return made


def popularity_through_time(
    rows: Interactions, index: Index, half_life_days: float, all_time_share: float
) -> tuple[Microseconds, Floats64]:
    """
    Time-decayed popularity through time, each from the rows before its moment alone.

    Returns:
        (n_moments,) ascending, and (n_moments, n_items) shares, 0 where an item was not there yet. The last
        are those of the end of the fit data.
    """
    times, n_items = rows.timestamps, int(index.max()) + 1
    at = np.unique(np.linspace(0, len(times) - 1, MOMENTS + 1).astype(np.int64)[1:])
    moments = np.append(np.unique(times[at])[:-1], times[-1] + 1)
    shares = np.empty((len(moments), n_items))
    decayed, ever, start, before = np.zeros(n_items), np.zeros(n_items), 0, times[0]
    for i, moment in enumerate(moments):
        stop = int(np.searchsorted(times, moment, side="left"))
        part, age = index[start:stop], (moment - times[start:stop]) / MICROSECONDS_PER_DAY
        decayed *= np.exp2(-(moment - before) / MICROSECONDS_PER_DAY / half_life_days)
        decayed += np.bincount(part, np.exp2(-age / half_life_days), minlength=n_items)
        ever += np.bincount(part, minlength=n_items)
        counted = decayed + all_time_share * ever
        shares[i] = counted / max(float(counted.sum()), 1e-300)
        start, before = stop, moment
    return moments, shares


def class_logits(shares: Floats64, classes: int) -> Matrix:
    """(n, n_classes [+ 1]) logits of the classes and, where there are more items, of all others together."""
    n = min(classes, shares.shape[1])
    kept = shares if n == shares.shape[1] else np.hstack([shares[:, :n], shares[:, n:].sum(axis=1)[:, None]])
    return np.log(kept, out=np.full(kept.shape, IMPOSSIBLE), where=kept > 0).astype(np.float32)
