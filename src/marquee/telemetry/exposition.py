"""Metrics over HTTP from a process that is no web server: `/livez` and `/metrics`, in a thread."""

import ipaddress
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import REGISTRY, CollectorRegistry, make_wsgi_app

from marquee.telemetry.metrics import Part

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["served"]

POLL_SECONDS: Final = 0.1
"""How long the end of the server may take to be noticed."""
CLIENT_SECONDS: Final = 10
"""How long a client may keep a thread."""


@contextmanager
def served(host: str, port: int) -> Iterator[int]:
    """
    Serve the worker's metrics of this process meanwhile.

    Returns:
        The port, of use where 0 was asked for.

    Raises:
        OSError: the address cannot be listened on.
    """
    registry = CollectorRegistry()
    registry.register(Part(REGISTRY, worker=True))
    app = _app(make_wsgi_app(registry))
    with make_server(host, port, app, _server_for(host), _QuietHandler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,), name="ops", daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def _app(metrics: Callable[..., Any]) -> Callable[..., Any]:
    def answer(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            found: Iterable[bytes] = metrics(environ, start)
            return found
        known = path == "/livez"
        start("200 OK" if known else "404 Not Found", [("Content-Type", "application/json")])
        return [b'{"status":"alive"}' if known else b'{"status":"not found"}']

    return answer


def _server_for(host: str) -> type[WSGIServer]:
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        family = socket.AF_INET  # a name

    class Server(ThreadingMixIn, WSGIServer):
        address_family = family
        daemon_threads = True

        def server_bind(self) -> None:
            """Without asking the resolver for a name of this machine, which may take seconds."""
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(self.server_address)
            self.server_address = self.socket.getsockname()
            self.server_name, self.server_port = host, self.server_address[1]
            self.setup_environ()

        def handle_error(self, *_: object) -> None:
            """A client that went away is no news."""

    return Server


class _QuietHandler(WSGIRequestHandler):
    timeout = CLIENT_SECONDS

    def log_message(self, *_: object) -> None:
        """Who looks is not logged."""
