"""Commands that bring data in: `ingest …` and `simulate`."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from marquee.cli.output import JsonOption, bars, emit_json, fields_table, rows_table
from marquee.cli.session import open_settings, run_pipeline, stores

if TYPE_CHECKING:
    from marquee.config import Settings
    from marquee.ingest.load import IngestReport
    from marquee.simulate import DriftConfig

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
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed gives the same audience.")] = None,
    live: Annotated[
        str | None, typer.Option(metavar="URL", help="Let them visit a running API instead.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="With --live: for how long visits begin.")] = 30,
    rate: Annotated[float, typer.Option(min=0.01, help="With --live: visits per second.")] = 20,
    key: Annotated[str | None, typer.Option(help="With --live: an API key, where the API has any.")] = None,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="With --live: an API on another machine is meant.")
    ] = False,
    drift: Annotated[
        Literal["taste", "releases", "popularity", "feed"] | None,
        typer.Option(
            help="With --live: what changes on the way: tastes, new films come out, one film is watched by "
            "all, or clients break.",
        ),
    ] = None,
    drift_after: Annotated[int, typer.Option(min=0, help="With --drift: visits before it.")] = 0,
    drift_strength: Annotated[
        float, typer.Option(help="With --drift: how much changes, above 0 and at most 1.")
    ] = 0.8,
    json: JsonOption = False,
) -> None:
    """
    Let a virtual audience watch the catalogue.

    With --live it visits a running API: it asks for recommendations and views, clicks, watches and rates by
    its tastes, which are those of MARQUEE_AUDIENCE__SEED; --seed is then of what it does.
    """
    from marquee.simulate import DriftConfig

    settings = open_settings()
    change = None if drift is None else DriftConfig(drift, drift_after, drift_strength)
    if live is not None:
        if days is not None:
            raise ValueError("--days is of simulated viewing; with --live it is --seconds")
        given: dict[str, Any] = {"users": users, "rate": rate, "seconds": seconds, "seed": seed}
        chosen = {name: value for name, value in given.items() if value is not None}
        _play(settings, live, chosen, change, key, allow_remote, json)
        return
    if change is not None:
        raise ValueError("--drift is of an audience that visits an API; add --live URL")
    chosen = {"users": users, "days": days, "seed": seed}
    parameters = {name: value for name, value in chosen.items() if value is not None}
    with stores(settings) as (database, objects):
        counts = run_pipeline(settings, database, objects, "simulate", parameters, quiet=json)
    _print(counts, json, "Virtual audience")


def _play(
    settings: "Settings",
    url: str,
    chosen: dict[str, Any],
    drift: "DriftConfig | None",
    key: str | None,
    allow_remote: bool,
    json: bool,
) -> None:
    """Have an audience visit an API."""
    import asyncio

    import httpx

    from marquee.errors import SourceUnavailableError
    from marquee.simulate import AudienceConfig, LiveConfig
    from marquee.simulate.live import LiveReport, check_address, fetch_world, play

    config = LiveConfig(**chosen)
    audience = AudienceConfig(users=max(config.users, settings.audience.users), seed=settings.audience.seed)
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    address = check_address(url, allow_remote=allow_remote)

    async def visit() -> LiveReport:
        async with httpx.AsyncClient(base_url=address, headers=headers, timeout=30) as client:
            try:
                world = await fetch_world(client, audience)
            except httpx.HTTPError as error:
                raise SourceUnavailableError(
                    f"The API at {address} gives no catalogue: {error}.",
                    fix="Start it with `marquee serve`; where it has keys, send one with --key.",
                ) from error
            try:
                return await play(client, world, config, drift)
            except httpx.HTTPError as error:
                raise SourceUnavailableError(
                    f"The API at {address} takes no new films: {error}.",
                    fix="Where it has keys, send one of the role operator with --key.",
                ) from error

    made = asyncio.run(visit()).as_json()
    bundles = made.pop("bundles")
    if json:
        emit_json({**made, "bundles": bundles})
        return
    fields_table(made, title=f"Visited {address}")
    rows_table(
        ("bundle", "answers", "click rate", "mean true affinity"),
        [
            (name, each["answers"], each["click_rate"], each["mean_affinity"])
            for name, each in bundles.items()
        ],
    )


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
