"""Fixtures shared by all tests: real PostgreSQL servers, a real S3 service and the real rating sets."""

import io
import logging
import os
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import hypothesis
import psycopg
import pytest
import structlog
from free_ports import free_port
from real_parts import Collector, Swift, Wire
from waiting import until

from marquee.config import LogSettings, Settings
from marquee.store.embedded import EmbeddedServer
from marquee.store.postgres import Database
from marquee.telemetry import configure_logs, logs

# Times are no property of the code under test: a busy machine must not fail it.
hypothesis.settings.register_profile("marquee", deadline=None)
hypothesis.settings.load_profile("marquee")

REPOSITORY = Path(__file__).parent.parent
OF_TESTS = {
    "MARQUEE_LINT_ENV",
    "MARQUEE_REALDATA",
    "MARQUEE_SOAK",
    "MARQUEE_TEST_AIRFLOW",
    "MARQUEE_TEST_BROWSER",
    "MARQUEE_TEST_DOCKER_CACHE",
    "MARQUEE_TEST_REQUIRED",
    "MARQUEE_TEST_SWIFT",
}
"""Variables that are no settings."""


NOT_INSTALLABLE = (
    "Alloy",
    "Docker",
    "Grafana",
    "Loki",
    "Network namespaces",
    "Promtail",
    "PyTorch",
    "Terraform",
    "The previous release",
)
"""What no package of Debian, PyPI or npm brings, or not to every machine: its tests run where it is."""
NOT_RUN = "not run: "


def _required() -> set[str]:
    """Those of `NOT_INSTALLABLE` that MARQUEE_TEST_REQUIRED names, separated by commas."""
    return {name.strip() for name in os.environ.get("MARQUEE_TEST_REQUIRED", "").split(",")} - {""}


def pytest_configure() -> None:
    """A name with a slip in it would require nothing."""
    if unknown := _required() - set(NOT_INSTALLABLE):
        raise pytest.UsageError(f"MARQUEE_TEST_REQUIRED: no part is named {', '.join(sorted(unknown))}")


def _missing(what: str) -> None:
    """A part that a test needs is not there: a failure under CI, a listed skip elsewhere."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"missing: {what}")
    pytest.skip(f"missing: {what}")


@pytest.fixture(scope="session")
def missing() -> Callable[[str], None]:
    """Say that a part is missing, by its name; it does not return."""
    return _missing


@pytest.fixture(scope="session")
def not_run() -> Callable[..., None]:
    """
    Say that one of `NOT_INSTALLABLE` is not there, and why; it never returns.

    The test fails where the part is required, and is else skipped and listed by the summary.
    """

    def end(what: str, why: str = "which is not on the path") -> None:
        assert what in NOT_INSTALLABLE
        if what in _required():
            pytest.fail(f"{NOT_RUN}{what}, {why}")
        pytest.skip(f"{NOT_RUN}{what}, {why}")

    return end


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
            if name.startswith(("MARQUEE_", "AWS_")) and name not in OF_TESTS:
                patch.delenv(name)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        # Nor is a machine that is busy with other tests a database that is away, or a model that is too slow.
        patch.setenv("MARQUEE_API__DATABASE_SECONDS", "20")
        patch.setenv("MARQUEE_API__DEADLINE_MS", "10000")
        yield


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    """No test leaves the next one loggers that write to a stream, or to a file, of its own."""
    root, configured = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers, root.level
    yield
    if root.handlers is not handlers:
        configure_logs(LogSettings(), stream=io.StringIO())  # closes the file
        logging.captureWarnings(False)
        root.handlers = handlers
        root.setLevel(level)
        structlog.configure(**configured)
        logs._lines = None


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
    """Settings of a fresh home whose database is fresh and migrated; no run begins there by itself."""
    return Settings(home=tmp_path / "home", database={"url": database_url}, monitor={"every_minutes": 0})


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

    port = free_port()
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


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector of traces on a port of its own."""
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def wire() -> Iterator[Callable[[int], Wire]]:
    """Put a network that may be bad between a port and who talks to it."""
    wires: list[Wire] = []

    def make(port: int) -> Wire:
        wires.append(Wire(port))
        return wires[-1]

    yield make
    for one in wires:
        one.close()


@pytest.fixture(scope="session")
def swift_python() -> Path:
    """The Python that has Swift."""
    python = Path(os.environ.get("MARQUEE_TEST_SWIFT", REPOSITORY / ".venv-swift/bin/python"))
    if not python.is_file():
        _missing(f"OpenStack Swift ({python}; make setup-swift)")
    return python


@pytest.fixture
def make_swift(swift_python: Path, tmp_path: Path) -> Iterator[Callable[..., Swift]]:
    """Start a Swift of one's own, to be killed or set to another time."""
    started: list[Swift] = []

    def make(**options: Any) -> Swift:
        folder = tmp_path / f"swift-{len(started)}"
        folder.mkdir()
        started.append(Swift(swift_python, folder, **options))
        started[-1].start()
        return started[-1]

    yield make
    for server in started:
        server.kill()


@pytest.fixture(scope="session")
def swift(swift_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swift]:
    """One Swift for all tests, each with a bucket of its own."""
    server = Swift(swift_python, tmp_path_factory.mktemp("swift"))
    server.start()
    yield server
    server.kill()


@dataclass(frozen=True)
class Caddy:
    """
    A running Caddy with a file of deploy/proxy.

    Attributes:
        url: of the site that it serves.
        plain: the URL without TLS, of the edge.
        health: where its container asks whether it is well.
        log: what it wrote, its access log included.
        authority: certificate of its own CA.
    """

    url: str
    plain: str
    health: str
    log: Path
    authority: Path


@pytest.fixture(scope="session")
def run_caddy(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., AbstractContextManager[Caddy]]:
    """
    Run Caddy on loopback with one of our files: `with run_caddy("Caddyfile", API_UPSTREAM=…) as edge`.

    Of the file a copy is used in which slow clients are slow sooner. As the edge it has a CA of its own, and
    an operator `ops` with the password `s3cret`.
    """
    program = shutil.which("caddy")
    if program is None:
        _missing("caddy")
    assert program is not None

    @contextmanager
    def run(name: str, **environment: str) -> Iterator[Caddy]:
        folder = tmp_path_factory.mktemp("caddy")
        text = (REPOSITORY / "deploy" / "proxy" / name).read_text()
        text = text.replace("\tadmin ", "\tdefault_bind 127.0.0.1\n\tadmin ", 1)
        text = text.replace("read_header 10s", "read_header 1s").replace("read_body 20s", "read_body 8s")
        (folder / "Caddyfile").write_text(text)
        (folder / "users").write_text(f"ops {PASSWORD_HASH}\n")
        secure, plain, health = (str(free_port()) for _ in range(3))
        host = environment.get("SITE_ADDRESS", "localhost")
        is_edge = name == "Caddyfile"
        made = Caddy(
            url=f"https://{host}:{secure}" if is_edge else f"http://127.0.0.1:{plain}",
            plain=f"http://{host}:{plain}",
            health=f"http://127.0.0.1:{health if is_edge else plain}/healthz",
            log=folder / "log",
            authority=folder / "caddy/pki/authorities/local/root.crt",
        )
        variables = {
            "ADMIN_ADDRESS": "off",
            "HEALTH_PORT": health,
            "HTTPS_PORT": secure,
            "HTTP_PORT": plain,
            "PROXY_USERS_FILE": str(folder / "users"),
            "SITE_TLS": "internal",
            "WEB_PORT": plain,
            "XDG_CONFIG_HOME": str(folder),
            "XDG_DATA_HOME": str(folder),
        }
        command = [program, "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
        with made.log.open("wb") as log, ExitStack() as stack:
            process = subprocess.Popen(
                command, env={**os.environ, **variables, **environment}, stdout=log, stderr=log, cwd=folder
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            until(
                lambda: _answers(made.health) and (not is_edge or _answers(f"{made.url}/mlflow")),
                made.log.read_text,
                process,
            )
            yield made

    return run


PASSWORD_HASH = "$2b$04$tiN/jftI.QF45cGawWwRmOL2lxP7ZVRznGaY2E.WdBstUwp7FG1tu"
"""Of `s3cret`, made with the least work."""


def _answers(url: str) -> bool:
    try:
        httpx.get(url, verify=False, trust_env=False, timeout=20)
    except httpx.HTTPError:
        return False
    return True


REAL_PARTS = {"postgres", "server_url", "swift", "make_swift", "run_caddy"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What asks for a real part is an integration test; `make check` leaves those to `make test`."""
    for item in items:
        if REAL_PARTS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.integration)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what could not run, so that nobody takes it for passed."""
    reasons = [
        report.longrepr[2]
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple)
    ]
    lacking = Counter(reason.partition(NOT_RUN)[2] for reason in reasons if NOT_RUN in reason)
    for what, count in sorted(lacking.items()):
        terminalreporter.write_line(f"{NOT_RUN}{count} of {what}", yellow=True)
