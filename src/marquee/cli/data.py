"""Commands that bring data in: `ingest …` and `simulate`."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marquee.cli.output import JsonOption, bars, emit_json, fields_table
from marquee.cli.session import open_settings, run_pipeline, stores

if TYPE_CHECKING:
    from marquee.ingest.load import IngestReport

__all__ = ["register"]

_ingest = typer.Typer(help="Bring in a catalogue or viewing logs.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(help="CSV, JSONL or Parquet file; see docs/data-formats.md.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_ingest, name="ingest")
    app.command()(simulate)


@_ingest.command()
def sample(
    limit: Annotated[int, typer.Option(min=1, help="How many films, most popular first.")] = 200,
    json: JsonOption = False,
) -> None:
    """The catalogue that ships with Marquee; needs no key."""
    from marquee.ingest.sample import ingest_sample

    _ingested(json, lambda settings, db, obj, bar: ingest_sample(db, obj, limit=limit, progress=bar))


@_ingest.command()
def tmdb(
    movies: Annotated[int | None, typer.Option(min=1, max=10_000, help="How many popular films.")] = None,
    json: JsonOption = False,
) -> None:
    """Popular films of TMDB; needs MARQUEE_TMDB__BEARER_TOKEN or MARQUEE_TMDB__API_KEY."""
    from marquee.ingest.tmdb import ingest_tmdb

    def work(settings: Any, database: Any, objects: Any, bar: Any) -> "IngestReport":
        changed = {} if movies is None else {"movies": movies}
        return ingest_tmdb(database, objects, settings.tmdb.model_copy(update=changed), progress=bar)

    _ingested(json, work)


@_ingest.command()
def movielens(
    directory: Annotated[Path, typer.Argument(help="Directory or zip file of a MovieLens edition.")],
    ratings: Annotated[str | None, typer.Option(help="Name of the ratings file, if it is another.")] = None,
    links: Annotated[str | None, typer.Option(help="Name of the file with titles and TMDB ids.")] = None,
    facts: Annotated[str | None, typer.Option(help="Name of a file with TMDB facts.")] = None,
    json: JsonOption = False,
) -> None:
    """Ratings of a MovieLens edition, joined to TMDB ids."""
    from marquee.ingest.movielens import ingest_movielens

    _ingested(
        json,
        lambda settings, db, obj, bar: ingest_movielens(
            db, obj, directory, ratings=ratings, links=links, facts=facts, progress=bar
        ),
    )


@_ingest.command()
def items(path: FileArgument, json: JsonOption = False) -> None:
    """A catalogue of your own."""
    from marquee.ingest.tables import ingest_items

    _ingested(json, lambda settings, db, obj, bar: ingest_items(db, obj, path, progress=bar))


@_ingest.command()
def interactions(
    path: FileArgument,
    source: Annotated[str, typer.Option(help="Name of where the log comes from.")] = "log",
    json: JsonOption = False,
) -> None:
    """Viewing logs of your own."""
    from marquee.ingest.tables import ingest_interactions

    _ingested(
        json, lambda settings, db, obj, bar: ingest_interactions(db, obj, path, source=source, progress=bar)
    )


def simulate(
    users: Annotated[int | None, typer.Option(min=1, help="How many virtual users.")] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Over how many days they watch.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same audience.")] = None,
    json: JsonOption = False,
) -> None:
    """Let a virtual audience watch the catalogue."""
    settings = open_settings()
    chosen = {"users": users, "days": days, "seed": seed}
    parameters = {name: value for name, value in chosen.items() if value is not None}
    with stores(settings) as (database, objects):
        counts = run_pipeline(settings, database, objects, "simulate", parameters, quiet=json)
    _print(counts, json, "Virtual audience")


def _ingested(json: bool, work: "Callable[[Any, Any, Any, Any], IngestReport]") -> None:
    settings = open_settings()
    with stores(settings) as (database, objects), bars(quiet=json) as bar:
        report = work(settings, database, objects, lambda done, total: bar("ingest", done, total))
    _print(asdict(report), json, f"Ingested from {report.source}")


def _print(values: dict[str, Any], json: bool, title: str) -> None:
    if json:
        emit_json(values)
    else:
        fields_table(values, title=title)
