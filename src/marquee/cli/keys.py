"""`marquee keys`: who may use the API."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from marquee.cli.output import JsonOption, console, emit_json, rows_table
from marquee.cli.session import open_settings, stores

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["register"]

RoleOption = Annotated[
    Literal["viewer", "service", "operator"],
    typer.Option(
        "--role",
        help="viewer reads; service reads and sends events for any user; operator does everything.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="API keys: create, list, revoke.", no_args_is_help=True)
    group.command()(create)
    group.command("list")(list_keys)
    group.command()(revoke)
    app.add_typer(group, name="keys")


def create(
    name: Annotated[str, typer.Argument(help="Whose key it is, for people.")],
    role: RoleOption,
    json: JsonOption = False,
) -> None:
    """Make a key and show it this one time."""
    from dataclasses import asdict

    from marquee.store.repositories import keys

    with stores(open_settings()) as (database, _), database.begin() as connection:
        made, key = keys.create(connection, name, role)
    if json:
        emit_json({**asdict(made), "key": key})
        return
    typer.echo(key)
    console(stderr=True).print(
        f"The key {made.key_id} of {made.name!r} ({made.role}). It is shown this once; send it as "
        f"'Authorization: Bearer …'.",
        markup=False,
    )


def list_keys(json: JsonOption = False) -> None:
    """All keys, revoked ones too; never the keys themselves."""
    from dataclasses import asdict

    from marquee.store.repositories import keys

    with stores(open_settings()) as (database, _), database.begin() as connection:
        found = keys.everything(connection)
    if json:
        emit_json([asdict(key) for key in found])
        return
    rows_table(
        ("key", "name", "role", "created", "last used", "revoked"),
        [
            (
                key.key_id,
                key.name,
                key.role,
                *(_day(time) for time in (key.created_at, key.last_used_at, key.revoked_at)),
            )
            for key in found
        ],
    )


def revoke(
    key_id: Annotated[str, typer.Argument(help="As `marquee keys list` shows it.")], json: JsonOption = False
) -> None:
    """End a key: within a second no process takes it any more."""
    from dataclasses import asdict

    from marquee.store.repositories import keys

    with stores(open_settings()) as (database, _), database.begin() as connection:
        revoked = keys.revoke(connection, key_id)
    if json:
        emit_json(asdict(revoked))
    else:
        typer.echo(f"The key {revoked.key_id} of {revoked.name!r} is revoked.")


def _day(time: "datetime | None") -> str | None:
    return None if time is None else f"{time:%Y-%m-%d %H:%M:%S}"
