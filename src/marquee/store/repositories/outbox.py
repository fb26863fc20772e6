"""What waits for its way into the archive: keys of objects, in the order in which they came to matter."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, delete, func, select, text, update

from marquee.store.tables import outbox

__all__ = ["Parcel", "add", "done", "drop", "failed", "next_parcels", "waiting"]

MAX_ERROR: Final = 2_000

_ADD: Final = text(
    """
    INSERT INTO outbox (object_key)
    SELECT key FROM unnest(CAST(:keys AS text[])) WITH ORDINALITY AS given (key, place) ORDER BY place
    ON CONFLICT (object_key) DO NOTHING
    """
)


@dataclass(frozen=True, slots=True)
class Parcel:
    """
    An object that waits.

    Attributes:
        attempts: how often it could not be delivered.
        last_error: why, the last time.
    """

    outbox_id: int
    key: str
    attempts: int
    last_error: str | None


def add(connection: Connection, keys: Sequence[str]) -> None:
    """
    Have objects delivered, in this order, once the transaction is committed.

    What waits already keeps its place; what has been delivered already is found to be there.

    Args:
        keys: of objects in the directory; one that names others comes behind them.
    """
    if keys:
        connection.execute(_ADD, {"keys": list(keys)})


def next_parcels(connection: Connection, limit: int, *, after: int = 0) -> list[Parcel]:
    """
    The objects that have waited longest.

    Args:
        after: only those behind this one.
    """
    rows = connection.execute(
        select(outbox.c.outbox_id, outbox.c.object_key, outbox.c.attempts, outbox.c.last_error)
        .where(outbox.c.outbox_id > after)
        .order_by(outbox.c.outbox_id)
        .limit(limit)
    )
    return [Parcel(*row) for row in rows]


def done(connection: Connection, outbox_id: int) -> None:
    """An object has arrived."""
    connection.execute(delete(outbox).where(outbox.c.outbox_id == outbox_id))


def drop(connection: Connection, keys: Sequence[str]) -> None:
    """Objects are gone for good: they wait no longer."""
    connection.execute(delete(outbox).where(outbox.c.object_key.in_(keys)))


def failed(connection: Connection, outbox_id: int, error: str) -> None:
    """An object could not be delivered; it goes on waiting."""
    connection.execute(
        update(outbox)
        .where(outbox.c.outbox_id == outbox_id)
        .values(attempts=outbox.c.attempts + 1, last_error=error[:MAX_ERROR])
    )


def waiting(connection: Connection) -> tuple[int, datetime | None]:
    """How many objects wait, and since when the one that has waited longest."""
    count, oldest = connection.execute(select(func.count(), func.min(outbox.c.created_at))).one()
    return count, oldest
