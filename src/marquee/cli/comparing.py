"""Commands that compare recommenders and search their hyper-parameters: `evaluate` and `tune`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marquee.cli.output import JsonOption, bars, console, emit_json, fields_table
from marquee.cli.session import open_settings, stores

if TYPE_CHECKING:
    from marquee.config import Settings
    from marquee.data import Catalog, Histories, Interactions, RankedItems
    from marquee.evaluation import Evaluation
    from marquee.models.base import Progress

    Data = tuple[Interactions, Catalog | None]
    KnownBest = Callable[[Histories, int], RankedItems]

__all__ = ["register"]

PROTOCOLS = ("rolling", "global", "last")

RatingsOption = Annotated[
    Path | None, typer.Option(help="Ratings file (MovieLens or own log); default: the database.")
]
ItemsOption = Annotated[Path | None, typer.Option(help="File of the items in the ratings.")]
FactsOption = Annotated[Path | None, typer.Option(help="File of TMDB facts, joined by the items' tmdb_id.")]
ProtocolOption = Annotated[str, typer.Option(help="rolling, global or last; docs/recommenders.md explains.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(evaluate)
    app.command()(tune)


def evaluate(
    ratings: RatingsOption = None,
    items: ItemsOption = None,
    facts: FactsOption = None,
    protocol: ProtocolOption = "rolling",
    models: Annotated[str, typer.Option(help="Names joined by commas, or all.")] = "all",
    reference: Annotated[
        str | None, typer.Option(help="Model to compare with; default: the champion's, else the best.")
    ] = None,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Judge on a virtual audience, whose best ranking is known.")
    ] = False,
    tuning: Annotated[bool, typer.Option("--tuning", help="Tuning windows instead of test windows.")] = False,
    min_rating: Annotated[
        float | None, typer.Option(help="Only rows rated at least this (0–10) are ground truth.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write an HTML page with plots and CSV files here.")
    ] = None,
    track: Annotated[bool, typer.Option("--track/--no-track", help="Log the run to MLflow.")] = True,
    json: JsonOption = False,
) -> None:
    """Compare recommenders under one protocol: full ranking, nothing later than the cut, intervals."""
    from marquee.evaluation import evaluate as run_evaluation
    from marquee.evaluation.report import to_dicts, to_table, write_report

    settings = open_settings()
    chosen = _models(models)
    protocol = _one_of(protocol, PROTOCOLS)
    known_best = None
    if simulated:
        (interactions, catalog), known_best = _audience(settings)
    else:
        interactions, catalog = _data(settings, ratings, items, facts)
    with _bar("evaluate", quiet=json) as progress:
        made = run_evaluation(
            {name: _factory(name) for name in chosen},
            interactions,
            catalog,
            protocol,  # type: ignore[arg-type]
            stage="tuning" if tuning else "test",
            min_rating=min_rating,
            known_best=known_best,
            cache=settings.paths.evaluations,
            progress=progress,
        )
    if reference is None and ratings is None:
        reference = _champion(settings, chosen)
    if track:
        _track(settings, made, protocol)
    if report is not None:
        page = write_report(made, report, reference)
        console(stderr=True).print(f"Report: {page}")
    if json:
        emit_json(to_dicts(made))
    else:
        console(minimum_width=150).print(to_table(made, reference))


def tune(
    model: Annotated[str, typer.Argument(help="Model name.")],
    minutes: Annotated[float | None, typer.Option(help="Budget of this session.")] = None,
    trials: Annotated[int | None, typer.Option(help="Trials to reach, earlier sessions counted.")] = None,
    ratings: RatingsOption = None,
    items: ItemsOption = None,
    facts: FactsOption = None,
    protocol: ProtocolOption = "rolling",
    json: JsonOption = False,
) -> None:
    """Search a model's hyper-parameters on the tuning windows; a search goes on where it was stopped."""
    from marquee.evaluation.tune import tune as run_search
    from marquee.models import model_class

    settings = open_settings()
    interactions, catalog = _data(settings, ratings, items, facts)
    (settings.home / "searches").mkdir(parents=True, exist_ok=True)
    with _bar(f"tune {model}", quiet=json) as progress:
        found = run_search(
            model_class(model),
            interactions,
            catalog,
            minutes=minutes,
            trials=trials if trials is not None or minutes is not None else 50,
            storage=settings.home / "searches" / f"{model.replace(':', '-')}.journal",
            protocol=_one_of(protocol, PROTOCOLS),  # type: ignore[arg-type]
            progress=progress,
        )
    result = {"model": model, "tuning_ndcg_at_10": found.value, "trials": len(found.trials)}
    if json:
        emit_json({**result, "config": found.config.to_dict()})
    else:
        fields_table({**result, **found.config.to_dict()}, title=f"Best of {len(found.trials)} trials")


def _models(names: str) -> list[str]:
    from marquee.models import model_class, trainable_models

    if names == "all":
        return trainable_models()
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    for name in chosen:
        model_class(name)
    return chosen


def _factory(name: str) -> Callable[[], Any]:
    from marquee.models import model_class

    return model_class(name)


def _one_of(value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"{value!r} is none of {', '.join(known)}")
    return value


def _data(settings: "Settings", ratings: Path | None, items: Path | None, facts: Path | None) -> "Data":
    if ratings is not None:
        from marquee.ingest.files import read_files

        found = read_files(ratings, items, facts)
        if found.rejected:
            console(stderr=True).print(f"{found.rejected} rows break the contract and are left out.")
        if found.changing_facts is not None:
            _refuse_later_facts(found.interactions, found.changing_facts)
        return found.interactions, found.catalog
    if items is not None or facts is not None:
        raise ValueError("--items and --facts go with --ratings")
    from marquee.store.repositories import interactions as interaction_rows
    from marquee.store.repositories import items as item_rows

    with stores(settings) as (database, _):
        return interaction_rows.load(database), item_rows.load_catalog(database)


def _refuse_later_facts(interactions: "Interactions", facts: Any) -> None:
    """Say that popularity and votes are not used, and why they could not be."""
    from marquee.data.leaks import check_facts
    from marquee.errors import DataError

    ordered = interactions.sorted()
    first_cut = int(ordered.timestamps[round(len(ordered) / 2)]) if len(ordered) else 0
    try:
        check_facts(facts, first_cut)
    except DataError as refusal:
        console(stderr=True).print(f"Not used: {refusal.message}")


def _audience(settings: "Settings") -> "tuple[Data, KnownBest]":
    """A virtual audience over the catalogue of the database, and its best lists."""
    from marquee.data import Interactions
    from marquee.pipelines.prepare import virtual_audience

    with stores(settings) as (database, _):
        audience, catalog = virtual_audience(settings, database)
    made = audience.simulate()

    def known_best(histories: "Histories", k: int) -> "RankedItems":
        users = histories.user_ids[histories.rows]
        seen = Interactions.of(users, histories.item_ids, histories.timestamps)
        return made.truth.expected_ranking(histories.user_ids, k, exclude=seen)

    return (made.interactions, catalog), known_best


def _champion(settings: "Settings", chosen: list[str]) -> str | None:
    from marquee.store.repositories import deployments

    with stores(settings) as (database, _), database.begin() as connection:
        deployed = deployments.current(connection, "champion")
    return deployed.model if deployed is not None and deployed.model in chosen else None


def _track(settings: "Settings", made: "Evaluation", protocol: str) -> None:
    from marquee.evaluation.report import to_dicts
    from marquee.registry import Registry

    registry = Registry(settings)
    for row in to_dicts(made):
        if row["kind"] != "model":
            continue
        facts = {"model": row["model"], "protocol": protocol, "stage": made.stage, "queries": made.n_queries}
        with registry.run(
            f"evaluate {row['model']}", parameters=facts, tags={"marquee.kind": "evaluation"}
        ) as run:
            run.log(_figures(row))


def _figures(row: Mapping[str, Any]) -> dict[str, float]:
    overall = {name: value for name, value in row.items() if isinstance(value, float)}
    slices = {
        f"{part}/ndcg_at_10": values["ndcg_at_10"]
        for part, values in row["slices"].items()
        if values["ndcg_at_10"] is not None
    }
    return overall | slices


@contextmanager
def _bar(step: str, *, quiet: bool) -> "Iterator[Progress]":
    from marquee.models.base import Progress

    with bars(quiet=quiet) as report:

        class Bar(Progress):
            done, steps = 0, 0

            def total(self, steps: int, unit: str) -> None:
                self.done, self.steps = 0, steps
                report(step, 0, steps)

            def step(self, metrics: Mapping[str, float] | None = None) -> None:
                self.done += 1
                report(step, self.done, self.steps)

        yield Bar()
