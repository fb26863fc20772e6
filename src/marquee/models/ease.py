"""
EASE: a linear autoencoder in closed form.

Each item is predicted from the other items of a history by a ridge regression on all of them at once.
With X the user × item matrix, G = XᵀX and a ridge Λ, the weights that minimise ‖X − XB‖² + ‖Λ^½B‖²
under diag(B) = 0 are

    P = (G + Λ)⁻¹,    B_ij = −P_ij / P_jj  (i ≠ j),    scores = history · B.

Three things make it better than its textbook form: rows of X fade with age and weigh by rating
(`recency`), the ridge grows with popularity, λ + δ·G_jj, and the items' own facts are rows of X like
users are, so that items alike in genre and era share strength and new items are not blank.

The same B is found in one of three ways:

- item space: factorise G + Λ, when items are fewer than users (n_items³ operations);
- user space: by the Woodbury identity, when users are fewer. With Z = XΛ^-½ and LLᵀ = I + ZZᵀ,
  P = Λ^-½ (I − WᵀW) Λ^-½ where W = L⁻¹Z. B is then kept as that product and never formed;
- for catalogues past `dense_items`: the most popular `dense_items` in item space; each further item by
  its own regression on its nearest popular items. As P is symmetric, those weights also say what the
  rare item tells about the popular ones: a Markov random field that is dense at the head, sparse in the
  tail. Memory is bounded by dense_items² floats.

Source:
    Steck 2019, "Embarrassingly shallow autoencoders for sparse data" (item space); Steck 2019, "Markov
    random fields for collaborative filtering" (sparse); Steck 2020, "Autoencoders that don't overfit
    towards the identity" (δ); Jeunen et al. 2020, "Closed-form models for collaborative filtering with
    side-information" (facts as rows).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import sparse

from marquee.data.dataset import Catalog, Histories, Interactions
from marquee.data.schema import CSR, Matrix, Vector
from marquee.errors import ModelError
from marquee.features.encode import encode_items, tf_idf
from marquee.models.base import ModelState, Progress, Recommender, silent, tunable
from marquee.models.recency import RecencyConfig, history_matrix, training_matrix
from marquee.models.row_sums import dense_product

__all__ = ["Ease", "EaseConfig"]

BLOCK = 1024
DENSE_MACS_PER_SECOND, MIXED_MACS_PER_SECOND = 4e10, 1.7e9  # of BLAS, and of SciPy, on one core
SPARSE_MACS_PER_SECOND, SPARSE_CELLS_PER_SECOND = 2e8, 5e7


@dataclass(frozen=True)
class EaseConfig(RecencyConfig):
    """Hyper-parameters of `Ease`."""

    ridge: float = tunable(500.0, "λ: regularisation of every item.", low=20.0, high=5000.0, log=True)
    popularity_ridge: float = tunable(
        0.5, "δ: regularisation per interaction of an item (dropout δ / (1 + δ)).", low=0.0, high=2.0
    )
    facts_weight: float = tunable(
        1.0, "What the facts of an item weigh, as a number of users; 0: none.", low=0.0, high=10.0
    )
    facts: tuple[str, ...] = tunable(("genres", "era"), "The facts used, of `features.encode.FACTS`.")
    new_items: bool = tunable(False, "Whether catalogue items without interactions are ranked too.")
    dense_items: int = tunable(20_000, "Items solved together; of larger catalogues the most popular.")
    tail_neighbours: int = tunable(64, "Popular items on which an item beyond those is regressed.")


class Ease(Recommender):
    """Items by linear regression on the history, in closed form."""

    name = "ease"
    Config = EaseConfig
    config: EaseConfig
    _popularity: Vector  # (n_items,) for empty histories
    # One of two forms of B: weights between the first items and those of all others …
    _dense: Matrix | None = None  # (n_dense, n_dense)
    _tail: CSR | None = None  # (n_items, n_items)
    # … or factors of it: B = factors · factorsᵀ · diag(scale), without its diagonal.
    _factors: Matrix | None = None  # (n_items, n_rows)
    _scale: Vector | None = None  # (n_items,)

    def fit(
        self, interactions: Interactions, catalog: Catalog | None = None, *, progress: Progress = silent
    ) -> Self:
        """Solve for the weights; see `Recommender.fit`."""
        rows = interactions.positives()
        self._set_items(rows, catalog.item_ids if catalog is not None and self.config.new_items else None)
        progress.total(2, "steps")
        X = training_matrix(rows, self.items, self.config)
        norms = _squared_norms(X)
        self._popularity = (norms / max(float(norms.max(initial=0.0)), 1e-12)).astype(np.float32)
        X = self._with_facts(X, catalog)  # (n_rows, n_items)
        ridge = (self.config.ridge + self.config.popularity_ridge * _squared_norms(X)).astype(np.float32)
        progress.step()
        self._dense = self._tail = self._factors = self._scale = None
        n_rows, n_items = X.shape
        if n_rows < n_items and n_rows * n_items <= self.config.dense_items**2:
            self._factors, self._scale = _solve_in_user_space(X, ridge)
        elif n_items <= self.config.dense_items:
            self._dense, _ = _solve_in_item_space(_gram(X), ridge)
        else:
            self._dense, self._tail = _solve_head_and_tail(
                X, ridge, self.config.dense_items, self.config.tail_neighbours
            )
        progress.step()
        return self

    def score(self, histories: Histories) -> Matrix:
        """Product of history and B; without a known event, popularity."""
        H = history_matrix(histories, self.items, self.config)  # (n, n_items)
        if self._factors is not None and self._scale is not None:
            scores = (H @ self._factors) @ self._factors.T
            rows, columns = np.repeat(np.arange(len(histories)), np.diff(H.indptr)), H.indices
            own = np.einsum("if,if->i", self._factors[columns], self._factors[columns])
            scores[rows, columns] -= H.data * own  # diag(B) = 0
            scores *= self._scale
        else:
            assert self._dense is not None
            n_dense = len(self._dense)
            if n_dense == H.shape[1]:
                scores = dense_product(H, self._dense)
            else:
                scores = np.zeros(H.shape, np.float32)
                scores[:, :n_dense] = dense_product(CSR(H[:, :n_dense]), self._dense)
            if self._tail is not None:
                scores += H @ self._tail
        scores[np.diff(H.indptr) == 0] = self._popularity
        return np.asarray(scores, dtype=np.float32)

    def state(self) -> ModelState:
        """Item ids, counts, popularity and the weights in the form they were solved in."""
        arrays = {**self._items_state(), "popularity": self._popularity}
        if self._factors is not None and self._scale is not None:
            arrays |= {"factors": self._factors, "scale": self._scale}
        if self._dense is not None:
            arrays["dense"] = self._dense
        if self._tail is not None:
            arrays |= {
                "tail_data": self._tail.data,
                "tail_indices": self._tail.indices,
                "tail_indptr": self._tail.indptr,
            }
        return ModelState(arrays, {"config": self.config.to_dict()})

    @classmethod
    def from_state(cls, state: ModelState) -> Self:
        """See `Recommender.from_state`."""
        model = cls(cls.Config.from_dict(state.meta["config"]))
        model._restore_items(state)
        arrays = state.arrays
        if "dense" not in arrays and "factors" not in arrays:
            raise ModelError("The state holds no weights of EASE.", fix="Train the model again.")
        model._popularity = arrays["popularity"]
        model._dense, model._factors, model._scale = (
            arrays.get("dense"),
            arrays.get("factors"),
            arrays.get("scale"),
        )
        if "tail_data" in arrays:
            n = len(model.items)
            parts = (arrays["tail_data"], arrays["tail_indices"], arrays["tail_indptr"])
            model._tail = CSR(parts, shape=(n, n))
        return model

    def _with_facts(self, X: CSR, catalog: Catalog | None) -> CSR:
        """X with one more row per fact."""
        if catalog is None or not self.config.facts_weight:
            return X
        facts = tf_idf(encode_items(catalog, self.items, self.config.facts, min_items=2).matrix)
        weight = np.float32(np.sqrt(self.config.facts_weight))
        return CSR(sparse.vstack([X, facts.T * weight], format="csr"))


def _solve_in_item_space(G: Matrix, ridge: Vector) -> tuple[Matrix, Vector]:
    """
    B and the diagonal of P from the Gram matrix, whose memory is reused.

    Args:
        G: (n, n) float32; only its upper triangle need be filled.
        ridge: (n,) diagonal of Λ.
    """
    from scipy.linalg import lapack  # training only: answering starts sooner without it

    n = len(G)
    G[np.diag_indices(n)] += ridge
    # LAPACK reads the transpose: our upper triangle is its lower one.
    factor, info = lapack.spotrf(G.T, lower=1, overwrite_a=1, clean=0)
    if info:
        raise ModelError("The Gram matrix is not positive definite.", fix="Raise the ridge of EASE.")
    inverse, _ = lapack.spotri(factor, lower=1, overwrite_c=1)
    P: Matrix = inverse.T  # (n, n), C order, upper triangle
    for start in range(0, n, BLOCK):
        rows = slice(start, start + BLOCK)
        corner = np.triu(P[rows, rows])
        P[rows, rows] = corner + np.triu(corner, 1).T
        P[start + BLOCK :, rows] = P[rows, start + BLOCK :].T
    diagonal = P.diagonal().copy()
    P /= -diagonal
    np.fill_diagonal(P, 0.0)
    return P, diagonal


def _solve_in_user_space(X: CSR, ridge: Vector) -> tuple[Matrix, Vector]:
    """
    Factors F (n_items, n_rows) and scale s (n_items,) with B = F Fᵀ diag(s) off the diagonal.

    Args:
        X: (n_rows, n_items).
        ridge: (n_items,) diagonal of Λ.
    """
    from scipy.linalg import blas, lapack  # training only: answering starts sooner without it

    root = 1.0 / np.sqrt(ridge)
    Z = CSR((X.data * root[X.indices], X.indices, X.indptr), shape=X.shape)
    K = (Z @ Z.T).toarray() + np.eye(X.shape[0], dtype=np.float32)
    L, _ = lapack.spotrf(K, lower=1)
    W = blas.strsm(1.0, L, Z.toarray(order="F"), lower=1, overwrite_b=1)  # (n_rows, n_items)
    P_diagonal = (1.0 - np.einsum("ui,ui->i", W, W)) / ridge
    W *= root
    return np.ascontiguousarray(W.T), (1.0 / P_diagonal).astype(np.float32)


def _solve_head_and_tail(X: CSR, ridge: Vector, n_dense: int, neighbours: int) -> tuple[Matrix, CSR]:
    """
    B among the first `n_dense` items, and the sparse B between those and all others.

    Args:
        X: (n_rows, n_items), most popular items first.
        ridge: (n_items,) diagonal of Λ.
        n_dense: size of the head.
        neighbours: head items per tail item.
    """
    n_items = X.shape[1]
    head = CSR(X[:, :n_dense])
    tail_by_user = CSR(X[:, n_dense:].T)
    G = _gram(head)
    norms = G.diagonal().copy()
    k = min(neighbours, n_dense)
    sources, targets, weights, precisions = [], [], [], []
    for start in range(0, n_items - n_dense, BLOCK):
        shared = (tail_by_user[start : start + BLOCK] @ head).toarray()  # (b, n_dense) of G
        near = np.argpartition(-(shared / np.sqrt(norms + ridge[:n_dense])), k - 1, axis=1)[:, :k]
        near.sort(axis=1)
        target = n_dense + start + np.arange(len(near))
        right = np.take_along_axis(shared, near, axis=1)  # (b, k)
        # Only the upper triangle of G is filled, and `near` ascends.
        left = np.triu(G[near[:, :, None], near[:, None, :]])
        left += np.triu(left, 1).transpose(0, 2, 1)
        left[:, np.arange(k), np.arange(k)] += ridge[near]
        found = np.linalg.solve(left, right[:, :, None])[:, :, 0]
        own = _squared_norms(CSR(tail_by_user[start : start + BLOCK].T)) + ridge[target]
        sources.append(near.ravel())
        targets.append(np.repeat(target, k))
        weights.append(found.ravel())
        precisions.append(np.repeat(1.0 / (own - (found * right).sum(axis=1)), k))
    B, P_diagonal = _solve_in_item_space(G, ridge[:n_dense])
    source, target = np.concatenate(sources), np.concatenate(targets)
    forward = np.concatenate(weights).astype(np.float32)
    backward = (forward * np.concatenate(precisions) / P_diagonal[source]).astype(np.float32)
    tail = CSR(
        (
            np.concatenate([forward, backward]),
            (np.concatenate([source, target]), np.concatenate([target, source])),
        ),
        shape=(n_items, n_items),
    )
    tail.eliminate_zeros()
    tail.sort_indices()
    return B, tail


def _gram(X: CSR) -> Matrix:
    """
    (n_items, n_items) XᵀX, at least its upper triangle.

    Args:
        X: (n_rows, n_items), most popular items first: the head is multiplied as a dense matrix, head by
            tail as dense by sparse, the tail as a sparse one.
    """
    from scipy.linalg import blas  # training only: answering starts sooner without it

    n_rows, n_items = X.shape
    h = _dense_columns(X)
    G = np.zeros((n_items, n_items), np.float32)
    head, tail = CSR(X[:, :h]), CSR(X[:, h:])
    tail_by_item = CSR(tail.T)
    step = max(BLOCK, 2**23 // max(h, 1))
    corner, side = np.zeros((h, h), np.float32), np.zeros((n_items - h, h), np.float32)
    for start in range(0, n_rows, step) if h else ():
        rows = head[start : start + step].toarray()
        corner = blas.ssyrk(1.0, rows.T, beta=1.0, c=corner.T, lower=1, overwrite_c=1).T
        side += CSR(tail[start : start + step].T) @ rows
    G[:h, :h], G[:h, h:] = corner, side.T
    for start in range(0, n_items - h, BLOCK // 2):
        rest = CSR(tail[:, start:])
        G[h + start : h + start + BLOCK // 2, h + start :] = (
            tail_by_item[start : start + BLOCK // 2] @ rest
        ).toarray()
    return G


def _dense_columns(X: CSR) -> int:
    """How many of the first columns make XᵀX fastest when they are dense."""
    n_rows, n_items = X.shape
    costs = {}
    for h in {0, n_items} | {2**i for i in range(7, 17) if 2**i < n_items}:
        inside = X.indices >= h
        lengths = np.diff(np.append(0, np.cumsum(inside))[X.indptr]).astype(np.float64)
        products, cells = float((lengths**2).sum()) / 2, (n_items - h) ** 2 / 2
        costs[h] = (
            n_rows * h * h / 2 / DENSE_MACS_PER_SECOND
            + float(lengths.sum()) * h / MIXED_MACS_PER_SECOND
            + products / SPARSE_MACS_PER_SECOND
            + min(products, cells) / SPARSE_CELLS_PER_SECOND
        )
    return min(costs, key=lambda h: (costs[h], h))


def _squared_norms(X: CSR) -> Vector:
    """(n_items,) sums of squares of the columns."""
    return np.bincount(X.indices, X.data.astype(np.float64) ** 2, minlength=X.shape[1]).astype(np.float32)
