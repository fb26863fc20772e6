"""The release before this one, taken from the repository's history, and an older PostgreSQL."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from marquee.config import Paths
from marquee.store import cluster

sys.path.insert(0, str(Path(__file__).parent))
from releases import MAKE, Home, Release, copied, lists_of, old_server, rows_of, send

REPOSITORY = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def present() -> Release:
    """The code as it is here."""
    return Release()


@pytest.fixture(scope="session")
def previous(tmp_path_factory: pytest.TempPathFactory, not_run: Callable[..., None]) -> Release:
    """The release before this one."""
    tag, commit = (Path(__file__).parent / "previous-release").read_text().split()
    for reference in (tag, commit):
        made = subprocess.run(
            ["git", "-C", str(REPOSITORY), "archive", reference, "src"], capture_output=True, check=False
        )
        if made.returncode == 0:
            folder = tmp_path_factory.mktemp("previous")
            subprocess.run(["tar", "-x", "-C", str(folder)], input=made.stdout, check=True)
            # Its distribution was called otherwise, and asks for itself by that name.
            metadata = folder / f"src/marquee-{tag.removeprefix('v')}.dist-info/METADATA"
            metadata.parent.mkdir()
            metadata.write_text(f"Metadata-Version: 2.1\nName: marquee\nVersion: {tag.removeprefix('v')}\n")
            release = Release(folder / "src")
            said = release.python(folder / "home", "import marquee; print(marquee.__file__)")
            assert said.startswith(str(folder)), "another release would be tested"
            return release
    not_run("The previous release", f"as the history here lacks {tag} and {commit[:12]}")
    raise AssertionError


@pytest.fixture(scope="session")
def older_postgres() -> Path | None:
    """Programs of a PostgreSQL older than the bundled one, None where there are none."""
    bundled = cluster.version_of(cluster.bundled_binaries())
    assert bundled is not None
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if (on_path := shutil.which("postgres")) is not None:
        places.append(Path(on_path).resolve().parent)
    versions = {place: cluster.version_of(place) for place in places}
    return next((place for place, major in versions.items() if major and 15 <= major < bundled), None)


@pytest.fixture(scope="session")
def previous_home(
    previous: Release, older_postgres: Path | None, tmp_path_factory: pytest.TempPathFactory
) -> Home:
    """A home of the previous release, stopped: trained, served, and with events of a user's."""
    path = tmp_path_factory.mktemp("left") / "home"
    home = Home(path, 0)
    folder = path / "postgres"
    binaries = older_postgres or cluster.bundled_binaries()
    with old_server(folder, binaries) as url_of:
        with psycopg.connect(url_of("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE mlflow")
        home.keys = json.loads(previous.python(path, MAKE, **home.environment))
        with previous.api(path, home.keys["service"], **home.environment) as client:
            home.champion = client.get("/health").json()["champion"]
            send(client, 1)
            home.lists = lists_of(client, list(range(1, 9)))
        with psycopg.connect(url_of("marquee")) as connection:
            home.events = rows_of(connection, "interactions")
    home.major = cluster.major_of(folder / "data") or 0
    return home


@pytest.fixture
def left_home(previous_home: Home, tmp_path: Path) -> Home:
    """A copy of it for one test."""
    return copied(previous_home, tmp_path / "home")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """Of a fresh home."""
    return Paths(home=tmp_path / "home")
