"""Commands that keep running: `up`, `serve`, `worker`, `schedule`, `mlflow`."""

import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marquee.cli.output import bars, console
from marquee.cli.session import open_settings, run_pipeline, stores
from marquee.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from threading import Event

    from marquee.cli.supervisor import Supervisor
    from marquee.config import Settings

__all__ = ["register"]

FIRST_STEPS: "tuple[tuple[str, dict[str, Any]], ...]" = (
    ("prepare", {}),
    ("train", {"model": "mlp"}),  # answers single events
    ("train", {"model": "ease"}),  # knows users, and is fitted in no time
    ("promote", {}),
    ("infer", {}),
)
READY_SECONDS = 60
"""How long the API may take to answer before `up` gives up."""

LifelineOption = Annotated[int | None, typer.Option("--lifeline", hidden=True)]
HostOption = Annotated[str | None, typer.Option(help="Address to listen on; default MARQUEE_HOST.")]
PortOption = Annotated[int | None, typer.Option(min=1, max=65535, help="Port; default MARQUEE_PORT.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (up, serve, worker, schedule, mlflow):
        app.command()(command)


def up(host: HostOption = None, port: PortOption = None) -> None:
    """Start everything on this machine: database, API and worker; on the first start run the pipeline."""
    from marquee.children import asked_to_stop
    from marquee.cli.supervisor import Supervisor, require_free_port

    settings = open_settings(**_given(host=host, port=port))
    require_free_port(settings.host, settings.port, "MARQUEE_PORT")
    started = time.monotonic()
    with asked_to_stop() as stop, Supervisor(settings.paths.logs) as supervisor:
        # The API takes longest: it loads while this process starts the database.
        supervisor.start("api", "serve", "--host", settings.host, "--port", str(settings.port))
        with _server_held(settings):
            supervisor.start("worker", "worker", *_ops_port(settings))
            health = _await_health(settings, supervisor, stop, lambda state: state["database"] == "ok")
            first = health.get("lacks") == ["predictor"] and _nothing_trained(settings)
            if first:
                slots = _build_first_models(settings, stop)
                health = _await_health(
                    settings, supervisor, stop, lambda state: all(state[slot] for slot in slots)
                )
            if not stop.is_set():
                _greet(settings, health, None if first else time.monotonic() - started)
            while not stop.wait(0.5):
                supervisor.check()
            console(stderr=True).print("Stopping …")
            supervisor.stop_children()


def serve(
    host: HostOption = None,
    port: PortOption = None,
    processes: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes on the port; default MARQUEE_API__PROCESSES.")
    ] = None,
    lifeline: LifelineOption = None,
) -> None:
    """Serve the API (in the foreground)."""
    from marquee.api.server import serve as serve_api
    from marquee.cli.supervisor import stop_with_parent

    settings = open_settings(server=True, **_given(host=host, port=port))
    if processes is not None:
        api = settings.api.model_copy(update={"processes": processes})
        settings = settings.model_copy(update={"api": api})
    stop_with_parent(lifeline)
    serve_api(settings)


def worker(
    ops_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port of /metrics; default MARQUEE_WORKER__OPS_PORT."),
    ] = None,
    lifeline: LifelineOption = None,
) -> None:
    """Run queued pipelines (in the foreground)."""
    import asyncio

    from marquee.cli.supervisor import stop_with_parent
    from marquee.pipelines.worker import run_worker

    settings = open_settings(server=True)
    if ops_port is not None:
        chosen = settings.worker.model_copy(update={"ops_port": ops_port})
        settings = settings.model_copy(update={"worker": chosen})
    stop_with_parent(lifeline)
    asyncio.run(run_worker(settings))


def schedule() -> None:
    """Run the whole pipeline at set times, without Airflow (in the foreground), by a worker beside it."""
    import asyncio

    from marquee.pipelines.timetable import run_timetable

    asyncio.run(run_timetable(open_settings(server=True)))


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


def _ops_port(settings: "Settings") -> list[str]:
    """Where the worker's metrics are, unless that is set."""
    port = settings.local_worker_port
    return ["--ops-port", str(port)] if port is not None and settings.worker.ops_port is None else []


@contextmanager
def _server_held(settings: "Settings") -> "Iterator[None]":
    """The embedded server, if it is the one in use: it stays while children come and go."""
    if settings.database.url is not None:
        yield
        return
    from marquee.store.embedded import EmbeddedServer

    with EmbeddedServer.start(settings.paths):
        yield


def _nothing_trained(settings: "Settings") -> bool:
    """Whether this home is new; a model that its gate refused is a model."""
    from marquee.store.repositories import deployments

    with stores(settings) as (database, _), database.begin() as connection:
        return not deployments.current_all(connection)


def _build_first_models(settings: "Settings", stop: "Event") -> list[str]:
    """
    Make a predictor and a champion, unless told to stop.

    Returns:
        The slots that the API serves now: what its gate refused is not among them.
    """
    from marquee.store.repositories import deployments

    console(stderr=True).print(f"First start: building everything in {settings.home}")
    try:
        with stores(settings) as (database, objects), bars() as bar:

            def report(step: str, done: int, total: int | None) -> None:
                if stop.is_set():
                    raise KeyboardInterrupt
                bar(step, done, total)

            for pipeline, parameters in FIRST_STEPS:
                run_pipeline(settings, database, objects, pipeline, parameters, report=report)
            with database.begin() as connection:
                filled = deployments.current_all(connection)
            return [slot for slot in ("predictor", "champion") if slot in filled]
    except KeyboardInterrupt:
        if not stop.is_set():
            raise
        return []


def _await_health(
    settings: "Settings",
    supervisor: "Supervisor",
    stop: "Event",
    accepted: "Callable[[dict[str, Any]], bool]",
) -> dict[str, Any]:
    """What `/health` answers once that is accepted; nothing when told to stop."""
    state: dict[str, Any] = {}
    deadline = time.monotonic() + READY_SECONDS
    while not stop.is_set():
        supervisor.check()
        state = _health(settings) or state
        if state and accepted(state):
            return state
        if time.monotonic() > deadline:
            lacks = f" It lacks: {', '.join(state['lacks'])}." if state else ""
            raise StoreUnavailableError(
                f"The API did not become ready within {READY_SECONDS} s.{lacks}",
                fix=f"See {settings.paths.logs / 'api.log'}.",
            )
        stop.wait(0.03)
    return {}


def _health(settings: "Settings") -> dict[str, Any] | None:
    import json
    from http.client import HTTPConnection, HTTPException

    from marquee.config import reachable

    # Not httpx: that takes longer to load than all the rest of this process, and minds proxies.
    connection = HTTPConnection(reachable(settings.host), settings.port, timeout=2)
    try:
        connection.request("GET", "/health")
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        return answer
    except (OSError, HTTPException, ValueError):
        return None  # not up yet: the caller's deadline ends the wait
    finally:
        connection.close()


def _greet(settings: "Settings", health: dict[str, Any], seconds: float | None) -> None:
    out = console()
    ready = f"  (ready in {seconds:.1f} s)" if seconds is not None else ""
    out.print(f"\n[bold]Marquee[/bold]  {_url(settings)}{ready}")
    out.print(f"API docs {_url(settings)}/docs")
    out.print(f"Try      curl '{_url(settings)}/latest-recommendations?k=3'")
    if health["lacks"]:
        out.print(f"[yellow]Degraded[/yellow] It lacks: {', '.join(health['lacks'])}. See: marquee doctor")
    out.print("Ctrl-C stops everything.\n")


def _url(settings: "Settings") -> str:
    from marquee.config import reachable

    host = reachable(settings.host)
    shown = "localhost" if host == "127.0.0.1" else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{settings.port}"
