"""The API as processes on one port: listening sockets, event loops, and a clean end."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import uvicorn

from marquee.api import processes
from marquee.api.startup import quick_start, started
from marquee.config import Settings
from marquee.errors import ConfigError, StoreUnavailableError
from marquee.telemetry import get_logger

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

    from marquee.api.limits import Overload

__all__ = ["serve"]

PULSE_SECONDS: Final = 1.0


def serve(settings: Settings) -> None:
    """
    Serve the API until the process is asked to stop.

    Requests under way are finished; whoever waits for a run gets its id.

    Raises:
        ConfigError: the address cannot be listened on, or may not be as yet.
        StoreError: the database cannot be opened.
    """
    _require_key_beyond_loopback(settings)
    if settings.api.processes == 1:
        _serve_here(settings, _listen(settings, shared=False), lambda: None)
        return
    for listener in _listen(settings, shared=False):  # raises while others listen, which sharing would not
        listener.close()
    with contextlib.ExitStack() as held:  # bound, but not listened on: nobody else gets the ports
        for listener in _listen(settings, shared=True):
            held.enter_context(contextlib.closing(listener))
        processes.keep_running(settings, settings.home / "metrics" / str(settings.port))


def serve_share(settings: Settings, ready: Callable[[], None]) -> None:
    """
    Serve as one of several processes on the port, as `serve`.

    Args:
        ready: called once requests are answered.
    """
    _serve_here(settings, _listen(settings, shared=True), ready)


class _Server(uvicorn.Server):
    """
    A server that leaves signals to its caller.

    uvicorn raises them again when it has stopped, which would end the process before the database is closed.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _serve_here(settings: Settings, listeners: list[socket.socket], ready: Callable[[], None]) -> None:
    with quick_start():
        _serve_started(settings, listeners, ready)


def _serve_started(settings: Settings, listeners: list[socket.socket], ready: Callable[[], None]) -> None:
    from marquee.api.app import create_app
    from marquee.api.connection import Connection

    app = create_app(settings)
    protocol = type("Connection", (Connection,), {"overload": app.state.overload})
    config = _config(_entry(app), settings, protocol)
    with contextlib.ExitStack() as stack:
        for listener in listeners:
            stack.enter_context(contextlib.closing(listener))
        runner = stack.enter_context(asyncio.Runner(loop_factory=config.get_loop_factory()))
        runner.run(_serve(app, settings, config, listeners, ready))


async def _serve(
    app: "FastAPI",
    settings: Settings,
    config: uvicorn.Config,
    listeners: list[socket.socket],
    ready: Callable[[], None],
) -> None:
    from marquee.api.ops import ops_app

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
        if app.state.access.trusts_loopback:
            get_logger().warning(
                "api.open_to_this_machine",
                meaning="there is no API key yet: every program on this machine is an operator",
                fix="marquee keys create NAME --role operator",
            )
        pulse = asyncio.create_task(_pulse(server, app.state.overload, settings, ready), name="pulse")
        ops = _Server(_config(ops_app(app.state.services), settings))
        watched = asyncio.create_task(ops.serve(sockets=listeners[1:])) if listeners[1:] else None
        try:
            await server.serve(sockets=listeners[:1])
        finally:
            ops.should_exit = True
            if watched is not None:
                await watched
            pulse.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await pulse


async def _pulse(
    server: uvicorn.Server, overload: "Overload", settings: Settings, ready: Callable[[], None]
) -> None:
    """What is done once a second for all connections, so that nothing is done for each request."""
    from marquee.api.connection import Connection
    from marquee.telemetry.metrics import LOOP_LAG_SECONDS, REQUESTS_IN_PROGRESS, SHED

    while not server.started:
        await asyncio.sleep(0.001)
    started()
    get_logger().info("api.ready", host=settings.host, port=settings.port, pid=os.getpid())
    ready()
    seconds = settings.api.slow_client_seconds
    interval = min(PULSE_SECONDS, seconds / 4)
    loop = asyncio.get_running_loop()
    shed = 0
    while True:
        due = loop.time() + interval
        await asyncio.sleep(interval)
        LOOP_LAG_SECONDS.set(max(0.0, loop.time() - due))
        REQUESTS_IN_PROGRESS.set(len(server.server_state.tasks))
        if overload.shed > shed:
            SHED.inc(overload.shed - shed)
            get_logger().warning("api.overloaded", refused=overload.shed - shed)
            shed = overload.shed
        for connection in list(server.server_state.connections):
            if isinstance(connection, Connection):
                connection.end_if_slow(seconds)


def _entry(app: "FastAPI") -> "ASGIApp":
    """The application without its two outermost calls, which on a server of ours only pass a request on."""
    edge = app.middleware_stack
    assert edge is not None

    async def entry(scope: "Scope", receive: "Receive", send: "Send") -> None:
        scope["app"] = app
        await edge(scope, receive, send)

    return entry


def _config(
    app: object, settings: Settings, protocol: type[asyncio.Protocol] | None = None
) -> uvicorn.Config:
    if protocol is not None and settings.api.trusted_proxies:
        from marquee.api.proxies import BehindProxies

        app = BehindProxies(app, list(settings.api.trusted_proxies))  # type: ignore[arg-type]
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=protocol or "auto",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        timeout_graceful_shutdown=settings.api.shutdown_seconds,
    )


def _require_key_beyond_loopback(settings: Settings) -> None:
    """Before the first key there is nobody to tell callers from other machines apart."""
    from marquee.api.access import is_loopback
    from marquee.store.postgres import Database
    from marquee.store.repositories import keys

    if is_loopback(settings.host) or settings.operator_key_file is not None:
        return
    try:
        with Database.open(settings) as database, database.begin() as connection:
            if keys.any_made(connection):
                return
    except StoreUnavailableError:
        return  # nobody is trusted for as long as keys cannot be read
    raise ConfigError(
        f"There is no API key yet, so the API listens on this machine only, not on {settings.host}.",
        fix="Run `marquee keys create NAME --role operator` first, or set MARQUEE_OPERATOR_KEY_FILE.",
    )


def _listen(settings: Settings, *, shared: bool) -> list[socket.socket]:
    """The API's socket, and the one of the ops port if that is set."""
    opened = [_bind(settings.host, settings.port, "MARQUEE_PORT", shared=shared)]
    if settings.api.ops_port is not None:
        try:
            opened.append(_bind(settings.host, settings.api.ops_port, "MARQUEE_API__OPS_PORT", shared=shared))
        except ConfigError:
            opened[0].close()
            raise
    return opened


def _bind(host: str, port: int, setting: str, *, shared: bool) -> socket.socket:
    """
    A socket bound to the port.

    Args:
        shared: other processes of ours have it, too: the kernel spreads connections among them.
    """
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
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"Cannot listen on {host}:{port}: {error.strerror}.",
            fix=f"Stop what listens there, or set {setting} to another port.",
        ) from None
    listener.set_inheritable(False)
    return listener
