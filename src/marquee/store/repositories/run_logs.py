"""What runs have logged: the newest lines of each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, insert, text

from marquee.store.tables import run_logs

__all__ = ["MAX_LINES", "Line", "StoredLine", "append", "read"]

MAX_LINES: Final = 2_000
"""Lines that are kept of a run; older ones make room."""

_TRIM: Final = text(
    """
    DELETE FROM run_logs WHERE run_id = :run_id AND line_id <= (
        SELECT line_id FROM run_logs WHERE run_id = :run_id ORDER BY line_id DESC OFFSET :kept LIMIT 1
    )
    """
)
# Each run is read by its index, whatever the planner knows of the table.
_READ: Final = text(
    """
    SELECT lines.* FROM (
        SELECT CAST(:run_id AS uuid) AS run_id UNION ALL SELECT run_id FROM runs WHERE parent_id = :run_id
    ) AS wanted CROSS JOIN LATERAL (
        SELECT * FROM run_logs WHERE run_logs.run_id = wanted.run_id AND line_id > :after
        ORDER BY line_id LIMIT :limit
    ) AS lines
    ORDER BY line_id LIMIT :limit
    """
)


@dataclass(frozen=True, slots=True)
class Line:
    """
    A line of log.

    Attributes:
        fields: plain JSON values.
    """

    run_id: UUID
    logged_at: datetime
    level: str
    event: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredLine:
    """A line, and its place among all lines."""

    line_id: int
    line: Line


def append(connection: Connection, lines: Sequence[Line], *, kept: int = MAX_LINES) -> None:
    """
    Keep lines, in their order.

    Args:
        kept: lines of a run that stay; the oldest beyond are dropped.
    """
    if not lines:
        return
    values = [
        {
            "run_id": line.run_id,
            "logged_at": line.logged_at,
            "level": line.level,
            "event": line.event,
            "fields": line.fields,
        }
        for line in lines
    ]
    connection.execute(insert(run_logs), values)
    for run_id in {line.run_id for line in lines}:
        connection.execute(_TRIM, {"run_id": run_id, "kept": kept})


def read(connection: Connection, run_id: UUID, *, after: int = 0, limit: int = 500) -> list[StoredLine]:
    """
    Lines of a run and its steps, in the order of their writing.

    Args:
        after: only lines behind this one.
    """
    rows = connection.execute(_READ, {"run_id": run_id, "after": after, "limit": limit})
    return [
        StoredLine(row.line_id, Line(row.run_id, row.logged_at, row.level, row.event, row.fields))
        for row in rows
    ]
