"""The composition root of commands: settings, logs, stores."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from marquee.cli.output import bars

if TYPE_CHECKING:
    from marquee.config import Settings
    from marquee.store.objects import ObjectStore
    from marquee.store.postgres import Database

__all__ = ["open_settings", "run_pipeline", "stores", "who"]


def open_settings(*, log_level: str = "warning", server: bool = False, **overrides: Any) -> "Settings":
    """
    Settings, with logs set up.

    Args:
        log_level: what commands for people log, unless MARQUEE_LOG__LEVEL is set.
        server: whether the command serves or works until it is stopped instead, and logs as set.
        overrides: fields that win over the environment.
    """
    from marquee.config import load_settings
    from marquee.telemetry import configure_logs

    settings = load_settings(**overrides)
    quiet = not server and "level" not in settings.log.model_fields_set
    log = settings.log.model_copy(update={"level": log_level}) if quiet else settings.log
    configure_logs(log, server=server)
    return settings


@contextmanager
def stores(settings: "Settings") -> "Iterator[tuple[Database, ObjectStore]]":
    """The database (the embedded one is started) and the object store, closed on leaving."""
    from marquee.store.objects import ObjectStore
    from marquee.store.postgres import Database

    with Database.open(settings) as database:
        yield database, ObjectStore.of(settings)


def run_pipeline(
    settings: "Settings",
    database: "Database",
    objects: "ObjectStore",
    pipeline: str,
    parameters: Mapping[str, Any],
    *,
    quiet: bool = False,
    report: Callable[[str, int, int | None], None] | None = None,
) -> dict[str, Any]:
    """
    Run a pipeline in this process, recorded like any other run.

    Args:
        quiet: draw no bars.
        report: told of progress instead of the bars of its own.

    Returns:
        What the run counted, with its `run_id`.
    """
    from marquee.pipelines.run import run_here

    if report is not None:
        return run_here(settings, database, objects, pipeline, parameters, on_progress=report)
    with bars(quiet=quiet) as drawn:
        return run_here(settings, database, objects, pipeline, parameters, on_progress=drawn)


def who() -> str:
    """The person at the terminal, as far as the machine knows."""
    import getpass

    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # an account without a name
        return "cli"
