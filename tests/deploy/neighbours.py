"""What stands behind the edge and who comes to it: helpers of the tests of deploy/proxy."""

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from free_ports import free_port
from waiting import until

DEADLINE_SECONDS = 180
PROXY = Path(__file__).parents[2] / "deploy" / "proxy"
OPS = ("ops", "s3cret")
KEY = "k" * 40
BROWSER = {"accept": "text/html,*/*;q=0.8"}
SHOP = "https://shop.example.org"
"""The site that the API lets read its answers."""
PAGE = '<!doctype html><html lang="en"><div id="root"></div></html>'
"""The page of the site."""
EVERYWHERE = {
    "permissions-policy",
    "referrer-policy",
    "strict-transport-security",
    "content-security-policy",
    "x-content-type-options",
    "x-frame-options",
}
"""Headers of every answer."""


class Api:
    """The real API with a model that serves, in a process that can be replaced."""

    def __init__(self, folder: Path, database_url: str, **variables: str) -> None:
        self.port = free_port()
        self.log = folder / f"api-{self.port}.log"
        (folder / "key").write_text(KEY)
        self._environment = {
            **os.environ,
            "MARQUEE_HOME": str(folder / "home"),
            "MARQUEE_DATABASE__URL": database_url,
            "MARQUEE_OPERATOR_KEY_FILE": str(folder / "key"),
            "MARQUEE_API__TRUSTED_PROXIES": "127.0.0.1",
            "MARQUEE_API__CORS_ORIGINS": SHOP,
            "MARQUEE_API__RATE_PER_ADDRESS": "100000/second",
            "MARQUEE_API__DATABASE_SECONDS": "30",
            "MARQUEE_API__SLOW_CLIENT_SECONDS": "3",
            "MARQUEE_MONITOR__EVERY_MINUTES": "0",
            **variables,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "marquee.cli", "serve", "--port", str(self.port)],
                env=self._environment,
                stdout=log,
                stderr=log,
            )

    def wait(self) -> None:
        """Until it answers."""
        until(
            lambda: _answers(f"http://127.0.0.1:{self.port}/readyz"),
            lambda: self.log.read_text()[-3000:],
            self._process,
        )

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            try:
                assert process.wait(DEADLINE_SECONDS) == 0, self.log.read_text()
            finally:
                process.kill()


class Tool(BaseHTTPRequestHandler):
    """Stands for Grafana, Airflow and MLflow: says what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = json.dumps({"path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}})
        self.send_response(200)
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def upstreams(api: Api | None, web: Any, tool: str) -> dict[str, str]:
    """Variables of the edge that say what is behind it; without an API, a port where nobody listens."""
    return {
        "API_UPSTREAM": f"127.0.0.1:{free_port() if api is None else api.port}",
        "WEB_UPSTREAM": urlsplit(web.url).netloc,
        "MLFLOW_UPSTREAM": tool,
        "AIRFLOW_UPSTREAM": tool,
        "GRAFANA_UPSTREAM": tool,
    }


def client_of(edge: Any, address: str = "127.0.0.1") -> httpx.Client:
    """A client that trusts the edge, and comes from an address of this machine."""
    context = ssl.create_default_context(cafile=edge.authority)
    transport = httpx.HTTPTransport(verify=context, local_address=address)
    return httpx.Client(base_url=edge.url, transport=transport, timeout=DEADLINE_SECONDS)


@contextlib.contextmanager
def connected(edge: Any, context: ssl.SSLContext | None = None) -> Iterator[ssl.SSLSocket]:
    """A connection of TLS to the edge."""
    context = context or ssl.create_default_context(cafile=edge.authority)
    address = ("127.0.0.1", urlsplit(edge.url).port)
    with (
        socket.create_connection(address, timeout=DEADLINE_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        yield connection


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
