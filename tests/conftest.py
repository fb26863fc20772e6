"""Fixtures shared by all tests: real PostgreSQL servers and the real rating sets."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import hypothesis
import psycopg
import pytest

from marquee.config import Settings
from marquee.store.embedded import EmbeddedServer
from marquee.store.postgres import Database

# Times are no property of the code under test: a busy machine must not fail it.
hypothesis.settings.register_profile("marquee", deadline=None)
hypothesis.settings.load_profile("marquee")

REPOSITORY = Path(__file__).parent.parent


def _missing(what: str) -> None:
    """A part that a test needs is not there: a failure under CI, a listed skip elsewhere."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"missing: {what}")
    pytest.skip(f"missing: {what}")


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real rating sets outside of the repository."""
    folder = Path(os.environ.get("MARQUEE_REALDATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        _missing(f"the real rating sets ({folder})")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _clean_environment() -> Iterator[None]:
    """No setting of the person who runs the tests reaches them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("MARQUEE_") and name not in ("MARQUEE_REALDATA", "MARQUEE_SOAK"):
                patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """One embedded server for all tests, with a migrated database `template_marquee`."""
    settings = Settings(home=tmp_path_factory.mktemp("postgres"))
    with EmbeddedServer.start(settings.paths) as server:
        Database.open(settings).close()
        with psycopg.connect(server.url_of("postgres"), autocommit=True) as connection:
            connection.execute("ALTER DATABASE marquee RENAME TO template_marquee")
            # Tests of durability start servers of their own; here a power cut may lose what it likes.
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        yield server


@pytest.fixture
def database_url(postgres: EmbeddedServer) -> Iterator[str]:
    """The URL of a fresh, migrated database."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template_marquee STRATEGY file_copy")
        yield postgres.url_of(name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings of a fresh home whose database is fresh and migrated."""
    return Settings(home=tmp_path / "home", database={"url": database_url})


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """A fresh, migrated database."""
    with Database.open(settings) as opened:
        yield opened


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL server of the system, reached by TCP; its only database is `postgres`."""
    found = {name: shutil.which(name) for name in ("initdb", "pg_ctl")}
    if not all(found.values()):
        _missing("PostgreSQL server binaries (initdb, pg_ctl)")
    # The server refuses to run as root, and then its account must reach the folder.
    as_root = os.geteuid() == 0
    folder = Path("/tmp" if as_root else tmp_path_factory.mktemp("server")) / f"marquee-{uuid4().hex[:8]}"
    folder.mkdir(mode=0o700)
    if as_root:
        shutil.chown(folder, "nobody", "nogroup")
    account = {"user": "nobody", "group": "nogroup", "extra_groups": []} if as_root else {}

    def run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, cwd=folder, **account)

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = str(folder / "data")
    try:
        run(found["initdb"], "-D", data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8",
            "--locale=C.UTF-8")  # fmt: skip
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        run(found["pg_ctl"], "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        yield f"postgresql://postgres:s3cret-pass@127.0.0.1:{port}/postgres"
        run(found["pg_ctl"], "-D", data, "-m", "fast", "-w", "stop")
    finally:
        shutil.rmtree(folder)
