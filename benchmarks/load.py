"""
How near bulk loading comes to PostgreSQL's own pace.

Prints, from one run on one fresh embedded server, the time of `load_interactions` for new rows against a
bare binary COPY of the same rows plus the build of the same indexes. The COPY compared with is the fastest
one: a buffer that is encoded beforehand (outside of the measured time) and handed to psycopg's
`copy.write`. psycopg's row-by-row COPY (`set_types` and `write_row`) is printed for scale, on a tenth of
the rows. Runs alternate and the medians count, as a machine's pace drifts.

    python benchmarks/load.py [--rows 1000000] [--rounds 3]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
from sqlalchemy import Connection, text

from marquee.config import LogSettings, Settings
from marquee.data.schema import INTERACTIONS
from marquee.store.bulk import encode
from marquee.store.postgres import Database
from marquee.store.repositories import interactions
from marquee.telemetry import configure_logs

SOURCE = "benchmark"
INDEXES = (
    "ALTER TABLE bare ADD PRIMARY KEY (interaction_id)",
    "ALTER TABLE bare ADD UNIQUE (source, event_key)",
    "CREATE INDEX ON bare (user_id, occurred_at)",
    "CREATE INDEX ON bare (source, revokes) WHERE revokes IS NOT NULL",
)
TYPES = ("int8", "int8", "text", "float4", "float4", "timestamptz", "text", "text")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    configure_logs(LogSettings(level="warning"))
    rows = made_up_rows(arguments.rows)
    stored = rows.append_column("source", pa.repeat(pa.scalar(SOURCE), len(rows)))
    encoded = [bytes(part) for part in encode(stored)]
    with tempfile.TemporaryDirectory() as home, Database.open(Settings(home=Path(home))) as database:
        bare, loaded = [], []
        for _ in range(arguments.rounds):
            bare.append(bare_copy(database, stored.column_names, encoded))
            loaded.append(load(database, rows, expected=len(rows)))
            again = load(database, rows, expected=0)
            with database.begin() as connection:
                connection.execute(text("TRUNCATE interactions, users"))
        tenth = stored.slice(0, len(rows) // 10)
        by_row = 10 * row_by_row(database, tenth)
    copy, whole = statistics.median(bare), statistics.median(loaded)
    print(f"rows                                       {len(rows):>10,}")
    print(f"bare binary COPY + the same indexes        {copy:>10.2f} s")
    print(f"load_interactions, new rows                {whole:>10.2f} s")
    print(f"ratio (at most 1.5)                        {whole / copy:>10.2f}")
    print(f"load_interactions, the same rows again     {again:>10.2f} s, 0 rows inserted")
    print(f"COPY by write_row, without indexes         {by_row:>10.2f} s (from a tenth of the rows)")


def made_up_rows(n: int) -> pa.Table:
    """Interactions in the order of time, with nulls and a key as a log would have it."""
    random = np.random.default_rng(0)
    users, items = random.integers(1, 50_000, n), random.integers(1, 20_000, n)
    moments = 1_700_000_000_000_000 + np.sort(random.integers(0, 90 * 86_400_000_000, n))
    columns = [
        pa.array(users),
        pa.array(items),
        pa.array(["watch", "rate", "click"]).take(pa.array(random.integers(0, 3, n))),
        pa.array(random.integers(0, 11, n).astype(np.float32), mask=random.random(n) < 0.5),
        pa.array(random.random(n, np.float32) * 7_000, mask=random.random(n) < 0.3),
        pa.array(moments, pa.timestamp("us", tz="UTC")),
    ]
    keys = [f"{user}:{item}:{moment}" for user, item, moment in zip(users, items, moments, strict=True)]
    return pa.table(columns, schema=INTERACTIONS).append_column("event_key", pa.array(keys))


def bare_copy(database: Database, columns: list[str], encoded: list[bytes]) -> float:
    """Seconds for a binary COPY of encoded rows into a table without indexes, and for its indexes."""
    with bare_table(database) as connection:
        begin = time.perf_counter()
        driver = connection.connection.driver_connection
        assert driver is not None
        statement = f"COPY bare ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for part in encoded:
                copy.write(part)
        for statement in INDEXES:
            connection.execute(text(statement))
        connection.commit()
        return time.perf_counter() - begin


def row_by_row(database: Database, rows: pa.Table) -> float:
    """Seconds for psycopg's own binary COPY of Python values."""
    values = list(zip(*(column.to_pylist() for column in rows.columns), strict=True))
    with bare_table(database) as connection:
        begin = time.perf_counter()
        driver = connection.connection.driver_connection
        assert driver is not None
        statement = f"COPY bare ({', '.join(rows.column_names)}) FROM STDIN (FORMAT BINARY)"
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(TYPES)
            for row in values:
                copy.write_row(row)
        connection.commit()
        return time.perf_counter() - begin


def load(database: Database, rows: pa.Table, *, expected: int) -> float:
    """Seconds for `load_interactions`, the commit included."""
    begin = time.perf_counter()
    with database.begin() as connection:
        counts = interactions.load_interactions(connection, rows, source=SOURCE)
    seconds = time.perf_counter() - begin
    assert counts == interactions.LoadCounts(expected, len(rows) - expected), counts
    return seconds


@contextmanager
def bare_table(database: Database) -> Iterator[Connection]:
    """A table like `interactions`, constraints included, without its indexes."""
    with database.engine.connect() as connection:
        connection.execute(text("DROP TABLE IF EXISTS bare"))
        connection.execute(
            text(
                "CREATE TABLE bare "
                "(LIKE interactions INCLUDING IDENTITY INCLUDING DEFAULTS INCLUDING CONSTRAINTS)"
            )
        )
        connection.commit()
        yield connection
        connection.execute(text("DROP TABLE bare"))
        connection.commit()


if __name__ == "__main__":
    main()
