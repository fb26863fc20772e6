"""Restoring as a whole: who was erased stays erased, and what came in as files since is loaded again."""

import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import obstore
import psycopg
import pytest
from free_ports import free_port
from sqlalchemy import text

from marquee.config import ObjectSettings, Settings
from marquee.errors import StoreUnavailableError
from marquee.ingest.movielens import ingest_movielens
from marquee.ingest.tables import ingest_interactions, ingest_items
from marquee.pipelines.courier import Courier
from marquee.pipelines.recovery import recover
from marquee.pipelines.run import run_here
from marquee.pipelines.snapshots import take_snapshot
from marquee.store.backups import Backup, take_backup
from marquee.store.embedded import EmbeddedServer
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import erasures, outbox

LOG = "user_id,item_id,occurred_at\n"
MOMENT = timedelta(milliseconds=1)


@pytest.fixture
def archived(swift, settings: Settings) -> Settings:
    """Settings with an archive."""
    return settings.model_copy(update={"objects": ObjectSettings(**swift.settings())})


@pytest.fixture
def objects(archived: Settings) -> ObjectStore:
    """Of the home."""
    return ObjectStore.of(archived)


@pytest.fixture
def target(postgres: EmbeddedServer, settings: Settings) -> Iterator[Database]:
    """A database without anything."""
    name = f"target_{uuid4().hex}"
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        there = Settings(home=settings.home, database={"url": postgres.url_of(name)})
        with Database.open(there, prepare=False) as database:
            yield database
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def log(folder: Path, database: Database, objects: ObjectStore, name: str, *users: int) -> str:
    path = folder / f"{name}.csv"
    path.write_text(LOG + "".join(f"{user},{len(name)},2026-01-01T00:00:00Z\n" for user in users))
    return ingest_interactions(database, objects, path, source="mine").raw_keys[0]


def users_of(database: Database) -> list[int]:
    with database.begin() as connection:
        return list(connection.scalars(text("SELECT DISTINCT user_id FROM interactions ORDER BY 1")))


def came_in(objects: ObjectStore, key: str, moment: datetime) -> None:
    os.utime(objects.root / key, (moment.timestamp(), moment.timestamp()))


def deliver(database: Database, objects: ObjectStore) -> None:
    assert Courier(database, objects).deliver(wait=True).refused == ()


def tables_with(database: Database, user_id: int) -> list[str]:
    """Tables with rows of a user; the mark that they are erased aside."""
    with database.begin() as connection:
        named = connection.scalars(
            text("SELECT table_name FROM information_schema.columns WHERE column_name = 'user_id' "
                 "AND table_schema = 'public' AND table_name <> 'users'")
        ).all()  # fmt: skip
        query = "SELECT EXISTS (SELECT FROM {} WHERE user_id = :user_id)"
        return [
            table for table in named if connection.scalar(text(query.format(table)), {"user_id": user_id})
        ]


@pytest.fixture
def yesterday(archived: Settings, database: Database, objects: ObjectStore, tmp_path: Path) -> Backup:
    """A backup with the users 1 and 2, of whom 2 is then erased in the living database alone."""
    log(tmp_path, database, objects, "a", 1, 2)
    deliver(database, objects)
    backup = take_backup(database, objects)
    with database.begin() as connection:
        erasures.mark(connection, 2, archived.paths.secrets)
        erasures.delete_rows(connection, 2)
    return backup


def test_who_was_erased_in_the_living_database_is_not_in_yesterdays_backup_restored_elsewhere(
    archived: Settings, database: Database, objects: ObjectStore, yesterday: Backup, target: Database
) -> None:
    done = recover(archived, target, objects, yesterday.name)
    assert (done.erased, done.erasures_from) == (1, database.address)
    assert users_of(target) == [1]
    assert tables_with(target, 2) == []


def test_living_database_may_be_named(
    archived: Settings, database: Database, objects: ObjectStore, yesterday: Backup, target: Database
) -> None:
    lost = archived.model_copy(update={"database": archived.database.model_copy(update={"url": None})})
    done = recover(lost, target, objects, yesterday.name, erasures_from=database.url)
    assert (done.erased, users_of(target)) == (1, [1])


def test_database_that_is_gone_keeps_nobody_from_restoring_unless_it_was_named(
    archived: Settings, objects: ObjectStore, yesterday: Backup, target: Database
) -> None:
    gone = f"postgresql://nobody@127.0.0.1:{free_port()}/x"
    lost = archived.model_copy(
        update={"database": type(archived.database)(url=gone, connect_timeout_seconds=1)}
    )
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        recover(lost, target, objects, yesterday.name, erasures_from=gone)
    done = recover(lost, target, objects, yesterday.name)
    assert (done.erased, done.erasures_from, users_of(target)) == (0, None, [1, 2])


def test_erased_user_is_in_no_file_no_restore_no_replay_no_repeated_ingest_and_no_model(
    archived: Settings, database: Database, objects: ObjectStore, yesterday: Backup, target: Database,
    tmp_path: Path,
) -> None:  # fmt: skip
    """The archive alone: the living database is gone, and a note beside the backups says who was erased."""
    run_here(archived, database, objects, "forget")
    deliver(database, objects)
    lost = archived.model_copy(update={"database": archived.database.model_copy(update={"url": None})})
    shutil.rmtree(objects.root)
    elsewhere = ObjectStore(tmp_path / "elsewhere", objects.remote)
    done = recover(lost, target, elsewhere, until=datetime.now(UTC), name=yesterday.name)
    assert (done.erased, users_of(target)) == (1, [1])
    log(tmp_path, target, elsewhere, "again", 2, 3)
    assert users_of(target) == [1, 3]
    assert set(take_snapshot(target, elsewhere).interactions.user_ids) == {1, 3}  # the next model learns of
    (raw,) = [item for item in objects.remote.list("raw") if "/mine/" in item.key]
    assert b"\n2," not in objects.remote.get_bytes(raw.key, 1000)


def test_file_that_was_delivered_late_counts_when_it_came_in(
    archived: Settings, database: Database, objects: ObjectStore, target: Database, tmp_path: Path
) -> None:
    backup = take_backup(database, objects)
    late = log(tmp_path, database, objects, "late", 1)
    after = log(tmp_path, database, objects, "afterwards", 2)
    came_in(objects, late, backup.created_at + MOMENT)
    came_in(objects, after, backup.created_at + 3 * MOMENT)
    deliver(database, objects)
    shutil.rmtree(objects.root)
    elsewhere = ObjectStore(tmp_path / "elsewhere", objects.remote)
    done = recover(archived, target, elsewhere, until=backup.created_at + 2 * MOMENT)
    assert (done.replayed, done.skipped) == ({late: 1}, {})
    assert users_of(target) == [1]
    assert "HTTP" in done.not_replayed
    with target.begin() as connection:  # what was loaded again is no new raw file
        assert [parcel.key for parcel in outbox.next_parcels(connection, 10)] == [late]


def test_file_of_which_only_the_day_is_known_is_named(
    archived: Settings, database: Database, objects: ObjectStore, target: Database, swift, tmp_path: Path
) -> None:
    """Somebody copied it into the archive by other means, later than the moment asked for."""
    backup = take_backup(database, objects)
    key = log(tmp_path, database, objects, "copied", 1)
    bucket = archived.objects.url.split("/")[2]
    obstore.put(swift.store(bucket), f"some/prefix/{key}", (objects.root / key).read_bytes())
    shutil.rmtree(objects.root)
    elsewhere = ObjectStore(tmp_path / "elsewhere", objects.remote)
    done = recover(archived, target, elsewhere, until=backup.created_at + MOMENT)
    assert done.replayed == {}
    assert "not known" in done.skipped[key]


def test_what_came_in_as_files_comes_back_in_its_order(
    archived: Settings, database: Database, objects: ObjectStore, target: Database, tmp_path: Path
) -> None:
    """Loose MovieLens files, a catalogue in two versions, answers of TMDB, and a file that is nothing."""
    day = datetime.now(UTC)
    genres = {
        "path": "/genre/movie/list",
        "parameters": {},
        "body": '{"genres": [{"id": 1, "name": "Drama"}]}',
    }
    objects.put(f"raw/tmdb/{day:%Y/%m/%d}", json.dumps(genres).encode() + b"\n", ".jsonl")
    backup = take_backup(database, objects)
    (tmp_path / "ml").mkdir()
    (tmp_path / "ml/ratings.csv").write_text("userId,movieId,rating,timestamp\n5,9,4.5,1000000000\n")
    (tmp_path / "ml/links.csv").write_text("movieId,tmdbId\n9,862\n")
    ingest_movielens(database, objects, tmp_path / "ml")
    for title in ("Old", "New"):
        catalogue = tmp_path / f"{title}.csv"
        catalogue.write_text(f"item_id,title\n3,{title}\n")
        ingest_items(database, objects, catalogue)
    body = {"id": 603, "title": "Film", "genres": [{"id": 1, "name": "다른"}], "popularity": 7.5}
    answer = {"path": "/movie/603", "parameters": {"language": "ko-KR"}, "body": json.dumps(body)}
    tmdb = objects.put(f"raw/tmdb/{day:%Y/%m/%d}", json.dumps(answer).encode() + b"\n", ".jsonl").key
    nothing = objects.put(f"raw/mine/{day:%Y/%m/%d}", b"a,b\n1,2\n", ".csv").key
    before = {ref.key for ref in objects.list("raw")}
    deliver(database, objects)
    done = recover(archived, target, objects, backup.name, until=datetime.now(UTC) + timedelta(seconds=1))
    assert done.replayed[tmdb] == 1
    assert list(done.skipped) == [nothing]
    with target.begin() as connection:
        assert connection.execute(
            text("SELECT user_id, item_id, rating, source FROM interactions")
        ).all() == [(5, 862, 9.0, "movielens")]
        titles = dict(connection.execute(text("SELECT item_id, title FROM items WHERE item_id <> 862")).all())
        assert titles == {3: "New", 603: "Film"}
        assert connection.scalar(text("SELECT genres FROM items WHERE item_id = 603")) == ["Drama"]
        languages = text("SELECT language FROM item_texts WHERE item_id = 603")
        assert connection.scalar(languages) == "ko"
    assert {ref.key for ref in objects.list("raw")} == before


def test_backup_of_after_the_moment_or_without_the_table_is_refused(
    archived: Settings, database: Database, objects: ObjectStore, target: Database
) -> None:
    """A dry run says so too."""
    backup = take_backup(database, objects)
    for dry_run in (False, True):
        with pytest.raises(ValueError, match="is of after"):
            recover(archived, target, objects, backup.name, until=backup.created_at - MOMENT, dry_run=dry_run)
        with pytest.raises(ValueError, match="no table 'films'"):
            recover(archived, target, objects, tables=["films"], dry_run=dry_run)
    assert list(recover(archived, None, objects, tables=["items"], dry_run=True).rows) == ["items"]
