import asyncio
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from marquee.config import Settings
from marquee.errors import ConfigError, NotFoundError, StoreBusyError, StoreError, StoreUnavailableError
from marquee.store.migrations import HEAD, VERSION_TABLE, alembic_config
from marquee.store.postgres import Database
from marquee.store.repositories import runs
from marquee.store.tables import metadata

pytestmark = pytest.mark.integration


def settings_for(url: str, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, database={"url": url})


def test_migrated_database_equals_the_metadata(database: Database):
    with database.begin() as connection:

        def declared(name: str | None, kind: str, _: object) -> bool:
            others = ("impressions_", "alembic_version")  # partitions, and what Marquee 0.1 looks at
            return kind != "table" or not str(name).startswith(others)

        opts = {"compare_server_default": True, "include_name": declared, "version_table": VERSION_TABLE}
        context = MigrationContext.configure(connection, opts=opts)
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == HEAD
        found = connection.execute(
            text(
                "SELECT conrelid::regclass::text || '.' || conname FROM pg_constraint "
                "WHERE contype = 'c' AND connamespace = 'public'::regnamespace"
            )
        ).scalars()
        declared = {
            f"{table.name}.{constraint.name}"
            for table in metadata.tables.values()
            for constraint in table.constraints
            if type(constraint).__name__ == "CheckConstraint"
        }
        assert set(found) == declared


def test_head_constant_is_the_head_of_the_scripts():
    assert ScriptDirectory.from_config(alembic_config()).get_heads() == [HEAD]


def test_server_by_url_is_migrated_on_first_open_and_reused(server_url: str, tmp_path: Path):
    for _ in range(2):
        with Database.open(settings_for(server_url, tmp_path)) as database, database.begin() as connection:
            assert runs.recent(connection) == []
            assert connection.execute(text("SHOW timezone")).scalar_one() == "UTC"


def test_two_processes_migrating_at_once_both_succeed(server_url: str, tmp_path: Path):
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE at_once")
    url = server_url.rsplit("/", 1)[0] + "/at_once"
    program = (
        "import sys; from pathlib import Path; from marquee.config import Settings; "
        "from marquee.store.postgres import Database; "
        "Database.open(Settings(home=Path(sys.argv[1]), database={'url': sys.argv[2]})).close()"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), url], stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors


def test_open_at_head_does_not_import_alembic(settings: Settings):
    program = (
        "import sys; from pathlib import Path; from marquee.config import Settings; "
        "from marquee.store.postgres import Database; "
        "Database.open(Settings(home=Path(sys.argv[1]), database={'url': sys.argv[2]})).close(); "
        "assert 'alembic' not in sys.modules"
    )
    url = settings.database.url.get_secret_value()
    subprocess.run([sys.executable, "-c", program, str(settings.home), url], check=True)


def test_unreachable_server_is_named_without_the_password(tmp_path: Path):
    url = "postgresql://marquee:pa55%2Fword@127.0.0.1:1/films"
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:1/films") as caught:
        Database.open(settings_for(url, tmp_path))
    assert "pa55" not in str(caught.value)
    assert "MARQUEE_DATABASE__URL" in str(caught.value)


def test_malformed_url_is_a_config_error_without_the_password(tmp_path: Path):
    with pytest.raises(ConfigError) as caught:
        Database.open(settings_for("postgresql://u:pa55@host:notaport:1/x?y", tmp_path))
    assert "pa55" not in str(caught.value)


def test_database_of_a_newer_marquee_that_took_something_away_is_refused(
    database: Database, settings: Settings
):
    with database.begin() as connection:
        connection.execute(text("UPDATE schema_revision SET version_num = '9999'"))
        connection.execute(text("UPDATE alembic_version SET version_num = '9998'"))
    with pytest.raises(ConfigError, match="9999"):
        Database.open(settings)


def test_database_that_a_newer_marquee_only_added_to_is_used_as_it_is(database: Database, settings: Settings):
    with database.begin() as connection:
        connection.execute(text("UPDATE schema_revision SET version_num = '9999'"))
    with Database.open(settings) as opened, opened.begin() as connection:
        assert runs.recent(connection) == []
        assert connection.scalar(text("SELECT version_num FROM schema_revision")) == "9999"


def test_statement_error_becomes_store_error_and_rolls_back(database: Database):
    with pytest.raises(StoreError, match="no_such_table"), database.begin() as connection:
        connection.execute(text("INSERT INTO erasures (user_hash) VALUES ('x')"))
        connection.execute(text("SELECT * FROM no_such_table"))
    with database.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM erasures")).scalar_one() == 0


def test_own_errors_pass_through_a_transaction(database: Database):
    with pytest.raises(KeyError), database.begin():
        raise KeyError("x")


def test_lost_connection_is_unavailable_and_the_next_one_works(database: Database):
    with pytest.raises(StoreUnavailableError), database.begin() as connection:
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    with database.begin() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1


@pytest.mark.parametrize(
    ("state", "kind", "said"),
    [
        ("08006", StoreUnavailableError, "cannot be reached"),
        ("53300", StoreUnavailableError, "cannot be reached"),
        ("57P01", StoreUnavailableError, "cannot be reached"),
        ("57P03", StoreUnavailableError, "cannot be reached"),
        ("40001", StoreBusyError, "could not do this now"),
        ("40P01", StoreBusyError, "could not do this now"),
        ("53100", StoreBusyError, "could not do this now"),
        ("55P03", StoreBusyError, "could not do this now"),
        ("57014", StoreBusyError, "could not do this now"),
        ("23514", StoreError, "refused"),
        ("54000", StoreError, "refused"),
    ],
)
async def test_error_is_told_by_its_state(database: Database, state: str, kind: type[StoreError], said: str):
    query = f"DO $$ BEGIN RAISE EXCEPTION 'something' USING ERRCODE = '{state}'; END $$"
    with pytest.raises(StoreError, match=f"{said}: something") as caught, database.begin() as connection:
        connection.exec_driver_sql(query)
    assert type(caught.value) is kind
    assert kind is StoreUnavailableError or "MARQUEE_DATABASE__URL" not in str(caught.value)
    with pytest.raises(StoreError, match=said) as caught, database.translate_errors():
        async with await database.connect() as connection:
            await connection.execute(query)
    assert type(caught.value) is kind


async def test_limit_of_statements_is_for_who_asks_for_it_and_for_the_event_loop(
    settings: Settings, database_url: str
):
    settings.database.statement_timeout_seconds = 1
    slow = text("SELECT pg_sleep(1.2)")
    with Database.open(settings) as database:
        await database.run(lambda connection: connection.execute(slow))
        await database.aclose()
    with Database.open(settings) as database:
        database.limit_statements()
        with database.begin() as connection:
            connection.execute(slow)
        with pytest.raises(StoreBusyError, match="statement timeout"):
            await database.run(lambda connection: connection.execute(slow))
        async with await database.connect() as wire:
            assert (await (await wire.execute("SHOW statement_timeout")).fetchone()) == ("1s",)
        await database.aclose()


async def test_repositories_run_from_the_event_loop(database: Database):
    run = await database.run(runs.create, "train", {"model": "mlp"})
    found = await asyncio.gather(*(database.run(runs.get, run.run_id) for _ in range(3)))
    assert {one.run_id for one in found} == {run.run_id}
    with pytest.raises(NotFoundError):
        await database.run(runs.get, type(run.run_id)(int=0))
    await database.aclose()


def test_embedded_server_lives_as_long_as_its_databases(tmp_path: Path):
    settings = Settings(home=tmp_path / "home")
    with Database.open(settings) as database, database.begin() as connection:
        assert runs.recent(connection) == []
        assert (tmp_path / "home" / "postgres" / "data" / "postmaster.pid").exists()
    assert not (tmp_path / "home" / "postgres" / "data" / "postmaster.pid").exists()


def test_lock_is_free_as_soon_as_it_is_given_back(database):
    """For one who is connected already, and so asks before the server has noticed a connection that ended."""
    with database.engine.connect() as other:
        for _ in range(50):
            with database.locked(7) as ours:
                assert ours
                assert not other.scalar(text("SELECT pg_try_advisory_lock(7)"))
            assert other.scalar(text("SELECT pg_try_advisory_lock(7)"))
            assert other.scalar(text("SELECT pg_advisory_unlock(7)"))


def test_lock_whose_connection_was_lost_is_left_in_peace(database):
    with database.locked(7) as ours, database.begin() as connection:
        assert ours
        ended = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database = "
        connection.execute(text(f"{ended}(SELECT oid FROM pg_database WHERE datname = current_database())"))
    with database.locked(7, wait=True) as ours:
        assert ours
