"""What is old goes once a backup has it, or daily where there is no archive."""

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pyarrow as pa
import pytest
from free_ports import free_port
from sqlalchemy import text

from marquee.config import ObjectSettings, RetentionSettings, Settings
from marquee.data import Interactions
from marquee.errors import NotFoundError
from marquee.jobs import Queue
from marquee.models import Popularity
from marquee.pipelines.retention import let_go
from marquee.pipelines.run import RunContext, run_here
from marquee.pipelines.schedule import look
from marquee.pipelines.snapshots import read_snapshot
from marquee.store import bundles
from marquee.store.backups import Vault, restore, verify
from marquee.store.embedded import EmbeddedServer
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import deployments, experiments, impressions, runs
from marquee.store.repositories.experiments import Arm

TABLES = ("impressions", "shadow_answers", "predictions", "run_logs")
OLD = 500
"""Days ago, for all kinds."""
ROWS = """
INSERT INTO impressions (request_id, served_at, user_id, item_ids, scores, bundle, surface)
SELECT gen_random_uuid(), {at}, 1, '{{1}}', '{{1}}', 'b', 'recommendations' FROM generate_series(1, 3);
INSERT INTO shadow_answers SELECT request_id, served_at, 'c', '{{1}}', '{{1}}', 1, 1 FROM impressions
WHERE served_at = {at};
INSERT INTO predictions (user_id, item_id, item_ids, scores, bundle, created_at)
SELECT 1, 1, '{{}}', '{{}}', 'b', {at} FROM generate_series(1, 3);
INSERT INTO run_logs (run_id, logged_at, level, event)
SELECT gen_random_uuid(), {at}, 'info', 'x' FROM generate_series(1, 3);
"""


@pytest.fixture
def objects(settings: Settings) -> ObjectStore:
    return ObjectStore.of(settings)


def archived(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"objects": ObjectSettings(url=f"file://{tmp_path}/archive")})


def fill(database: Database, *days_ago: int, partitions: bool = False) -> None:
    """Three rows of each table, of so many days ago."""
    with psycopg.connect(database.url) as connection:
        for days in days_ago:
            moment = datetime.now(UTC) - timedelta(days=days)
            if partitions:
                connection.execute(impressions.partition_of(moment.date()).encode())
            connection.execute(ROWS.format(at=f"'{moment.isoformat()}'").encode())


def left(database: Database) -> dict[str, int]:
    """Rows of each table, but for what the runs of a test log."""
    with database.begin() as connection:
        return {
            table: connection.scalar(
                text(f"SELECT count(*) FROM {table}" + (" WHERE event = 'x'" if table == "run_logs" else ""))
            )
            for table in TABLES
        }


def all_of(rows: int) -> dict[str, int]:
    return dict.fromkeys(TABLES, rows)


def old(objects: ObjectStore, *keys: str, days: float = OLD) -> None:
    past = time.time() - days * 86_400
    for key in keys:
        os.utime(objects.root / key, (past, past))


def snapshot(objects: ObjectStore, name: str, *, days: float = OLD, items: str | None = None) -> list[str]:
    """A snapshot of so many days ago: the manifest, and its parts."""
    parts = {
        part: objects.put(f"snapshots/{part}", f"{part} {name}".encode(), ".parquet").key
        for part in ("interactions", "items", "popularity")
    }
    if items is not None:
        (objects.root / parts["items"]).unlink()
        parts["items"] = items
    content = json.dumps({**parts, "rows": 1, "last_event_at": name}).encode()
    keys = [objects.put("snapshots", content, ".json").key, *parts.values()]
    old(objects, *keys, days=days)
    return keys


def deploy(database: Database, objects: ObjectStore, snapshot: str) -> str:
    ref = bundles.publish(
        objects,
        Popularity().fit(Interactions.of([1, 1], [603, 604], [1, 2])).state(),
        model="popularity",
        cards=pa.table({"item_id": [603, 604], "title": ["The Matrix", "Reloaded"]}),
        metrics={},
        snapshot=snapshot,
        code_version="0.1.0",
    )
    with database.begin() as connection:
        deployments.append(
            connection,
            "champion",
            bundle=ref.key,
            digest=ref.digest,
            model=ref.model,
            deployed_by="a",
            reason="b",
        )
    return ref.key


def of_kinds(objects: ObjectStore) -> set[str]:
    return {ref.key for kind in ("snapshots", "features", "predictions") for ref in objects.list(kind)}


def test_backup_has_what_goes_behind_it(settings: Settings, database: Database, tmp_path: Path) -> None:
    settings = archived(settings, tmp_path)
    objects = ObjectStore.of(settings)
    fill(database, OLD, 30, partitions=True)
    made = run_here(settings, database, objects, "backup")
    gone = {name: made[name] for name in made if name.startswith("old_")}
    assert gone == {"old_shadow_answers": 3, "old_days": 1, "old_predictions": 3, "old_log_lines": 3}
    assert left(database) == all_of(3)
    backup = Vault(objects).find()
    assert {name: backup.tables[name].rows for name in TABLES[:3]} == dict.fromkeys(TABLES[:3], 6)


@pytest.mark.parametrize("told", ["keep all", "for ever"])
def test_nothing_goes_where_all_is_to_be_kept(settings: Settings, database: Database, told: str) -> None:
    if told == "for ever":
        for_ever = RetentionSettings(answers_days=0, log_days=0, files_days=0)
        settings = settings.model_copy(update={"retention": for_ever})
    objects = ObjectStore.of(settings)
    fill(database, OLD, partitions=True)
    kept = snapshot(objects, "a") + snapshot(objects, "b", days=1)
    made = run_here(settings, database, objects, "backup", {"prune": told == "for ever"})
    assert not any(name.startswith("old_") for name in made)
    assert left(database) == all_of(3)
    assert of_kinds(objects) == set(kept)


def test_each_kind_has_a_time_of_its_own(settings: Settings, database: Database) -> None:
    short = RetentionSettings(answers_days=0, log_days=10)
    settings = settings.model_copy(update={"retention": short})
    fill(database, 11)
    run_here(settings, database, ObjectStore.of(settings), "forget")
    assert left(database) == {**all_of(3), "run_logs": 0}


def test_without_an_archive_it_is_done_daily_from_the_second_day_on(
    settings: Settings, database: Database, objects: ObjectStore, tmp_path: Path
) -> None:
    def queued(wanted: Settings) -> int:
        with database.begin() as connection:
            look(connection, wanted)
            return len(runs.recent(connection, pipeline="forget"))

    fill(database, OLD)
    Queue.open(database)
    assert queued(settings) == 0
    run_here(settings, database, objects, "forget")
    assert left(database) == all_of(0)
    assert queued(settings) == 1
    with database.begin() as connection:
        past = "now() - interval '25 hours'"
        connection.execute(text(f"UPDATE runs SET started_at = {past}, created_at = {past}"))
    assert queued(archived(settings, tmp_path)) == 1
    assert queued(settings) == 2
    assert queued(settings) == 2


def test_with_an_archive_only_a_backup_lets_go(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    settings = archived(settings, tmp_path)
    fill(database, OLD)
    run_here(settings, database, ObjectStore.of(settings), "forget")
    assert left(database) == all_of(3)


def test_day_that_is_held_stays_without_failing_the_backup_and_goes_the_next_time(
    settings: Settings, database: Database, objects: ObjectStore
) -> None:
    fill(database, OLD, OLD - 1, partitions=True)
    with database.begin() as reader:
        reader.execute(text("SELECT count(*) FROM impressions")).scalar_one()
        made = run_here(settings, database, objects, "backup")
    assert (made["old_left"], "old_days" in made) == (2, False)
    assert left(database) == {**all_of(0), "impressions": 6}
    made = run_here(settings, database, objects, "backup")
    assert (made["old_days"], "old_left" in made) == (2, False)
    assert left(database) == all_of(0)


def test_answers_that_the_running_experiment_needs_stay(
    settings: Settings, database: Database, objects: ObjectStore
) -> None:
    arms = [Arm("champion", 0.5, "a", "a", "ease"), Arm("challenger", 0.5, "b", "b", "ease")]
    with database.begin() as connection:
        begun = experiments.start(connection, "x", "ab", arms, started_by="a", reason="r")
        connection.execute(text(f"UPDATE experiments SET started_at = now() - interval '{OLD} days'"))
    fill(database, OLD + 5, OLD - 5)
    run_here(settings, database, objects, "forget")
    assert left(database) == {**all_of(3), "run_logs": 0}
    with database.begin() as connection:
        experiments.finish(connection, begun.experiment_id, "stopped", reason="enough")
    run_here(settings, database, objects, "forget")
    assert left(database) == all_of(0)


def test_next_backup_and_its_restore_are_whole_and_what_came_back_goes_again(
    settings: Settings, database: Database, objects: ObjectStore, postgres: EmbeddedServer, tmp_path: Path
) -> None:
    fill(database, OLD)
    run_here(settings, database, objects, "backup", {"prune": False})
    fill(database, 30)
    run_here(settings, database, objects, "backup")  # what is old goes behind it
    fill(database, 1)
    run_here(settings, database, objects, "backup")
    newest = Vault(objects).find()
    assert verify(objects, newest).whole
    assert left(database) == {**all_of(6)}
    name = f"restored_{uuid4().hex}"
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        other = Settings(home=tmp_path / "other", database={"url": postgres.url_of(name)})
        with Database.open(other, prepare=False) as restored:
            restore(restored, objects, newest, secrets=settings.paths.secrets)
            assert left(restored)["predictions"] >= 6
            run_here(other, restored, objects, "backup")
            assert left(restored) == all_of(6)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_old_files_go_here_and_in_the_archive_and_what_is_needed_stays(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    settings = archived(settings, tmp_path)
    objects = ObjectStore.of(settings)
    assert objects.remote is not None
    serving, gone, read = (snapshot(objects, name) for name in ("serving", "gone", "read"))
    newest = snapshot(objects, "newest", days=OLD - 1, items=gone[2])
    view = objects.put("features/users", b"users", ".parquet").key
    manifest = json.dumps({"users": view, "snapshot": read[0]}).encode()
    features = [objects.put("features", manifest, ".json").key, view]
    lists = [
        objects.put(f"predictions/2025/01/0{day}", f"{day}".encode(), ".parquet").key for day in (1, 2, 3)
    ]
    old(objects, *features, *lists[:1])
    old(objects, *lists[1:2], days=OLD - 1)
    old(objects, *lists[2:], days=1)
    for key in of_kinds(objects):
        objects.remote.upload(key, objects.root / key, key.rpartition("/")[2][:64])
    (objects.root / lists[0]).unlink()  # in the archive alone
    deploy(database, objects, serving[0])
    made = run_here(settings, database, objects, "backup")
    stay = {*serving, *read, *newest, *features, lists[2]}
    assert of_kinds(objects) == stay
    assert {
        i.key for kind in ("snapshots", "features", "predictions") for i in objects.remote.list(kind)
    } == stay
    assert made["old_files"] == 5
    assert "old_files" not in run_here(settings, database, objects, "backup")
    with pytest.raises(NotFoundError, match="not any more") as caught:
        read_snapshot(objects, gone[0])
    assert "MARQUEE_RETENTION__FILES_DAYS" in str(caught.value.fix)


def test_damaged_manifest_and_bundle_hold_up_no_other_file(
    settings: Settings, database: Database, objects: ObjectStore
) -> None:
    damaged, gone, newest = (snapshot(objects, name, days=OLD - n) for n, name in enumerate("abc"))
    (objects.root / newest[0]).write_bytes(b"{")
    (objects.root / deploy(database, objects, damaged[0])).write_bytes(b"{")
    made = run_here(settings, database, objects, "forget")
    assert made["old_files"] == len({*damaged, *gone, *newest} - {newest[0]})
    assert of_kinds(objects) == {newest[0]}


def test_archive_that_is_away_keeps_files_alone(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    nobody = f"http://127.0.0.1:{free_port()}"
    away = ObjectSettings(url="s3://bucket", endpoint=nobody, credentials_file=keys, retries=0)
    objects = ObjectStore.of(settings.model_copy(update={"objects": away}))
    kept = snapshot(objects, "a") + snapshot(objects, "b", days=1)
    fill(database, OLD)
    made = let_go(RunContext(settings, database, objects, uuid4()))
    assert (made["old_left"], made["old_predictions"]) == (1, 3)
    assert left(database) == all_of(0)
    assert of_kinds(objects) == set(kept)


def test_old_rankings_go(settings: Settings, database: Database, objects: ObjectStore) -> None:
    folder = settings.paths.evaluations
    folder.mkdir(parents=True)
    for name, days in (("old.npz", 91), ("new.npz", 89)):
        (folder / name).touch()
        past = time.time() - days * 86_400
        os.utime(folder / name, (past, past))
    assert run_here(settings, database, objects, "forget")["old_rankings"] == 1
    assert [path.name for path in folder.iterdir()] == ["new.npz"]


def test_unpacked_bundles_that_nobody_uses_go_but_what_serves(
    settings: Settings, database: Database, objects: ObjectStore
) -> None:
    cache = settings.paths.bundles
    folders = [
        bundles.load(objects, deploy(database, objects, name), cache).folder for name in ("a", "b", "c")
    ]
    with database.begin() as connection:
        deployments.roll_back(connection, "champion", deployed_by="a", reason="b")
    past = time.time() - 91 * 86_400
    for folder in folders:
        os.utime(folder, (past, past))
    made: dict[str, Any] = run_here(settings, database, objects, "forget")
    assert made["old_bundles"] == 1
    assert [folder.is_dir() for folder in folders] == [False, True, True]
