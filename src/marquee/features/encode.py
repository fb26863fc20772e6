"""
Facts, text and time of items as arrays.

Everything is in the order of a vocabulary that the caller gives, and an item without facts is a row of
zeros (or NaN), so that models need not know which facts a catalogue has.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from marquee.data.dataset import Catalog
from marquee.data.schema import CSR, Index, Vector
from marquee.data.vocabulary import Vocabulary

__all__ = ["FACTS", "Terms", "encode_items", "release_years", "tf_idf"]

FACTS: Final = ("genres", "keywords", "people", "era", "language", "collection")
"""The kinds of term that `encode_items` knows beside `title` and `overview`."""

_WORD = re.compile(r"[^\W_]+", re.UNICODE)
_YEARS_PER_ERA = 5
_STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
        a about after all an and are as at be been before but by can for from has have he her him his how if
        in into is it its more must no not of off on one only or out over own she so than that the their
        them then there they this to two until up was when where which while who whose will with you your
        """,
    )
)


@dataclass(frozen=True, eq=False)
class Terms:
    """
    Items described by terms.

    Attributes:
        matrix: (n_items, n_terms) float32 CSR, 1 where the item has the term.
        names: the n_terms names, `kind:value` (`genres:Drama`, `era:1990`, `overview:whale`), sorted.
    """

    matrix: CSR
    names: tuple[str, ...]


def encode_items(
    catalog: Catalog | None, items: Vocabulary, kinds: Sequence[str] = FACTS, *, min_items: int = 1
) -> Terms:
    """
    Terms of items.

    Args:
        catalog: facts; none: no terms.
        items: the rows.
        kinds: of `FACTS`, `title` and `overview`; the last two are split into words.
        min_items: terms of fewer of these items are left out.

    Raises:
        ValueError: an unknown kind.
    """
    unknown = sorted(set(kinds) - {*FACTS, "title", "overview"})
    if unknown:
        raise ValueError(f"Unknown kinds of term {unknown}; known: {[*FACTS, 'title', 'overview']}")
    if catalog is None or not len(items):
        return Terms(CSR(np.zeros((len(items), 0), np.float32)), ())
    known = _ENCODED.setdefault(catalog, {})
    every = known.get(tuple(kinds))
    if every is None:
        every = known[tuple(kinds)] = _encoded(catalog, kinds)
    row = catalog.items.index(items.ids)
    found = np.flatnonzero(row >= 0)
    pick = CSR((np.ones(len(found), np.float32), (found, row[found])), shape=(len(items), len(catalog)))
    matrix: CSR = pick @ every.matrix
    frequent = np.flatnonzero(np.bincount(matrix.indices, minlength=matrix.shape[1]) >= max(min_items, 1))
    chosen: CSR = matrix[:, frequent]
    chosen.sort_indices()
    return Terms(chosen, tuple(every.names[column] for column in frequent.tolist()))


def tf_idf(terms: CSR, damping: float = 0.0) -> CSR:
    """
    Terms weighted by their rarity, rows of length 1 (or 0 without terms).

    Args:
        terms: (n_items, n_terms) binary.
        damping: added to each squared length, as a multiple of the mean one: an item of which little is
            known is then shorter than 1, so that a few common terms do not make it everyone's twin.

    Source:
        Spärck Jones 1972; the smoothed form of scikit-learn, ln((1 + n) / (1 + df)) + 1.
    """
    n_items, n_terms = terms.shape
    frequency = np.bincount(terms.indices, minlength=n_terms)
    rarity = np.log((1.0 + n_items) / (1.0 + frequency)) + 1.0
    weighted = CSR(
        ((terms.data * rarity[terms.indices]).astype(np.float32), terms.indices, terms.indptr),
        shape=terms.shape,
    )
    squares = np.zeros(n_items)  # bincount counts in integers when there is nothing to count
    squares += np.bincount(np.repeat(np.arange(n_items), np.diff(terms.indptr)), weighted.data**2, n_items)
    norms = np.sqrt(squares + damping * squares.mean()) if n_items else squares
    scale = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    weighted.data *= np.repeat(scale, np.diff(weighted.indptr)).astype(np.float32)
    return weighted


def release_years(catalog: Catalog | None, items: Vocabulary) -> Vector:
    """(n_items,) year of release, NaN where unknown."""
    if catalog is None:
        return np.full(len(items), np.nan, np.float32)
    years = pc.year(catalog.align(items)["release_date"])
    return np.asarray(pc.cast(years, pa.float32()).to_numpy(zero_copy_only=False), dtype=np.float32)


def _encoded(catalog: Catalog, kinds: Sequence[str]) -> Terms:
    """The terms of a whole catalogue, in its own order."""
    parts = [_pairs(catalog.table, kind) for kind in kinds]
    rows = np.concatenate([part[0] for part in parts]) if parts else np.empty(0, np.int64)
    values = [value for part in parts for value in part[1]]
    names, column = np.unique(np.array(values, dtype=np.str_), return_inverse=True)
    matrix = CSR((np.ones(len(rows), np.float32), (rows, column)), shape=(len(catalog), len(names)))
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return Terms(matrix, tuple(names.tolist()))


_ENCODED: Final[WeakKeyDictionary[Catalog, dict[tuple[str, ...], Terms]]] = WeakKeyDictionary()
"""Text is slow to take apart, and one catalogue is encoded for one model after another."""


def _pairs(table: pa.Table, kind: str) -> tuple[Index, list[str]]:
    """Rows and the `kind:value` terms they have; a row may repeat a term."""
    if kind in ("genres", "keywords", "people"):
        column = table[kind].combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks)
        rows = pc.list_parent_indices(column).to_numpy()
        values = pc.list_flatten(column).to_pylist()
        known = [i for i, value in enumerate(values) if value]
        return rows[known].astype(np.int64), [f"{kind}:{values[i].strip()}" for i in known]
    if kind == "era":
        years = pc.year(table["release_date"]).to_pylist()
        return _labelled(kind, [None if y is None else y - y % _YEARS_PER_ERA for y in years])
    if kind == "language":
        return _labelled(kind, table["original_language"].to_pylist())
    if kind == "collection":
        return _labelled(kind, table["collection_id"].to_pylist())
    rows_of_words, words = [], []
    for row, text in enumerate(table[kind].to_pylist()):
        for word in _WORD.findall((text or "").lower()):
            if word not in _STOP_WORDS and (len(word) > 1 or not word.isascii()):
                rows_of_words.append(row)
                words.append(f"{kind}:{word}")
    return np.array(rows_of_words, dtype=np.int64), words


def _labelled(kind: str, labels: Sequence[object]) -> tuple[Index, list[str]]:
    known = [row for row, label in enumerate(labels) if label not in (None, "")]
    return np.array(known, dtype=np.int64), [f"{kind}:{labels[row]}" for row in known]
