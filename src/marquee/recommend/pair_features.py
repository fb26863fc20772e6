"""
What a ranker knows of a (history, candidate) pair.

Four kinds of feature: what the sources say (score, standing among the candidates, provenance), what is known
of the item before t (popularity at several half-lives and its trend, ratings, age, where in a user's life it
comes), what is known of the user (activity, recency, taste for the popular and the new), and how the two
match (facts shared with the whole history, with its newest items and with what was liked; years; franchise).
All shares and distances are free of the size of the data, so that what is learnt on a smaller past holds
on a larger present. Missing facts are NaN.
"""

from itertools import pairwise
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from marquee.data.dataset import Histories, Interactions
from marquee.data.schema import CSR, Event, Index, Matrix, Vector
from marquee.data.vocabulary import Vocabulary
from marquee.models.base import ModelState
from marquee.models.row_sums import row_sums
from marquee.recommend.candidates import Candidates
from marquee.recommend.content_facts import KINDS, ContentFacts

__all__ = ["PairFeatures"]

MICROSECONDS_PER_DAY: Final = 86_400_000_000
DAYS_PER_YEAR: Final = 365.25
HALF_LIVES_DAYS: Final = (7.0, 30.0, 180.0)
HALF_LIVES_SHARE: Final = (0.01, 0.05, 0.2)
"""Half-lives in share of the rows: they suit dense and sparse logs alike."""
HALF_LIFE_EVENTS: Final = 100.0
"""Newer events after which an event counts half in the profile of all."""
NEWEST: Final = 10
"""Events of the profile of late."""
LEVELS: Final = 2**14
PLACE_BITS: Final = 17  # beside 15 bits of level
QUANTUM: Final = 1.0 / LEVELS
"""Differences of scores below this share of their range are rounding, and no reason for another rank."""
SHRINKAGE: Final = 5.0
"""Pseudo-observations at the mean, for statistics of an item."""

POPULARITY: Final = (
    "log_share",
    *(f"log_share_{h:g}d" for h in HALF_LIVES_DAYS),
    *(f"log_share_{h:g}" for h in HALF_LIVES_SHARE),
)
ITEM: Final = (
    *POPULARITY,
    "trend_short",
    "trend_long",
    "percentile",
    "rating",
    "n_terms",
    "life_position",
    "rater_activity",
    "known_days",
    "idle_days",
)
USER: Final = (
    "n_events",
    "span_days",
    "gap_days",
    "n_last_day",
    "user_popularity",
    "user_age",
    "user_age_spread",
    "user_rating",
)
CROSS: Final = (
    "age",
    "year_distance",
    "year_density",
    "popularity_distance",
    "life_distance",
    *(f"{kind}_all" for kind in KINDS),
    *(f"{kind}_late" for kind in KINDS),
    *(f"{kind}_liked" for kind in KINDS),
)


class PairFeatures:
    """
    Features of pairs; `fit` once on the rows before t.

    Attributes:
        names: of the columns of `compute`.
    """

    def __init__(self, sources: tuple[str, ...]) -> None:
        self.sources = sources
        self.names: tuple[str, ...] = (
            *(f"{source}_{part}" for source in sources for part in ("score", "z", "rank")),
            "n_proposed",
            *ITEM,
            *USER,
            *CROSS,
        )
        self._edges = np.cumsum([3 * len(sources), 1, len(ITEM), len(USER)])

    def fit(self, rows: Interactions, facts: ContentFacts, items: Vocabulary) -> Self:
        """
        Count what the rows say of each item.

        Args:
            rows: positive events, in the global order.
            facts: of the items.
            items: the columns of the scores.
        """
        self._items = items
        aligned = facts.align(items)
        self._released, self._terms, self._kind = aligned.released, aligned.terms, aligned.kind
        self._item = _item_columns(rows, items, np.diff(self._terms.indptr))  # (n_items, len(ITEM))
        self._prepare()
        return self

    def item_columns(self) -> pa.Table:
        """What `fit` counted of each item: `item_id` and the columns of `ITEM`."""
        columns = {name: self._item[:, number] for number, name in enumerate(ITEM)}
        return pa.table({"item_id": self._items.ids, **columns})

    def take_item_columns(self, columns: pa.Table) -> None:
        """
        Put what a feature store gives in place of what `fit` counted.

        Args:
            columns: those of `ITEM`, in the order of the items.
        """
        self._item = np.stack([columns[name].to_numpy() for name in ITEM], axis=1)
        self._prepare()

    def compute(self, histories: Histories, candidates: Candidates) -> Matrix:
        """(n_pairs, n_features) float32, column by column in memory."""
        made = np.empty((len(self.names), len(candidates.items)), np.float32)
        sources, proposed, item, user, cross = np.split(made, self._edges)
        _fill_source_columns(sources.reshape(len(self.sources), 3, -1), candidates)
        proposed[0] = candidates.proposed.sum(axis=1)
        item[:] = self._item_columns[:, candidates.items]
        self._fill_history_columns(user, cross, histories, candidates)
        return made.T

    def state(self) -> ModelState:
        """The item columns, terms and release days."""
        arrays: dict[str, NDArray[Any]] = {
            "released": self._released,
            "item": self._item,
            "kind": self._kind,
            "data": self._terms.data,
            "indices": self._terms.indices,
            "indptr": self._terms.indptr,
        }
        return ModelState(arrays, {"sources": list(self.sources), "n_terms": int(self._terms.shape[1])})

    @classmethod
    def from_state(cls, state: ModelState, items: Vocabulary) -> Self:
        """The features of a state."""
        made = cls(tuple(state.meta["sources"]))
        made._items = items
        arrays = state.arrays
        made._released, made._item, made._kind = arrays["released"], arrays["item"], arrays["kind"]
        parts = (arrays["data"], arrays["indices"], arrays["indptr"])
        made._terms = CSR(parts, shape=(len(items), state.meta["n_terms"]))
        made._prepare()
        return made

    def _prepare(self) -> None:
        """What follows from the state, in the shape that `compute` wants."""
        self._item_columns = np.ascontiguousarray(self._item.T)
        # (n_items, n_kinds) place among the terms of an item where those of each kind begin.
        owner = np.repeat(np.arange(len(self._item)), np.diff(self._terms.indptr))
        cell = owner * len(KINDS) + self._kind[self._terms.indices]
        sizes = np.bincount(cell, minlength=len(self._item) * len(KINDS)).reshape(-1, len(KINDS))
        self._kind_starts = np.cumsum(sizes, axis=1) - sizes

    def _fill_history_columns(
        self, user: Matrix, cross: Matrix, histories: Histories, candidates: Candidates
    ) -> None:
        """Write (len(USER), n_pairs) of the history and (len(CROSS), n_pairs) of each pair."""
        index = self._items.index(histories.item_ids)
        known = histories.where((index >= 0) & (histories.events != Event.HIDE))
        index = self._items.index(known.item_ids)
        owner, n = known.rows, len(known)
        count = np.maximum(known.lengths, 1)
        newest = np.where(known.lengths > 0, np.append(known.timestamps, 0)[known.indptr[1:] - 1], 0)
        oldest = np.where(known.lengths > 0, np.append(known.timestamps, 0)[known.indptr[:-1]], 0)
        has = known.lengths > 0
        released = self._released[index]
        dated = ~np.isnan(released)
        n_dated = np.bincount(owner[dated], minlength=n)
        safe = np.maximum(n_dated, 1)
        watch_age = (known.timestamps / MICROSECONDS_PER_DAY - released) / DAYS_PER_YEAR

        def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
            total = np.bincount(owner[dated], values[dated], minlength=n)
            return np.where(n_dated > 0, total / safe, np.nan)

        popularity = self._item[index, 0].astype(np.float64)
        user_popularity = np.where(has, np.bincount(owner, popularity, minlength=n) / count, np.nan)
        year = mean(released / DAYS_PER_YEAR)
        spread = np.sqrt(np.maximum(mean((released / DAYS_PER_YEAR - year[owner]) ** 2), 0.0))
        rated = ~np.isnan(known.ratings)
        n_rated = np.bincount(owner[rated], minlength=n)
        stars = np.bincount(owner[rated], known.ratings[rated].astype(np.float64), minlength=n)
        mean_rating = np.where(n_rated > 0, stars / np.maximum(n_rated, 1), np.nan)
        recent = known.timestamps >= newest[owner] - MICROSECONDS_PER_DAY
        of_history = np.stack(
            [
                np.log1p(known.lengths),
                np.where(has, np.log1p((newest - oldest) / MICROSECONDS_PER_DAY), np.nan),
                np.where(has, np.log1p(np.maximum(known.as_of - newest, 0) / MICROSECONDS_PER_DAY), np.nan),
                np.log1p(np.bincount(owner[recent], minlength=n)),
                user_popularity,
                mean(watch_age),
                spread,
                mean_rating,
            ]
        ).astype(np.float32)
        user[:] = np.repeat(of_history, np.diff(candidates.indptr), axis=1)

        item, rows = candidates.items, candidates.rows
        item_released = self._released[item]
        age = (known.as_of[rows] / MICROSECONDS_PER_DAY - item_released) / DAYS_PER_YEAR
        item_year = item_released / DAYS_PER_YEAR
        life = self._item_columns[ITEM.index("life_position")]
        cross[0] = np.maximum(age, -1.0)
        cross[1] = item_year - year[rows]
        cross[2] = _near_share(released[dated], owner[dated], n_dated, item_released, rows)
        cross[3] = self._item_columns[0, item] - user_popularity[rows]
        cross[4] = life[item] - np.log1p(known.lengths)[rows]
        place = known.indptr[1:][owner] - np.arange(len(owner))  # 1 for the newest
        weights = np.stack(
            [np.exp2(-(place - 1) / HALF_LIFE_EVENTS), place <= NEWEST, _liking(known, mean_rating)]
        )
        cross[len(CROSS) - 3 * len(KINDS) :] = self._matches(known, index, weights, item, rows)

    def _matches(
        self, known: Histories, index: Index, weights: NDArray[np.float64], item: Index, rows: Index
    ) -> Matrix:
        """
        Agreement of the facts of each item with three summaries of its history.

        Args:
            known: n histories of known items.
            index: (n_events,) their item indices.
            weights: (3, n_events) of the events, by summary.
            item, rows: (n_pairs,) item and history of each pair.

        Returns:
            (3 n_kinds, n_pairs): the cosine with all events, with the newest, and the sum over liked ones.
        """
        n, n_kinds, n_terms = len(known), len(KINDS), self._terms.shape[1]
        summary = np.concatenate([known.rows + number * n for number in range(3)])
        parts = (weights.astype(np.float32).ravel(), (summary, np.tile(index, 3)))
        weighted = CSR(parts, shape=(3 * n, len(self._items)))
        profile = row_sums(self._terms, weighted.indices, weighted.data, weighted.indptr)
        profile = np.stack(np.split(profile, 3), axis=2)  # (n, n_terms, 3)
        # Terms lie together by kind, so that norms are sums over slices.
        edges = np.searchsorted(self._kind, np.arange(n_kinds + 1))
        norms = np.stack(
            [
                np.sqrt(np.einsum("nts,nts->ns", part, part))
                for part in (profile[:, a:b] for a, b in pairwise(edges))
            ],
            axis=1,
        )  # (n, n_kinds, 3)
        norms[:, :, 2] = np.sqrt(np.maximum(known.lengths, 1))[:, None]
        scale = 1.0 / np.maximum(norms, 1e-9)
        # A row of `taken` for each kind of a pair, a column for each term of a history.
        taken = self._terms[item]
        terms = taken.indices + np.repeat(rows * n_terms, np.diff(taken.indptr))
        starts = taken.indptr[:-1, None] + self._kind_starts[item]
        by_kind = CSR(
            (taken.data, terms, np.append(starts.ravel(), taken.nnz)), shape=(starts.size, n * n_terms)
        )
        sums = (by_kind @ profile.reshape(n * n_terms, 3)).reshape(len(item), n_kinds, 3) * scale[rows]
        return np.asarray(sums.transpose(2, 1, 0)).reshape(3 * n_kinds, len(item))


def _fill_source_columns(made: Matrix, candidates: Candidates) -> None:
    """Write (n_sources, 3, n_pairs): score, score in standard deviations and rank, among the candidates."""
    if not len(candidates.items):
        return
    scores = candidates.scores.T.astype(np.float64)  # (n_sources, n_pairs)
    sizes = np.diff(candidates.indptr)
    sizes, starts = sizes[sizes > 0], candidates.indptr[:-1][sizes > 0]

    def spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values of lists as values of their pairs."""
        return np.repeat(values, sizes, axis=1)

    low = np.minimum.reduceat(scores, starts, axis=1)
    extent = np.maximum.reduceat(scores, starts, axis=1) - low
    away = scores - spread(np.add.reduceat(scores, starts, axis=1) / sizes)
    deviation = np.sqrt(np.add.reduceat(away**2, starts, axis=1) / sizes)
    made[:, 0] = scores
    made[:, 1] = away / spread(np.maximum(deviation, 1e-9))
    share = np.rint((scores - spread(low)) / spread(np.maximum(extent, 1e-12)) / QUANTUM)
    # From the best: level and place in the list in one integer, a row for each list.
    inside = np.arange(sizes.max()) < sizes[:, None]
    cells = np.flatnonzero(inside)
    first = np.repeat(starts, sizes)  # pair of the list of each pair
    integer = np.uint32 if inside.shape[1] <= 1 << PLACE_BITS else np.uint64
    keys = np.full((len(scores), inside.size), np.iinfo(integer).max, integer)
    pairs = np.arange(len(first))
    keys[:, cells] = ((LEVELS - share.astype(np.int64)) << PLACE_BITS) + (pairs - first)
    keys = np.sort(keys.reshape(-1, *inside.shape), axis=2).reshape(keys.shape)[:, cells]
    level = keys >> PLACE_BITS
    # Equal scores share the rank of the first of them.
    place = np.zeros(keys.shape, np.int64)
    place[:, 1:] = np.where(level[:, 1:] != level[:, :-1], pairs[1:], 0)
    place[:, starts] = starts
    np.maximum.accumulate(place, axis=1, out=place)
    ranks = np.log1p(np.arange(sizes.max())).astype(np.float32)[place - first]
    pair = (keys & ((1 << PLACE_BITS) - 1)) + first
    for own, where, rank in zip(made[:, 2], pair, ranks, strict=True):
        own[where] = rank


def _item_columns(rows: Interactions, items: Vocabulary, n_terms: Index) -> Matrix:
    """(n_items, len(ITEM)) of what the rows before t say of each item."""
    n_items, n = len(items), len(rows)
    index = items.index(rows.item_ids)
    end = int(rows.timestamps.max(initial=0))
    age_days = (end - rows.timestamps) / MICROSECONDS_PER_DAY
    age_rows = np.arange(n, 0, -1) / max(n, 1)

    def log_share(weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
        counts = np.bincount(index, weights, minlength=n_items)
        logs: NDArray[np.float64] = np.log((counts + 0.5) / (counts.sum() + 0.5 * n_items))
        return logs

    shares = [
        log_share(None),
        *(log_share(np.exp2(-age_days / h)) for h in HALF_LIVES_DAYS),
        *(log_share(np.exp2(-age_rows / h)) for h in HALF_LIVES_SHARE),
    ]
    counts = np.bincount(index, minlength=n_items)
    order = np.argsort(np.argsort(counts, kind="stable"), kind="stable")
    users, owner, activity = np.unique(rows.user_ids, return_inverse=True, return_counts=True)
    by_user = np.argsort(owner, kind="stable")
    position = np.empty(n, dtype=np.int64)
    position[by_user] = np.arange(n) - np.repeat(np.cumsum(activity) - activity, activity)
    rated = ~np.isnan(rows.ratings)
    stars = rows.ratings.astype(np.float64)
    user_n = np.bincount(owner[rated], minlength=len(users))
    user_mean = np.bincount(owner[rated], stars[rated], minlength=len(users)) / np.maximum(user_n, 1)
    above = np.where(rated, stars - user_mean[owner], 0.0)
    first, last = np.full(n_items, end), np.full(n_items, 0)
    np.minimum.at(first, index, rows.timestamps)
    np.maximum.at(last, index, rows.timestamps)
    last = np.maximum(last, first)
    columns = [
        *shares,
        shares[4] - shares[5],
        shares[5] - shares[0],
        order / max(n_items, 1),
        np.bincount(index, above, minlength=n_items)
        / (np.bincount(index[rated], minlength=n_items) + SHRINKAGE),
        n_terms.astype(np.float64),
        _shrunk_mean(index, np.log1p(position), n_items),
        _shrunk_mean(index, np.log(activity[owner]), n_items),
        np.log1p((end - first) / MICROSECONDS_PER_DAY),
        np.log1p((end - last) / MICROSECONDS_PER_DAY),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def _shrunk_mean(index: Index, values: NDArray[np.float64], n_items: int) -> NDArray[np.float64]:
    total = np.bincount(index, values, minlength=n_items)
    overall = float(values.mean()) if len(values) else 0.0
    return (total + SHRINKAGE * overall) / (np.bincount(index, minlength=n_items) + SHRINKAGE)


def _near_share(
    released: NDArray[Any], owner: Index, count: Index, item_released: NDArray[Any], rows: Index
) -> Vector:
    """(n_pairs,) share of the dated history within two years of the release of the item."""
    order = np.lexsort((released, owner))
    width, stride = 2.0 * DAYS_PER_YEAR, 1e6  # days; the stride keeps histories apart
    line = released[order] + owner[order] * stride
    target = np.where(np.isnan(item_released), 0.0, item_released) + rows * stride
    near = np.searchsorted(line, target + width, side="right") - np.searchsorted(line, target - width)
    share = np.where(count[rows] > 0, near / np.maximum(count, 1)[rows], np.nan)
    return np.where(np.isnan(item_released), np.nan, share).astype(np.float32)


def _liking(histories: Histories, mean_rating: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n_events,) how much better than their mean the user rated it, 0 where unknown."""
    above = histories.ratings - mean_rating[histories.rows]
    return np.where(np.isnan(above), 0.0, above / 2.0)
