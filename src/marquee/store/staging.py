"""Arrow tables into tables that have some of their rows already: checked, staged, then merged by SQL."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, text

from marquee.errors import SchemaError
from marquee.store.bulk import copy_in

__all__ = ["UpsertCounts", "checked", "last_of_each", "stage", "upsert"]


@dataclass(frozen=True)
class UpsertCounts:
    """Rows that were new, rows whose content changed, and rows that were there with this content."""

    inserted: int
    updated: int
    unchanged: int


def checked(rows: pa.Table, schema: pa.Schema, *, required: tuple[str, ...]) -> pa.Table:
    """The columns of a schema that the rows have, of its types."""
    missing = [name for name in required if name not in rows.column_names]
    if missing:
        raise SchemaError(f"The table lacks the columns {missing}.")
    kept = pa.schema([field for field in schema if field.name in rows.column_names])
    try:
        rows = rows.select(kept.names).cast(kept)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError) as error:
        raise SchemaError(f"The table cannot be cast: {error}") from error
    for name in required:
        if rows[name].null_count:
            raise SchemaError(f"The column {name!r} has nulls.")
    for field in schema:
        if field.name not in kept.names:
            rows = rows.append_column(field, pa.nulls(len(rows), field.type))
    return rows.select(schema.names)


def last_of_each(rows: pa.Table, key: list[str]) -> pa.Table:
    """The last row of each key, in the order of the rows."""
    numbered = rows.select(key).append_column("row", pa.array(np.arange(len(rows))))
    last = numbered.group_by(key, use_threads=False).aggregate([("row", "max")])["row_max"].to_numpy()
    return rows if len(last) == len(rows) else rows.take(pa.array(np.sort(last)))


def stage(connection: Connection, table: str, rows: pa.Table) -> None:
    """A temporary table `staged` with the rows, of the column types of a table."""
    names = ", ".join(rows.column_names)
    connection.execute(text("DROP TABLE IF EXISTS pg_temp.staged"))
    connection.execute(
        text(f"CREATE TEMPORARY TABLE staged ON COMMIT DROP AS SELECT {names} FROM {table} LIMIT 0")
    )
    copy_in(connection, "staged", rows)


def upsert(
    connection: Connection,
    table: str,
    rows: pa.Table,
    *,
    key: list[str],
    stamp: str | None = None,
    only: str = "true",
) -> UpsertCounts:
    """
    Insert rows, or update those that differ from what is there.

    Args:
        rows: columns of the table. Of a repeated key the last row counts.
        key: the columns of its primary key.
        stamp: a column that tells when a row was last written.
        only: SQL over the table and `excluded`: which rows may be updated.
    """
    rows = last_of_each(rows, key)
    stage(connection, table, rows)
    content = [name for name in rows.column_names if name not in key]
    old, new = (", ".join(f"{side}.{name}" for name in content) for side in (table, "excluded"))
    assigned = ", ".join(f"{name} = excluded.{name}" for name in content)
    if stamp is not None:
        assigned += f", {stamp} = now()"
    names, keys = ", ".join(rows.column_names), ", ".join(key)
    written = connection.execute(
        text(
            f"INSERT INTO {table} ({names}) SELECT {names} FROM staged ORDER BY {keys} "
            f"ON CONFLICT ({keys}) DO UPDATE SET {assigned} "
            f"WHERE ({old}) IS DISTINCT FROM ({new}) AND {only} "
            "RETURNING xmax = 0"  # no transaction has deleted the row version: it was not there before
        )
    ).scalars()
    fresh = list(written)
    return UpsertCounts(sum(fresh), len(fresh) - sum(fresh), len(rows) - len(fresh))
