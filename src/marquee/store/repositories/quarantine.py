"""Rejected input rows with their reason."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from marquee.store.repositories import erasures
from marquee.store.tables import quarantine

__all__ = ["QuarantinedRow", "Reason", "append", "reasons", "recent"]

ROWS_PER_STATEMENT = 5_000


@dataclass(frozen=True)
class QuarantinedRow:
    """An input row that did not pass its contract."""

    quarantine_id: int
    source: str
    reason: str
    content: dict[str, Any]
    run_id: UUID | None
    created_at: datetime


@dataclass(frozen=True)
class Reason:
    """Why rows of a source were rejected, how many, and when the newest of them was."""

    source: str
    reason: str
    count: int
    newest_at: datetime


def append(
    connection: Connection,
    source: str,
    rows: Iterable[tuple[str, Mapping[str, Any]]],
    *,
    run_id: UUID | None = None,
) -> int:
    """
    Keep rejected rows, but for those of erased users.

    Args:
        rows: (reason, row as JSON-able values) pairs; one that is kept already is not kept twice.

    Returns:
        Rows that were new.
    """
    rows = list(rows)
    erased = erasures.erased_among(connection, {user for _, row in rows if (user := _user_of(row))})
    made: dict[bytes, dict[str, Any]] = {}
    for reason, row in rows:
        if _user_of(row) in erased:
            continue
        # PostgreSQL's jsonb cannot hold the character U+0000, which bad input may well contain.
        encoded = orjson.dumps(dict(row), default=str, option=orjson.OPT_SORT_KEYS).replace(rb"\u0000", b"?")
        digest = hashlib.sha256(reason.encode() + b"\0" + encoded).digest()
        made[digest] = {
            "source": source,
            "reason": reason.replace("\0", "?"),
            "content": orjson.loads(encoded),
            "digest": digest,
            "run_id": run_id,
        }
    values = list(made.values())
    statement = insert(quarantine).on_conflict_do_nothing(index_elements=["source", "digest"])
    new = 0
    for first in range(0, len(values), ROWS_PER_STATEMENT):
        chunk = values[first : first + ROWS_PER_STATEMENT]
        new += len(connection.execute(statement.returning(quarantine.c.quarantine_id), chunk).all())
    return new


def _user_of(row: Mapping[str, Any]) -> str:
    return str(row.get("user_id", ""))


def reasons(connection: Connection) -> list[Reason]:
    """Rows kept by source and reason, the most first."""
    query = (
        select(
            quarantine.c.source,
            quarantine.c.reason,
            func.count().label("count"),
            func.max(quarantine.c.created_at).label("newest_at"),
        )
        .group_by(quarantine.c.source, quarantine.c.reason)
        .order_by(func.count().desc(), quarantine.c.source, quarantine.c.reason)
    )
    return [Reason(**row._mapping) for row in connection.execute(query)]


def recent(
    connection: Connection,
    *,
    source: str | None = None,
    reason: str | None = None,
    before: int | None = None,
    limit: int = 20,
) -> list[QuarantinedRow]:
    """
    The newest rejected rows, newest first.

    Args:
        source, reason: only those of it.
        before: only those that were there before the row of this id.
    """
    columns = [column for column in quarantine.c if column.name != "digest"]
    query = select(*columns).order_by(quarantine.c.quarantine_id.desc()).limit(limit)
    if source is not None:
        query = query.where(quarantine.c.source == source)
    if reason is not None:
        query = query.where(quarantine.c.reason == reason)
    if before is not None:
        query = query.where(quarantine.c.quarantine_id < before)
    return [QuarantinedRow(**row._mapping) for row in connection.execute(query)]
