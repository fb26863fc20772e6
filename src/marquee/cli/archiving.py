"""The command about the archive: `archive`."""

import typer

from marquee.cli.output import JsonOption, console, emit_json, rows_table
from marquee.cli.session import open_settings, stores

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(archive)


def archive(json: JsonOption = False) -> None:
    """Send what waits for the archive now, and what the archive lacks of this home."""
    from marquee.cli.output import bars
    from marquee.errors import ConfigError, ConflictError
    from marquee.pipelines.courier import Courier, enqueue_lacking
    from marquee.store.repositories import outbox

    settings = open_settings()
    with stores(settings) as (database, objects):
        if objects.remote is None:
            raise ConfigError("There is no archive.", fix="Set MARQUEE_OBJECTS__URL.")
        found = enqueue_lacking(database, objects)
        with database.begin() as connection:
            waiting, _ = outbox.waiting(connection)
        with bars(quiet=json) as report:
            delivery = Courier(database, objects).deliver(
                lambda objects, _: report("send", objects, max(waiting, objects))
            )
    if delivery is None:
        raise ConflictError(
            "A worker sends at this moment.", run_id="", fix="Wait for it: it sends what waits, too."
        )
