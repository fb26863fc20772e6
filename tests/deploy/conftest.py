"""Fixtures of the tests of deploy: the real edge before the real API, the site's files and tools; Compose."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import psycopg
import pyarrow as pa
import pytest

from marquee.config import Settings
from marquee.data import Catalog
from marquee.models import Popularity
from marquee.simulate import Audience, AudienceConfig
from marquee.store import bundles
from marquee.store.embedded import EmbeddedServer
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import deployments, items

sys.path.insert(0, str(Path(__file__).parent))
from neighbours import PAGE, Api, Tool, client_of, upstreams

RunCaddy = Callable[..., AbstractContextManager[Any]]
RunApi = Callable[..., AbstractContextManager[Api]]
RunTool = Callable[..., str]
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def promtool(missing: Callable[[str], None]) -> RunTool:
    """Of Prometheus."""
    return _tool("promtool", missing)


@pytest.fixture(scope="session")
def amtool(missing: Callable[[str], None]) -> RunTool:
    """Of Alertmanager."""
    return _tool("amtool", missing)


def _tool(name: str, missing: Callable[[str], None]) -> RunTool:
    """Runs it: what it says, or a failure with that."""
    if shutil.which(name) is None:
        missing(name)

    def run(*arguments: str | Path) -> str:
        done = subprocess.run([name, *map(str, arguments)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def docker_compose(missing: Callable[[str], None]) -> Path:
    """The program; it needs no engine to look at files."""
    folder = Path(os.environ.get("MARQUEE_LINT_ENV", REPOSITORY / ".venv-lint")) / "bin"
    found = shutil.which("docker-compose", path=f"{folder}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        missing("docker-compose (make lint installs it into .venv-lint)")
    return Path(str(found))


@pytest.fixture(scope="session")
def site_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small build of the site."""
    built = tmp_path_factory.mktemp("site")
    (built / "assets").mkdir()
    (built / "index.html").write_text(PAGE)
    (built / "icon.svg").write_text("<svg/>")
    (built / "assets" / "app-1a2b.js").write_bytes(b"export const answer = 42;\n" * 200)
    (built / "assets" / "app-1a2b.js.map").write_text("{}")
    (built / "assets" / "shop-3c4d.css").write_bytes(b"a{color:red}\n" * 200)
    (built / "assets" / "shop-3c4d.css.br").write_bytes(b"packed by the build")
    (built / ".env").write_text("what nobody is to read")
    return built


@pytest.fixture(scope="module")
def web(run_caddy: RunCaddy, site_folder: Path) -> Iterator[Any]:
    """The site as the image `web` serves it."""
    with run_caddy("site.Caddyfile", SITE_FOLDER=str(site_folder)) as server:
        yield server


@pytest.fixture(scope="module")
def tool() -> Iterator[str]:
    """Where all the tools are."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Tool) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def run_api(postgres: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunApi]:
    """
    Run the API with a catalogue and a champion: `with run_api(MARQUEE_API__…=…) as api`.

    All that a module runs share their home and their database.
    """
    folder = tmp_path_factory.mktemp("api")
    name = f"test_{uuid4().hex}"
    url = postgres.url_of(name)

    @contextmanager
    def run(**variables: str) -> Iterator[Api]:
        server = Api(folder, url, **variables)
        server.start()
        try:
            server.wait()
            yield server
        finally:
            server.stop()

    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template_marquee STRATEGY file_copy")
        deploy_model(Settings(home=folder / "home", database={"url": url}))
        yield run
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def api(run_api: RunApi) -> Iterator[Api]:
    """An API of every test of a module; who stops it starts it again."""
    with run_api() as server:
        yield server


@pytest.fixture(scope="module")
def edge(run_caddy: RunCaddy, api: Api, web: Any, tool: str) -> Iterator[Any]:
    """Everything, running."""
    with run_caddy("Caddyfile", **upstreams(api, web, tool), SWAP_SECONDS="150") as server:
        yield server


@pytest.fixture
def client(edge: Any) -> Iterator[httpx.Client]:
    """A client of `edge` whom nobody knows yet."""
    with client_of(edge) as client:
        yield client


@pytest.fixture(scope="module")
def lone_client(run_caddy: RunCaddy, web: Any, tool: str) -> Iterator[httpx.Client]:
    """A client of an edge before everything but the API, for which it does not wait long."""
    with (
        run_caddy("Caddyfile", **upstreams(None, web, tool), SWAP_SECONDS="0") as server,
        client_of(server) as client,
    ):
        yield client


def deploy_model(settings: Settings) -> None:
    """A catalogue in the database, and a model of it in the slot of the champion."""
    ids = np.arange(1, 61)
    genres = [["Drama"], ["Comedy"]] * 30
    catalog = Catalog(pa.table({"item_id": ids, "title": [f"Film {i}" for i in ids], "genres": genres}))
    audience = Audience(catalog, np.ones(len(ids)), AudienceConfig(users=40, seed=1))
    model = Popularity().fit(audience.simulate().interactions, catalog)
    ref = bundles.publish(
        ObjectStore(settings.paths.objects),
        model.state(),
        model=model.name,
        cards=catalog.table,
        metrics={},
        snapshot="",
        code_version="",
    )
    of_bundle: dict[str, Any] = {
        "bundle": ref.key,
        "digest": ref.digest,
        "model": ref.model,
        "version": ref.version,
    }
    with Database.open(settings) as database, database.begin() as connection:
        items.upsert_items(connection, catalog.table, source="test")
        deployments.append(connection, "champion", **of_bundle, deployed_by="test", reason="test")
