"""
What a ranked list is worth.

Accuracy and beyond-accuracy measures of top-k lists against ground truth, per query, so that models can be
compared in pairs. Hits are computed once (`hits`) and every measure of accuracy is a few operations on them;
no negatives are ever sampled.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from marquee.data.dataset import Catalog, Histories
from marquee.data.schema import CSR, Event, Ids, Index
from marquee.data.vocabulary import Vocabulary
from marquee.data.windows import GroundTruth
from marquee.features.encode import encode_items, tf_idf

__all__ = [
    "Hits",
    "PerQuery",
    "calibration",
    "content_vectors",
    "coverage",
    "genre_vectors",
    "hit_rate",
    "hits",
    "intra_list_distance",
    "jaccard_distances",
    "listed_in",
    "mrr",
    "ndcg",
    "popularity_percentile",
    "recall",
]

PerQuery = NDArray[np.float64]  # (n_queries,)
Hits = NDArray[np.bool_]  # (n_queries, k), in rank order

PAIR_ROWS: Final = 4096
"""Lists whose pairwise distances are computed at a time."""


def hits(item_ids: NDArray[np.int64], truth: GroundTruth) -> Hits:
    """
    Which places of the lists hold an item of the ground truth.

    Args:
        item_ids: (n, k) external ids in rank order, -1 as padding.
        truth: n ground truths.
    """
    return listed_in(item_ids, truth.rows, truth.item_ids)


def listed_in(item_ids: NDArray[np.int64], rows: Index, wanted: Ids) -> Hits:
    """
    Which places of the lists hold one of the items wanted for their row.

    Args:
        item_ids: (n, k) external ids, -1 as padding.
        rows, wanted: (m,) pairs of a row and an external id.
    """
    items = Vocabulary(np.unique(wanted))
    stride = len(items) + 1
    column = items.index(item_ids.ravel()).reshape(item_ids.shape)
    listed = np.arange(len(item_ids))[:, None] * stride + column
    return (column >= 0) & np.isin(listed, rows * stride + items.index(wanted))


def ndcg(found: Hits, n_truth: Index, k: int = 10) -> PerQuery:
    """
    Normalised discounted cumulative gain with binary relevance.

    The ideal list counts every item of the ground truth, also those that no model could rank.

    Args:
        found: (n, ≥ k) hits in rank order.
        n_truth: (n,) size of each ground truth; 0 makes the value NaN.
        k: list length, > 0.

    Source:
        Järvelin & Kekäläinen, TOIS 20(4), 2002; base-2 discount.
    """
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[np.nan], np.cumsum(discount)])
    return np.asarray(found[:, :k] @ discount[: found.shape[1]] / ideal[np.minimum(n_truth, k)])


def recall(found: Hits, n_truth: Index, k: int = 20) -> PerQuery:
    """Share of the ground truth in the top k; NaN where there is none."""
    return _per_truth(np.asarray(found[:, :k].sum(axis=1), dtype=np.float64), n_truth, divide=True)


def hit_rate(found: Hits, n_truth: Index, k: int = 10) -> PerQuery:
    """1 if the top k holds any item of the ground truth, else 0; NaN where there is none."""
    return _per_truth(np.asarray(found[:, :k].any(axis=1), dtype=np.float64), n_truth)


def mrr(found: Hits, n_truth: Index, k: int = 10) -> PerQuery:
    """1 ÷ rank of the first hit in the top k, 0 without a hit; NaN where there is no ground truth."""
    top = found[:, :k]
    first = np.where(top.any(axis=1), 1.0 / (top.argmax(axis=1) + 1.0), 0.0)
    return _per_truth(np.asarray(first), n_truth)


def coverage(item_ids: NDArray[np.int64], catalogue: Vocabulary, k: int = 10) -> float:
    """Share of the catalogue that is in the top k of anybody; NaN for an empty catalogue."""
    listed = catalogue.index(np.unique(item_ids[:, :k]))
    return float((listed >= 0).sum() / len(catalogue)) if len(catalogue) else float("nan")


def popularity_percentile(counts: Index) -> NDArray[np.float64]:
    """
    Where each item stands in the order of popularity, in [0, 1]; items of equal count share their middle.

    Args:
        counts: (n_items,) interactions.
    """
    ordered = np.sort(counts)
    below = np.searchsorted(ordered, counts, side="left")
    up_to = np.searchsorted(ordered, counts, side="right")
    return np.asarray((below + up_to) / (2.0 * max(len(counts), 1)))


def genre_vectors(catalog: Catalog | None) -> CSR:
    """
    The genres of items.

    Returns:
        (n_items + 1, n_genres) float32 CSR of 0 and 1 in the order of the catalog; the last row, -1, is of an
        unknown item and empty.
    """
    return _with_unknown(_terms(catalog, ("genres",)))


def content_vectors(catalog: Catalog | None) -> CSR:
    """
    Genres, keywords and people of items, rare ones weighing more (TF-IDF).

    Returns:
        (n_items + 1, n_facts) float32 CSR with rows of length 1 in the order of the catalog; rows without
        facts, and the last, -1, of an unknown item, are empty.
    """
    terms = _terms(catalog, ("genres", "keywords", "people"))
    return _with_unknown(tf_idf(terms))


def jaccard_distances(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """
    1 − |A ∩ B| ÷ |A ∪ B| of all pairs of sets within each list.

    Args:
        vectors: (n, k, m) of 0 and 1.

    Returns:
        (n, k, k); NaN where both sets are empty.
    """
    shared = vectors @ vectors.transpose(0, 2, 1)
    size = vectors.sum(axis=2)
    union = size[:, :, None] + size[:, None, :] - shared
    return np.asarray(1.0 - np.divide(shared, union, out=np.full_like(shared, np.nan), where=union > 0))


def intra_list_distance(columns: Index, vectors: CSR, *, jaccard: bool = False) -> PerQuery:
    """
    How different the items of a list are: the mean distance of its pairs, in [0, 1].

    Items without a vector are left out; a list with fewer than two others is NaN.

    Args:
        columns: (n, k) rows of `vectors`, -1 for padding and unknown items.
        vectors: (n_items + 1, m), the last row empty, ≥ 0; of unit length unless `jaccard`, then of 0 and 1.
        jaccard: by Jaccard's distance of sets instead of 1 − cosine.

    Source:
        Ziegler et al., WWW 2005 (as a mean distance instead of a sum of similarities).
    """
    n, k = columns.shape
    known = np.diff(vectors.indptr)[columns] > 0
    made = np.full(n, np.nan)
    pairs = known.sum(axis=1) * (known.sum(axis=1) - 1)
    for start in range(0, n, PAIR_ROWS):
        block = slice(start, start + PAIR_ROWS)
        both = known[block, :, None] & known[block, None, :] & ~np.eye(k, dtype=bool)
        distance = (
            _jaccard_of(columns[block], vectors) if jaccard else 1.0 - _cosine_of(columns[block], vectors)
        )
        total = np.where(both, distance, 0.0).sum(axis=(1, 2), dtype=np.float64)
        np.divide(total, pairs[block], out=made[block], where=pairs[block] > 0)
    return np.asarray(np.clip(made, 0.0, 1.0))


def calibration(columns: Index, histories: Histories, items: Vocabulary, genres: CSR) -> PerQuery:
    """
    How far the genres of a list follow those of the history: 1 − Hellinger distance, in [0, 1].

    Each item spreads one unit over its genres. NaN where the list or the history has no genre.

    Args:
        columns: (n, k) rows of `genres`, -1 for padding and unknown items.
        histories: n histories; hidden items do not count.
        items: the ids of the rows of `genres`.
        genres: (n_items + 1, n_genres) of 0 and 1, the last row empty.

    Source:
        Steck, Calibrated Recommendations, RecSys 2018 (Hellinger's distance in place of the KL divergence).
    """
    if not genres.shape[1]:
        return np.full(len(columns), np.nan)
    per_item = np.maximum(np.diff(genres.indptr), 1)
    shares = genres.copy()
    shares.data = (shares.data / np.repeat(per_item, np.diff(genres.indptr))).astype(np.float32)
    past = items.index(histories.item_ids)
    used = (past >= 0) & (histories.events != Event.HIDE)
    taste = _distribution(histories.rows[used], past[used], len(histories), shares)
    listed = columns >= 0
    shown = _distribution(np.nonzero(listed)[0], columns[listed], len(columns), shares)
    overlap = np.sqrt(taste * shown).sum(axis=1)
    return np.asarray(1.0 - np.sqrt(np.maximum(1.0 - overlap, 0.0)))


def _per_truth(values: PerQuery, n_truth: Index, *, divide: bool = False) -> PerQuery:
    by = n_truth.astype(np.float64) if divide else np.ones(len(values))
    return _ratio(values, by, n_truth > 0)


def _terms(catalog: Catalog | None, kinds: tuple[str, ...]) -> CSR:
    items = catalog.items if catalog is not None else Vocabulary([])
    return encode_items(catalog, items, kinds).matrix


def _with_unknown(vectors: CSR) -> CSR:
    indptr = np.append(vectors.indptr, vectors.indptr[-1])
    return CSR((vectors.data, vectors.indices, indptr), shape=(vectors.shape[0] + 1, vectors.shape[1]))


def _jaccard_of(columns: Index, vectors: CSR) -> NDArray[np.float32]:
    dense = vectors[columns.ravel()].toarray().reshape(*columns.shape, -1)
    return jaccard_distances(dense)


def _cosine_of(columns: Index, vectors: CSR) -> NDArray[np.float32]:
    """(n, k, k) dot products; the vectors are too wide to be made dense together."""
    n, k = columns.shape
    flat = vectors[columns.ravel()]
    made = np.zeros((n, k, k), dtype=np.float32)
    for i in range(1, k):
        # Pairs (r, r + i) of each list: a row-wise product of the matrix with itself moved by i rows.
        dots = np.asarray(flat[:-i].multiply(flat[i:]).sum(axis=1)).ravel()
        first = np.arange(len(dots))
        inside = first % k + i < k
        row, a = first[inside] // k, first[inside] % k
        made[row, a, a + i] = made[row, a + i, a] = dots[inside]
    return made


def _distribution(rows: Index, items: Ids, n: int, shares: CSR) -> NDArray[np.float64]:
    """(n, n_genres) share of each genre among the items of each row; NaN for rows without any."""
    counts = CSR((np.ones(len(rows), np.float32), (rows, items)), shape=(n, shares.shape[0]))
    mass = (counts @ shares).toarray().astype(np.float64)
    total = mass.sum(axis=1, keepdims=True)
    return _ratio(mass, total, total > 0)


def _ratio(
    values: NDArray[np.float64], by: NDArray[np.float64], defined: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Divide, NaN where that is not defined."""
    return np.asarray(np.divide(values, by, out=np.full(values.shape, np.nan), where=defined))
