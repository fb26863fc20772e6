"""Commands about the feature store: `features apply`, `features materialize`, `features get`."""

from contextlib import closing
from typing import Annotated, Any

import typer

from marquee.cli.output import JsonOption, emit_json, fields_table, rows_table
from marquee.cli.session import open_settings, run_pipeline, stores

__all__ = ["register"]

features = typer.Typer(
    name="features",
    help="Features of items and users as of moments, in Feast or built in.",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(features)


@features.command()
def apply(json: JsonOption = False) -> None:
    """Register the views of the newest features with Feast; needs the extra `feast`."""
    from marquee.pipelines.features import apply_views

    settings = open_settings()
    with stores(settings) as (database, objects):
        views = apply_views(settings, database, objects)
    if json:
        emit_json({"views": views})
    else:
        rows_table(("view",), [(view,) for view in views], title="Registered")


@features.command()
def materialize(
    snapshot: Annotated[
        str | None, typer.Option(help="Id of a snapshot of the data; default: the data as it is now.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Take the features of now and of the past; with MARQUEE_FEATURES__STORE=feast, load them into Feast."""
    parameters = {} if snapshot is None else {"snapshot": snapshot}
    settings = open_settings()
    with stores(settings) as (database, objects):
        counts = run_pipeline(settings, database, objects, "features", parameters, quiet=json)
    _print(counts, json, "Features")


@features.command()
def get(
    user: Annotated[int | None, typer.Option(help="Features of this user.")] = None,
    item: Annotated[int | None, typer.Option(help="Numeric features of this item.")] = None,
    json: JsonOption = False,
) -> None:
    """Newest features of a user or an item, as a request would get them."""
    from marquee.errors import NotFoundError
    from marquee.pipelines.features import open_store

    if (user is None) == (item is None):
        raise ValueError("name either --user or --item")
    settings = open_settings()
    with stores(settings) as (database, objects), closing(open_store(settings, database, objects)) as store:
        found: dict[str, Any] | None
        if user is not None:
            row = store.user(user)
            found = None if row is None else dict(row)
        else:
            assert item is not None
            matrix = store.items()
            known = matrix.ids.index([item])[0] >= 0
            values = dict(zip(matrix.names, matrix.rows([item])[0].tolist(), strict=True))
            found = {"item_id": item, **values} if known else None
    if found is None:
        who = f"item {item}" if user is None else f"user {user}"
        raise NotFoundError(f"There are no features of {who}.", fix="Run: marquee features materialize")
    _print(found, json, "Features")


def _print(values: dict[str, Any], json: bool, title: str) -> None:
    if json:
        emit_json(values)
    else:
        fields_table({name.replace("_", " "): value for name, value in values.items()}, title=title)
