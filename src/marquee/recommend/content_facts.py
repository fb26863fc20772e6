"""
Lasting facts of items as terms: what a history and a candidate may have in common.

Terms are of several kinds (`KINDS`), and all kinds count alike, since an item's terms of each have length 1.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from marquee.data.dataset import Catalog
from marquee.data.schema import CSR, Index
from marquee.data.vocabulary import Vocabulary
from marquee.features.encode import encode_items, tf_idf

__all__ = ["KINDS", "ContentFacts"]

KINDS: Final = ("genres", "keywords", "people", "era", "language", "title", "overview", "franchise")

_SERIES: Final = re.compile(
    r"^(?:the|a|an)\s+|\s*\((?:19|20)\d\d\)\s*$|,\s*(?:the|a|an)\b.*$|\s*[:\-–]\s.*$|\s+(?:part\s+)?"
    r"(?:[ivx]+|\d{1,2})\b.*$",
    re.IGNORECASE,
)
"""What a title has beside the name of its series."""


@dataclass(frozen=True, eq=False, slots=True)
class ContentFacts:
    """
    Lasting facts of a catalogue as arrays: read once, used for every moment of the past.

    Attributes:
        items: the rows.
        terms: (n, n_terms) CSR, of length 1 within each kind.
        kind: (n_terms,) position in `KINDS`.
        released: (n,) days since 1970, NaN where unknown.
    """

    items: Vocabulary
    terms: CSR
    kind: Index
    released: NDArray[np.float64]

    @classmethod
    def of(cls, catalog: Catalog | None) -> Self:
        """The facts of a catalogue; without one, of no item."""
        items = catalog.items if catalog is not None else Vocabulary([])
        terms, kind = _terms(catalog, items)
        return cls(items, terms, kind, _release_days(catalog, items))

    def align(self, items: Vocabulary) -> Self:
        """The same facts in the order of other items; nothing is known of new ones."""
        row = self.items.index(items.ids)
        known = np.flatnonzero(row >= 0)
        pick = CSR(
            (np.ones(len(known), np.float32), (known, row[known])), shape=(len(items), len(self.items))
        )
        released = np.full(len(items), np.nan)
        released[known] = self.released[row[known]]
        terms = CSR(pick @ self.terms)
        terms.sort_indices()
        return type(self)(items, terms, self.kind, released)


def _release_days(catalog: Catalog | None, items: Vocabulary) -> NDArray[np.float64]:
    if catalog is None:
        return np.full(len(items), np.nan)
    dates = catalog.align(items)["release_date"].cast(pa.int32()).cast(pa.float64())
    return np.asarray(dates.to_numpy(zero_copy_only=False), dtype=np.float64)


def _terms(catalog: Catalog | None, items: Vocabulary) -> tuple[CSR, Index]:
    """Facts of the items, rows of length 1 within each kind, and the kind of each column."""
    if catalog is None:
        nothing = CSR(np.zeros((len(items), 0), np.float32))
        return nothing, np.zeros(0, np.int64)
    parts: list[CSR] = []
    for name in KINDS:
        if name == "franchise":
            parts.append(_franchises(catalog, items))
        else:
            parts.append(tf_idf(encode_items(catalog, items, (name,), min_items=2).matrix))
    stacked = sparse.hstack(parts, format="csr")
    shape = (len(items), sum(part.shape[1] for part in parts))
    terms = CSR((stacked.data, stacked.indices, stacked.indptr), shape=shape)
    terms.sort_indices()
    kind: Index = np.repeat(np.arange(len(KINDS)), [part.shape[1] for part in parts])
    return terms, kind


def _franchises(catalog: Catalog, items: Vocabulary) -> CSR:
    """Items by their collection or, where none is known, by the stem of a title that several share."""
    table = catalog.align(items)
    keys: list[str] = []
    for collection, title in zip(table["collection_id"].to_pylist(), table["title"].to_pylist(), strict=True):
        if collection is not None:
            keys.append(f"#{collection}")
            continue
        stem, before = (title or "").lower().strip(), ""
        while stem != before:
            before, stem = stem, _SERIES.sub("", stem).strip()
        keys.append(stem)
    names, column, count = np.unique(np.array(keys, dtype=np.str_), return_inverse=True, return_counts=True)
    shared = (count[column] > 1) & (names[column] != "")
    row = np.flatnonzero(shared)
    return CSR((np.ones(len(row), np.float32), (row, column[row])), shape=(len(items), len(names)))
