"""Commands that train models and make recommendations."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marquee.cli.output import JsonOption, emit_json, fields_table, rows_table, summary
from marquee.cli.session import open_settings, run_pipeline, stores

if TYPE_CHECKING:
    from marquee.config import Settings

__all__ = ["register"]

_pipeline = typer.Typer(help="Run the pipeline of data, training and inference.", no_args_is_help=True)

ModelOption = Annotated[str, typer.Option("--model", "-m", help="A model name or package.module:Class.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="JSON or TOML file with hyper-parameters.", exists=True)
]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="One hyper-parameter, name=value.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_pipeline, name="pipeline")
    for command in (train, infer, recommend):
        app.command()(command)


def train(
    model: ModelOption = "mlp",
    config: ConfigOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Train a model on all interactions: it becomes the challenger. `all` trains every model."""
    settings = open_settings()
    chosen = _hyper_parameters(config, set_)
    if model == "all":
        _train_all(settings, chosen, json)
        return
    parameters = {"model": model, "config": chosen}
    with stores(settings) as (database, objects):
        counts = run_pipeline(settings, database, objects, "train", parameters, quiet=json)
    _print(counts, json, f"Trained {model}")


def infer(
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="List length.")] = 20, json: JsonOption = False
) -> None:
    """Compute the top-k of every user with the champion."""
    settings = open_settings()
    with stores(settings) as (database, objects):
        counts = run_pipeline(settings, database, objects, "infer", {"k": k}, quiet=json)
    _print(counts, json, "Batch inference")


def recommend(
    user: Annotated[int, typer.Option("--user", "-u", help="User id; an unknown user gets popular items.")],
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="List length.")] = 10,
    json: JsonOption = False,
) -> None:
    """Recommend items to a user now, with their newest events."""
    from marquee.pipelines.infer import recommend_user

    settings = open_settings()
    with stores(settings) as (database, objects):
        rows = recommend_user(settings, database, objects, user, k)
    if json:
        emit_json(rows)
    else:
        rows_table(
            ("rank", "item", "title", "score"),
            [(row["rank"], str(row["item_id"]), row["title"], f"{row['score']:.4f}") for row in rows],
            title=f"For user {user}",
        )


@_pipeline.command("run")
def pipeline_run(
    model: ModelOption = "mlp",
    config: ConfigOption = None,
    set_: SetOption = None,
    k: Annotated[int, typer.Option("-k", min=1, max=1000, help="List length of batch inference.")] = 20,
    json: JsonOption = False,
) -> None:
    """Prepare data, train a model, promote it if it passes the gate, and compute everyone's top-k."""
    settings = open_settings()
    steps: dict[str, dict[str, Any]] = {
        "prepare": {},
        "train": {"model": model, "config": _hyper_parameters(config, set_)},
        "promote": {},
        "infer": {"k": k},
    }
    with stores(settings) as (database, objects):
        counts = {
            name: run_pipeline(settings, database, objects, name, parameters, quiet=json)
            for name, parameters in steps.items()
        }
    if json:
        emit_json(counts)
    else:
        rows_table(
            ("step", "result"),
            [(name, summary(name, made)) for name, made in counts.items()],
        )


def _train_all(settings: "Settings", config: Mapping[str, Any], json: bool) -> None:
    """Every model that can be trained here, on one snapshot."""
    from marquee.models import trainable_models
    from marquee.pipelines.snapshots import take_snapshot

    if config:
        raise ValueError("Hyper-parameters are those of one model; leave them out with --model all")
    made: dict[str, dict[str, Any]] = {}
    with stores(settings) as (database, objects):
        snapshot = take_snapshot(database, objects).key
        for name in trainable_models():
            parameters = {"model": name, "snapshot": snapshot}
            made[name] = run_pipeline(settings, database, objects, "train", parameters, quiet=json)
    if json:
        emit_json(made)
    else:
        rows_table(("model", "version"), [(name, counts["version"]) for name, counts in made.items()])


def _hyper_parameters(config: Path | None, assignments: list[str] | None) -> dict[str, Any]:
    """Those of the file, then those of the command line, read as JSON where they can be."""
    import json
    import tomllib

    values: dict[str, Any] = {}
    if config is not None:
        text = config.read_text("utf-8")
        values |= tomllib.loads(text) if config.suffix == ".toml" else json.loads(text)
    for assignment in assignments or []:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set takes name=value, not {assignment!r}")
        try:
            values[name] = json.loads(value)
        except json.JSONDecodeError:
            values[name] = value
    return values


def _print(values: dict[str, Any], json: bool, title: str) -> None:
    if json:
        emit_json(values)
    else:
        fields_table(values, title=title)
