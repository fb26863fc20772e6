"""A run that dies anywhere can be run again."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest

from marquee.ingest import ingest_interactions, ingest_items
from marquee.ingest.load import Intake
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import interactions, items, quarantine

ROWS = 2_000
KILLED_RUN = """
import sys
from pathlib import Path
from marquee.config import load_settings
from marquee.ingest import ingest_interactions, readers
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database

readers.CHUNK_ROWS = 400

def told(done, expected):
    print(done, flush=True)
    sys.stdin.readline()

settings = load_settings()
with Database.open(settings) as database:
    ingest_interactions(database, ObjectStore(settings.paths.objects), Path(sys.argv[1]), progress=told)
"""


class Died(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of which every hundredth row is bad."""
    path = tmp_path / "log.jsonl"
    with path.open("w") as file:
        for i in range(ROWS):
            row = {"user_id": i % 50 + 1, "item_id": i % 77 + 1, "occurred_at": 1_600_000_000 + i}
            file.write(json.dumps(row | {"rating": 99 if i % 100 == 0 else 5}) + "\n")
    return path


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """A catalogue of which one row is bad."""
    path = tmp_path / "films.jsonl"
    rows = [
        {"item_id": i, "title": f"Film {i}", "popularity": i, "language": "en", "overview": "Words."}
        for i in range(30)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def clear(database: Database) -> None:
    with database.begin() as connection:
        connection.exec_driver_sql("TRUNCATE items, item_facts, item_texts, users, interactions, quarantine")


@pytest.mark.parametrize("done_first", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("owner", "step"),
    [
        (ObjectStore, "put"),
        (quarantine, "append"),
        (interactions, "load_interactions"),
        (items, "upsert_items"),
        (items, "append_facts"),
        (items, "upsert_texts"),
        (Intake, "report"),
    ],
)
def test_death_around_any_step_is_mended_by_a_rerun(
    database, objects, log, films, tables, monkeypatch, owner, step, done_first
):
    ingest_items(database, objects, films)
    ingest_interactions(database, objects, log)
    undisturbed = tables(database)
    clear(database)
    original = getattr(owner, step)

    def dying(*args, **kwargs):
        if done_first:
            original(*args, **kwargs)
        raise Died

    for run in (
        lambda: ingest_items(database, objects, films),
        lambda: ingest_interactions(database, objects, log),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, step, dying)
            with suppress(Died):
                run()
        run()
    assert tables(database) == undisturbed


@pytest.mark.integration
def test_kill_in_the_middle_is_mended_by_a_rerun(database, objects, log, tables, settings):
    ingest_interactions(database, objects, log)
    undisturbed = tables(database)
    clear(database)
    environment = os.environ | {
        "MARQUEE_HOME": str(settings.home),
        "MARQUEE_DATABASE__URL": settings.database.url.get_secret_value(),
    }
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_RUN, str(log)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline().strip() == "400"
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline().strip() == "800"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert 0 < len(tables(database)["interactions"]) < len(undisturbed["interactions"])
    report = ingest_interactions(database, objects, log)
    assert report.duplicates == 792
    assert tables(database) == undisturbed


def test_every_row_is_counted_once(database, objects):
    told = []
    intake = Intake(database, objects, "test", lambda done, expected: told.append((done, expected)))
    intake.expect(5)
    intake.reject([("no row", {"line": "?"})])
    rows = pl.DataFrame({"user_id": [1, 1, 1, 0], "item_id": [1, 1, 2, 1], "occurred_at": [1, 1, 1, 1]})
    good = intake.interactions(rows)
    report = intake.report()
    assert len(good) == 3
    assert (report.read, report.inserted, report.duplicates, report.quarantined) == (5, 2, 1, 2)
    assert told == [(1, 5), (5, 5)]
