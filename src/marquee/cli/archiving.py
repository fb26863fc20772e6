"""The command about the archive: `archive`."""

import typer

from marquee.cli.output import JsonOption, bars, console, emit_json, rows_table
from marquee.cli.session import open_settings, stores

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(archive)


def archive(json: JsonOption = False) -> None:
    """Send to the archive what waits for it, and what of this home it lacks."""
    from marquee.errors import ConfigError
    from marquee.pipelines.courier import Courier, enqueue_lacking
    from marquee.store.repositories import outbox

    with stores(open_settings()) as (database, objects):
        if objects.remote is None:
            raise ConfigError("There is no archive.", fix="Set MARQUEE_OBJECTS__URL.")
        with bars(quiet=json) as report:
            report("compare", 0, 1)
            lacking = enqueue_lacking(database, objects)
            report("compare", 1, 1)
            with database.begin() as connection:
                total, _ = outbox.waiting(connection)
            delivery = Courier(database, objects).deliver(
                lambda handled, _: report("send", handled, max(total, handled)), wait=True
            )
    assert delivery is not None
    if json:
        emit_json(
            {
                "archive": objects.remote.url,
                "lacking": lacking,
                "delivered": delivery.delivered,
                "bytes": delivery.size,
                "refused": dict(delivery.refused),
            }
        )
    elif delivery.refused:
        rows_table(("not delivered", "because"), delivery.refused)
    else:
        console().print(f"{delivery.delivered:,} objects sent; {objects.remote.url} has everything.")
    if delivery.refused:
        raise typer.Exit(1)
