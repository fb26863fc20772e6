"""
A user in numbers: what a history says of taste, era, popularity level, ratings, recency and activity.

Beside these numbers there is a linear view of the history: item factors of the fit data, in which the
history is solved for by ridge regression. A row of the fit data is in those factors itself; for examples
made of it, its own part is taken out in closed form, as if the factors had been made without that user.

Source:
    Steck 2019, "Embarrassingly shallow autoencoders for sparse data" (the linear model); the removal of
    a row is the leave-one-out formula of ridge regression in its dual form.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse.linalg import svds

from marquee.data.dataset import Catalog, Histories, Interactions
from marquee.data.schema import CSR, Event, Ids, Matrix, Vector
from marquee.data.vocabulary import Vocabulary
from marquee.features.encode import encode_items, release_years
from marquee.models._inputs import Floats64, encode_numbers, quantile_knots
from marquee.models.recency import RecencyConfig, history_matrix, training_matrix

__all__ = ["NUMBERS", "Profiles"]

NUMBERS = (
    "activity",
    "tenure_days",
    "idle_days",
    "rating",
    "recent_rating",
    "rating_spread",
    "watch_share",
    "popularity",
    "recent_popularity",
    "release_year",
    "recent_release_year",
)
"""The numeric inputs, in their order."""

MICROSECONDS_PER_DAY = 86_400_000_000
RECENT_EVENTS = 10
GREATEST_DEVIATION = 5.0
DENSE_SIDE = 2048
"""Matrices with a side up to this are decomposed by its Gram matrix."""


class Profiles:
    """
    Turns histories into the inputs of a network.

    Args:
        items: vocabulary.
        arrays: as `arrays` gives them; from `learn` or a stored model.
        long, recent: how the two views of a history weigh its events.

    Attributes:
        basis: (n_factors, n_items) fixed factors of the items, for the output.
        n_plain, n_factors: inputs that are not numeric; the last ones, which name a point in `basis`.
    """

    def __init__(
        self,
        items: Vocabulary,
        arrays: Mapping[str, NDArray[Any]],
        *,
        long: RecencyConfig,
        recent: RecencyConfig,
        seen_factors: int,
    ) -> None:
        self.items, self.long, self.recent = items, long, recent
        self.arrays = dict(arrays)
        self._seen_factors = min(seen_factors, arrays["factors"].shape[1])
        self._factors: Matrix = arrays["factors"]  # (n_items, d)
        self._gains: Vector = arrays["gains"]  # (d,) s² / (s² + λ)
        parts = (arrays["terms.data"], arrays["terms.indices"], arrays["terms.indptr"])
        self._terms = CSR(parts, shape=(len(items), int(arrays["terms.count"][0])))
        self._own: tuple[Ids, Floats64, Floats64] | None = None
        self.n_factors = self._factors.shape[1]
        self.n_plain = 2 * self._terms.shape[1] + self._seen_factors

    @classmethod
    def learn(
        cls,
        rows: Interactions,
        items: Vocabulary,
        catalog: Catalog | None,
        popularity: Floats64,
        *,
        long: RecencyConfig,
        recent: RecencyConfig,
        n_factors: int,
        seen_factors: int,
        ridge: float,
    ) -> Self:
        """
        Profiles by the factors and facts of fit data; `scale_by` then sets their ranges.

        Args:
            rows, items, catalog: the fit data.
            popularity: (n_items,) > 0, as of the end of the fit data.
            n_factors, seen_factors: of the linear view; those that are inputs of the network too.
            ridge: λ of the linear view.
        """
        X = training_matrix(rows, items, long)  # (n_users, n_items)
        U, s, V = _decompose(X, min(n_factors, *X.shape))
        gains = s**2 / (s**2 + ridge)
        terms = encode_items(catalog, items, ("genres", "era")).matrix
        facts = catalog.align(items) if catalog is not None else None
        runtime = pa.nulls(len(items)) if facts is None else facts["runtime_minutes"]
        made = cls(
            items,
            {
                "factors": np.ascontiguousarray(V, dtype=np.float32),
                "gains": gains.astype(np.float32),
                "terms.data": terms.data,
                "terms.indices": terms.indices,
                "terms.indptr": terms.indptr,
                "terms.count": np.array([terms.shape[1]]),
                "log_popularity": np.log(popularity),
                "release_years": release_years(catalog, items).astype(np.float64),
                "runtime_seconds": 60 * runtime.cast(pa.float64()).to_numpy(zero_copy_only=False),
            },
            long=long,
            recent=recent,
            seen_factors=seen_factors,
        )
        # Of (X Xᵀ + λ)⁻¹: its product with the factors' side, and its diagonal.
        dual = U * (s / (s**2 + ridge))
        outside = np.maximum(1.0 - (U**2).sum(axis=1), 0.0)
        diagonal = (U**2 / (s**2 + ridge)).sum(axis=1) + outside / ridge
        made._own = np.unique(rows.user_ids), dual, diagonal
        return made

    @property
    def basis(self) -> Matrix:
        """
        (n_factors, n_items) what a point in the space of the factors says of each item.

        The ridge regression of an item that may not use itself is 1 / (1 - B_jj) times the one that may.
        """
        own = (self._factors**2 * self._gains).sum(axis=1)
        scaled = self._factors / np.maximum(1.0 - own, 0.1)[:, None]
        return np.ascontiguousarray(scaled.T, dtype=np.float32)

    def scale_by(self, histories: Histories) -> Self:
        """Take the ranges of all inputs from these histories; without any, all inputs are alike."""
        numbers, plain, _ = self._raw(histories)
        self.arrays |= {f"knots.{name}": quantile_knots(numbers[name]) for name in NUMBERS}
        if not len(plain):
            plain = np.zeros((1, self.n_plain), np.float32)
        self.arrays["plain.mean"], self.arrays["plain.spread"] = plain.mean(axis=0), plain.std(axis=0) + 1e-3
        return self

    def encode(self, histories: Histories, *, own_rows: bool = False) -> Matrix:
        """
        The inputs of the network.

        Args:
            histories: of any users; their events of unknown items, and hidden ones, say nothing.
            own_rows: whether they are of users of the fit data of `learn`, whose own rows are to be
                taken out of the linear view.

        Returns:
            (n, 2 · len(NUMBERS) + n_plain + n_factors) float32.
        """
        numbers, plain, point = self._raw(histories)
        knots = {name: self.arrays[f"knots.{name}"] for name in NUMBERS}
        plain = (plain - self.arrays["plain.mean"]) / self.arrays["plain.spread"]
        np.clip(plain, -GREATEST_DEVIATION, GREATEST_DEVIATION, out=plain)
        solved = point * self._gains
        if own_rows and self._own is not None:
            users, dual, diagonal = self._own
            row = np.searchsorted(users, histories.user_ids)
            share = (dual[row] * point).sum(axis=1) / diagonal[row]
            solved = solved - dual[row] * share[:, None]
        return np.concatenate([encode_numbers(numbers, knots), plain, solved], axis=1).astype(np.float32)

    def _raw(self, histories: Histories) -> tuple[dict[str, Floats64], Matrix, Matrix]:
        index = self.items.index(histories.item_ids)
        known = histories.where((index >= 0) & (histories.events != Event.HIDE))
        H = history_matrix(known, self.items, self.long)  # (n, n_items)
        recent = history_matrix(known, self.items, self.recent)
        # The square root of the length: more events say more, but not as much more as they are.
        point = _divided(np.asarray(H @ self._factors), _length(H) ** 0.5)
        fresh = _divided(np.asarray(recent @ self._factors[:, : self._seen_factors]), _length(recent))
        tastes = [
            _divided((M @ self._terms).toarray(), np.asarray(M.sum(axis=1)).ravel()) for M in (H, recent)
        ]
        return self._numbers(known), np.concatenate([*tastes, fresh], axis=1), point

    def _numbers(self, known: Histories) -> dict[str, Floats64]:
        index, lengths = self.items.index(known.item_ids), known.lengths
        asked = lengths > 0
        times = known.timestamps / MICROSECONDS_PER_DAY
        first, last = np.full(len(known), np.nan), np.full(len(known), np.nan)
        first[asked], last[asked] = times[known.indptr[:-1][asked]], times[known.indptr[1:][asked] - 1]
        recent = np.arange(len(index)) >= np.repeat(known.indptr[1:] - RECENT_EVENTS, lengths)

        def mean(values: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> Floats64:
            there = ~np.isnan(values) if mask is None else ~np.isnan(values) & mask
            rows = known.rows[there]
            n = np.bincount(rows, minlength=len(known))
            totals = np.bincount(rows, values[there], minlength=len(known))
            means: Floats64 = np.divide(totals, n, out=np.full(len(known), np.nan), where=n > 0)
            return means

        ratings = known.ratings.astype(np.float64)
        rating = mean(ratings)
        popularity = self.arrays["log_popularity"][index]
        years = self.arrays["release_years"][index]
        return {
            "activity": np.log1p(lengths),
            "tenure_days": last - first,
            "idle_days": np.maximum(known.as_of / MICROSECONDS_PER_DAY - last, 0.0),
            "rating": rating,
            "recent_rating": mean(ratings, recent),
            "rating_spread": mean((ratings - rating[known.rows]) ** 2),
            "watch_share": mean(known.watch_seconds / self.arrays["runtime_seconds"][index]),
            "popularity": mean(popularity),
            "recent_popularity": mean(popularity, recent),
            "release_year": mean(years),
            "recent_release_year": mean(years, recent),
        }


def _decompose(X: CSR, n_factors: int) -> tuple[Floats64, Floats64, Floats64]:
    """The greatest singular values of a matrix: (n_rows, d), (d,), (n_columns, d), those above zero."""
    if min(X.shape) > max(DENSE_SIDE, n_factors):
        left, values, right = svds(X.astype(np.float64), k=n_factors, v0=np.ones(min(X.shape)))
        return _double(left[:, ::-1]), _double(values[::-1]), _double(right[::-1].T)
    wide = X.shape[0] <= X.shape[1]
    small = X.astype(np.float64) if wide else X.astype(np.float64).T
    values, vectors = np.linalg.eigh((small @ small.T).toarray())
    values, vectors = values[::-1][:n_factors], vectors[:, ::-1][:, :n_factors]
    kept = values > 1e-9 * max(float(values.max(initial=0.0)), 1e-300)
    s, near = _double(np.sqrt(values[kept])), _double(vectors[:, kept])
    far = _double((small.T @ near) / s)
    return (near, s, far) if wide else (far, s, near)


def _double(values: NDArray[Any]) -> Floats64:
    return np.ascontiguousarray(values, dtype=np.float64)


def _length(M: CSR) -> Floats64:
    squares: Floats64 = np.asarray(M.multiply(M).sum(axis=1), dtype=np.float64).ravel()
    length: Floats64 = np.sqrt(squares)
    return length


def _divided(values: NDArray[Any], by: NDArray[Any]) -> Matrix:
    return (values / np.where(by > 0, by, 1.0)[:, None]).astype(np.float32)
