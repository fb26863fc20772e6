"""What editors do with the catalogue: write items, take them out, and say how they are recommended."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, func, update

from marquee.store.notify import notify
from marquee.store.repositories.items import (
    EDITOR,
    append_facts,
    upsert_items,
    upsert_texts,
)
from marquee.store.staging import UpsertCounts
from marquee.store.tables import items

__all__ = ["choose", "withdraw", "write"]


def write(connection: Connection, rows: pa.Table, *, texts: pa.Table, facts: pa.Table) -> UpsertCounts:
    """
    Insert or replace items; from then on no other source changes them.

    Args:
        rows: columns of `schema.ITEMS`.
        texts: columns of `items.TEXTS`; texts in other languages stay.
        facts: columns of `items.FACTS`.

    Returns:
        Of items, those whose texts alone differ among the unchanged.
    """
    counts = upsert_items(connection, rows, source=EDITOR)
    append_facts(connection, facts)
    upsert_texts(connection, texts)
    if not (counts.inserted or counts.updated):
        notify(connection, "marquee_items")  # for what the items themselves do not show
    return counts


def withdraw(connection: Connection, item_id: int) -> None:
    """Take an item out of the catalogue until an editor writes it again; its events stay."""
    removed = connection.execute(
        update(items)
        .where(items.c.item_id == item_id, items.c.removed_at.is_(None))
        .values(removed_at=func.now(), source=EDITOR)
    ).rowcount
    if removed:
        notify(connection, "marquee_items")


def choose(connection: Connection, item_id: int, choices: Mapping[str, Any]) -> bool:
    """
    Set how an item is recommended.

    Args:
        choices: any of `pin`, `block` and `boost`.

    Returns:
        False of an unknown or removed item.
    """
    found = connection.execute(
        update(items)
        .where(items.c.item_id == item_id, items.c.removed_at.is_(None))
        .values(**{name: choices[name] for name in ("pin", "block", "boost") if name in choices})
    ).rowcount
    if found:
        notify(connection, "marquee_items")
    return found > 0
