"""Commands of what watches Marquee: `ops up`, `ops status`, `ops render`."""

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from marquee.cli.output import JsonOption, console, emit_json, rows_table
from marquee.cli.session import open_settings
from marquee.errors import SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from threading import Event

    from marquee.cli.supervisor import Supervisor
    from marquee.config import Settings
    from marquee.monitoring.stack import Program, State

__all__ = ["register"]

READY_SECONDS = 60
"""How long Prometheus may take to start and to look at each target."""

ops = typer.Typer(help="Prometheus, Alertmanager and exporters.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(ops, name="ops")


@ops.command()
def up() -> None:
    """Watch this machine: Prometheus, Alertmanager and exporters, beside `marquee up` (Ctrl-C stops all)."""
    from marquee.children import asked_to_stop
    from marquee.cli.supervisor import Supervisor, require_free_port
    from marquee.monitoring import stack, stack_files

    settings = open_settings()
    folder = settings.paths.observe
    with (
        asked_to_stop() as stop,
        _database_url(settings) as database_url,
        Supervisor(settings.paths.logs) as supervisor,
    ):
        programs = stack.programs(settings, folder, database_url)
        for program in programs:
            require_free_port("127.0.0.1", program.port, program.setting)
        stack_files.render(folder, stack.local_targets(settings, programs), settings.ops, local=True)
        for program in programs:
            supervisor.start_program(
                program.name, program.command, environment=program.environment, folder=program.folder
            )
        state = _await_settled(f"http://127.0.0.1:{settings.ops.prometheus_port}", supervisor, stop)
        if state is not None:
            _greet(settings, programs, state)
        while not stop.wait(0.5):
            supervisor.check()
        console(stderr=True).print("Stopping …")


@ops.command()
def status(
    url: Annotated[
        str | None, typer.Option(help="Address of Prometheus; default: that of MARQUEE_OPS__NERVOUS.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show what Prometheus watches and which alerts it has; exit code 1 unless all targets are up."""
    from dataclasses import asdict

    from marquee.monitoring import stack

    state = stack.read_state(url or stack.prometheus_url(open_settings()))
    if json:
        emit_json(asdict(state))
    else:
        _print_state(state)
    if not state.well:
        raise typer.Exit(1)


@ops.command()
def render(
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write to; it may exist.")],
) -> None:
    """Write the configuration of Prometheus and Alertmanager, and Loki's rules, by MARQUEE_OPS__*."""
    from marquee.monitoring import stack, stack_files

    settings = open_settings()
    for path in stack_files.render(output, stack.targets(settings), settings.ops):
        console().print(str(path))


@contextmanager
def _database_url(settings: "Settings") -> "Iterator[str | None]":
    """
    Where PostgreSQL is, if there is something to watch it with.

    The embedded server is shared: it stays for as long as it is watched.
    """
    from marquee.monitoring import stack

    if not stack.watches_database():
        yield None
    elif settings.database.url is not None:
        yield settings.database.url.get_secret_value()
    else:
        from marquee.store.embedded import EmbeddedServer

        with EmbeddedServer.start(settings.paths) as server:
            yield server.url


def _await_settled(url: str, supervisor: "Supervisor", stop: "Event") -> "State | None":
    """
    What Prometheus sees once it has looked at everything; None when told to stop.

    Raises:
        SourceUnavailableError: it does not start.
    """
    from marquee.monitoring.stack import read_state

    deadline = time.monotonic() + READY_SECONDS
    while not stop.wait(0.2):
        supervisor.check()
        try:
            state = read_state(url)
        except SourceUnavailableError:
            if time.monotonic() > deadline:
                raise
            continue
        if state.settled or time.monotonic() > deadline:
            return state
    return None


def _greet(settings: "Settings", programs: "Sequence[Program]", state: "State") -> None:
    _print_state(state)
    out = console()
    for program in programs[:2]:
        out.print(f"{program.name.capitalize():<13} http://127.0.0.1:{program.port}")
    if settings.site.alertmanager_url is None:
        url = f"http://127.0.0.1:{settings.ops.alertmanager_port}"
        out.print(f"In Marquee's console, too: MARQUEE_SITE__ALERTMANAGER_URL={url} make up", soft_wrap=True)
    secrets = settings.paths.observe / "alertmanager" / "secrets"
    if settings.ops.slack_errors_url_file is None and not any(secrets.iterdir()):
        out.print("Alerts are shown there and sent to nobody: docs/observability.md says how they are.")
    out.print("Ctrl-C stops everything.\n")


def _print_state(state: "State") -> None:
    rows_table(
        ("job", "target", "health", "error"), [(*target[:3], target[3] or None) for target in state.targets]
    )
    out = console()
    up = sum(health == "up" for _, _, health, _ in state.targets)
    out.print(f"\n{up} of {len(state.targets)} targets up, {len(state.alerts)} alerts loaded.")
    if state.firing:
        out.print(f"[yellow]Firing[/yellow] {', '.join(state.firing)}")
