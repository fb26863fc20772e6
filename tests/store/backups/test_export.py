"""Writing backups: only what is new travels, and a backup that could not be finished does not exist."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from marquee.errors import StoreError
from marquee.store.backups import Backup, Vault, restore, take_backup
from marquee.store.backups.fingerprint import fingerprint
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import erasures

MORE = (
    "INSERT INTO interactions (user_id, item_id, event, occurred_at, source, event_key) "
    "SELECT 1, i, 'watch', now(), 'more', :name || i FROM generate_series(1, :rows) AS i"
)


BEHIND_ANSWERS = (
    "INSERT INTO predictions (user_id, item_id, item_ids, scores, bundle) "
    "SELECT 7, 1, '{}', '{}', 'b' FROM generate_series(1, 5)"
)
FORGOT = (
    "INSERT INTO runs (run_id, pipeline, status, started_at, counts) "
    "VALUES (gen_random_uuid(), 'forget', 'succeeded', now(), '{\"deleted\": 5}')"
)


def more(database: Database, rows: int, name: str = "a") -> None:
    with database.begin() as connection:
        connection.execute(text(MORE), {"rows": rows, "name": name})


def keys(backup: Backup, table: str = "interactions") -> list[str]:
    return [piece.key for piece in backup.tables[table].pieces]


def test_unchanged_database_makes_the_same_objects(filled: Database, objects: ObjectStore) -> None:
    first, second = take_backup(filled, objects), take_backup(filled, objects)
    assert first.name != second.name
    assert {name: keys(first, name) for name in first.tables} == {
        name: keys(second, name) for name in second.tables
    }


def test_only_new_rows_are_written(filled: Database, objects: ObjectStore) -> None:
    first = take_backup(filled, objects)
    more(filled, 10)
    second = take_backup(filled, objects)
    assert keys(second)[:1] == keys(first)
    assert [piece.rows for piece in second.tables["interactions"].pieces] == [1000, 10]


def test_piece_that_lost_rows_is_written_anew(filled: Database, objects: ObjectStore, tmp_path: Path) -> None:
    first = take_backup(filled, objects)
    with filled.begin() as connection:
        erasures.mark(connection, 3, tmp_path / "secrets")
        erasures.delete_rows(connection, 3)
    second = take_backup(filled, objects)
    assert not set(keys(first)) & set(keys(second))
    assert second.tables["interactions"].rows == 980


def test_rows_deleted_some_time_after_the_mark_are_in_no_later_backup(
    filled: Database, objects: ObjectStore, tmp_path: Path
) -> None:
    take_backup(filled, objects)
    more(filled, 10)
    take_backup(filled, objects)
    with filled.begin() as connection:
        erasures.mark(connection, 1, tmp_path / "secrets")
    assert len(take_backup(filled, objects).tables["interactions"].pieces) == 2
    with filled.begin() as connection:
        erasures.delete_rows(connection, 1)
    assert take_backup(filled, objects).tables["interactions"].rows == 980


def test_rows_that_came_back_and_were_deleted_by_a_run_are_in_no_later_backup(
    filled: Database, objects: ObjectStore, tmp_path: Path
) -> None:
    take_backup(filled, objects)
    with filled.begin() as connection:
        erasures.mark(connection, 7, tmp_path / "secrets")
        connection.execute(text("UPDATE users SET erased_at = now() - interval '9 days' WHERE user_id = 7"))
        connection.execute(text(BEHIND_ANSWERS))
    first = take_backup(filled, objects)
    assert [piece.rows for piece in first.tables["predictions"].pieces] == [1, 5]
    with filled.begin() as connection:
        erasures.delete_rows(connection, 7)
        connection.execute(text(FORGOT))
    assert take_backup(filled, objects).tables["predictions"].rows == 1


def test_row_whose_transaction_ended_late_is_in_the_next_backup(
    filled: Database, objects: ObjectStore, empty: Database, tmp_path: Path
) -> None:
    """Its number is lower than those that were backed up before it could be seen."""
    with filled.engine.connect() as late:
        late.execute(text(MORE), {"rows": 5, "name": "late"})
        more(filled, 5)
        assert take_backup(filled, objects).tables["interactions"].rows == 1005
        late.commit()
    backup = take_backup(filled, objects)
    assert backup.tables["interactions"].rows == 1010
    restore(empty, objects, backup, secrets=tmp_path / "secrets")
    assert fingerprint(empty) == fingerprint(filled)


def test_impression_that_was_viewed_since_is_written_anew(filled: Database, objects: ObjectStore) -> None:
    first = take_backup(filled, objects)
    with filled.begin() as connection:
        connection.execute(
            text(
                "UPDATE impressions SET viewed_at = now() "
                "WHERE served_at = (SELECT max(served_at) FROM impressions)"
            )
        )
    second = take_backup(filled, objects)
    before, after = keys(first, "impressions"), keys(second, "impressions")
    assert len(before) == len(after)
    assert sum(one != other for one, other in zip(before, after, strict=True)) == 1


def test_scraps_become_one_piece(
    filled: Database, objects: ObjectStore, empty: Database, tmp_path: Path
) -> None:
    for number in range(9):
        more(filled, 3, f"{number}-")
        backup = take_backup(filled, objects)
    assert len(keys(backup)) <= 8
    assert backup.tables["interactions"].rows == 1027
    restore(empty, objects, backup, secrets=tmp_path / "secrets")
    assert fingerprint(empty) == fingerprint(filled)


def test_backup_is_one_moment(filled: Database, objects: ObjectStore) -> None:
    """What is written while a backup is being made is in none of its tables."""
    seen: list[str] = []

    def told(step: str, done: int, total: int | None) -> None:
        if not seen:
            more(filled, 10)
            with filled.begin() as connection:
                connection.execute(text("INSERT INTO users (user_id, kind) VALUES (99, 'live')"))
        seen.append(step)

    backup = take_backup(filled, objects, told=told)
    assert backup.tables["interactions"].rows == 1000
    assert backup.tables["users"].rows == 50
    assert take_backup(filled, objects).tables["users"].rows == 51


def test_second_backup_at_a_time_is_refused(filled: Database, objects: ObjectStore) -> None:
    with Vault(objects).alone(filled), pytest.raises(StoreError, match="Another process"):
        take_backup(filled, objects)


def test_full_disk_leaves_no_backup(filled: Database, objects: ObjectStore) -> None:
    """A limit on the size of files stands for a disk without space."""
    more(filled, 30_000)
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from marquee.config import Settings\n"
        "from marquee.errors import StoreError\n"
        "from marquee.store.backups import take_backup\n"
        "from marquee.store.objects import ObjectStore\n"
        "from marquee.store.postgres import Database\n"
        "home, url, root = sys.argv[1:]\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "with Database.open(Settings(home=home, database={'url': url})) as database:\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "    try:\n"
        "        take_backup(database, ObjectStore(Path(root)))\n"
        "    except StoreError as error:\n"
        "        print(error)\n"
    )
    command = [sys.executable, "-c", script, str(objects.root.parent), filled.url, str(objects.root)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    assert "space" in ended.stdout
    assert Vault(objects).manifests() == []
    assert take_backup(filled, objects).tables["interactions"].rows == 31_000
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
