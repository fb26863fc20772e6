"""Erased users are taken out of stored files, too."""

import gzip
import json
import os
import time
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from free_ports import free_port
from sqlalchemy import text

from marquee.config import ObjectSettings, Settings
from marquee.errors import StoreUnavailableError
from marquee.ingest.tables import ingest_interactions
from marquee.jobs import Queue
from marquee.pipelines.raw_files import raw_files
from marquee.pipelines.run import run_here
from marquee.pipelines.schedule import look
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import erasures, runs

HEADER = "user_id,item_id,occurred_at,note\n"
ROWS = [f'{user},1,2026-01-0{user}T00:00:00Z,"a, ""b"""\r\n' for user in (1, 2, 3)]


@pytest.fixture
def objects(settings: Settings) -> Iterator[ObjectStore]:
    """Of the home."""
    return ObjectStore.of(settings)


def erase(database: Database, settings: Settings, user_id: int) -> None:
    with database.begin() as connection:
        erasures.mark(connection, user_id, settings.paths.secrets)
        erasures.delete_rows(connection, user_id)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".jsonl", ".parquet"])
def test_input_file_is_rewritten_without_the_user(
    settings: Settings, database: Database, objects: ObjectStore, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"log{suffix}"
    content = HEADER + "".join(ROWS)
    if suffix == ".parquet":
        pl.read_csv(content.encode()).write_parquet(path)
    elif suffix == ".jsonl":
        pl.read_csv(content.encode()).write_ndjson(path)
    else:
        content = content.replace(",", "\t") if suffix == ".tsv" else content
        path.write_bytes(gzip.compress(content.encode()) if suffix.endswith(".gz") else content.encode())
    ingest_interactions(database, objects, path)
    erase(database, settings, 2)
    counts = run_here(settings, database, objects, "forget")
    assert (counts["users"], counts["rewritten"]) == (1, 1)
    (kept,) = objects.list("raw")
    stored = objects.local_path(kept.key)
    if suffix == ".parquet":
        assert pl.read_parquet(stored)["user_id"].to_list() == [1, 3]
    else:
        raw = stored.read_bytes()
        text_of = (gzip.decompress(raw) if suffix.endswith(".gz") else raw).decode()
        assert "2026-01-02" not in text_of
        assert ("2026-01-01" in text_of, "2026-01-03" in text_of) == (True, True)
        if suffix == ".csv":
            assert text_of == HEADER + ROWS[0] + ROWS[2]
    assert run_here(settings, database, objects, "forget")["rewritten"] == 0


def left_of(database: Database, user_id: int) -> int:
    """Rows of a user."""
    tables = ("interactions", "impressions", "predictions", "recommendations")
    query = " UNION ALL ".join(f"SELECT user_id FROM {table}" for table in tables)
    query += " UNION ALL SELECT CAST(content->>'user_id' AS bigint) FROM quarantine"
    with database.begin() as connection:
        sql = text(f"SELECT count(*) FROM ({query}) AS kept WHERE user_id = :user_id")
        return int(connection.execute(sql, {"user_id": user_id}).scalar_one())


def answer(database: Database, user_id: int) -> None:
    """Leave rows behind an answer, as a process does that has not heard of an erasure."""
    with database.begin() as connection:
        for statement in (
            "INSERT INTO impressions (request_id, served_at, user_id, item_ids, scores, bundle, surface) "
            "VALUES (gen_random_uuid(), now(), :user_id, '{1}', '{1}', 'b', 'recommendations')",
            "INSERT INTO predictions (user_id, item_id, item_ids, scores, bundle) "
            "VALUES (:user_id, 1, '{1}', '{1}', 'b')",
            "INSERT INTO recommendations VALUES (1, :user_id, '{1}', '{1}')",
        ):
            connection.execute(text(statement), {"user_id": user_id})


def test_erasure_that_was_interrupted_is_completed_and_rows_that_come_back_go(
    settings: Settings, database: Database, objects: ObjectStore, tmp_path: Path
) -> None:
    path = tmp_path / "log.csv"
    path.write_text(HEADER + "".join(ROWS) + "2,not an item,2026-01-02T00:00:00Z,rejected\n")
    ingest_interactions(database, objects, path)
    for user in (1, 2):
        answer(database, user)
    with database.begin() as connection:  # and there the process ends
        erasures.mark(connection, 2, settings.paths.secrets)
    assert left_of(database, 2) == 5
    assert forget(settings, database, objects)["deleted"] == 5
    assert (left_of(database, 1), left_of(database, 2)) == (4, 0)
    answer(database, 2)
    assert forget(settings, database, objects)["deleted"] == 3
    assert (left_of(database, 1), left_of(database, 2)) == (4, 0)


def test_rows_go_while_the_archive_is_away(settings: Settings, database: Database, tmp_path: Path) -> None:
    answer(database, 2)
    with database.begin() as connection:
        erasures.mark(connection, 2, settings.paths.secrets)
    keys = tmp_path / "keys"
    keys.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    nobody = f"http://127.0.0.1:{free_port()}"
    away = ObjectSettings(url="s3://bucket", endpoint=nobody, credentials_file=keys, retries=0)
    objects = ObjectStore.of(settings.model_copy(update={"objects": away}))
    with pytest.raises(StoreUnavailableError):
        forget(settings, database, objects)
    assert left_of(database, 2) == 0


def forget(settings: Settings, database: Database, objects: ObjectStore) -> dict[str, int]:
    return run_here(settings, database, objects, "forget")


def as_zip(path: Path, ratings: str, name: str = "ml/ratings.csv") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, ratings)
    return path


def old(objects: ObjectStore, *keys: str) -> None:
    """Let files be 31 days old."""
    past = time.time() - 31 * 86_400
    for key in keys:
        os.utime(objects.root / key, (past, past))


def test_archive_that_names_the_user_goes_when_it_is_old_and_others_stay(
    settings: Settings, database: Database, objects: ObjectStore, tmp_path: Path
) -> None:
    with_user = as_zip(tmp_path / "with.zip", "userId,movieId,rating,timestamp\n2,1,4,0\n")
    as_of_old = as_zip(tmp_path / "old.zip", "2::1::4::0\n", "ml-1m/ratings.dat")
    without = as_zip(tmp_path / "without.zip", "userId,movieId,rating,timestamp\n1,2,4,0\n")
    put = [
        objects.put("raw/movielens/2026/01/01", content, ".zip").key
        for content in (with_user, without, b"torn", as_of_old)
    ]
    new = objects.put("raw/movielens/2026/11/01", with_user, ".zip").key
    old(objects, *put)
    erase(database, settings, 2)
    counts = forget(settings, database, objects)
    assert (counts["expired"], counts["waiting"]) == (3, 1)
    assert {ref.key for ref in objects.list("raw")} == {put[1], new}
    old(objects, new)
    os.utime(objects.root / new, (0, 0))
    assert forget(settings, database, objects)["expired"] == 1
    assert {ref.key for ref in objects.list("raw")} == {put[1]}


def test_snapshot_that_names_the_user_goes_when_it_is_old_and_others_stay(
    settings: Settings, database: Database, objects: ObjectStore, tmp_path: Path
) -> None:
    keys = {}
    for user in (2, 3):
        rows = tmp_path / f"{user}.parquet"
        pl.DataFrame({"user_id": [1, user], "item_id": [1, 1]}).write_parquet(rows)
        part = objects.put("snapshots/interactions", rows, ".parquet").key
        manifest = objects.put("snapshots", json.dumps({"interactions": part}).encode(), ".json").key
        keys[user] = {part, manifest}
    items = objects.put("snapshots/items", b"items", ".parquet").key
    erase(database, settings, 2)
    assert forget(settings, database, objects)["expired"] == 0
    old(objects, items, *keys[2], *keys[3])
    assert forget(settings, database, objects)["expired"] == 1
    assert {ref.key for ref in objects.list("snapshots")} == {items, *keys[3]}


def test_batch_of_predictions_that_names_the_user_goes_when_it_is_old_and_others_stay(
    settings: Settings, database: Database, objects: ObjectStore, tmp_path: Path
) -> None:
    keys = {}
    for user in (2, 3):
        rows = tmp_path / f"{user}.parquet"
        pl.DataFrame({"user_id": [1, user], "item_ids": [[1], [1]]}).write_parquet(rows)
        keys[user] = objects.put("predictions/2026/11/01", rows, ".parquet").key
    erase(database, settings, 2)
    counts = forget(settings, database, objects)
    assert (counts["expired"], counts["waiting"]) == (0, 1)
    old(objects, *keys.values())
    assert forget(settings, database, objects)["expired"] == 1
    assert [ref.key for ref in objects.list("predictions")] == [keys[3]]


def test_file_is_read_again_only_for_who_was_erased_since(
    settings: Settings, database: Database, objects: ObjectStore, tmp_path: Path
) -> None:
    def ingest(name: str, users: tuple[int, ...]) -> None:
        path = tmp_path / f"{name}.csv"
        path.write_text(
            HEADER + "".join(f"{user},{len(name)},2026-01-01T00:00:00Z,{name}\n" for user in users)
        )
        ingest_interactions(database, objects, path)

    ingest("a", (1, 2))
    ingest("bb", (1, 3))
    nobody = objects.put("raw/tmdb/2026/11/01", b'{"path": "/movie/1"}\n', ".jsonl").key
    erase(database, settings, 2)
    assert forget(settings, database, objects)["read"] == 3
    assert forget(settings, database, objects)["read"] == 0
    ingest("ccc", (2, 4))  # came in again, with who was erased
    counts = forget(settings, database, objects)
    assert (counts["read"], counts["rewritten"]) == (1, 1)
    erase(database, settings, 3)
    counts = forget(settings, database, objects)
    assert (counts["read"], counts["rewritten"]) == (3, 1)
    assert nobody in {ref.key for ref in objects.list("raw")}
    assert len(list((objects.root / "looked-through").iterdir())) == 1


def test_damaged_memory_has_everything_looked_through_again(
    settings: Settings, database: Database, objects: ObjectStore
) -> None:
    objects.put("raw/mine/2026/11/01", (HEADER + ROWS[0]).encode(), ".csv")
    erase(database, settings, 2)
    assert forget(settings, database, objects)["read"] == 1
    (memory,) = (objects.root / "looked-through").iterdir()
    memory.write_bytes(b"{}")
    assert forget(settings, database, objects)["read"] == 1


def test_damaged_file_is_counted_and_holds_up_no_other(
    settings: Settings, database: Database, objects: ObjectStore
) -> None:
    damaged = objects.put("raw/a/2026/11/01", (HEADER + ROWS[2]).encode(), ".csv").key
    objects.put("raw/b/2026/11/01", (HEADER + ROWS[1]).encode(), ".csv")
    (objects.root / damaged).write_bytes(b"other")
    erase(database, settings, 2)
    counts = forget(settings, database, objects)
    assert (counts["damaged"], counts["rewritten"]) == (1, 1)


def test_rewritten_file_keeps_the_time_at_which_it_came_in(
    settings: Settings, database: Database, objects: ObjectStore
) -> None:
    noon = datetime.now(UTC).replace(hour=0, minute=0, second=1, microsecond=0)
    key = objects.put(f"raw/mine/{noon:%Y/%m/%d}", (HEADER + "".join(ROWS)).encode(), ".csv").key
    os.utime(objects.root / key, (noon.timestamp(), noon.timestamp()))
    erase(database, settings, 2)
    assert forget(settings, database, objects)["rewritten"] == 1
    (file,) = raw_files(objects)
    assert (file.came_in, file.known) == (noon, True)


def test_run_is_due_every_day_once_somebody_was_erased(settings: Settings, database: Database) -> None:
    Queue.open(database)
    erase(database, settings, 2)
    with database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO runs (run_id, pipeline, status, started_at, created_at) "
                "VALUES (gen_random_uuid(), 'forget', 'succeeded', now() + interval '1 second', now())"
            )
        )
        look(connection, settings)
        assert len(runs.recent(connection, pipeline="forget")) == 1
        connection.execute(text("UPDATE runs SET started_at = now() - interval '25 hours'"))
        connection.execute(text("UPDATE users SET erased_at = now() - interval '2 days'"))
        look(connection, settings)
        assert len(runs.recent(connection, pipeline="forget")) == 2


def test_note_of_an_erasure_is_kept_beside_the_backups(
    settings: Settings, database: Database, objects: ObjectStore
) -> None:
    erase(database, settings, 2)
    run_here(settings, database, objects, "forget")
    (note,) = objects.list("erasures")
    with database.begin() as connection:
        known = set(connection.scalars(text("SELECT user_hash FROM erasures")))
    assert set(erasures.hashes_in(objects.get(note.key))) == known


def test_erasure_is_queued_once_and_backups_only_where_there_is_an_archive(
    settings: Settings, database: Database
) -> None:
    Queue.open(database)
    erase(database, settings, 2)
    for _ in range(2):
        with database.begin() as connection:
            look(connection, settings)
    with database.begin() as connection:
        assert [run.pipeline for run in runs.recent(connection)] == ["forget"]
    archived = settings.model_copy(
        update={"objects": settings.objects.model_copy(update={"url": "s3://bucket"})}
    )
    with database.begin() as connection:
        look(connection, archived)
        assert {run.pipeline for run in runs.recent(connection)} == {"forget", "backup"}
