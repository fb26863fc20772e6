"""What tests talk to as the outside: a collector of traces, an S3 service, a network that may be bad."""

import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import obstore
import pytest
from free_ports import free_port
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SWIFT_SERVER = Path(__file__).parents[1] / "swift_server.py"


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


class Swift:
    """
    OpenStack Swift with its S3 API, in a process of its own; what is stored outlives `kill`.

    Attributes:
        clock_offset: seconds that its clock is ahead from the next start on.
    """

    def __init__(self, python: Path, folder: Path, *, clock_offset: float = 0) -> None:
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self.credentials = folder / "credentials"
        self.credentials.write_text(
            "[default]\naws_access_key_id = test:tester\naws_secret_access_key = testing123\n"
        )
        self.clock_offset = clock_offset
        self._command = [python, SWIFT_SERVER, folder, self.port]
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
