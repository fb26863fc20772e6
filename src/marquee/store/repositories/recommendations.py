"""Precomputed lists: a batch for all users becomes visible at once or not at all."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, delete, func, insert, select, update

from marquee.data import RankedItems
from marquee.data.schema import Ids
from marquee.store.bulk import copy_in
from marquee.store.notify import notify
from marquee.store.tables import recommendation_batches, recommendations

__all__ = ["Batch", "current_batch", "newest_items", "now", "replace_all"]

SCANNED_USERS = 200
"""How many users' lists are looked through for distinct items."""


@dataclass(frozen=True)
class Batch:
    """One batch of lists."""

    generation: int
    bundle: str
    generated_at: datetime


def now(connection: Connection) -> datetime:
    """The database's clock, at the beginning of this transaction."""
    moment: datetime = connection.execute(select(func.now())).scalar_one()
    return moment


def replace_all(
    connection: Connection,
    user_ids: Ids,
    ranked: RankedItems,
    *,
    bundle: str,
    generated_at: datetime | None = None,
) -> Batch:
    """
    Write a batch and make it the current one; the former is gone when the transaction commits.

    Args:
        user_ids: (n,) distinct.
        ranked: one list per user.
        bundle: key of the bundle that made them.
        generated_at: by the database's clock, a moment before the events were read from which they were
            made: whose events are newer is not served from this batch. Default: now.
    """
    if len(user_ids) != len(ranked):
        raise ValueError(f"{len(user_ids)} users for {len(ranked)} lists")
    row = connection.execute(
        insert(recommendation_batches)
        .values(bundle=bundle, generated_at=func.now() if generated_at is None else generated_at)
        .returning(recommendation_batches.c.generation, recommendation_batches.c.generated_at)
    ).one()
    copy_in(connection, "recommendations", _rows(row.generation, user_ids, ranked))
    connection.execute(
        update(recommendation_batches).where(recommendation_batches.c.is_current).values(is_current=False)
    )
    connection.execute(
        update(recommendation_batches)
        .where(recommendation_batches.c.generation == row.generation)
        .values(is_current=True)
    )
    connection.execute(delete(recommendations).where(recommendations.c.generation < row.generation))
    notify(connection, "marquee_recommendations")
    return Batch(row.generation, bundle, row.generated_at)


def current_batch(connection: Connection) -> Batch | None:
    """The batch that is served, None before the first."""
    table = recommendation_batches
    query = select(table.c.generation, table.c.bundle, table.c.generated_at).where(table.c.is_current)
    row = connection.execute(query).one_or_none()
    return None if row is None else Batch(**row._mapping)


def newest_items(connection: Connection, k: int) -> list[int]:
    """At most k distinct items of the current batch: everyone's best first, in the order of user id."""
    query = (
        select(recommendations.c.item_ids)
        .join(recommendation_batches, recommendation_batches.c.generation == recommendations.c.generation)
        .where(recommendation_batches.c.is_current)
        .order_by(recommendations.c.user_id)
        .limit(SCANNED_USERS)
    )
    lists = [item_ids for (item_ids,) in connection.execute(query)]
    found: dict[int, None] = {}
    for rank in range(max(map(len, lists), default=0)):
        found.update(dict.fromkeys(items[rank] for items in lists if rank < len(items)))
        if len(found) >= k:
            break
    return list(found)[:k]


def _rows(generation: int, user_ids: Ids, ranked: RankedItems) -> pa.Table:
    present = ranked.item_ids >= 0
    offsets = pa.array(np.concatenate([[0], np.cumsum(present.sum(axis=1))]).astype(np.int32))
    return pa.table(
        {
            "generation": np.full(len(user_ids), generation, np.int64),
            "user_id": np.asarray(user_ids, np.int64),
            "item_ids": pa.ListArray.from_arrays(offsets, pa.array(ranked.item_ids[present])),
            "scores": pa.ListArray.from_arrays(offsets, pa.array(ranked.scores[present])),
        }
    )
