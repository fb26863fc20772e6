"""What answers know of items: the catalogue of one moment, with its cards rendered once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from marquee.api.images import image_url
from marquee.api.translations import Translations
from marquee.data.dataset import Catalog
from marquee.data.schema import Ids
from marquee.recommend.editorial import Editorial
from marquee.store.postgres import Database
from marquee.store.repositories import items, texts

__all__ = ["Shelf", "image_url", "slowly"]

ROWS: Final = 512
SHOWN: Final = (
    "item_id",
    "title",
    "original_title",
    "release_date",
    "runtime_minutes",
    "genres",
    "original_language",
    "overview",
    "poster_path",
    "backdrop_path",
)


def _nothing() -> Ids:
    return np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Shelf:
    """
    The items of a catalogue.

    Attributes:
        catalog: their facts.
        blocked: external ids that are never shown.
        editorial: what editors pin and boost.
        translations: of titles, overviews and posters.
        cards: item id → the members of its card as JSON, without braces.
    """

    catalog: Catalog
    blocked: Ids = field(default_factory=_nothing)
    editorial: Editorial = field(default_factory=Editorial)
    translations: Translations = field(default_factory=Translations)
    cards: Mapping[int, bytes] = field(init=False)

    def __post_init__(self) -> None:
        rows = slowly(self.catalog.table.select(SHOWN))
        object.__setattr__(self, "cards", {row["item_id"]: _members(row) for row in rows})

    @classmethod
    def read(cls, database: Database, languages: Sequence[str]) -> "Shelf":
        """
        The catalogue as the database has it now.

        Args:
            languages: of the texts that are kept for translations.
        """
        catalog, words = items.load_catalog(database), Translations(texts.load(database, languages))
        with database.begin() as connection:
            return cls(catalog, items.not_shown(connection), items.editorial(connection), words)

    @cached_property
    def genres(self) -> Mapping[str, int]:
        """Genre → its items that may be shown, the most frequent first."""
        table = self.catalog.table
        shown = pc.invert(pc.is_in(table["item_id"], value_set=pa.array(self.blocked)))
        shown = pc.and_(shown, pc.invert(pc.fill_null(table["adult"], False)))
        flat = pc.list_flatten(table.filter(shown)["genres"])
        counts = {pair["values"]: pair["counts"] for pair in pc.value_counts(flat).to_pylist()}
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))

    def card(self, item_id: int) -> bytes:
        """The members of an item's card; of an item that is not in the catalogue, what must be there."""
        found = self.cards.get(item_id)
        return found if found is not None else _members({"item_id": item_id})


def slowly(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows of a table, of which never many exist at once: what they took would not be given back."""
    for first in range(0, len(table), ROWS):
        yield from table.slice(first, ROWS).to_pylist()


def _members(row: Mapping[str, Any]) -> bytes:
    released: date | None = row.get("release_date")
    card = {
        "item_id": row["item_id"],
        "title": row.get("title") or f"#{row['item_id']}",
        "original_title": row.get("original_title"),
        "release_date": released,
        "year": released.year if released is not None else None,
        "runtime_minutes": row.get("runtime_minutes"),
        "genres": row.get("genres") or [],
        "original_language": row.get("original_language"),
        "overview": row.get("overview"),
        "poster_url": image_url(row.get("poster_path")),
        "backdrop_url": image_url(row.get("backdrop_path"), "w1280"),
    }
    return orjson.dumps(card)[1:-1]
