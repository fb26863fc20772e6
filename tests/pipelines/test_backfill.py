"""Files of a time are loaded again: what is missing comes back, and what is there stays as it is."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import text

from marquee.config import Settings
from marquee.ingest.tables import ingest_interactions
from marquee.pipelines.run import run_here
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import interactions

ROWS = """user_id,item_id,occurred_at,event
1,27205,2026-10-01T12:00:00Z,watch
2,603,2026-10-02T12:00:00Z,watch
"""


def test_lost_rows_come_back_and_a_second_time_adds_none(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    objects = ObjectStore.of(settings)
    (tmp_path / "events.csv").write_text(ROWS)
    run_here(settings, database, objects, "prepare", {"source": "sample"})
    ingest_interactions(database, objects, tmp_path / "events.csv", source="own")
    with database.begin() as connection:
        whole = interactions.count(connection)
        connection.execute(text("DELETE FROM interactions WHERE source = 'own'"))
    now = datetime.now(UTC)
    span = {"after": (now - timedelta(days=1)).isoformat(), "until": (now + timedelta(hours=1)).isoformat()}
    first = run_here(settings, database, objects, "backfill", span)
    again = run_here(settings, database, objects, "backfill", span)
    assert (first["rows"], again["rows"]) == (2, 0)
    assert first["files"] == again["files"] >= 2
    with database.begin() as connection:
        assert interactions.count(connection) == whole


def test_time_without_files_changes_nothing(settings: Settings, database: Database) -> None:
    objects = ObjectStore.of(settings)
    run_here(settings, database, objects, "prepare", {"source": "sample"})
    done = run_here(settings, database, objects, "backfill", {"after": "2020-01-01", "until": "2020-02-01"})
    assert (done["files"], done["rows"]) == (0, 0)
