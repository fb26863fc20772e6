import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from waiting import until

from marquee.config import Settings
from marquee.errors import ConfigError
from marquee.pipelines.upgrade import look, upgrade
from marquee.store.migrations import HEAD, downgrade
from marquee.store.migrations import upgrade as migrate
from marquee.store.postgres import Database
from marquee.store.repositories import deployments

pytestmark = pytest.mark.integration


def due(settings: Settings) -> dict[str, bool]:
    return {part.name: part.due for part in look(settings)}


def run(settings: Settings) -> dict[str, str | None]:
    return {part.name: part.done for part in upgrade(settings, told=lambda *_: None)}


def put_back(database: Database, revision: str) -> None:
    with database.begin() as connection:
        downgrade(connection)
        migrate(connection, None, address="test", to=revision)


def test_new_home_needs_nothing_and_stays_as_it_is(tmp_path: Path):
    settings = Settings(home=tmp_path / "home")
    assert look(settings) == []
    assert not settings.home.exists()


def test_database_that_is_up_to_date_is_left_alone(database: Database, settings: Settings):
    assert due(settings) == {"schema": False, "bundles": False}
    assert run(settings) == {"schema": None, "bundles": None}


def test_older_schema_is_due_until_it_is_migrated(database: Database, settings: Settings):
    put_back(database, "0003")
    assert due(settings)["schema"]
    assert due(settings)["schema"]  # to look changes nothing
    assert run(settings)["schema"] == f"migrated to revision {HEAD}"
    assert due(settings) == {"schema": False, "bundles": False}


def test_schema_of_a_newer_marquee_that_only_added_to_it_is_left_alone(
    database: Database, settings: Settings
):
    with database.begin() as connection:
        connection.execute(text("UPDATE schema_revision SET version_num = '9999'"))
    assert not due(settings)["schema"]
    assert run(settings)["schema"] is None


def test_schema_of_a_newer_marquee_that_took_something_away_is_refused(
    database: Database, settings: Settings
):
    with database.begin() as connection:
        connection.execute(text("UPDATE schema_revision SET version_num = '9999'"))
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match="9999"):
        run(settings)


def test_kill_between_two_migrations_is_made_good_by_the_next_run(database: Database, settings: Settings):
    put_back(database, "0003")
    url = settings.database.url.get_secret_value()
    environment = {**os.environ, "MARQUEE_HOME": str(settings.home), "MARQUEE_DATABASE__URL": url}
    with psycopg.connect(url) as holder, psycopg.connect(url, autocommit=True) as watching:
        holder.execute("LOCK TABLE runs IN ACCESS EXCLUSIVE MODE")  # which the second one changes
        process = subprocess.Popen(
            [sys.executable, "-m", "marquee.cli", "upgrade", "--json"], env=environment,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        waits = "SELECT count(*) FROM pg_locks WHERE relation = 'runs'::regclass AND NOT granted"
        until(lambda: watching.execute(waits).fetchone() != (0,), process=process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert watching.execute("SELECT version_num FROM schema_revision").fetchone() == ("0004",)
        assert watching.execute("SELECT version_num FROM alembic_version").fetchone() == ("0003",)
    assert run(settings)["schema"] == f"migrated to revision {HEAD}"
    assert due(settings) == {"schema": False, "bundles": False}


def test_deployed_bundle_that_is_gone_is_told_and_stops_nothing(database: Database, settings: Settings):
    with database.begin() as connection:
        deployments.append(
            connection, "champion", bundle=f"bundles/ease/1/{'0' * 64}.manifest.json", digest="0" * 64,
            model="ease", deployed_by="test", reason="test",
        )  # fmt: skip
    (found,) = [part for part in upgrade(settings, told=lambda *_: None) if part.name == "bundles"]
    assert found.done is None
    assert found.notes[0].startswith("champion: ")
