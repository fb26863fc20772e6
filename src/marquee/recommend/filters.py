"""
Filters: which items of a vocabulary may be shown at all.

Facts are turned into arrays once (`ItemFacts`); a request then costs a few comparisons of arrays as long as
the catalogue. What is not known of an item cannot satisfy a filter that asks for it, except that an item
counts as adult only when its facts say so.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from marquee.data.dataset import Catalog
from marquee.data.schema import Ids, Vector
from marquee.data.vocabulary import Vocabulary
from marquee.features.encode import encode_items, release_years

__all__ = ["Filters", "ItemFacts", "Mask"]

Mask = NDArray[np.bool_]  # (n_items,)


@dataclass(frozen=True, slots=True)
class Filters:
    """
    What the items of a list must satisfy; the default asks for nothing but that they are not adult.

    Attributes:
        genres: at least one of these, in any case.
        year_from, year_to: of release, both included.
        languages: original language, one of these codes.
        max_runtime_minutes: included.
        include_adult: whether adult items may be shown.
        exclude: external ids that may not be shown.
    """

    genres: tuple[str, ...] = ()
    year_from: int | None = None
    year_to: int | None = None
    languages: tuple[str, ...] = ()
    max_runtime_minutes: int | None = None
    include_adult: bool = False
    exclude: tuple[int, ...] = ()


class ItemFacts:
    """
    The facts of a vocabulary's items that filters ask for.

    Args:
        items: the vocabulary.
        catalog: facts. Of an item that is not in it nothing is known: it is shown unless a filter asks a
            fact of it.
        blocked: external ids that are never shown, removed items among them.
    """

    def __init__(self, items: Vocabulary, catalog: Catalog | None = None, blocked: Ids | None = None) -> None:
        n = len(items)
        self.items = items
        self._years = release_years(catalog, items)
        self._runtimes: Vector = np.full(n, np.nan, np.float32)
        self._with: dict[str, Ids] = {}  # term → (m,) indices of the items that have it
        listed, adult = np.ones(n, dtype=bool), np.zeros(n, dtype=bool)
        if catalog is not None:
            facts = catalog.align(items)
            runtimes = pc.cast(facts["runtime_minutes"], pa.float32())
            self._runtimes = runtimes.to_numpy().astype(np.float32, copy=False)
            adult = pc.fill_null(facts["adult"], fill_value=False).to_numpy()
            terms = encode_items(catalog, items, ("genres", "language"))
            by_term = terms.matrix.tocsc()
            for name, first, last in zip(terms.names, by_term.indptr, by_term.indptr[1:], strict=False):
                key, found = name.casefold(), by_term.indices[first:last].astype(np.int64)
                self._with[key] = np.union1d(self._with.get(key, found), found)
        if blocked is not None:
            listed = listed & ~np.isin(items.ids, blocked)
        self._listed = listed
        self._default = listed & ~adult
        self._listed.flags.writeable = self._default.flags.writeable = False

    def mask(self, filters: Filters) -> Mask:
        """
        Which items may be shown.

        Returns:
            (n_items,) possibly shared and then read-only.
        """
        mask = self._listed if filters.include_adult else self._default
        if filters.genres:
            mask = mask & self._any("genres", filters.genres)
        if filters.languages:
            mask = mask & self._any("language", filters.languages)
        if filters.year_from is not None:
            mask = mask & (self._years >= filters.year_from)
        if filters.year_to is not None:
            mask = mask & (self._years <= filters.year_to)
        if filters.max_runtime_minutes is not None:
            mask = mask & (self._runtimes <= filters.max_runtime_minutes)
        if filters.exclude:
            mask = self.without(mask, np.array(filters.exclude, dtype=np.int64))
        return mask

    def without(self, mask: Mask, item_ids: Ids) -> Mask:
        """A copy of a mask that also leaves out the given external ids."""
        index = self.items.index(item_ids)
        made = mask.copy()
        made[index[index >= 0]] = False
        return made

    def _any(self, kind: str, values: tuple[str, ...]) -> Mask:
        mask = np.zeros(len(self.items), dtype=bool)
        for value in values:
            found = self._with.get(f"{kind}:{value.strip()}".casefold())
            if found is not None:
                mask[found] = True
        return mask
