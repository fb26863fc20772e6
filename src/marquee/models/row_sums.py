"""Sums of weighted rows of a matrix: what a history makes of what its items say."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from marquee.data.schema import CSR, Matrix, Vector

__all__ = ["RowSums", "dense_product", "narrow", "row_sums"]

SHARED_ROWS: Final = 8
"""From this many histories on, what they share is worth the reordering."""
CELLS: Final = 400_000
"""Cells of the rows that are laid over one another at a time: they stay in the cache."""


class RowSums:
    """
    H @ matrix as a dense array, the same to the bit for each row alone.

    The first rows, those of the most popular items, are held dense as long as that takes about as much
    memory: they are added fastest.

    Args:
        matrix: (n_items, n_items); not copied.
    """

    def __init__(self, matrix: CSR) -> None:
        self.matrix = matrix
        self._sizes = np.diff(matrix.indptr)
        full = np.cumsum(2 * self._sizes - matrix.shape[1]) >= 0
        n_head = int(np.flatnonzero(full)[-1]) + 1 if full.any() else 0
        self._head: Matrix = matrix[:n_head].toarray()

    def __call__(self, H: CSR) -> Matrix:
        """
        The sums of each history.

        Args:
            H: (n, n_items) with sorted indices.

        Returns:
            (n, n_items) float32.
        """
        n, n_head = H.shape[0], len(self._head)
        sums = np.empty((n, self.matrix.shape[1]), np.float32)
        rest = H.indices >= n_head
        offsets = np.append(0, np.cumsum(rest))[H.indptr]  # (n + 1,)
        items, weights = H.indices[rest], H.data[rest]
        cells = np.append(0, np.cumsum(self._sizes[items]))[offsets]
        start = 0
        while start < n:
            stop = max(int(np.searchsorted(cells, cells[start] + CELLS, side="right")) - 1, start + 1)
            events = slice(offsets[start], offsets[stop])
            indptr = offsets[start : stop + 1] - offsets[start]
            row_sums(self.matrix, items[events], weights[events], indptr, out=sums[start:stop])
            start = stop
        if n_head:
            parts = (H.data[~rest], H.indices[~rest], H.indptr - offsets)
            sums += dense_product(CSR(parts, shape=(n, n_head)), self._head)
        return sums


def row_sums(
    matrix: CSR, rows: NDArray[Any], weights: Vector, indptr: NDArray[Any], out: Matrix | None = None
) -> Matrix:
    """
    Sums of weighted rows of a matrix.

    A general sparse product first finds out where the cells of the result lie, which costs as much as the
    sums. Here the rows are copied, weighted, and laid over one another: cells of one place add up.

    Args:
        matrix: (m, width).
        rows, weights: (n_events,) which rows, and how much of each.
        indptr: (n + 1,) offsets of the events of each sum.
        out: (n, width) where to write, if given.

    Returns:
        (n, width) float32.
    """
    taken = matrix[rows]
    taken.data *= np.repeat(weights, np.diff(taken.indptr))
    shape = (len(indptr) - 1, matrix.shape[1])
    summed: Matrix = CSR((taken.data, taken.indices, taken.indptr[indptr]), shape=shape).toarray(out=out)
    return summed


def narrow(matrix: CSR) -> CSR:
    """The matrix with indices of 32 bits where they suffice: a third less to keep and to read."""
    if max(matrix.nnz, *matrix.shape) > np.iinfo(np.int32).max:
        return matrix
    parts = (matrix.data, matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32))
    return CSR(parts, shape=matrix.shape)


def dense_product(H: CSR, weights: Matrix) -> Matrix:
    """
    (n, m) of histories and dense weights, the same to the bit for each row alone.

    Rows of the weights come from memory, which is the slow part: item by item, each serves all histories.
    """
    return np.asarray((H.tocsc() if H.shape[0] >= SHARED_ROWS else H) @ weights)
