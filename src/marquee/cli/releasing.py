"""Commands that decide what serves: `promote`, `rollback`, `models`, `shadow`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from marquee.cli.output import JsonOption, console, emit_json, fields_table, rows_table
from marquee.cli.session import open_settings, run_pipeline, stores, who

if TYPE_CHECKING:
    from marquee.store.repositories.deployments import Deployment, Slot

__all__ = ["register"]

REFUSED = 3
"""Exit code of `promote --strict` when nothing was promoted."""
SLOTS: "tuple[Slot, ...]" = ("champion", "predictor")
VERDICTS = {
    "passed": "promoted",
    "forced": "promoted by force",
    "refused": "refused",
    "waiting": "waits for approval",
}

SlotOption = Annotated[str, typer.Option("--slot", help=f"One of {', '.join(SLOTS)}.")]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Why; recorded with the deployment.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (promote, rollback, models, shadow):
        app.command()(command)


def promote(
    version: Annotated[str | None, typer.Argument(help="Version; default: the newest challenger.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Whatever the gate says; needs --reason.")] = False,
    reason: ReasonOption = None,
    require_approval: Annotated[
        bool, typer.Option("--require-approval", help="If it passes, let it wait for an operator.")
    ] = False,
    approve: Annotated[bool, typer.Option("--approve", help="Promote what passed and waits.")] = False,
    slot: SlotOption = "champion",
    strict: Annotated[
        bool, typer.Option("--strict", help=f"Exit with {REFUSED} if nothing is promoted.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Compare a trained version with the champion, and promote it if it is better and fit to serve."""
    _slot(slot)
    if approve + force + require_approval > 1:
        raise ValueError("--approve, --force and --require-approval exclude one another")
    if (approve or require_approval) and slot != "champion":
        raise ValueError("Only a champion is approved")
    settings = open_settings()
    with stores(settings) as (database, objects):
        if approve:
            from marquee.registry import mirror_slots
            from marquee.store.repositories import deployments

            with database.begin() as connection:
                deployed = deployments.approve(
                    connection, deployed_by=who(), reason=reason or "approved", version=version
                )
            mirror_slots(settings, database)
            counts = _summary(deployed)
        else:
            parameters = {
                "version": version,
                "slot": slot,
                "force": force,
                "reason": reason,
                "require_approval": require_approval,
                "by": who(),
            }
            counts = run_pipeline(settings, database, objects, "promote", parameters, quiet=json)
    if json:
        emit_json(counts)
    else:
        _print(counts)
    if strict and counts["verdict"] not in ("passed", "forced"):
        raise typer.Exit(REFUSED)


def rollback(
    slot: SlotOption = "champion",
    reason: ReasonOption = None,
    json: JsonOption = False,
) -> None:
    """Put back what served before, at once and on every API process."""
    from marquee.store.repositories import deployments

    chosen = _slot(slot)
    settings = open_settings()
    with stores(settings) as (database, _):
        with database.begin() as connection:
            deployed = deployments.roll_back(
                connection, chosen, deployed_by=who(), reason=reason or "rolled back"
            )
        made = _summary(deployed)
        if json:
            emit_json(made)
        else:
            fields_table({name: made[name] for name in ("slot", "model", "version")}, title="Rolled back")
        from marquee.registry import mirror_slots  # MLflow takes a second: serving does not wait for it

        mirror_slots(settings, database)


def models(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, newest first.")] = 20,
    json: JsonOption = False,
) -> None:
    """List trained versions: where they serve, what was measured, what the gate said."""
    from dataclasses import asdict
    from datetime import UTC, datetime

    from marquee.store.versions import list_versions

    with stores(open_settings()) as (database, objects), database.begin() as connection:
        found = list_versions(connection, objects, limit=limit)
    if json:
        emit_json([asdict(one) for one in found])
        return
    now = datetime.now(UTC)
    rows_table(
        ("model", "version", "slots", "NDCG@10", "metrics", "size", "age", "gate"),
        [
            (
                one.model,
                one.version,
                ", ".join(one.slots) or None,
                one.ndcg_at_10,
                _few(one.metrics),
                None if one.size_bytes is None else f"{one.size_bytes / 1024**2:.1f} MiB",
                _age((now - one.trained_at).total_seconds()),
                one.verdict,
            )
            for one in found
        ],
    )


def shadow(
    version: Annotated[str, typer.Argument(help="Version, or `stop`.")],
    reason: ReasonOption = None,
    json: JsonOption = False,
) -> None:
    """Let a version answer the champion's requests in the background; `stop` ends that."""
    from marquee.registry import mirror_slots
    from marquee.store.repositories import deployments

    settings = open_settings()
    with stores(settings) as (database, _):
        with database.begin() as connection:
            if version == "stop":
                deployments.clear(connection, "shadow", deployed_by=who(), reason=reason or "stopped")
                made: dict[str, Any] = {"slot": "shadow", "model": None, "version": None}
            else:
                found = deployments.of_version(connection, version)
                deployed = deployments.append(
                    connection,
                    "shadow",
                    bundle=found.bundle,
                    digest=found.digest,
                    model=found.model,
                    version=found.version,
                    deployed_by=who(),
                    reason=reason or "shadow",
                )
                made = _summary(deployed)
        mirror_slots(settings, database)
    if json:
        emit_json(made)
    else:
        fields_table({name: made[name] for name in ("slot", "model", "version")})


def _slot(name: str) -> "Slot":
    found: Slot | None = next((slot for slot in SLOTS if slot == name), None)
    if found is None:
        raise ValueError(f"{name!r} is none of {', '.join(SLOTS)}")
    return found


def _summary(deployed: "Deployment") -> dict[str, Any]:
    return {
        "slot": deployed.slot,
        "model": deployed.model,
        "version": deployed.version,
        "verdict": deployed.verdict,
        "reasons": [deployed.reason],
        "report": deployed.gate_report,
    }


def _print(counts: dict[str, Any]) -> None:
    out = console()
    verdict = VERDICTS.get(counts["verdict"], counts["verdict"])
    report = counts["report"] or {}
    out.print(f"{counts['model']}/{counts['version']}: {verdict}", style="bold", soft_wrap=True)
    if report.get("forced_reason"):
        out.print(f"  Forced: {report['forced_reason']}", markup=False, soft_wrap=True)
    for reason in [*counts["reasons"], *(f"Note: {note}" for note in report.get("notes") or ())]:
        out.print(f"  {reason}", markup=False, soft_wrap=True)
    compared = [report.get("ndcg_at_10"), report.get("second_metric"), *(report.get("slices") or ())]
    rows = [
        (
            one["metric"] if one["part"] == "all" else f"{one['metric']}, {one['part']}",
            one["champion"]["mean"],
            one["challenger"]["mean"],
            one["difference"]["mean"],
            _interval(one["difference"]),
            one["difference"]["n"],
        )
        for one in compared
        if one is not None
    ]
    if rows:
        rows_table(("", "champion", "challenger", "difference", "95 %", "queries"), rows)
    measured = report.get("measured")
    if measured:
        size, latency = measured["bundle_mib"], measured["latency_ms"]
        took = f", a request {latency:.1f} ms (95th percentile)" if latency is not None else ""
        out.print(f"Size {size:.1f} MiB{took}")
        for check in measured["checks"]:
            sign = "✓" if check["passed"] else "✗"
            out.print(f"{sign} {check['name']}: {check['found']}", markup=False, soft_wrap=True)


def _interval(values: dict[str, Any]) -> str | None:
    return None if values["low"] is None else f"{values['low']:+.4f} to {values['high']:+.4f}"


def _few(metrics: dict[str, float | None]) -> str | None:
    """The figures of the test rows, which training reports."""
    shown = {name: value for name, value in metrics.items() if name.startswith("test_") and value is not None}
    said = [f"{name.removeprefix('test_')} {value:.4g}" for name, value in shown.items() if value is not None]
    return ", ".join(said) or None


def _age(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
