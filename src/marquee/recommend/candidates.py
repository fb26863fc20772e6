"""
Candidates: the few items of a catalogue that are worth a closer look.

Each source (a first-stage model, or the same model on the newest events only) scores the whole catalogue;
the union of their best unseen items goes on to the ranker, with every source's score for every one of
them and a note of who proposed it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marquee.data.dataset import Histories
from marquee.data.ranked import top_k
from marquee.data.schema import Event, Index, Matrix
from marquee.data.vocabulary import Vocabulary

__all__ = ["Candidates", "gather_candidates", "seen_cells"]


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
    scores: Iterable[Matrix], seen: tuple[Index, Index], depth: int, proposing: int | None = None
) -> Candidates:
    """
    The union of the best unseen items of all sources.

    Args:
        scores: one (n, n_items) matrix per source; written into for the time being, unless read-only.
        seen: rows and columns of what must not be proposed.
        depth: items that each source proposes.
        proposing: the first so many sources propose, the others only score; default: all.
    """
    matrices: list[Matrix] = []
    best: list[Index] = []  # cells, row * n_items + item, of what each source proposes
    for matrix in scores:
        matrices.append(matrix)
        if proposing is None or len(best) < proposing:
            best.append(_best_cells(matrix, seen, depth))
    n, n_items = matrices[0].shape
    # One sort of cell and source in one integer tells the union and who proposed what of it; a stable one
    # only merges what ascends already.
    pairs = np.concatenate([cells * len(best) + source for source, cells in enumerate(best)])
    pairs.sort(kind="stable")
    cells, source = np.divmod(pairs, len(best))
    new = np.append(True, cells[1:] != cells[:-1])[: len(cells)]
    cells, place = cells[new], np.cumsum(new) - 1
    rows, items = np.divmod(cells, max(n_items, 1))
    proposed = np.zeros((len(cells), len(matrices)), dtype=bool)
    proposed[place, source] = True
    values = np.empty((len(matrices), len(cells)), np.float32)
    for own, matrix in zip(values, matrices, strict=True):
        own[:] = matrix[0].take(items) if matrix.strides[0] == 0 else matrix.ravel().take(cells)
    indptr = np.append(0, np.cumsum(np.bincount(rows, minlength=n))).astype(np.int64)
    return Candidates(indptr, items, values.T, proposed)


def seen_cells(histories: Histories, items: Vocabulary) -> tuple[Index, Index]:
    """Rows and item indices that a history already has; what was only clicked may be proposed again."""
    index = items.index(histories.item_ids)
    known = (index >= 0) & (histories.events != Event.CLICK)
    return histories.rows[known], index[known]


def _best_cells(matrix: Matrix, seen: tuple[Index, Index], depth: int) -> Index:
    """Cells of the `depth` best unseen items of each row, ascending."""
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
        free &= np.cumsum(free, axis=1) <= depth
        by_item = np.argsort(ranking)
        rows, places = np.nonzero(free[:, by_item])
        return np.asarray(rows * n_items + ranking[by_item][places])
    if not matrix.flags.writeable:
        matrix = matrix.copy()
    held = matrix[seen]
    matrix[seen] = -np.inf
    columns, _ = top_k(matrix, depth)
    matrix[seen] = held
    columns.sort(axis=1)
    rows, places = np.nonzero(columns >= 0)
    return np.asarray(rows * n_items + columns[rows, places])
