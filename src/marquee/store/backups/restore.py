"""
Restoring a backup into an empty database: in one transaction, so that nothing is ever half restored.

Tables are made as they were, at the revision of the backup, filled without indexes, and get these
afterwards; then people who were erased meanwhile are taken out, and the schema is brought to the newest
revision.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from psycopg import sql
from sqlalchemy import Connection, text

from marquee.errors import DamagedObjectError, MarqueeError, StoreError
from marquee.store import bundles
from marquee.store.backups.manifest import Backup, BackupTable, Piece
from marquee.store.backups.vault import Told, Vault
from marquee.store.bulk import ROWS_PER_SLICE, encode_batches
from marquee.store.migrations import downgrade, revision_of, revisions_after, upgrade
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import deployments, erasures, impressions
from marquee.store.repositories.deployments import Slot
from marquee.store.tables import metadata
from marquee.telemetry import get_logger

__all__ = ["Restored", "restore"]

JSONB_VERSION: Final = pa.scalar(b"\x01")
MAX_NOTE_BYTES: Final = 1 << 10
NOTES: Final = "erasures"
SLOTS: Final[tuple[Slot, ...]] = ("champion", "predictor", "challenger", "shadow")


@dataclass(frozen=True, slots=True)
class Restored:
    """
    What a restore did.

    Attributes:
        rows: loaded, per table.
        erased: users who were in the backup and had been erased since.
        bundles: fetched for the slots.
    """

    backup: str
    rows: Mapping[str, int]
    erased: int
    bundles: Sequence[str]


def restore(
    database: Database,
    objects: ObjectStore,
    backup: Backup,
    *,
    secrets: Path,
    tables: Sequence[str] = (),
    erased: Sequence[bytes] = (),
    told: Told | None = None,
) -> Restored:
    """
    Load a backup into a database without rows.

    Args:
        database: not prepared; without tables, or with empty ones.
        secrets: the folder that held the key of the erasures.
        tables: only these; default: all.
        erased: further hashes of erased users, of a database that knows more than the backup.

    Raises:
        StoreError: the database holds rows, or an object is missing or damaged: it is named, and nothing has
            been changed.
        ConfigError: there are erased users, and the key to tell them is another one.
        ValueError: no such table.
    """
    vault = Vault(objects)
    chosen = backup.only(tables)
    loader = _Loader(vault, sum(table.rows for table in chosen.values()), told)
    with database.begin() as connection:
        _make_schema(connection, backup, database.address)
        definitions = _drop_indexes(connection, chosen)
        with tempfile.TemporaryDirectory(prefix="marquee-restore-") as folder:
            for name, table in chosen.items():
                loader.load(connection, name, table, Path(folder))
        _build_indexes(connection, definitions, told)
        _set_sequences(connection, chosen)
        gone = erasures.apply(connection, [*erased, *_erased(vault, backup)], secrets)
    if told is not None:
        told("migrate", 0, None)
    database.prepare()
    get_logger().info("backup.restored", backup=backup.name, rows=loader.done, erased=gone)
    rows = {name: table.rows for name, table in chosen.items()}
    return Restored(backup.name, rows, gone, _fetch_bundles(database, objects))


class _Loader:
    """Loads tables, and says how far it is."""

    def __init__(self, vault: Vault, total: int, told: Told | None) -> None:
        self._vault = vault
        self._total = total
        self._told = told
        self.done = 0

    def load(self, connection: Connection, name: str, table: BackupTable, folder: Path) -> None:
        if not table.pieces:
            return
        driver = connection.connection.driver_connection
        assert driver is not None
        # Rows of a table that was emptied in this transaction need no second look later: they are frozen.
        partitioned = bool(metadata.tables[name].dialect_options["postgresql"]["partition_by"])
        options = sql.SQL("FORMAT BINARY" if partitioned else "FORMAT BINARY, FREEZE")
        columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
        statement = sql.SQL("COPY {} ({}) FROM STDIN ({})").format(sql.Identifier(name), columns, options)
        with driver.cursor() as cursor:
            with cursor.copy(statement) as copy:
                for part in encode_batches(self._batches(name, table, folder)):
                    copy.write(part)
            if cursor.rowcount != table.rows:
                raise StoreError(
                    f"PostgreSQL took {cursor.rowcount} of {table.rows} rows of {name}.", fix="Try again."
                )

    def _batches(self, name: str, table: BackupTable, folder: Path) -> Iterator[list[pa.Array]]:
        for piece in table.pieces:
            with self._vault.fetched(piece.key, folder) as path:
                for batch in _rows(path, piece, table):
                    yield batch
                    self.done += len(batch[0])
                    if self._told is not None:
                        self._told(f"restore {name}", self.done, self._total)


def _rows(path: Path, piece: Piece, table: BackupTable) -> Iterator[list[pa.Array]]:
    try:
        with pq.ParquetFile(path) as file:
            if file.metadata.num_rows != piece.rows:
                raise DamagedObjectError(
                    f"The object {piece.key} has {file.metadata.num_rows} rows instead of {piece.rows}.",
                    fix="Restore another backup.",
                )
            for batch in file.iter_batches(ROWS_PER_SLICE, columns=list(table.columns)):
                kinds = table.columns.values()
                yield [_as_field(column, kind) for column, kind in zip(batch.columns, kinds, strict=True)]
    except (pa.ArrowInvalid, OSError) as error:
        raise DamagedObjectError(
            f"The object {piece.key} cannot be read: {error}.", fix="Restore another backup."
        ) from error


def _as_field(column: pa.Array, kind: str) -> pa.Array:
    """What travels as something else in the format of its type."""
    if kind != "jsonb":
        return column
    return pc.binary_join_element_wise(JSONB_VERSION, column.cast(pa.binary()), b"")


def _make_schema(connection: Connection, backup: Backup, address: str) -> None:
    """
    Empty tables as those that were backed up.

    They are of the backup's revision. Marquee 0.1 on the schema of a newer one, which has columns more, noted
    an older one: then they are of the first that has them all.
    """
    present = connection.scalars(
        text("SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename = ANY(:names)"),
        {"names": [*metadata.tables]},
    ).all()
    for name in present:
        if connection.scalar(text(f"SELECT EXISTS (SELECT FROM {name})")):
            raise StoreError(
                f"The database at {address} is not empty: it has rows in {name}.",
                fix="Give an empty one with --into, for example after `createdb`.",
            )
    before = revision_of(connection)
    if before is not None and before != backup.revision:
        downgrade(connection)
        before = None
    upgrade(connection, before, address=address, to=backup.revision)
    for newer in revisions_after(backup.revision):
        if _has_columns(connection, backup):
            break
        upgrade(connection, backup.revision, address=address, to=newer)
    for day in impressions.partition_days():  # once rows of a day are among everything else, it gets none
        connection.exec_driver_sql(impressions.partition_of(day))


def _has_columns(connection: Connection, backup: Backup) -> bool:
    query = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
    present = {(row[0], row[1]) for row in connection.execute(text(query))}
    return present.issuperset(
        (name, column) for name, table in backup.tables.items() for column in table.columns
    )


def _drop_indexes(connection: Connection, tables: Mapping[str, Any]) -> list[str]:
    """Drop indexes and keys, and empty the tables; what makes them again, keys first."""
    names = {"names": list(tables)}
    keys = connection.execute(
        text(
            "SELECT conrelid::regclass::text AS name, conname, pg_get_constraintdef(oid) AS definition "
            "FROM pg_constraint WHERE conrelid::regclass::text = ANY(:names) AND contype IN ('p', 'u') "
            "ORDER BY contype, conname"
        ),
        names,
    ).all()
    rest = connection.execute(
        text(
            "SELECT indrelid::regclass::text AS name, indexrelid::regclass::text AS indexname, "
            "pg_get_indexdef(indexrelid) AS definition FROM pg_index "
            "WHERE indrelid::regclass::text = ANY(:names) "
            "AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid) ORDER BY 2"
        ),
        names,
    ).all()
    made = [f"ALTER TABLE {key.name} ADD CONSTRAINT {key.conname} {key.definition}" for key in keys]
    # Of a partitioned table an index is shown without those of its partitions.
    made += [index.definition.replace(" ON ONLY ", " ON ", 1) for index in rest]
    for key in keys:
        connection.exec_driver_sql(f"ALTER TABLE {key.name} DROP CONSTRAINT {key.conname}")
    for index in rest:
        connection.exec_driver_sql(f"DROP INDEX {index.indexname}")
    connection.exec_driver_sql(f"TRUNCATE {', '.join(tables)}")
    return made


def _build_indexes(connection: Connection, definitions: Sequence[str], told: Told | None) -> None:
    connection.exec_driver_sql("SET LOCAL maintenance_work_mem = '256MB'")
    for done, definition in enumerate(definitions):
        if told is not None:
            told("build indexes", done, len(definitions))
        connection.execution_options(no_parameters=True).exec_driver_sql(definition)
    if told is not None:
        told("build indexes", len(definitions), len(definitions))


def _set_sequences(connection: Connection, tables: Mapping[str, BackupTable]) -> None:
    for name, table in tables.items():
        if table.sequence is None:
            continue
        column = next(column.name for column in metadata.tables[name].columns if column.identity is not None)
        connection.execute(
            text("SELECT setval(pg_get_serial_sequence(:table, :column), :value, :called)"),
            {"table": name, "column": column, "value": table.sequence[0], "called": table.sequence[1]},
        )


def _erased(vault: Vault, backup: Backup) -> Iterator[bytes]:
    """The hashes of users of whom the vault knows that they were erased: by the newest backup, and since."""
    newest = vault.newest()
    if newest is not None and newest.created_at > backup.created_at:
        table = newest.tables["erasures"]
        with tempfile.TemporaryDirectory(prefix="marquee-restore-") as folder:
            for piece in table.pieces:
                with vault.fetched(piece.key, Path(folder)) as path:
                    yield from pq.read_table(path, columns=["user_hash"])["user_hash"].to_pylist()
    for item in vault.remote.list(NOTES):
        yield from erasures.hashes_in(vault.remote.get_bytes(item.key, MAX_NOTE_BYTES))


def _fetch_bundles(database: Database, objects: ObjectStore) -> list[str]:
    """Bring what is deployed into the object directory; one that cannot be had does not undo a restore."""
    fetched = []
    for slot in SLOTS:
        with database.begin() as connection:
            deployed = deployments.current(connection, slot)
        if deployed is None:
            continue
        try:
            for key in bundles.object_keys(objects, deployed.bundle):
                objects.local_path(key)
            fetched.append(deployed.bundle)
        except (MarqueeError, ValueError) as error:
            get_logger().error("backup.bundle_missing", slot=slot, bundle=deployed.bundle, error=str(error))
    return fetched
