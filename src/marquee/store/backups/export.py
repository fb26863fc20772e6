"""
Writing a backup: one consistent snapshot of all tables, streamed into Parquet in bounded memory.

Rows of a table that grows at its end are written once. Whether a piece is still what it was is looked up by
counting, and even that not each time: a piece whose writers have all ended changes only by an erasure, which
is known, so of those an eighth is counted each time, in turn, and all of them after an erasure.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from queue import Queue
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from adbc_driver_manager import AdbcConnection, AdbcStatement
from sqlalchemy import Connection, Table, exists, func, or_, select

from marquee import __version__
from marquee.errors import MarqueeError, NotFoundError, StoreError
from marquee.store import bundles
from marquee.store.backups.layout import (
    CUTS,
    PIECE_ROWS,
    Cut,
    columns_of,
    order_of,
    selected,
    tables_to_back_up,
    within,
)
from marquee.store.backups.manifest import Backup, BackupTable, Piece
from marquee.store.backups.vault import Told, Vault
from marquee.store.disk import sha256_of
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.tables import deployments, runs, users
from marquee.telemetry import get_logger

__all__ = ["take_backup"]

SCRAPS: Final = 8
"""Pieces of less than a full range, before they are written as one."""
TURNS: Final = 8
"""Backups in which each settled piece is counted once, or a little more."""
DELETED_WITHIN: Final = timedelta(days=1)
"""Rows of an erased user may be deleted some time after that was noted."""
BATCHES_AHEAD: Final = 2
LOWEST: Final = -(1 << 62)
"""Below any number of a row."""


def take_backup(
    database: Database, objects: ObjectStore, *, full: bool = False, told: Told | None = None
) -> Backup:
    """
    Write a backup; it exists once this returns, and not before.

    Args:
        full: read everything, whatever the backup before holds.

    Raises:
        StoreUnavailableError: the archive or the database cannot be reached; what has been written is found
            again by the next try.
        StoreError: another process writes one, the disk is full, or the archive refuses.
    """
    vault = Vault(objects)
    with vault.alone(database), vault.staging() as folder:
        before = None if full else vault.newest()
        with _snapshot(database) as view:
            writer = _Writer(vault, view, before, folder, told)
            tables = {table.name: writer.table(table) for table in tables_to_back_up()}
            named = _bundles(view.connection)
        present, missing = _ensure_objects(vault, objects, named, told)
        backup = Backup(
            created_at=view.moment,
            revision=view.revision,
            code_version=__version__,
            in_flight=view.next_transaction,
            tables=tables,
            objects=present,
            missing=missing,
        )
        vault.remote.put_named(backup.key, backup.encode())
    if missing:
        get_logger().warning("backup.objects_missing", backup=backup.name, objects=len(missing))
    get_logger().info("backup.written", backup=backup.name, rows=backup.rows, bytes=backup.size)
    return backup


@dataclass(frozen=True)
class _View:
    """
    A snapshot of the database.

    Attributes:
        connection: to ask for numbers.
        reader: to read rows.
        oldest_transaction: all older ones have ended.
        next_transaction: this one and all newer ones had not begun.
    """

    connection: Connection
    reader: AdbcConnection
    moment: Any
    revision: str
    oldest_transaction: int
    next_transaction: int

    def scalar(self, query: str) -> Any:
        return self.connection.exec_driver_sql(query).scalar()

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        with AdbcStatement(self.reader) as statement:
            statement.set_sql_query(query)
            stream, _ = statement.execute_query()
            yield from pa.RecordBatchReader.from_stream(stream)


@contextmanager
def _snapshot(database: Database) -> Iterator[_View]:
    from adbc_driver_postgresql import connect

    options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with (
        database.translate_errors(),
        database.engine.connect().execution_options(**options) as connection,
        connect(database.url) as opened,
        AdbcConnection(opened) as reader,
    ):
        row = connection.exec_driver_sql(
            "SELECT pg_export_snapshot(), now(), version_num, "
            "pg_snapshot_xmin(pg_current_snapshot())::text::bigint, "
            "pg_snapshot_xmax(pg_current_snapshot())::text::bigint FROM schema_revision"
        ).one()
        for statement in (
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            f"SET TRANSACTION SNAPSHOT '{row[0]}'",
            "SET LOCAL TimeZone = 'UTC'",
            # By the index that has the order already: no sort that spills, and the first rows at once.
            "SET LOCAL enable_sort = off",
        ):
            with AdbcStatement(reader) as prepared:
                prepared.set_sql_query(statement)
                prepared.execute_update()
        yield _View(connection, reader, row[1], row[2], row[3], row[4])


class _Writer:
    """Writes tables of a snapshot."""

    def __init__(
        self, vault: Vault, view: _View, before: Backup | None, folder: Path, told: Told | None
    ) -> None:
        self._vault = vault
        self._view = view
        self._before = before
        self._folder = folder
        self._told = told
        self._moment = view.moment.isoformat()
        self._done: dict[str, int] = {}
        self._erased = before is not None and _was_erased(view.connection, before.created_at - DELETED_WITHIN)

    def table(self, table: Table) -> BackupTable:
        columns = columns_of(self._view.connection, table.name)
        old = None if self._before is None else self._before.tables.get(table.name)
        known = list(old.pieces) if old is not None and dict(old.columns) == columns else []
        cut = CUTS.get(table.name)
        select_rows = f"SELECT {selected(columns)} FROM {table.name}"
        job = _Job(table, select_rows, cut)
        if cut is None:
            pieces = list(self._pieces(job))
        elif cut.by == "number":
            pieces = self._numbered(job, cut, known)
        else:
            pieces = self._timed(job, cut, known)
        return BackupTable(columns, pieces, self._sequence(table))

    def _numbered(self, job: "_Job", cut: Cut, known: list[Piece]) -> list[Piece]:
        """The known pieces as far as they are what they were, and the rows beyond them."""
        kept: list[Piece] = []
        turn = self._turn(known)
        for piece in known:
            if piece.key in turn:
                rows = self._count(job, cut, piece)
                if rows != piece.rows:
                    kept += self._range(job, cut, *piece.bounds)
                    continue
                piece = replace(piece, confirmed=self._moment)
            self._tell(job.table.name, piece.rows)
            kept.append(piece)
        kept = self._without_scraps(job, cut, kept)
        low = known[-1].bounds[1] if known else LOWEST
        while True:
            query = f"SELECT min({cut.column}) FROM {job.table.name} WHERE {cut.column} >= {low}"
            first = self._view.scalar(query)
            if first is None:
                return _joined(kept)
            high = (first // PIECE_ROWS + 1) * PIECE_ROWS
            query = f"SELECT max({cut.column}) FROM {job.table.name} WHERE {cut.column} < {high}"
            last = self._view.scalar(query)
            # The next rows come behind the last one, in a piece of their own.
            kept += self._range(job, cut, low, last + 1)
            low = high

    def _without_scraps(self, job: "_Job", cut: Cut, pieces: list[Piece]) -> list[Piece]:
        """Many pieces of one range as one."""
        made: list[Piece] = []
        ranges: dict[int, list[Piece]] = {}
        for piece in pieces:
            ranges.setdefault((piece.bounds[1] - 1) // PIECE_ROWS, []).append(piece)
        for scraps in ranges.values():
            if len(scraps) < SCRAPS:
                made += scraps
            else:
                made += self._range(job, cut, scraps[0].bounds[0], scraps[-1].bounds[1])
        return made

    def _timed(self, job: "_Job", cut: Cut, known: list[Piece]) -> list[Piece]:
        """A piece for each day or month; those with as many rows and the same mark are what they were."""
        low = f"date_trunc('{cut.by}', {cut.column}, 'UTC')"
        rows = self._view.connection.exec_driver_sql(
            f"SELECT extract(epoch FROM low)::bigint * 1000000, "
            f"extract(epoch FROM low + interval '1 {cut.by}')::bigint * 1000000, count, mark "
            f"FROM (SELECT {low} AS low, count(*), ({cut.mark})::text AS mark "
            f"FROM {job.table.name} GROUP BY 1) AS counted ORDER BY low"
        ).all()
        same: dict[tuple[Any, ...], list[Piece]] = {}
        for piece in known:
            same.setdefault((piece.low, piece.high, piece.mark), []).append(piece)
        made: list[Piece] = []
        for first, end, count, mark in rows:
            old = same.get((first, end, mark), [])
            if sum(piece.rows for piece in old) == count:
                self._tell(job.table.name, count)
                made += [replace(piece, confirmed=self._moment) for piece in old]
            else:
                made += self._range(job, cut, first, end, mark)
        return made

    def _range(self, job: "_Job", cut: Cut, low: int, high: int, mark: str = "") -> list[Piece]:
        found = self._pieces(job, within(cut, low, high))
        return [replace(piece, low=low, high=high, mark=mark) for piece in found]

    def _pieces(self, job: "_Job", where: str = "true") -> Iterator[Piece]:
        """Rows, in as many objects as they need."""
        query = f"{job.select_rows} WHERE {where} ORDER BY {order_of(job.table, job.cut)}"
        for path, rows in self._files(self._view.batches(query), job.table.name):
            digest = sha256_of(path)
            key = f"tables/{job.table.name}/{digest}.parquet"
            self._vault.store(key, path, digest)
            size = path.stat().st_size
            path.unlink()
            yield Piece(key, rows, size, confirmed=self._moment)

    def _files(self, batches: Iterator[pa.RecordBatch], table: str) -> Iterator[tuple[Path, int]]:
        path = self._folder / "piece.parquet"
        batch = next(batches, None)
        while batch is not None:
            try:
                with _ParquetFile(path, batch.schema) as file:
                    while batch is not None and file.rows < PIECE_ROWS:
                        file.write(batch)
                        self._tell(table, len(batch))
                        batch = next(batches, None)
            except OSError as error:
                raise StoreError(
                    f"The table {table} cannot be written to {self._folder}: {error.strerror or error}.",
                    fix="Check that the disk has space; a piece needs a few hundred MB.",
                ) from error
            if file.rows:
                yield path, file.rows

    def _turn(self, known: Sequence[Piece]) -> set[str]:
        """The pieces to be counted: all that may have changed, and some of the others."""
        assert self._before is not None or not known
        if self._before is None or self._erased or self._before.in_flight > self._view.oldest_transaction:
            return {piece.key for piece in known}
        longest_ago = sorted(known, key=lambda piece: piece.confirmed)
        return {piece.key for piece in longest_ago[: max(1, len(known) // TURNS)]}

    def _count(self, job: "_Job", cut: Cut, piece: Piece) -> int:
        query = f"SELECT count(*) FROM {job.table.name} WHERE {within(cut, *piece.bounds)}"
        return int(self._view.scalar(query))

    def _sequence(self, table: Table) -> tuple[int, bool] | None:
        identity = next((column.name for column in table.columns if column.identity is not None), None)
        if identity is None:
            return None
        name = self._view.scalar(f"SELECT pg_get_serial_sequence('{table.name}', '{identity}')")
        row = self._view.connection.exec_driver_sql(f"SELECT last_value, is_called FROM {name}").one()
        return row[0], row[1]

    def _tell(self, table: str, rows: int) -> None:
        if self._told is not None:
            self._done[table] = self._done.get(table, 0) + rows
            self._told(f"back up {table}", self._done[table], None)


@dataclass(frozen=True, slots=True)
class _Job:
    table: Table
    select_rows: str
    cut: Cut | None


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Without gaps between them, so that a row whose transaction ended late is in the range of one."""
    lows = [LOWEST, *(piece.bounds[1] for piece in pieces)]
    return [replace(piece, low=low) for piece, low in zip(pieces, lows, strict=False)]


class _ParquetFile:
    """A Parquet file, encoded by a thread of its own while the next rows are fetched."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.rows = 0
        self._schema = pa.schema([pa.field(field.name, field.type) for field in schema])
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd", compression_level=1)
        self._ahead: Queue[pa.RecordBatch | None] = Queue(BATCHES_AHEAD)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="parquet", daemon=True)
        self._thread.start()

    def __enter__(self) -> "_ParquetFile":
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        self._ahead.put(None)
        self._thread.join()
        self._writer.close()
        if kind is None and self._error is not None:
            raise self._error

    def write(self, batch: pa.RecordBatch) -> None:
        if self._error is not None:
            raise self._error
        self.rows += len(batch)
        self._ahead.put(batch)

    def _run(self) -> None:
        while (batch := self._ahead.get()) is not None:
            if self._error is not None:
                continue
            try:
                self._writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=self._schema))
            except BaseException as error:
                self._error = error


def _was_erased(connection: Connection, since: datetime) -> bool:
    """Whether rows of erased users may have been deleted since: at the request, or by a run of `forget`."""
    marked = exists().where(users.c.erased_at >= since)
    forgot = exists().where(
        runs.c.pipeline == "forget",
        runs.c.started_at >= since,
        or_(runs.c.status != "succeeded", runs.c.counts["deleted"].as_integer() > 0),
    )
    return bool(connection.scalar(select(marked | forgot)))


def _bundles(connection: Connection) -> list[str]:
    """The bundles of all deployments, the newest first."""
    newest = func.max(deployments.c.deployment_id).desc()
    query = select(deployments.c.bundle).group_by(deployments.c.bundle).order_by(newest)
    return list(connection.scalars(query))


def _ensure_objects(
    vault: Vault, objects: ObjectStore, manifests: Sequence[str], told: Told | None
) -> tuple[list[str], list[str]]:
    """The objects of bundles that are in the vault, brought there if need be; and those that are nowhere."""
    present: list[str] = []
    missing: list[str] = []
    for done, manifest in enumerate(manifests, start=1):
        try:
            keys = bundles.object_keys(objects, manifest)
        except (NotFoundError, ValueError):
            missing.append(manifest)
            continue
        except MarqueeError as error:
            if isinstance(error.__cause__, NotFoundError):
                missing.append(manifest)
                continue
            raise
        for key in keys:
            (present if vault.ensure(key) else missing).append(key)
        if told is not None:
            told("back up bundles", done, len(manifests))
    return present, missing
