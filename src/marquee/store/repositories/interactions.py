"""Events of users with items: append-only, each told apart by its source and key."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import (
    Connection,
    PrimaryKeyConstraint,
    Select,
    UniqueConstraint,
    and_,
    exists,
    func,
    select,
    text,
)
from sqlalchemy.schema import AddConstraint, CreateIndex, DropConstraint, DropIndex

from marquee.data import Event, Interactions
from marquee.data.schema import INTERACTIONS, Ids, Index
from marquee.errors import SchemaError
from marquee.store.bulk import copy_in, read_arrow
from marquee.store.notify import EVERYTHING, notify
from marquee.store.postgres import Database
from marquee.store.repositories import erasures
from marquee.store.staging import stage
from marquee.store.tables import interactions, users

__all__ = [
    "LoadCounts",
    "NewEvent",
    "UserKind",
    "count",
    "effective",
    "item_counts",
    "load",
    "load_interactions",
    "user_history",
]

UserKind = Literal["virtual", "imported", "live"]

REBUILD_ROWS = 50_000
"""From this many rows on, building the indexes after the rows beats filling them."""

EFFECTIVE = """
SELECT user_id, item_id, event, rating, watch_seconds, occurred_at
FROM interactions AS i
WHERE event <> 'undo' AND occurred_at < {before}
AND NOT EXISTS (
    SELECT FROM interactions AS u
    WHERE u.revokes = i.event_key AND u.source = i.source AND u.user_id = i.user_id
    AND u.occurred_at < {before}
)
AND NOT EXISTS (SELECT FROM users WHERE users.user_id = i.user_id AND erased_at IS NOT NULL)
"""


@dataclass(frozen=True)
class LoadCounts:
    """What a load did: rows that were new, and rows that were there already."""

    inserted: int
    duplicates: int


@dataclass(frozen=True)
class NewEvent:
    """
    One event to append.

    Attributes:
        event_key: tells the event apart within its source; a retry sends the same.
        revokes: of an undo: the `event_key` that it takes back.
        request_id: of the answer that it came from.
    """

    user_id: int
    item_id: int
    event: Event
    event_key: str
    occurred_at: datetime
    rating: float | None = None
    watch_seconds: float | None = None
    revokes: str | None = None
    request_id: UUID | None = None


def load_interactions(
    connection: Connection, rows: pa.Table, *, source: str, kind: UserKind = "imported"
) -> LoadCounts:
    """
    Append many events; those that are there already, by (source, event_key), stay as they are.

    The events of erased users are left out, and count as if they were there already.

    Args:
        connection: in the caller's transaction.
        rows: the columns of `schema.INTERACTIONS`, `event_key`, and where there are undos `revokes`.
        source: where the rows come from.
        kind: of users who are new.

    Raises:
        SchemaError: a column is missing, cannot be cast, or has a null that it must not have.
    """
    rows = _checked(rows)
    given = len(rows)
    rows = erasures.without_erased(connection, rows)
    if not len(rows):
        return LoadCounts(0, given)
    _add_users(connection, pc.unique(rows["user_id"]), kind)
    # One load of a source at a time: the second finds the rows of the first.
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"load {source}"}
    )
    rows = _without_repetition(rows)
    rows = rows.append_column("source", pa.repeat(pa.scalar(source), len(rows)))
    if connection.execute(select(exists().where(interactions.c.source == source))).scalar_one():
        inserted = _append_missing(connection, rows)
    else:
        with _indexes_for(connection, len(rows)):
            inserted = copy_in(connection, "interactions", rows)
    notify(connection, "marquee_users", EVERYTHING)
    return LoadCounts(inserted, given - inserted)


def load(database: Database, *, before: datetime | None = None) -> Interactions:
    """
    All events that count: undone ones, the undos themselves and those of erased users left out.

    Args:
        before: only what happened, and was undone, strictly before this moment.

    Returns:
        Rows in an order that depends on nothing but their content: by time, user, item, event.
    """
    moment = before if before is not None else datetime.max.replace(tzinfo=UTC)
    rows = Interactions.from_arrow(read_arrow(database, EFFECTIVE, before=moment))
    return rows.take(
        np.lexsort(
            (rows.watch_seconds, rows.ratings, rows.events, rows.item_ids, rows.user_ids, rows.timestamps)
        )
    )


def item_counts(connection: Connection) -> tuple[Ids, Index]:
    """Ids of the items with events that tell taste, and how many each has; undone ones still count."""
    query = (
        select(interactions.c.item_id, func.count().label("rows"))
        .where(interactions.c.event.not_in([Event.HIDE.label, Event.UNDO.label]))
        .group_by(interactions.c.item_id)
    )
    rows = connection.execute(query).all()
    return (
        np.array([row.item_id for row in rows], dtype=np.int64),
        np.array([row.rows for row in rows], dtype=np.int64),
    )


def user_history(connection: Connection, user_id: int, *, limit: int = 1_000) -> Interactions:
    """The newest events of a user that count, oldest first; none for an unknown or erased user."""
    columns = [interactions.c[name] for name in INTERACTIONS.names]
    query = effective(user_id, columns).order_by(interactions.c.occurred_at.desc()).limit(limit)
    rows = [dict(row._mapping) for row in connection.execute(query)]
    return Interactions.from_arrow(pa.Table.from_pylist(rows, schema=INTERACTIONS)).sorted()


def effective(user_id: int, columns: Sequence[Any]) -> Select[Any]:
    """The columns of the events of a user that count; none of an erased user."""
    undo = interactions.alias("undo")
    undone = exists().where(
        and_(
            undo.c.source == interactions.c.source,
            undo.c.revokes == interactions.c.event_key,
            undo.c.user_id == interactions.c.user_id,
        )
    )
    erased = exists().where(users.c.user_id == user_id, users.c.erased_at.is_not(None))
    return select(*columns).where(
        interactions.c.user_id == user_id, interactions.c.event != Event.UNDO.label, ~undone, ~erased
    )


def count(connection: Connection) -> dict[str, int]:
    """Rows per source, undone ones included."""
    query = text("SELECT source, count(*) AS rows FROM interactions GROUP BY source ORDER BY source")
    return {row.source: row.rows for row in connection.execute(query)}


def _checked(rows: pa.Table) -> pa.Table:
    """The columns to store, of the types to store, a float without value as null."""
    fields = [*INTERACTIONS, pa.field("event_key", pa.string(), nullable=False)]
    if "revokes" in rows.column_names:
        fields.append(pa.field("revokes", pa.string()))
    missing = [field.name for field in fields if field.name not in rows.column_names]
    if missing:
        raise SchemaError(f"The interactions table lacks the columns {missing}.")
    try:
        rows = rows.select([field.name for field in fields]).cast(pa.schema(fields))
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError) as error:
        raise SchemaError(f"The interactions table cannot be cast: {error}") from error
    for i, field in enumerate(fields):
        if not field.nullable and rows[field.name].null_count:
            raise SchemaError(f"The column {field.name!r} of the interactions table has nulls.")
        if pa.types.is_floating(field.type):
            column = rows[field.name]
            rows = rows.set_column(i, field, pc.if_else(pc.is_nan(column), None, column))
    return rows


def _without_repetition(rows: pa.Table) -> pa.Table:
    """The first row of each key."""
    keys = rows["event_key"].combine_chunks()
    encoded = keys.dictionary_encode()
    if len(encoded.dictionary) == len(rows):
        return rows
    _, first = np.unique(encoded.indices.to_numpy(), return_index=True)
    return rows.take(np.sort(first))


def _add_users(connection: Connection, user_ids: pa.Array, kind: UserKind) -> None:
    connection.execute(
        text(
            "INSERT INTO users (user_id, kind) SELECT id, :kind FROM unnest(CAST(:ids AS bigint[])) AS id "
            "ORDER BY id ON CONFLICT DO NOTHING"
        ),
        {"ids": user_ids.to_pylist(), "kind": kind},
    )


def _append_missing(connection: Connection, rows: pa.Table) -> int:
    """Of the rows of a source that has some already, by way of a staging table, those whose key is new."""
    stage(connection, "interactions", rows)
    missing = connection.execute(
        text(
            "CREATE TEMPORARY TABLE missing ON COMMIT DROP AS SELECT * FROM staged WHERE NOT EXISTS ("
            "SELECT FROM interactions AS i WHERE i.source = staged.source AND i.event_key = staged.event_key)"
        )
    ).rowcount
    with _indexes_for(connection, missing) as rebuilt:
        conflict = "" if rebuilt else "ON CONFLICT DO NOTHING"
        names = ", ".join(rows.column_names)
        statement = text(f"INSERT INTO interactions ({names}) SELECT {names} FROM missing {conflict}")
        inserted = connection.execute(statement).rowcount
    connection.execute(text("DROP TABLE staged, missing"))
    return inserted


@contextmanager
def _indexes_for(connection: Connection, rows: int) -> Iterator[bool]:
    """
    Insert rows without indexes and build them afterwards, where that is faster: a load of at least as
    many rows as the table holds. Readers then wait for the load to commit.
    """
    held = select(interactions.c.source).limit(rows + 1).subquery()
    if rows < REBUILD_ROWS or connection.execute(select(func.count()).select_from(held)).scalar_one() > rows:
        yield False
        return
    keys = [
        constraint
        for constraint in interactions.constraints
        if isinstance(constraint, PrimaryKeyConstraint | UniqueConstraint)
    ]
    for key in keys:
        connection.execute(DropConstraint(key))
    for index in interactions.indexes:
        connection.execute(DropIndex(index))
    yield True
    connection.execute(text("SET LOCAL maintenance_work_mem = '256MB'"))
    for key in keys:
        connection.execute(AddConstraint(key))
    for index in interactions.indexes:
        connection.execute(CreateIndex(index))
