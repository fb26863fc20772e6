"""Which tables a backup holds, how they are read, and how those that grow are cut into pieces."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import Connection, Table, text

from marquee.store.tables import metadata, outbox

__all__ = ["CUTS", "PIECE_ROWS", "Cut", "columns_of", "order_of", "selected", "tables_to_back_up", "within"]

PIECE_ROWS: Final = 1_000_000

_SENT: Final = {"uuid": "uuid_send({})", "jsonb": "{}::text"}
"""Types that Arrow does not know, as what they travel as."""


@dataclass(frozen=True, slots=True)
class Cut:
    """
    How a table that grows is cut, so that a piece is written once.

    Attributes:
        column: by which.
        by: ranges of a number, which only ever grows; or days or months of a time.
        mark: SQL of an aggregate that is another after rows of a piece were changed; their number counts
            anyway.
    """

    column: str
    by: Literal["number", "day", "month"]
    mark: str = "0"


CUTS: Final[Mapping[str, Cut]] = {
    "interactions": Cut("interaction_id", "number"),
    "predictions": Cut("prediction_id", "number"),
    "quarantine": Cut("quarantine_id", "number"),
    "impressions": Cut("served_at", "day", "count(viewed_at)"),  # viewed once, never again
    "shadow_answers": Cut("served_at", "day"),
    "item_facts": Cut("observed_at", "month", "sum(item_id)"),
}
"""All other tables are written anew each time."""


def tables_to_back_up() -> list[Table]:
    """All tables but the outbox: what waits there is on the way from this very disk."""
    return [table for table in metadata.sorted_tables if table is not outbox]


def columns_of(connection: Connection, table: str) -> dict[str, str]:
    """Name → type of the columns that are stored, in their order; generated ones make themselves."""
    query = text(
        "SELECT attname, format_type(atttypid, atttypmod) AS kind FROM pg_attribute "
        "WHERE attrelid = CAST(:table AS regclass) AND attnum > 0 AND NOT attisdropped "
        "AND attgenerated = '' ORDER BY attnum"
    )
    return {row.attname: row.kind for row in connection.execute(query, {"table": table})}


def selected(columns: Mapping[str, str]) -> str:
    """SQL of the columns as they travel."""
    return ", ".join(
        f"{_SENT[kind].format(name)} AS {name}" if kind in _SENT else name for name, kind in columns.items()
    )


def order_of(table: Table, cut: Cut | None) -> str:
    """SQL of an order that is the same each time."""
    key = [column.name for column in table.primary_key] or ["request_id", "bundle"]  # shadow answers
    return ", ".join(dict.fromkeys([cut.column, *key] if cut is not None else key))


def within(cut: Cut, low: int, high: int) -> str:
    """SQL of the rows of a piece."""
    bounds = [str(low), str(high)]
    if cut.by != "number":
        bounds = [f"timestamptz 'epoch' + {bound} * interval '1 microsecond'" for bound in bounds]
    return f"{cut.column} >= {bounds[0]} AND {cut.column} < {bounds[1]}"
