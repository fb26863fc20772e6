"""Fixtures shared by all tests: real PostgreSQL servers, a real S3 service and the real rating sets."""

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import hypothesis
import obstore
import psycopg
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from marquee.config import Settings
from marquee.store.embedded import EmbeddedServer
from marquee.store.postgres import Database

# Times are no property of the code under test: a busy machine must not fail it.
hypothesis.settings.register_profile("marquee", deadline=None)
hypothesis.settings.load_profile("marquee")

REPOSITORY = Path(__file__).parent.parent
OF_TESTS = {
    "MARQUEE_REALDATA",
    "MARQUEE_SOAK",
    "MARQUEE_TEST_AIRFLOW",
    "MARQUEE_TEST_BROWSER",
    "MARQUEE_TEST_SWIFT",
}
"""Variables that are no settings."""


NOT_INSTALLABLE = ("Alloy", "Grafana", "Loki", "Promtail")
"""Servers that no package of Debian, PyPI or npm brings: their tests run where they are on the path."""
NOT_RUN = "not run: "


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
def not_run() -> Callable[[str], None]:
    """Say that a server of `NOT_INSTALLABLE` is not there; it does not return, and the summary lists it."""

    def skip(what: str) -> None:
        assert what in NOT_INSTALLABLE
        pytest.skip(f"{NOT_RUN}{what}")

    return skip


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


class Collector(ThreadingHTTPServer):
    """What takes spans over OTLP, as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _CollectorHandler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.requests = 0
        self.headers: list[dict[str, str]] = []
        self.spans: list[dict[str, Any]] = []

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> int:
        """Keep the spans of a request, and say how it is answered."""
        self.requests += 1
        if path != "/v1/traces" or headers["content-type"] != "application/x-protobuf":
            return 404
        self.headers.append({name.lower(): value for name, value in headers.items()})
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = _otlp_values(resource.resource.attributes)
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                self.spans.append(
                    {
                        "name": span.name,
                        "kind": span.kind,
                        "trace_id": span.trace_id.hex(),
                        "span_id": span.span_id.hex(),
                        "parent_id": span.parent_span_id.hex(),
                        "status": span.status.code,
                        "attributes": _otlp_values(span.attributes),
                        "service": about["service.name"],
                        "text": f"{resource.resource} {span}",
                    }
                )
        return 200


class _CollectorHandler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        assert isinstance(self.server, Collector)
        self.send_response(self.server.take(self.path, self.headers, body))
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _otlp_values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector of traces on a port of its own."""
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Swift:
    """
    OpenStack Swift with its S3 API, in a process of its own; what is stored outlives `kill`.

    Attributes:
        clock_offset: seconds that its clock is ahead from the next start on.
    """

    def __init__(self, python: Path, folder: Path, *, clock_offset: float = 0) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self.credentials = folder / "credentials"
        self.credentials.write_text(
            "[default]\naws_access_key_id = test:tester\naws_secret_access_key = testing123\n"
        )
        self.clock_offset = clock_offset
        self._command = [python, REPOSITORY / "tests/swift_server.py", folder, self.port]
        self._process: subprocess.Popen[str] | None = None
        self._changing = threading.Lock()  # who kills it may be another thread than who starts it again

    def start(self) -> None:
        """Start it, or start it again."""
        with self._changing, (self.folder / "log").open("a") as log:
            self._process = subprocess.Popen(
                [*map(str, [*self._command, self.clock_offset])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            self.kill()
            pytest.fail(f"Swift did not start: {(self.folder / 'log').read_text()}")

    def kill(self) -> None:
        """End it as a power cut does."""
        with self._changing:
            assert self._process is not None
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                pipe.close()

    def store(self, bucket: str) -> obstore.store.S3Store:
        """A bucket as any S3 client sees it."""
        return obstore.store.S3Store(
            bucket,
            endpoint=self.endpoint,
            access_key_id="test:tester",
            secret_access_key="testing123",
            client_options={"allow_http": True},
        )

    def settings(self, bucket: str | None = None) -> dict[str, Any]:
        """`MARQUEE_OBJECTS__*` of a prefix in a bucket; default: a new one."""
        if bucket is None:
            bucket = f"test-{uuid4().hex}"
            url = obstore.sign(self.store(bucket), "PUT", "", timedelta(seconds=60))
            httpx.put(url).raise_for_status()
        return {
            "url": f"s3://{bucket}/some/prefix",
            "endpoint": self.endpoint,
            "credentials_file": self.credentials,
            "timeout_seconds": 20,
            "connect_timeout_seconds": 2,
            "retries": 1,
        }


class Wire:
    """
    The network before a server.

    Attributes:
        requests: heads of requests as they were sent, in HTTP's way; the names of headers in small letters.
        is_proxy: whether clients take it for an HTTP proxy.
        silent: whether connections are taken and nothing is said.
        stalls_at: bytes towards the server after which nothing travels any more.
        dribbles: seconds between pieces of 2 KiB, in both directions.
        after: bytes towards the server, and what is done after those.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests: list[str] = []
        self.is_proxy = False
        self.silent = False
        self.stalls_at: int | None = None
        self.dribbles: float | None = None
        self.after: tuple[int, Callable[[], None]] | None = None
        self._open: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                if not self.silent:
                    self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._upstream))
        except OSError:
            client.close()
            return
        self._open.append(server)
        for pair in ((client, server, True), (server, client, False)):
            threading.Thread(target=self._copy, args=pair, daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket, upwards: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if upwards:
                    data = self._seen(data)
                    if self.stalls_at is not None:
                        self.stalls_at -= len(data)
                        if self.stalls_at <= 0:
                            continue
                self._pass_on(data, sink)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _pass_on(self, data: bytes, sink: socket.socket) -> None:
        if self.dribbles is None:
            sink.sendall(data)
            return
        for start in range(0, len(data), 2048):
            sink.sendall(data[start : start + 2048])
            time.sleep(self.dribbles)

    def _seen(self, data: bytes) -> bytes:
        if self.after is not None:
            left, action = self.after
            self.after = (left - len(data), action)
            if left <= len(data):
                self.after = None
                action()
        if re.match(rb"[A-Z]+ \S+ HTTP/1", data):
            if self.is_proxy:
                data = re.sub(rb"\A([A-Z]+) http://[^/ ]+", rb"\1 ", data)
            self.requests.append(data.partition(b"\r\n\r\n")[0].decode("latin-1"))
        return data


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


REAL_PARTS = {"postgres", "server_url", "swift", "make_swift"}


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
    for name in NOT_INSTALLABLE:
        count = sum(reason.endswith(f"{NOT_RUN}{name}") for reason in reasons)
        if count:
            terminalreporter.write_line(f"{NOT_RUN}{count} of {name}, which is not on the path", yellow=True)
