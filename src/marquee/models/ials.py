"""
iALS: matrix factorisation of implicit feedback by alternating least squares.

With user factors u and item factors v (d numbers each), the loss

    Σ_observed w_ui (u·v_i − 1)² + α₀ Σ_all (u·v_i)² + λ Σ_u f_u^ν ‖u‖² + λ Σ_i f_i^ν ‖v_i‖²

asks for 1 where there was an interaction and, gently, for 0 everywhere. f is what the data say about a
row (its weight plus α₀ times the other side's size), so that with ν = 1 the regularisation is scaled by
frequency. Each half-step is a ridge regression per row; it is solved by a few conjugate gradient steps
from the previous factors, for many rows of similar length at once, so that all work is in matrix
products. A history is folded in as one more row, solved exactly.

Source:
    Hu, Koren & Volinsky 2008, "Collaborative filtering for implicit feedback datasets"; Takács et al.
    2011 (conjugate gradient); Rendle et al. 2022, "Revisiting the performance of iALS on item
    recommendation benchmarks" (loss, scaling, defaults).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from marquee.data.dataset import Catalog, Histories, Interactions
from marquee.data.inner_products import InnerProducts
from marquee.data.ranked import RankedItems
from marquee.data.schema import CSR, Float32, Index, Matrix, Vector
from marquee.errors import ModelError
from marquee.models.base import ModelState, Progress, Recommender, silent, tunable
from marquee.models.recency import RecencyConfig, history_matrix, training_matrix

__all__ = ["Ials", "IalsConfig"]

CHUNK_EVENTS = 8192
"""Events solved at a time: their factors stay in the cache."""


@dataclass(frozen=True)
class IalsConfig(RecencyConfig):
    """Hyper-parameters of `Ials`."""

    factors: int = tunable(64, "d: size of the factors.", choices=(16, 32, 64, 128, 256))
    iterations: int = tunable(15, "Alternations.", low=5, high=30)
    unobserved_weight: float = tunable(
        0.1, "α₀: weight of all cells, next to 1 of an interaction.", low=0.003, high=1.0, log=True
    )
    regularization: float = tunable(0.01, "λ.", low=0.0003, high=0.3, log=True)
    frequency_scaling: float = tunable(
        1.0, "ν: 1 scales λ by the frequency of the row, 0 not.", low=0.0, high=1.0
    )
    cg_steps: int = tunable(3, "Conjugate gradient steps of each half-step.")

    def __post_init__(self) -> None:
        if self.factors < 1 or self.iterations < 1 or self.cg_steps < 1:
            raise ValueError("factors, iterations and cg_steps must be at least 1")


class Ials(Recommender):
    """Items by the product of their factors with those of the history."""

    name = "ials"
    Config = IalsConfig
    config: IalsConfig
    _popularity: Vector  # (n_items,) for empty histories
    _factors: Matrix  # (n_items, d)
    _gram: Matrix  # (d, d) α₀ VᵀV
    _search: InnerProducts

    def fit(
        self, interactions: Interactions, catalog: Catalog | None = None, *, progress: Progress = silent
    ) -> Self:
        """Alternate between users and items; see `Recommender.fit`."""
        rows = interactions.positives()
        self._set_items(rows)
        X = training_matrix(rows, self.items, self.config)  # (n_users, n_items), square roots of weights
        X.data **= 2
        by_item = CSR(X.T)
        totals = np.bincount(X.indices, X.data, minlength=X.shape[1])
        self._popularity = (totals / max(totals.max(initial=0.0), 1e-12)).astype(np.float32)
        rng = np.random.default_rng(self.config.seed)
        d = self.config.factors
        V = (rng.standard_normal((X.shape[1], d), dtype=np.float32) * 0.1 / np.sqrt(d)).astype(np.float32)
        U = np.zeros((X.shape[0], d), np.float32)
        by_user_chunks, by_item_chunks = list(_chunks(X)), list(_chunks(by_item))
        progress.total(self.config.iterations, "iterations")
        for _ in range(self.config.iterations):
            self._half_step(U, V, by_user_chunks)
            self._half_step(V, U, by_item_chunks)
            progress.step()
        self._set_factors(V)
        return self

    def score(self, histories: Histories) -> Matrix:
        """Factors of the history · factors of the items; without a known event, popularity."""
        H = history_matrix(histories, self.items, self.config)  # (n, n_items)
        scores = self.fold_in(H) @ self._factors.T
        scores[np.diff(H.indptr) == 0] = self._popularity
        return scores

    def fold_in(self, H: CSR) -> Matrix:
        """
        Factors of rows that were not in the fit data, solved exactly.

        Args:
            H: (n, n_items) weights of their events.

        Returns:
            (n, d) float32.
        """
        d = self._factors.shape[1]
        found = np.zeros((H.shape[0], d), np.float32)
        for chunk in _chunks(H):
            E = self._factors[chunk.columns]  # (b, length, d)
            A = (E * chunk.weights[:, :, None]).transpose(0, 2, 1) @ E + self._gram
            A[:, np.arange(d), np.arange(d)] += self._ridge(chunk.weights, len(self._factors))[:, None]
            b = (chunk.weights[:, None, :] @ E)[:, 0]
            found[chunk.rows] = np.linalg.solve(A, b[:, :, None])[:, :, 0]
        return found

    def _recommend_block(self, histories: Histories, k: int, exclude_history: bool) -> RankedItems:
        H = history_matrix(histories, self.items, self.config)
        if not (np.diff(H.indptr) > 0).all():  # popularity is no product of factors
            return super()._recommend_block(histories, k, exclude_history)
        index = self.items.index(histories.item_ids)
        known = index >= 0
        named = (histories.rows[known], index[known]) if exclude_history else None
        return RankedItems.from_indices(*self._search.top_k(self.fold_in(H), k, named), self.items.ids)

    def state(self) -> ModelState:
        """Item ids, counts, popularity and factors."""
        arrays = {**self._items_state(), "popularity": self._popularity, "factors": self._factors}
        return ModelState(arrays, {"config": self.config.to_dict()})

    @classmethod
    def from_state(cls, state: ModelState) -> Self:
        """See `Recommender.from_state`."""
        model = cls(cls.Config.from_dict(state.meta["config"]))
        if "factors" not in state.arrays:
            raise ModelError("The state holds no factors.", fix="Train the model again.")
        model._restore_items(state)
        model._popularity = state.arrays["popularity"]
        model._set_factors(state.arrays["factors"])
        return model

    def _set_factors(self, factors: Matrix) -> None:
        self._factors = factors
        self._search = InnerProducts(factors)
        self._gram = np.float32(self.config.unobserved_weight) * (factors.T @ factors)

    def _ridge(self, weights: Matrix, n_other: int) -> Vector:
        """(b,) λ f^ν of rows with these weights."""
        frequency = weights.sum(axis=1) + np.float32(self.config.unobserved_weight * n_other)
        scaled = frequency ** np.float32(self.config.frequency_scaling)
        return np.asarray(np.float32(self.config.regularization) * scaled, dtype=np.float32)

    def _half_step(self, target: Matrix, other: Matrix, chunks: "list[_Chunk]") -> None:
        """Improve `target` (n, d) in place with `other` (m, d) fixed."""
        G = np.float32(self.config.unobserved_weight) * (other.T @ other)
        for chunk in chunks:
            target[chunk.rows] = _conjugate_gradient(
                target[chunk.rows],
                other[chunk.columns],
                chunk.weights,
                G,
                self._ridge(chunk.weights, len(other))[:, None],
                self.config.cg_steps,
            )


def _conjugate_gradient(x: Matrix, E: Float32, w: Matrix, G: Matrix, ridge: Matrix, steps: int) -> Matrix:
    """
    Rows nearer to the solution of (G + Σ w e eᵀ + ridge) x = Σ w e, from where they are.

    Args:
        x: (b, d) start.
        E: (b, length, d) the vectors e of each row.
        w: (b, length).
        G: (d, d), shared.
        ridge: (b, 1).
        steps: at d steps the solution is exact.
    """

    def product(p: Matrix) -> Matrix:
        predicted = np.matmul(E, p[:, :, None])[:, :, 0] * w
        out = np.matmul(predicted[:, None, :], E)[:, 0]
        out += p @ G
        out += ridge * p
        return np.asarray(out, dtype=np.float32)

    # The right side and the product with x in one pass over E.
    missing = w - np.matmul(E, x[:, :, None])[:, :, 0] * w
    r = np.matmul(missing[:, None, :], E)[:, 0] - x @ G - ridge * x
    p, energy = r, np.einsum("bd,bd->b", r, r)
    for _ in range(steps):
        Ap = product(p)
        # A row that has converged has p = 0 and stays where it is.
        step = energy / np.maximum(np.einsum("bd,bd->b", p, Ap), 1e-30)
        x = x + step[:, None] * p
        r = r - step[:, None] * Ap
        new_energy = np.einsum("bd,bd->b", r, r)
        p = r + (new_energy / np.maximum(energy, 1e-30))[:, None] * p
        energy = new_energy
    return x


@dataclass(frozen=True, eq=False, slots=True)
class _Chunk:
    """
    Rows of similar length, padded to the longest.

    Attributes:
        rows: (b,) where they are.
        columns: (b, length) their columns, 0 as padding.
        weights: (b, length) their values, 0 as padding.
    """

    rows: Index
    columns: Index
    weights: Matrix


def _chunks(X: CSR) -> Iterator[_Chunk]:
    """The non-empty rows of a matrix, shortest first."""
    lengths = np.diff(X.indptr)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    start = 0
    while start < len(order):
        # As many rows as fit when padded to the last of them, which is the longest.
        ahead = lengths[order[start : start + CHUNK_EVENTS]]
        fits = ahead * np.arange(1, len(ahead) + 1) <= CHUNK_EVENTS
        size = max(int(fits.sum()), 1)
        rows = order[start : start + size]
        offsets = np.arange(int(ahead[size - 1]))
        inside = offsets < lengths[rows][:, None]
        where = np.where(inside, X.indptr[rows][:, None] + offsets, 0)
        yield _Chunk(
            rows, np.where(inside, X.indices[where], 0), np.where(inside, X.data[where], np.float32(0.0))
        )
        start += size
