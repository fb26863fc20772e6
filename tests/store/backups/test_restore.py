"""A backup into an empty database: the same rows, or nothing."""

import shutil
from collections.abc import Callable
from pathlib import Path

import psycopg
import pyarrow.parquet as pq
import pytest
from sqlalchemy import text

from marquee.errors import ConfigError, DamagedObjectError, NotFoundError, StoreError
from marquee.store.backups import Backup, Vault, restore, take_backup
from marquee.store.backups.fingerprint import fingerprint
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import erasures
from marquee.store.repositories.impressions import partition_days


def definitions(database: Database) -> list[tuple[str, str]]:
    """Indexes, keys and the next value of each sequence; without those of the partitions of days."""
    with psycopg.connect(database.url) as connection:
        return [
            row
            for query in (
                "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' "
                "AND tablename !~ '^impressions_[0-9]' ORDER BY 1",
                "SELECT conrelid::regclass || conname, pg_get_constraintdef(oid) FROM pg_constraint "
                "WHERE connamespace = 'public'::regnamespace "
                "AND conrelid::regclass::text !~ '^impressions_[0-9]' ORDER BY 1",
                "SELECT sequencename, last_value::text FROM pg_sequences "
                "WHERE schemaname = 'public' ORDER BY 1",
            )
            for row in connection.execute(query).fetchall()
        ]


def tables(database: Database) -> int:
    with psycopg.connect(database.url) as connection:
        query = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        return connection.execute(query).fetchone()[0]


def test_restored_database_is_byte_equal(
    filled: Database, objects: ObjectStore, empty: Database, tmp_path: Path
) -> None:
    backup = take_backup(filled, objects)
    restored = restore(empty, objects, backup, secrets=tmp_path / "secrets")
    assert fingerprint(empty) == fingerprint(filled)
    assert definitions(empty) == definitions(filled)
    assert restored.rows["interactions"] == 1000


def test_what_was_answered_on_the_day_of_the_restore_is_in_the_partition_of_that_day(
    filled: Database, objects: ObjectStore, empty: Database, tmp_path: Path
) -> None:
    days = partition_days()
    with filled.begin() as connection:
        connection.execute(text("UPDATE impressions SET served_at = now() WHERE user_id = 1"))
    restore(empty, objects, take_backup(filled, objects), secrets=tmp_path / "secrets")
    days = [*days, *partition_days()]  # midnight may have passed
    with empty.begin() as connection:
        made = connection.scalars(
            text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'impressions'::regclass")
        ).all()
        rest = connection.scalar(
            text("SELECT count(*) FROM impressions_rest WHERE served_at >= :day"), {"day": min(days)}
        )
    assert set(made) <= {"impressions_rest", *(f"impressions_{day:%Y%m%d}" for day in days)}
    assert len(made) == 3
    assert rest == 0


def test_backup_of_the_restored_database_names_the_same_objects(
    filled: Database, objects: ObjectStore, empty: Database, tmp_path: Path
) -> None:
    backup = take_backup(filled, objects)
    restore(empty, objects, backup, secrets=tmp_path / "secrets")
    again = take_backup(empty, objects, full=True)
    assert {name: [piece.key for piece in table.pieces] for name, table in again.tables.items()} == {
        name: [piece.key for piece in table.pieces] for name, table in backup.tables.items()
    }


def test_migrated_database_without_rows_counts_as_empty(
    filled: Database, objects: ObjectStore, empty: Database, tmp_path: Path
) -> None:
    backup = take_backup(filled, objects)
    empty.prepare()
    restore(empty, objects, backup, secrets=tmp_path / "secrets")
    assert fingerprint(empty) == fingerprint(filled)


def test_database_with_rows_is_refused_and_left_as_it_is(
    filled: Database, objects: ObjectStore, tmp_path: Path
) -> None:
    backup = take_backup(filled, objects)
    before = fingerprint(filled)
    with pytest.raises(StoreError, match="is not empty"):
        restore(filled, objects, backup, secrets=tmp_path / "secrets")
    assert fingerprint(filled) == before


def test_only_chosen_tables_are_filled(
    filled: Database, objects: ObjectStore, empty: Database, tmp_path: Path
) -> None:
    backup = take_backup(filled, objects)
    restore(empty, objects, backup, secrets=tmp_path / "secrets", tables=["items"])
    with empty.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM items")) == 3
        assert connection.scalar(text("SELECT count(*) FROM interactions")) == 0
    with pytest.raises(ValueError, match="no table 'films'"):
        restore(empty, objects, backup, secrets=tmp_path / "secrets", tables=["films"])


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _bit_flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _missing(path: Path) -> None:
    path.unlink()


def _another(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)


@pytest.mark.parametrize("damage", [_truncated, _bit_flipped, _missing, _another])
def test_damaged_object_is_named_and_nothing_is_half_restored(
    filled: Database, objects: ObjectStore, empty: Database, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    backup = take_backup(filled, objects)
    key = backup.tables["users"].pieces[0].key  # other tables come before it
    damage(objects.root / key)
    with pytest.raises((DamagedObjectError, NotFoundError), match=key):
        restore(empty, objects, backup, secrets=tmp_path / "secrets")
    assert tables(empty) == 0


def test_damaged_manifest_is_refused(filled: Database, objects: ObjectStore) -> None:
    backup = take_backup(filled, objects)
    _bit_flipped(objects.root / backup.key)
    with pytest.raises(DamagedObjectError, match=backup.key):
        Vault(objects).read(backup.key)


def test_object_with_other_rows_than_the_manifest_says_is_refused(
    filled: Database, objects: ObjectStore, empty: Database, tmp_path: Path
) -> None:
    backup = take_backup(filled, objects)
    lying = backup.encode().replace(b'"rows": 50,', b'"rows": 51,')
    name = Backup.decode(backup.key, backup.encode())
    assert name == backup
    forged = _forged(lying)
    with pytest.raises(DamagedObjectError, match="50 rows instead of 51"):
        restore(empty, objects, forged, secrets=tmp_path / "secrets")
    assert tables(empty) == 0


def _forged(content: bytes) -> Backup:
    import hashlib

    digest = hashlib.sha256(content).hexdigest()[:12]
    return Backup.decode(f"backups/20260101T000000.000000Z-{digest}.json", content)


def test_user_erased_since_the_backup_is_not_restored(
    filled: Database, objects: ObjectStore, empty: Database, tmp_path: Path
) -> None:
    yesterday = take_backup(filled, objects)
    with filled.begin() as connection:
        erasures.mark(connection, 3, tmp_path / "secrets")
        objects.put("erasures", erasures.note(connection, 3, tmp_path / "secrets"), ".txt")
    with filled.begin() as connection:
        assert sum(erasures.delete_rows(connection, 3).values()) > 20
    restored = restore(empty, objects, yesterday, secrets=tmp_path / "secrets")
    assert restored.erased == 1
    with empty.begin() as connection:
        for table in ("interactions", "impressions", "predictions", "recommendations"):
            assert connection.scalar(text(f"SELECT count(*) FROM {table} WHERE user_id = 3")) == 0
        assert connection.scalar(text("SELECT count(*) FROM quarantine")) == 0
        assert connection.scalar(text("SELECT erased_at IS NOT NULL FROM users WHERE user_id = 3"))
        assert connection.scalar(text("SELECT count(*) FROM erasures")) == 2
        assert connection.scalar(text("SELECT count(*) FROM interactions")) == 980


def test_newer_backup_tells_who_was_erased(
    filled: Database, objects: ObjectStore, empty: Database, tmp_path: Path
) -> None:
    yesterday = take_backup(filled, objects)
    with filled.begin() as connection:
        erasures.mark(connection, 3, tmp_path / "secrets")
        erasures.delete_rows(connection, 3)
    take_backup(filled, objects)
    assert restore(empty, objects, yesterday, secrets=tmp_path / "secrets").erased == 1


def test_without_the_key_of_the_erasures_nothing_is_restored(
    filled: Database, objects: ObjectStore, empty: Database, tmp_path: Path
) -> None:
    yesterday = take_backup(filled, objects)
    with filled.begin() as connection:
        erasures.mark(connection, 3, tmp_path / "secrets")
    take_backup(filled, objects)
    shutil.rmtree(tmp_path / "secrets")
    with pytest.raises(ConfigError, match="another key"):
        restore(empty, objects, yesterday, secrets=tmp_path / "secrets")
    assert tables(empty) == 0
