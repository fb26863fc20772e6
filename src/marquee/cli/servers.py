"""Commands that keep running: `up`, `serve`, `worker`, `mlflow`."""

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marquee.cli.output import console
from marquee.cli.session import open_settings, run_pipeline, stores
from marquee.errors import ConfigError, StoreUnavailableError

if TYPE_CHECKING:
    from threading import Event

    from marquee.cli.supervisor import Supervisor
    from marquee.config import Settings

__all__ = ["register"]

READY_SECONDS = 60
"""How long the API may take to answer before `up` gives up."""

LifelineOption = Annotated[int | None, typer.Option("--lifeline", hidden=True)]
HostOption = Annotated[str | None, typer.Option(help="Address to listen on; default MARQUEE_HOST.")]
PortOption = Annotated[int | None, typer.Option(min=1, max=65535, help="Port; default MARQUEE_PORT.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (up, serve, worker, mlflow):
        app.command()(command)


def up(host: HostOption = None, port: PortOption = None) -> None:
    """Start everything on this machine: database, API and worker; on the first start run the pipeline."""
    from marquee.cli.supervisor import Supervisor, terminated_by_signal

    settings = open_settings(**_given(host=host, port=port))
    _require_free_port(settings)
    settings.home.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with terminated_by_signal() as stop, Supervisor(settings.paths.logs) as supervisor:
        address = ("--host", settings.host, "--port", str(settings.port))
        supervisor.start("api", "serve", *address)
        supervisor.start("worker", "worker")
        with stores(settings):  # holds the embedded server until the children have left it
            first = _run_first_pipeline(settings, stop)
            if _wait_until_ready(settings, supervisor, stop):
                _greet(settings, None if first else time.monotonic() - started)
            while not stop.wait(0.5):
                supervisor.check()
            console(stderr=True).print("Stopping …")
            supervisor.stop_children()


def serve(host: HostOption = None, port: PortOption = None, lifeline: LifelineOption = None) -> None:
    """Serve the API (in the foreground)."""
    from marquee.api.server import serve as serve_api
    from marquee.cli.supervisor import stop_with_parent

    settings = open_settings(log_level=None, **_given(host=host, port=port))
    stop_with_parent(lifeline)
    serve_api(settings)


def worker(lifeline: LifelineOption = None) -> None:
    """Run queued pipelines (in the foreground)."""
    import asyncio

    from marquee.cli.supervisor import stop_with_parent
    from marquee.pipelines.worker import run_worker

    settings = open_settings(log_level=None)
    stop_with_parent(lifeline)
    asyncio.run(run_worker(settings))


def mlflow(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1", port: PortOption = None
) -> None:
    """Open the MLflow user interface on Marquee's runs."""
    from marquee.registry import mlflow_environment, tracking_uri

    settings = open_settings()
    settings.paths.mlflow.mkdir(parents=True, exist_ok=True)
    chosen = port or settings.mlflow.port
    console(stderr=True).print(f"MLflow: http://{host}:{chosen}")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", tracking_uri(settings)]
    command += ["--default-artifact-root", (settings.paths.mlflow / "artifacts").as_uri()]
    command += ["--host", host, "--port", str(chosen), "--workers", "1"]
    os.execve(sys.executable, command, {**os.environ, **mlflow_environment()})  # noqa: S606


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _require_free_port(settings: "Settings") -> None:
    import socket

    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise ConfigError(
                f"Cannot listen on {settings.host}:{settings.port}: {error.strerror}.",
                fix="Stop what listens there, or set MARQUEE_PORT to another port.",
            ) from None


def _run_first_pipeline(settings: "Settings", stop: "Event") -> bool:
    """On a home without a predictor run prepare, train and infer; say whether that was so."""
    from marquee.store.repositories import deployments

    with stores(settings) as (database, objects):
        with database.begin() as connection:
            if deployments.current(connection, "predictor") is not None:
                return False
        console(stderr=True).print(f"First start: building everything in {settings.home}")
        for pipeline, parameters in (("prepare", {}), ("train", {"model": "mlp"}), ("infer", {})):
            if stop.is_set():
                break
            run_pipeline(settings, database, objects, pipeline, parameters)
    return True


def _wait_until_ready(settings: "Settings", supervisor: "Supervisor", stop: "Event") -> bool:
    import httpx

    deadline = time.monotonic() + READY_SECONDS
    while not stop.is_set():
        supervisor.check()
        try:
            if httpx.get(f"{_url(settings)}/health", timeout=2).json().get("status") == "ok":
                return True
        except httpx.HTTPError:
            pass  # not up yet: the deadline below ends the wait
        if time.monotonic() > deadline:
            raise StoreUnavailableError(
                f"The API did not become ready within {READY_SECONDS} s.",
                fix=f"See {settings.paths.logs / 'api.log'}.",
            )
        stop.wait(0.05)
    return False


def _greet(settings: "Settings", seconds: float | None) -> None:
    out = console()
    out.print(
        f"\n[bold]Marquee[/bold]  {_url(settings)}" + (f"  (ready in {seconds:.1f} s)" if seconds else "")
    )
    out.print(f"API docs {_url(settings)}/docs")
    out.print(f"Try      curl '{_url(settings)}/latest-recommendations?k=3'")
    out.print("Ctrl-C stops everything.\n")


def _url(settings: "Settings") -> str:
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
