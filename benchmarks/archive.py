"""
How near backups and restores come to PostgreSQL's own pace.

    python benchmarks/archive.py [--rows 10000000] [--rounds 3]

One fresh embedded server, one run. Backup: the rate of `take_backup` of a database with so many interactions
against a bare COPY of that table, streamed by ADBC into one local Parquet file of the same compression.
Restore: `restore` into a fresh database against a bare binary COPY of the same rows, encoded beforehand, and
the build of the same indexes. Incremental: the backup after 1 % more rows against the full one. Memory: the
peak of a process of its own that does nothing else. Runs alternate and the medians count.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from adbc_driver_manager import AdbcConnection, AdbcStatement
from adbc_driver_postgresql import connect

from marquee.config import LogSettings, Settings
from marquee.store.backups import Vault, restore, take_backup
from marquee.store.backups.layout import columns_of, selected
from marquee.store.embedded import EmbeddedServer
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.telemetry import configure_logs

ROWS = """
INSERT INTO interactions (user_id, item_id, event, rating, watch_seconds, occurred_at, source, event_key)
SELECT 1 + (random() * {users})::bigint, 1 + (power(random(), 3) * 20000)::bigint,
    (ARRAY['watch', 'rate', 'click', 'like'])[1 + (random() * 3)::int],
    CASE WHEN random() < 0.4 THEN (random() * 20)::int / 2.0 END,
    CASE WHEN random() < 0.6 THEN (random() * 7200)::int END,
    timestamptz '2024-01-01' + random() * interval '700 days', 'log', '{prefix}' || i
FROM generate_series(1, {rows}) AS i
"""
USERS = "INSERT INTO users (user_id, kind) SELECT i, 'imported' FROM generate_series(1, {users}) AS i"
KEYS = (
    "ALTER TABLE {0} ADD PRIMARY KEY (interaction_id)",
    "ALTER TABLE {0} ADD UNIQUE (source, event_key)",
    "CREATE INDEX ON {0} (user_id, occurred_at)",
    "CREATE INDEX ON {0} (user_id, source, revokes) WHERE revokes IS NOT NULL",
    "CREATE INDEX ON {0} (request_id) WHERE request_id IS NOT NULL",
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    configure_logs(LogSettings(level="warning"))
    if arguments.child:
        child(*arguments.child)
        return
    with tempfile.TemporaryDirectory() as name:
        measure(Path(name), arguments.rows, arguments.rounds)


def measure(home: Path, rows: int, rounds: int) -> None:
    """Everything, in a home."""
    settings = Settings(home=home)
    times: dict[str, list[float]] = {}
    with EmbeddedServer.start(settings.paths) as server, Database.open(settings) as database:
        fill(database, rows, rows // 100, "a")
        for number in range(rounds):
            objects = ObjectStore(home / f"objects-{number}")
            with timed(times, "bare COPY to Parquet"):
                bare_export(database, home / "bare.parquet")
            with timed(times, "backup"):
                backup = take_backup(database, objects)
            bare_file = home / "bare.copy"
            with (
                psycopg.connect(database.url) as connection,
                bare_file.open("wb") as file,
                connection.cursor().copy("COPY interactions TO STDOUT (FORMAT BINARY)") as copy,
            ):
                for part in copy:
                    file.write(part)
            with timed(times, "bare COPY and indexes"):
                bare_import(database, bare_file)
            with fresh(server, settings) as target, timed(times, "restore"):
                restore(target, objects, backup, secrets=home / "secrets")
            if number == rounds - 1:
                report(times, rows, home, objects, server, settings)


def report(
    times: dict[str, list[float]],
    rows: int,
    home: Path,
    objects: ObjectStore,
    server: EmbeddedServer,
    settings: Settings,
) -> None:
    """The incremental backup, the memory, and the table of it all."""
    median = {name: statistics.median(values) for name, values in times.items()}
    with Database.open(settings) as database:
        fill(database, rows // 100, 0, "b")
        began = time.perf_counter()
        backup = take_backup(database, objects)
        incremental = time.perf_counter() - began
        peaks = [peak("backup", database.url, str(home / "objects-child"))]
    with fresh(server, settings) as target:
        peaks.append(peak("restore", target.url, str(home / "objects-child")))
    size = sum(piece.size for piece in backup.tables["interactions"].pieces)
    for name, seconds in median.items():
        print(f"{name:<24}{seconds:8.2f} s {rows / seconds / 1e6:8.2f} M rows/s")
    print(f"{'1 % more rows':<24}{incremental:8.2f} s")
    print(f"Parquet: {size / rows:.1f} bytes a row")
    goal("backup, share of a bare COPY's rate", median["bare COPY to Parquet"] / median["backup"], 0.6)
    goal("restore, share of a bare COPY's rate", median["bare COPY and indexes"] / median["restore"], 0.6)
    goal("1 % more rows, share of a full backup", incremental / median["backup"], 0.05, most=True)
    for name, mib in zip(("backup", "restore"), peaks, strict=True):
        goal(f"peak memory of a {name}, MB", mib, 600, most=True)


def fill(database: Database, rows: int, users: int, prefix: str) -> None:
    """Rows as they are in the field, seen by all and counted."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        if users:
            connection.execute(USERS.format(users=users))
        connection.execute(ROWS.format(rows=rows, users=users or rows, prefix=prefix))
        connection.execute("VACUUM ANALYZE interactions")


def bare_export(database: Database, path: Path) -> None:
    """The fastest plain way: rows in no order, one file."""
    with database.begin() as connection:
        columns = selected(columns_of(connection, "interactions"))
    with (
        connect(database.url) as opened,
        AdbcConnection(opened) as connection,
        AdbcStatement(connection) as statement,
    ):
        statement.set_sql_query(f"SELECT {columns} FROM interactions")
        stream, _ = statement.execute_query()
        reader = pa.RecordBatchReader.from_stream(stream)
        with pq.ParquetWriter(path, reader.schema, compression="zstd", compression_level=1) as writer:
            for batch in reader:
                writer.write_batch(batch)


def bare_import(database: Database, file: Path) -> None:
    """A binary COPY of bytes made beforehand, then the indexes."""
    with psycopg.connect(database.url) as connection:
        connection.execute("DROP TABLE IF EXISTS bare")
        connection.execute("CREATE TABLE bare (LIKE interactions INCLUDING CONSTRAINTS)")
        connection.execute("SET LOCAL maintenance_work_mem = '256MB'")
        with (
            file.open("rb") as content,
            connection.cursor() as cursor,
            cursor.copy("COPY bare FROM STDIN (FORMAT BINARY)") as copy,
        ):
            while part := content.read(1 << 20):
                copy.write(part)
        for key in KEYS:
            connection.execute(key.format("bare"))
        connection.commit()
        connection.execute("DROP TABLE bare")


@contextmanager
def fresh(server: EmbeddedServer, settings: Settings) -> Iterator[Database]:
    """An empty database."""
    with psycopg.connect(server.url_of("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE fresh")
        opened = Settings(home=settings.home, database={"url": server.url_of("fresh")})
        try:
            with Database.open(opened, prepare=False) as database:
                yield database
        finally:
            connection.execute("DROP DATABASE fresh WITH (FORCE)")


def peak(work: str, url: str, objects: str) -> float:
    """Megabytes that a process of its own needed at most."""
    command = [sys.executable, __file__, "--child", work, url, objects]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def child(work: str, url: str, objects: str) -> None:
    """A backup or a restore, and the peak of memory."""
    store = ObjectStore(Path(objects))
    with Database.open(Settings(home=Path(objects), database={"url": url}), prepare=False) as database:
        if work == "backup":
            take_backup(database, store)
        else:
            restore(database, store, Vault(store).find(), secrets=Path(objects) / "secrets")
    # Not `getrusage`: that begins with the peak of the process that started this one.
    status = Path("/proc/self/status").read_text()
    print(next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024 / 1e6)


def goal(what: str, value: float, wanted: float, *, most: bool = False) -> None:
    """A figure beside what it has to be."""
    reached = value <= wanted if most else value >= wanted
    print(f"{what:<44}{value:10.3g}  {'≤' if most else '≥'} {wanted:g}  {'ok' if reached else 'MISSED'}")


@contextmanager
def timed(times: dict[str, list[float]], name: str) -> Iterator[None]:
    """Add the time of a block."""
    began = time.perf_counter()
    yield
    times.setdefault(name, []).append(time.perf_counter() - began)


if __name__ == "__main__":
    main()
