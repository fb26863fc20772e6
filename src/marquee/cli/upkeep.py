"""Commands about Marquee itself: `doctor`, `paths`, `runs`, `docs`."""

from pathlib import Path
from typing import Annotated

import typer

from marquee.cli.output import JsonOption, console, emit_json, rows_table, summary
from marquee.cli.session import open_settings, stores

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (doctor, paths, runs):
        app.command()(command)
    app.command(hidden=True)(docs)


def doctor(json: JsonOption = False) -> None:
    """Check Python, disk, ports, database, object store, TMDB key and model, and say how to mend each."""
    from marquee.cli.checks import run_checks

    checks = run_checks(open_settings(log_level="error"))
    failed = any(check.state == "failed" for check in checks)
    if json:
        emit_json({"ok": not failed, "checks": [check.as_dict() for check in checks]})
    else:
        marks = {"ok": "[green]ok[/green]", "note": "[yellow]note[/yellow]", "failed": "[red]failed[/red]"}
        rows_table(
            ("check", "", "found", "to mend"),
            [(check.name, marks[check.state], check.found, check.fix) for check in checks],
        )
    if failed:
        raise typer.Exit(1)


def paths(
    json: JsonOption = False,
    shell: Annotated[
        bool, typer.Option("--shell", help="Print shell variables: eval $(marquee paths --shell)")
    ] = False,
) -> None:
    """Where data, models, checkpoints and logs live."""
    import shlex

    places = open_settings().paths.as_dict()
    if json:
        emit_json({name: str(path) for name, path in places.items()})
    elif shell:
        for name, path in places.items():
            typer.echo(
                f"export MARQUEE_{name.upper()}{'' if name == 'home' else '_DIR'}={shlex.quote(str(path))}"
            )
    else:
        rows_table(("what", "where"), list(places.items()))


def runs(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20, json: JsonOption = False
) -> None:
    """The newest pipeline runs; with --json their whole ids, as the API wants them."""
    from dataclasses import asdict

    from marquee.store.repositories import runs as repository

    with stores(open_settings()) as (database, _), database.begin() as connection:
        found = repository.recent(connection, limit=limit)
    if json:
        emit_json([asdict(run) for run in found])
        return
    rows_table(
        ("run", "pipeline", "status", "started", "seconds", "result"),
        [
            (
                str(run.run_id)[:8],
                run.pipeline,
                run.status,
                run.started_at and f"{run.started_at:%Y-%m-%d %H:%M:%S}",
                run.finished_at
                and run.started_at
                and f"{(run.finished_at - run.started_at).total_seconds():.1f}",
                run.error or summary(run.pipeline, run.counts),
            )
            for run in found
        ],
    )


def docs(
    write: Annotated[Path | None, typer.Option(help="Directory of the documentation.")] = None,
    check: Annotated[Path | None, typer.Option(help="Only compare; exit 1 when a page is stale.")] = None,
    openapi: Annotated[Path | None, typer.Option(help="Write the OpenAPI document to this file.")] = None,
) -> None:
    """Write what is generated: pages of the documentation, and the document that clients are made from."""
    from marquee.cli.reference import generated_pages, openapi_document

    if openapi is not None:
        openapi.write_text(openapi_document(), "utf-8")
    stale = []
    for name, content in generated_pages().items():
        if write is not None:
            (write / name).write_text(content, "utf-8")
        if check is not None and (check / name).read_text("utf-8") != content:
            stale.append(name)
    if stale:
        console(stderr=True).print(f"Stale: {', '.join(stale)}. Run: make docs")
        raise typer.Exit(1)
