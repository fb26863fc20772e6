"""The catalogue: lasting facts, facts as of a day, and texts by language."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    and_,
    cast,
    delete,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from marquee.data import Catalog
from marquee.data.schema import ITEMS, Ids
from marquee.recommend.editorial import Editorial
from marquee.store.bulk import read_arrow
from marquee.store.notify import notify
from marquee.store.postgres import Database
from marquee.store.staging import UpsertCounts, checked, last_of_each, stage, upsert
from marquee.store.tables import item_facts, item_texts, items

__all__ = [
    "EDITOR",
    "FACTS",
    "TEXTS",
    "ItemCard",
    "append_facts",
    "cards",
    "count",
    "drop_facts",
    "editorial",
    "facts_as_of",
    "forget",
    "load_catalog",
    "not_shown",
    "remove",
    "sources",
    "unchecked_since",
    "upsert_items",
    "upsert_texts",
    "version",
]

FACTS = pa.schema(
    [
        pa.field("item_id", pa.int64(), nullable=False),
        pa.field("observed_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("popularity", pa.float32()),
        pa.field("vote_average", pa.float32()),
        pa.field("vote_count", pa.int32()),
    ]
)
"""Columns of `append_facts`."""

TEXTS = pa.schema(
    [
        pa.field("item_id", pa.int64(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("overview", pa.string()),
        pa.field("tagline", pa.string()),
        pa.field("poster_path", pa.string()),
    ]
)
"""Columns of `upsert_texts`."""

EDITOR = "editor"
"""The source of what editors write. Their word wins: no other source changes or removes it."""

TRANSLATED = ("title", "poster_path", "overview")
MOMENT = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class ItemCard:
    """What an answer shows of an item."""

    item_id: int
    title: str
    poster_path: str | None
    overview: str | None


def upsert_items(connection: Connection, rows: pa.Table, *, source: str) -> UpsertCounts:
    """
    Insert items, or update those whose facts differ; an item that was removed is back.

    What an editor has written or removed stays so, and counts as unchanged, unless the source is `EDITOR`.

    Args:
        rows: columns of `schema.ITEMS`, at least `item_id` and `title`; absent ones are null. Of a
            repeated item the last row counts.
        source: where the facts come from.

    Raises:
        SchemaError: a column is missing or cannot be cast.
    """
    rows = checked(rows, ITEMS, required=("item_id", "title"))
    rows = rows.append_column(pa.field("source", pa.string()), pa.repeat(pa.scalar(source), len(rows)))
    # The newest word of a source is that the item exists.
    rows = rows.append_column(pa.field("removed_at", MOMENT), pa.nulls(len(rows), MOMENT))
    yields = f"(items.source <> '{EDITOR}' OR excluded.source = '{EDITOR}')"
    counts = upsert(connection, "items", rows, key=["item_id"], stamp="updated_at", only=yields)
    connection.execute(
        update(items)
        .where(items.c.item_id == func.any(_bigints(rows["item_id"])), items.c.checked_at < func.now())
        .values(checked_at=func.now())
    )
    if counts.inserted or counts.updated:
        notify(connection, "marquee_items")
    return counts


def upsert_texts(connection: Connection, rows: pa.Table) -> UpsertCounts:
    """
    Insert texts of items by language, or update those that differ.

    Args:
        rows: columns of `TEXTS`, at least `item_id` and `language`.
    """
    rows = checked(rows, TEXTS, required=("item_id", "language"))
    counts = upsert(connection, "item_texts", rows, key=["item_id", "language"])
    if counts.inserted or counts.updated:
        notify(connection, "marquee_items")
    return counts


def append_facts(connection: Connection, rows: pa.Table) -> int:
    """
    Append facts of a day; those of the same item and moment stay as they are.

    Args:
        rows: columns of `FACTS`, at least `item_id` and `observed_at`.

    Returns:
        Rows that were new.
    """
    rows = checked(rows, FACTS, required=("item_id", "observed_at"))
    stage(connection, "item_facts", last_of_each(rows, ["item_id", "observed_at"]))
    names = ", ".join(FACTS.names)
    appended = connection.execute(
        text(f"INSERT INTO item_facts ({names}) SELECT {names} FROM staged ON CONFLICT DO NOTHING")
    ).rowcount
    connection.execute(
        text(
            "UPDATE items SET popularity = newest.popularity FROM ("
            "SELECT DISTINCT ON (item_id) item_id, popularity FROM item_facts "
            "WHERE item_id IN (SELECT item_id FROM staged) ORDER BY item_id, observed_at DESC"
            ") AS newest WHERE newest.item_id = items.item_id "
            "AND newest.popularity IS DISTINCT FROM items.popularity"
        )
    )
    return appended


def load_catalog(database: Database, *, language: str | None = None) -> Catalog:
    """
    The facts of all items that are not removed.

    Args:
        language: of titles, overviews and posters where there is such a text.
    """
    columns = [
        f"coalesce(t.{name}, i.{name}) AS {name}" if name in TRANSLATED else f"i.{name}"
        for name in ITEMS.names
    ]
    return Catalog(
        read_arrow(
            database,
            f"SELECT {', '.join(columns)} FROM items AS i "
            "LEFT JOIN item_texts AS t ON t.item_id = i.item_id AND t.language = {language} "
            "WHERE i.removed_at IS NULL",
            language=language,
        )
    )


def facts_as_of(database: Database, moment: datetime) -> pa.Table:
    """The newest facts of each item at or before a moment: a table of `FACTS`, by item id."""
    table = read_arrow(
        database,
        f"SELECT DISTINCT ON (item_id) {', '.join(FACTS.names)} FROM item_facts "
        "WHERE observed_at <= {moment} ORDER BY item_id, observed_at DESC",
        moment=moment,
    )
    return table.cast(FACTS)


def cards(
    connection: Connection, item_ids: Sequence[int], *, language: str | None = None
) -> dict[int, ItemCard]:
    """
    What answers show of items, by item id; an unknown or removed item is left out.

    Args:
        language: of the texts, where there are such; else those of the catalogue.
    """
    join = and_(item_texts.c.item_id == items.c.item_id, item_texts.c.language == language)
    query = (
        select(
            items.c.item_id,
            *(func.coalesce(item_texts.c[name], items.c[name]).label(name) for name in TRANSLATED),
        )
        .join_from(items, item_texts, join, isouter=True)
        .where(items.c.item_id == func.any(_bigints(item_ids)), items.c.removed_at.is_(None))
    )
    return {row.item_id: ItemCard(**row._mapping) for row in connection.execute(query)}


def remove(connection: Connection, item_ids: Sequence[int], *, removed_at: datetime) -> int:
    """
    Mark items as gone from their source; they are no longer recommended, their events stay.

    Those that an editor has written stay.
    """
    given = items.c.item_id == func.any(_bigints(item_ids))
    removed = connection.execute(
        update(items)
        .where(given, items.c.removed_at.is_(None), items.c.source != EDITOR)
        .values(removed_at=removed_at)
    ).rowcount
    if removed:
        notify(connection, "marquee_items")
    return removed


def not_shown(connection: Connection) -> Ids:
    """The items that are gone from their source or blocked by editors, ascending."""
    query = select(items.c.item_id).where(or_(items.c.removed_at.is_not(None), items.c.block))
    return np.array(connection.execute(query.order_by(items.c.item_id)).scalars().all(), dtype=np.int64)


def editorial(connection: Connection) -> Editorial:
    """What editors pin, in the order of item id, and boost, by 1 less than the number that they set."""
    of_shown = and_(items.c.removed_at.is_(None), items.c.block.is_(False))
    pinned = select(items.c.item_id).where(items.c.pin, of_shown).order_by(items.c.item_id)
    boosted = select(items.c.item_id, items.c.boost).where(items.c.boost != 1, of_shown)
    rows = connection.execute(boosted.order_by(items.c.item_id)).all()
    return Editorial(
        np.array(connection.execute(pinned).scalars().all(), dtype=np.int64),
        np.array([row.item_id for row in rows], dtype=np.int64),
        np.array([row.boost - 1 for row in rows], dtype=np.float32),
    )


def version(connection: Connection) -> str:
    """A word that changes with every change of an item or its texts."""
    # xmin is the transaction that last wrote a row.
    sums = "SELECT concat_ws(' ', count(*), sum(xmin::text::bigint), max(xmin::text::bigint)) FROM "
    query = text(f"SELECT concat_ws(' ', ({sums} items), ({sums} item_texts))")
    return str(connection.execute(query).scalar_one())


def unchecked_since(connection: Connection, source: str, moment: datetime) -> list[int]:
    """The items of a source that it has not confirmed since a moment, the longest unconfirmed first."""
    query = (
        select(items.c.item_id)
        .where(items.c.source == source, items.c.checked_at < moment, items.c.removed_at.is_(None))
        .order_by(items.c.checked_at, items.c.item_id)
    )
    return list(connection.execute(query).scalars())


def drop_facts(connection: Connection, source: str, before: datetime) -> int:
    """
    Delete the facts of a day that are older than a source allows to keep them.

    Returns:
        Rows deleted.
    """
    of_source = select(items.c.item_id).where(items.c.source == source)
    dropped = connection.execute(
        delete(item_facts).where(item_facts.c.observed_at < before, item_facts.c.item_id.in_(of_source))
    ).rowcount
    unknown = items.c.item_id.not_in(select(item_facts.c.item_id))
    connection.execute(
        update(items)
        .where(items.c.source == source, items.c.popularity.is_not(None), unknown)
        .values(popularity=None)
    )
    return dropped


def forget(connection: Connection, source: str, before: datetime) -> int:
    """
    Drop the words, images and facts of items that their source has not confirmed since a moment.

    The item stays, with its title, so that its events keep their meaning.

    Returns:
        Items that had any.
    """
    ids = list(
        connection.execute(
            select(items.c.item_id).where(
                items.c.source == source,
                items.c.checked_at < before,
                func.num_nonnulls(items.c.overview, items.c.poster_path, items.c.backdrop_path) > 0,
            )
        ).scalars()
    )
    for table in (item_texts, item_facts):
        connection.execute(delete(table).where(table.c.item_id == func.any(_bigints(ids))))
    names = ("overview", "poster_path", "backdrop_path", "popularity")
    nothing = {**dict.fromkeys(names), "updated_at": func.now()}
    connection.execute(update(items).where(items.c.item_id == func.any(_bigints(ids))).values(nothing))
    return len(ids)


def sources(connection: Connection, item_ids: Sequence[int]) -> dict[int, str]:
    """Where the facts of items come from, by item id; unknown items are left out."""
    query = select(items.c.item_id, items.c.source).where(items.c.item_id == func.any(_bigints(item_ids)))
    return {row.item_id: row.source for row in connection.execute(query)}


def count(connection: Connection) -> dict[str, int]:
    """Items that are not removed, per source."""
    query = (
        select(items.c.source, func.count().label("rows"))
        .where(items.c.removed_at.is_(None))
        .group_by(items.c.source)
        .order_by(items.c.source)
    )
    return {row.source: row.rows for row in connection.execute(query)}


def _bigints(ids: Sequence[int] | pa.ChunkedArray) -> ColumnElement[Any]:
    plain = ids.to_pylist() if isinstance(ids, pa.ChunkedArray) else [int(i) for i in ids]
    return cast(plain, ARRAY(BigInteger))
