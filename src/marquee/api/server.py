"""The API as a process: one listening socket, one event loop, one clean end."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from marquee.api.app import create_app
from marquee.config import Settings
from marquee.errors import ConfigError

__all__ = ["serve"]


def serve(settings: Settings) -> None:
    """
    Serve the API until the process is asked to stop.

    Requests under way are finished; whoever waits for a run gets its id.

    Raises:
        ConfigError: the address cannot be listened on.
        StoreError: the database cannot be opened.
    """
    listener = _listen(settings.host, settings.port)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        timeout_graceful_shutdown=settings.api.shutdown_seconds,
    )
    with contextlib.closing(listener), asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve(app, config, listener))


class _Server(uvicorn.Server):
    """
    A server that leaves signals to its caller.

    uvicorn raises them again when it has stopped, which would end the process before the database is closed.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(app: FastAPI, config: uvicorn.Config, listener: socket.socket) -> None:
    server = _Server(config)

    def stop(signum: signal.Signals) -> None:
        services = getattr(app.state, "services", None)
        if services is not None:
            services.stopping.set()
        server.handle_exit(signum, None)

    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop, signum)
    # The lifespan runs here and not in uvicorn, so that an error at the start is raised and not logged.
    async with app.router.lifespan_context(app):
        await server.serve(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(
            f"Cannot listen on {host}:{port}: {error.strerror}.",
            fix="Set MARQUEE_HOST to an address of this machine.",
        ) from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"Cannot listen on {host}:{port}: {error.strerror}.",
            fix="Stop what listens there, or set MARQUEE_PORT to another port.",
        ) from None
    listener.set_inheritable(False)
    return listener
