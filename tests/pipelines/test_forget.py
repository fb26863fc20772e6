"""Erased users are taken out of stored files, too."""

import gzip
import os
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from sqlalchemy import text

from marquee.config import Settings
from marquee.ingest.tables import ingest_interactions
from marquee.jobs import Queue
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


def test_what_cannot_be_rewritten_goes_when_it_is_old(
    settings: Settings, database: Database, objects: ObjectStore
) -> None:
    old = objects.put("raw/movielens/2026/01/01", b"old", ".zip")
    new = objects.put("raw/movielens/2026/11/01", b"new", ".zip")
    snapshot = objects.put("snapshots", b"{}", ".json")
    past = time.time() - 31 * 86_400
    for ref in (old, snapshot):
        os.utime(objects.root / ref.key, (past, past))
    erase(database, settings, 2)
    assert run_here(settings, database, objects, "forget")["expired"] == 2
    assert [ref.key for ref in objects.list()] != []
    assert [ref.key for ref in objects.list("raw")] == [new.key]
    assert objects.list("snapshots") == []


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
