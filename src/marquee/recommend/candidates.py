"""
Candidates: the few items of a catalogue that are worth a closer look.

Each source (a first-stage model, or the same model on the newest events only) scores the whole catalogue;
the union of their best unseen items goes on to the ranker, with every source's score for every one of
them and a note of who proposed it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marquee.data.dataset import Histories
from marquee.data.ranked import top_k
from marquee.data.schema import Event, Index, Matrix
from marquee.data.vocabulary import Vocabulary

__all__ = ["Candidates", "gather_candidates", "gather_sparsely", "seen_cells"]


@dataclass(frozen=True, eq=False, slots=True)
class Candidates:
    """
    Items proposed for n histories. History i owns the pairs `indptr[i]:indptr[i + 1]`, by item index.

    Attributes:
        indptr: (n + 1,) offsets.
        items: (n_pairs,) item indices.
        scores: (n_pairs, n_sources) what each source says of the item, proposed by it or not.
        proposed: (n_pairs, n_sources) the provenance: which sources have it among their best.
    """

    indptr: Index
    items: Index
    scores: Matrix
    proposed: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def rows(self) -> Index:
        """(n_pairs,) the history of each pair."""
        return np.repeat(np.arange(len(self)), np.diff(self.indptr))


def gather_candidates(
    scores: Sequence[Matrix], seen: tuple[Index, Index], depth: int, proposing: int | None = None
) -> Candidates:
    """
    The union of the best unseen items of all sources.

    Args:
        scores: one (n, n_items) matrix per source.
        seen: rows and columns of what must not be proposed.
        depth: items that each source proposes.
        proposing: the first so many sources propose, the others only score; default: all.
    """
    n, n_items = scores[0].shape
    n_proposing = len(scores) if proposing is None else proposing
    who = np.zeros((n_proposing, n, n_items), dtype=bool)
    cells = who.reshape(n_proposing, n * n_items)
    for source, matrix in enumerate(scores[:n_proposing]):
        own = matrix if matrix.strides[0] == 0 else np.array(matrix, dtype=np.float32)
        cells[source, _best_cells(own, seen, depth)] = True
    rows, items = np.divmod(np.flatnonzero(cells.any(axis=0)), max(n_items, 1))
    proposed = np.zeros((len(items), len(scores)), dtype=bool)
    proposed[:, :n_proposing] = who[:, rows, items].T
    values = np.stack([matrix[rows, items] for matrix in scores], axis=1).astype(np.float32, copy=False)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))]).astype(np.int64)
    return Candidates(indptr, items.astype(np.int64), values, proposed)


def gather_sparsely(
    scores: Iterable[Matrix], seen: tuple[Index, Index], depth: int, proposing: int
) -> Candidates:
    """
    As `gather_candidates`, for catalogues so large that copies of whole matrices are felt.

    Args:
        scores: as there; written into, unless all rows are one and the same.
        seen, depth, proposing: as there.
    """
    matrices: list[Matrix] = []
    cells: list[Index] = []  # row * n_items + item of what each source proposes
    for matrix in scores:
        matrices.append(matrix)
        if len(cells) < proposing:
            cells.append(_best_cells(matrix, seen, depth))
    n, n_items = matrices[0].shape
    union = np.unique(np.concatenate(cells))
    rows, items = np.divmod(union, max(n_items, 1))
    proposed = np.zeros((len(union), len(matrices)), dtype=bool)
    for source, best in enumerate(cells):
        proposed[np.searchsorted(union, best), source] = True
    values = np.empty((len(union), len(matrices)), np.float32)
    for source, matrix in enumerate(matrices):
        values[:, source] = matrix[rows, items]
    indptr = np.append(0, np.cumsum(np.bincount(rows, minlength=n))).astype(np.int64)
    return Candidates(indptr, items, values, proposed)


def seen_cells(histories: Histories, items: Vocabulary) -> tuple[Index, Index]:
    """Rows and item indices that a history already has; what was only clicked may be proposed again."""
    index = items.index(histories.item_ids)
    known = (index >= 0) & (histories.events != Event.CLICK)
    return histories.rows[known], index[known]


def _best_cells(matrix: Matrix, seen: tuple[Index, Index], depth: int) -> Index:
    """Cells of the `depth` best unseen items of each row."""
    n, n_items = matrix.shape
    if n > 1 and matrix.strides[0] == 0:
        # One ranking for all: what a row has seen of it is passed over.
        most = int(np.bincount(seen[0], minlength=n).max(initial=0))
        ranking = top_k(np.array(matrix[:1]), min(depth + most, n_items))[0][0]
        place = np.full(n_items, -1)
        place[ranking] = np.arange(len(ranking))
        free = np.ones((n, len(ranking)), dtype=bool)
        where = place[seen[1]]
        free[seen[0][where >= 0], where[where >= 0]] = False
        rows, places = np.nonzero(free & (np.cumsum(free, axis=1) <= depth))
        return np.asarray(rows * n_items + ranking[places])
    if not matrix.flags.writeable:
        matrix = matrix.copy()
    matrix[seen] = -np.inf
    columns, _ = top_k(matrix, depth)
    rows, places = np.nonzero(columns >= 0)
    return np.asarray(rows * n_items + columns[rows, places])
