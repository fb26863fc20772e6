"""The command that carries over what an older release left: `upgrade`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marquee.cli.output import JsonOption, bars, console, emit_json, rows_table
from marquee.cli.session import open_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from marquee.pipelines.upgrade import Part

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(upgrade)


def upgrade(
    check: Annotated[
        bool, typer.Option("--check", help="Only say what is due; exit 1 if anything is.")
    ] = False,
    clean: Annotated[
        bool, typer.Option("--clean", help="Remove the old files that an earlier upgrade kept.")
    ] = False,
    old_binaries: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Programs of the older PostgreSQL; default: where systems have them."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """
    Carry over what an older release left: embedded PostgreSQL, schema, bundles.

    Back up first (`marquee backup`) and stop Marquee, unless the database is another server's. It can be
    killed at any moment and repeated; where nothing is due, nothing is done. See docs/upgrading.md.
    """
    from marquee.pipelines import upgrade as pipeline
    from marquee.store import majors

    settings = open_settings()
    if check:
        parts = pipeline.look(settings)
        _print(parts, majors.kept_files(settings.paths), json=json)
        if any(part.due for part in parts):
            raise typer.Exit(1)
        return
    earlier = majors.kept_files(settings.paths) if clean else []  # not what is kept only now
    with bars(quiet=json) as bar:
        parts = pipeline.upgrade(settings, old_binaries=old_binaries, told=bar)
    removed = [path for path in earlier if path.exists()]
    majors.remove_kept_files(removed)
    _print(parts, majors.kept_files(settings.paths), json=json, removed=removed)


def _print(
    parts: "Sequence[Part]", kept: "Sequence[Path]", *, json: bool, removed: "Sequence[Path] | None" = None
) -> None:
    """What was found, what is or was due, and what old files there are."""
    from dataclasses import asdict

    if json:
        made: dict[str, Any] = {"due": any(part.due for part in parts)} if removed is None else {}
        made["parts"] = [asdict(part) for part in parts]
        made["kept"] = [str(path) for path in kept]
        if removed is not None:
            made["removed"] = [str(path) for path in removed]
        emit_json(made)
        return
    columns = ("what", "found", "needed", "due" if removed is None else "done")
    words = {True: "yes", False: "no", None: None}
    rows_table(
        columns,
        [
            (part.name, part.found, part.wanted, words[part.due] if removed is None else part.done)
            for part in parts
        ],
    )
    out = console()
    if not any(part.due for part in parts):
        out.print("Nothing is due.")
    for note in (note for part in parts for note in part.notes):
        out.print(f"[yellow]Note[/yellow] {note}", soft_wrap=True)
    for path in removed or ():
        out.print(f"Removed {path}", soft_wrap=True)
    if kept:
        names = ", ".join(str(path) for path in kept)
        out.print(f"Old files are kept: {names}. Once all is well: marquee upgrade --clean", soft_wrap=True)
