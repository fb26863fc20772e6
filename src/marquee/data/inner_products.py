"""
The items of greatest inner product with a user's factors, found exactly and without scoring them all.

Items are taken a block at a time, longest vectors first. By Cauchy–Schwarz no item of a block scores
more than |user| · (greatest |item| of the block): as soon as that is below a user's k-th best score so
far, the user is done. Popular items have long vectors in fitted models, so that most users are done
after few blocks. Each block of scores stays in the cache: it is compared with the k-th best scores where
it was made, and only what passes is kept.

Source:
    Teflioudi, Gemulla & Mykytiuk 2015, "LEMP: Fast retrieval of large entries in a matrix product"
    (length-based pruning).
"""

import numpy as np

from marquee.data.ranked import Keys, pack, rank_keys, top_k, unpack
from marquee.data.schema import Index, Matrix, Vector

__all__ = ["InnerProducts"]

USERS, ITEMS = 256, 512
"""Scores at a time; a float32 block of them fits the second-level cache."""

WORTH = 0.4
"""Share of the items that may be in reach after the first block; beyond, one product with all is faster."""

ROUNDING = 1e-4
"""A relative slack of the bound, far above the rounding error of a product of float32 vectors."""


class InnerProducts:
    """
    Top-k search among item vectors.

    Args:
        items: (n_items, d) float32, finite; not copied.
    """

    def __init__(self, items: Matrix) -> None:
        self._items = items
        lengths = np.sqrt(np.einsum("id,id->i", items, items, dtype=np.float64)).astype(np.float32)
        self._order: Index = np.argsort(-lengths, kind="stable")
        self._lengths = lengths[self._order]
        self._position = np.empty(len(items), np.int64)
        self._position[self._order] = np.arange(len(items))

    def top_k(
        self, users: Matrix, k: int, exclude: tuple[Index, Index] | None = None
    ) -> tuple[Index, Matrix]:
        """
        The k items of greatest product with each user; of equal products the lower item first.

        Args:
            users: (n, d) float32.
            k: list length, > 0; may exceed n_items.
            exclude: rows (ascending) and items of what must not be returned.

        Returns:
            (n, k) items, -1 as padding, and (n, k) their products, NaN as padding; as `ranked.top_k`.
        """
        n = len(users)
        indices = np.full((n, k), -1, dtype=np.int64)
        values = np.full((n, k), np.nan, dtype=np.float32)
        hidden_rows, hidden_items = exclude if exclude is not None else (np.zeros(0, np.int64),) * 2
        for start in range(0, n if len(self._items) else 0, USERS):
            block = slice(start, min(start + USERS, n))
            cells = slice(*np.searchsorted(hidden_rows, [block.start, block.stop]))
            hidden = hidden_rows[cells] - start, hidden_items[cells]
            keys = self._search(users[block], k, hidden)
            if keys is None:
                scores = users[block] @ self._items.T  # (n_block, n_items)
                scores[hidden] = -np.inf
                indices[block], values[block] = top_k(scores, k)
            else:
                keys.sort(axis=1)
                indices[block], values[block] = unpack(keys[:, ::-1])
        return indices, values

    def _search(self, users: Matrix, k: int, hidden: tuple[Index, Index]) -> Keys | None:
        """(n, k) keys (see `ranked.rank_keys`) of the best in any order, 0 as padding; none: not worth it."""
        n, n_items = len(users), len(self._items)
        best = np.zeros((n, k), np.uint64)
        least = np.full(n, np.finfo(np.float32).min)  # (n,) k-th best score so far
        reach = np.sqrt(np.einsum("nd,nd->n", users, users, dtype=np.float64)) * (1 + ROUNDING)
        cells = _Cells(n, hidden[0], self._position[hidden[1]], n_items)
        rows, pending, n_pending = np.arange(n), [best], 0
        # Fresh pages for every block would cost as much as its product.
        room, flags = np.empty(USERS * ITEMS, np.float32), np.empty(USERS * ITEMS, np.bool_)
        for block, start in enumerate(range(0, n_items, ITEMS)):
            rows = rows[reach[rows] * self._lengths[start] >= least[rows]]
            if not len(rows):
                break
            items = self._order[start : start + ITEMS]
            n_cells, shape = len(rows) * len(items), (len(rows), len(items))
            scores, passes = room[:n_cells].reshape(shape), flags[:n_cells].reshape(shape)
            np.matmul(users[rows], self._items[items].T, out=scores)  # (n_open, n_block)
            cells.hide(scores, block, rows)
            if start == 0 and len(items) > k:
                least = np.maximum(np.partition(scores, -k, axis=1)[:, -k], least)
                beyond = np.searchsorted(-self._lengths, -least / np.maximum(reach, 1e-30), side="right")
                if n_items > 4 * ITEMS and beyond.mean() > WORTH * n_items:
                    return None
            passing = np.flatnonzero(np.greater_equal(scores, least[rows, None], out=passes))
            at = passing // len(items)
            found = rank_keys(scores.ravel()[passing], items[passing - at * len(items)])
            pending.append(pack(rows[at], found, n))
            n_pending += len(passing)
            if n_pending >= k * len(rows):
                best, n_pending = _best(pending, k), 0
                pending = [best]
                least = np.maximum(_least(best), least)
        return _best(pending, k)


class _Cells:
    """Rows and positions of hidden items, sorted into blocks of positions once."""

    def __init__(self, n: int, rows: Index, positions: Index, n_items: int) -> None:
        self._n, n_blocks = n, -(-n_items // ITEMS)
        # The least type, since integers of 16 bits are sorted by radix.
        block = (positions // ITEMS).astype(np.min_scalar_type(n_blocks))
        order = np.argsort(block, kind="stable")
        self._rows, self._columns = rows[order], (positions % ITEMS)[order]
        self._ends = np.append(0, np.cumsum(np.bincount(block, minlength=n_blocks)))

    def hide(self, scores: Matrix, block: int, rows: Index) -> None:
        """Put -inf on the cells of a block of positions, of which `rows` (ascending) are there."""
        cells = slice(self._ends[block], self._ends[block + 1])
        where = np.full(self._n, -1)
        where[rows] = np.arange(len(rows))
        at = where[self._rows[cells]]
        scores[at[at >= 0], self._columns[cells][at >= 0]] = -np.inf


def _best(parts: list[Keys], k: int) -> Keys:
    """(n, k) greatest keys of each row."""
    keys = np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
    width = keys.shape[1]
    if width == k:
        return keys
    return np.partition(keys, width - k, axis=1)[:, width - k :]


def _least(best: Keys) -> Vector:
    """(n,) the least score of each row of keys; that of padding is the least of all numbers."""
    _, values = unpack(best.min(axis=1, keepdims=True))
    return np.where(np.isnan(values[:, 0]), np.finfo(np.float32).min, values[:, 0])
