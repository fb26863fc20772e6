"""Commands against loss: `backup`, `restore`, `drill`."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marquee.cli.output import JsonOption, bars, emit_json, fields_table, rows_table
from marquee.cli.session import open_settings, run_pipeline, stores

if TYPE_CHECKING:
    from marquee.config import Settings
    from marquee.store.postgres import Database

__all__ = ["register"]

_backup = typer.Typer(help="Back up all tables; see docs/runbooks/restore.md.", invoke_without_command=True)

BackupArgument = Annotated[
    str | None, typer.Argument(metavar="BACKUP", help="Its name or the beginning of it; default: the newest.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_backup, name="backup")
    for command in (restore, drill):
        app.command()(command)


@_backup.callback()
def backup(
    context: typer.Context,
    full: Annotated[bool, typer.Option("--full", help="Read everything anew, not only what is new.")] = False,
    keep_all: Annotated[bool, typer.Option("--keep-all", help="Let nothing old go.")] = False,
    json: JsonOption = False,
) -> None:
    """Write a backup of all tables, and prove that it can be read."""
    if context.invoked_subcommand is not None:
        return
    settings = open_settings()
    with stores(settings) as (database, objects):
        parameters = {"full": full, "prune": not keep_all}
        counts = run_pipeline(settings, database, objects, "backup", parameters, quiet=json)
    _print(counts, json, "Backup")


@_backup.command("list")
def list_backups(json: JsonOption = False) -> None:
    """The backups, newest first."""
    from marquee.errors import StoreError, StoreUnavailableError
    from marquee.store.backups import Vault

    vault = Vault(_objects(open_settings()))
    rows: list[dict[str, Any]] = []
    for key in reversed(vault.manifests()):
        name = key.rpartition("/")[2].removesuffix(".json")
        try:
            found = vault.read(key)
        except StoreUnavailableError:
            raise
        except StoreError as error:
            rows.append({"backup": name, "error": error.message})
            continue
        size = {"rows": found.rows, "bytes": found.size, "missing": len(found.missing)}
        rows.append({"backup": name, "created_at": found.created_at, "revision": found.revision, **size})
    if json:
        emit_json(rows)
        return
    columns = ("backup", "created_at", "revision", "rows", "bytes", "error")
    rows_table(columns, [[row.get(column) for column in columns] for row in rows])


@_backup.command()
def verify(name: BackupArgument = None, json: JsonOption = False) -> None:
    """Read all that a backup needs and name what is damaged; exit code 1 where anything is."""
    from dataclasses import asdict

    from marquee.store.backups import Vault
    from marquee.store.backups import verify as look

    objects = _objects(open_settings())
    with bars(quiet=json) as bar:
        verdict = look(objects, Vault(objects).find(name), told=bar)
    if json:
        emit_json({**asdict(verdict), "whole": verdict.whole})
    else:
        fields_table(
            {"backup": verdict.backup, "objects": verdict.objects, "bytes read": verdict.size},
            title="Whole" if verdict.whole else "Damaged",
        )
        if not verdict.whole:
            rows_table(("object", "what is wrong"), list(verdict.damaged.items()))
    if not verdict.whole:
        raise typer.Exit(1)


@_backup.command()
def prune(
    keep_daily: Annotated[
        int | None, typer.Option(min=0, help="Days whose newest backup stays; default: as set.")
    ] = None,
    keep_weekly: Annotated[
        int | None, typer.Option(min=0, help="Weeks whose newest backup stays; default: as set.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json: JsonOption = False,
) -> None:
    """Let old backups go, and objects that no other backup needs."""
    from dataclasses import asdict

    from marquee.store.backups import prune as let_go

    settings = open_settings()
    daily = settings.backup.keep_daily if keep_daily is None else keep_daily
    weekly = settings.backup.keep_weekly if keep_weekly is None else keep_weekly
    with stores(settings) as (database, objects):
        pruned = let_go(database, objects, daily=daily, weekly=weekly, dry_run=dry_run)
    if json:
        emit_json(asdict(pruned))
        return
    counts = {"kept": len(pruned.kept), "removed": len(pruned.removed)}
    title = "Would be pruned" if dry_run else "Pruned"
    fields_table({**counts, "objects": pruned.objects, "bytes": pruned.size}, title=title)


def restore(
    name: BackupArgument = None,
    into: Annotated[
        str | None,
        typer.Option(metavar="URL", help="An empty PostgreSQL database; default: that of the settings."),
    ] = None,
    tables: Annotated[
        str | None, typer.Option(help="Only these, separated by commas; the others stay empty.")
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d"],
            help="The newest backup before this time (UTC), and raw files from then until this time again.",
        ),
    ] = None,
    erasures_from: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Who knows who was erased since; default: the database of the settings, if it answers.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Verify all that it needs and change nothing.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Load a backup into an empty database: all of it or nothing."""
    from dataclasses import asdict
    from datetime import UTC

    from marquee.pipelines.recovery import recover

    settings = open_settings()
    objects = _objects(settings)
    chosen = [table.strip() for table in tables.split(",") if table.strip()] if tables else []
    moment = until.replace(tzinfo=UTC) if until is not None else None
    with _unprepared(settings, into, dry_run) as database, bars(quiet=json) as bar:
        done = recover(
            settings,
            database,
            objects,
            name,
            until=moment,
            erasures_from=erasures_from,
            tables=chosen,
            dry_run=dry_run,
            told=bar,
        )
    _print(asdict(done), json, "Would be restored" if dry_run else "Restored")


def drill(
    folder: Annotated[
        Path | None, typer.Option(help="For the scratch homes; default: a temporary one.")
    ] = None,
    users: Annotated[int, typer.Option(min=1, help="Virtual users of the drill.")] = 100,
    json: JsonOption = False,
) -> None:
    """
    Lose everything on purpose, on a scratch home, and bring it back.

    Pipeline, backup, database and home dropped, restore: all tables must be byte-equal and everyone's
    recommendations the same. Where there is an archive, a folder of its own there is used and removed
    again; nothing of this deployment is touched.
    """
    from dataclasses import asdict

    from marquee.pipelines.drill import run_drill

    settings = open_settings()
    with bars(quiet=json) as bar:
        report = run_drill(settings, folder, users=users, told=bar)
    _print(asdict(report), json, "Drill passed" if report.passed else "Drill failed")
    if not report.passed:
        raise typer.Exit(1)


def _objects(settings: "Settings") -> Any:
    """The object store; backups are looked at without a database."""
    from marquee.store.objects import ObjectStore

    return ObjectStore.of(settings)


@contextmanager
def _unprepared(settings: "Settings", url: str | None, dry_run: bool) -> "Iterator[Database | None]":
    """The database to restore into, untouched; none where nothing is to be changed."""
    from marquee.store.postgres import Database

    if dry_run:
        yield None
        return
    if url is not None:
        settings = settings.model_copy(update={"database": settings.database.at(url)})
    with Database.open(settings, prepare=False) as database:
        yield database


def _print(values: dict[str, Any], json: bool, title: str) -> None:
    if json:
        emit_json(values)
    else:
        fields_table({name: value for name, value in values.items() if value is not None}, title=title)
