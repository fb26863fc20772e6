"""Commands about monitoring: `monitor run`, `monitor report`."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from marquee.cli.output import JsonOption, console, emit_json, fields_table, rows_table
from marquee.cli.session import open_settings, run_pipeline, stores

__all__ = ["register"]

monitor = typer.Typer(name="monitor", help="Watch the quality of answers, and drift.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(monitor)


@monitor.command("run")
def run(
    now: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S.%f%z"],
            help="The moment to look at, with time zone; default: the clock's.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Add up what came in, measure the answers of the last day, and look for drift."""
    from dataclasses import asdict

    from marquee.store.repositories import monitoring

    settings = open_settings()
    with stores(settings) as (database, objects):
        parameters = {} if now is None else {"now": now.isoformat()}
        counts = run_pipeline(settings, database, objects, "monitor", parameters, quiet=True)
        with database.begin() as connection:
            found = monitoring.newest(connection)
            alarms = monitoring.alarms(connection, open_only=True)
    assert found is not None
    if json:
        values = {"measured_at": found.measured_at, "seconds": found.seconds, **found.values}
        emit_json({**values, "alarms": [asdict(alarm) for alarm in alarms], "run_id": counts["run_id"]})
        return
    quality = found.values["quality"]
    shown: dict[str, Any] = {name: value for name, value in quality.items() if not isinstance(value, dict)}
    shown |= {f"label_delay_{part}_seconds": value for part, value in quality["label_delay_seconds"].items()}
    shown |= {
        f"{metric} of {arm}": value
        for metric, arms in quality["outcomes"].items()
        for arm, value in arms.items()
    }
    fields_table(
        {name.replace("_", " "): value for name, value in shown.items()}, title="Answers of the last day"
    )
    rows_table(
        ("kind", "feature", "psi", "p", "effect", "before", "from", "drift"),
        [
            (
                each["kind"],
                each["feature"],
                each["psi"],
                each["p_value"],
                *[*each["effects"], None, None][:2],
                each["threshold"],
                "yes" if each["alarming"] else "no",
            )
            for each in found.values["drift"]
        ],
        title="Drift",
    )
    if alarms:
        rows_table(
            ("alarm", "kind", "since", "retraining"),
            [(each.alarm_id, each.kind, f"{each.raised_at:%Y-%m-%d %H:%M}", each.run_id) for each in alarms],
            title="Open alarms",
        )
    else:
        console().print("No open alarms.")


@monitor.command("report")
def report(
    output: Annotated[Path, typer.Option(help="File to write.")] = Path("monitoring.html"),
    days: Annotated[int, typer.Option(min=1, max=3650, help="How far back.")] = 30,
) -> None:
    """Write what was measured as one HTML page with plots."""
    from datetime import UTC, timedelta

    from marquee.monitoring.report import write_report
    from marquee.store.repositories import monitoring

    with stores(open_settings()) as (database, _), database.begin() as connection:
        newest = monitoring.newest(connection)
        until = datetime.now(UTC) if newest is None else newest.measured_at
        results = monitoring.history(connection, until - timedelta(days=days))
        alarms = monitoring.alarms(connection)
    write_report(results, alarms, output)
    console().print(f"{len(results):,} results in {output}")
