"""Texts of items by language."""

from collections.abc import Sequence

import pyarrow as pa

from marquee.store.bulk import read_arrow
from marquee.store.postgres import Database

__all__ = ["load"]


def load(database: Database, languages: Sequence[str]) -> pa.Table:
    """
    What cards show of items that are not removed: those of a language together, by item id.

    Args:
        languages: which; those of a country, such as `pt-BR`, come with those of the language itself.
    """
    wanted = list(dict.fromkeys(part for one in languages for part in (one, one.partition("-")[0])))
    return read_arrow(
        database,
        "SELECT t.language, t.item_id, t.title, t.overview, t.poster_path FROM item_texts AS t "
        "JOIN items AS i USING (item_id) WHERE i.removed_at IS NULL "
        "AND t.language = ANY({wanted}) AND num_nonnulls(t.title, t.overview, t.poster_path) > 0 "
        "ORDER BY t.language, t.item_id",
        wanted=wanted,
    )
