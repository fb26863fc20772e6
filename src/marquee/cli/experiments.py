"""Commands that compare versions on live traffic: `canary …` and `experiment …`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marquee.cli.output import JsonOption, emit_json, rows_table
from marquee.cli.session import open_settings, stores, who

if TYPE_CHECKING:
    from marquee.monitoring.outcomes import Outcome
    from marquee.monitoring.trials import WantedArm
    from marquee.store.repositories.experiments import Experiment

__all__ = ["register"]

_canary = typer.Typer(help="Let a few users see a challenger.", no_args_is_help=True)
_experiment = typer.Typer(help="Compare versions on live traffic.", no_args_is_help=True)

ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the record.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(_canary, name="canary")
    app.add_typer(_experiment, name="experiment")


@_canary.command("start")
def canary_start(
    version: Annotated[str, typer.Argument(help="A version, or the slot that it is in.")] = "challenger",
    share: Annotated[str, typer.Option(help="Share of users, such as 5%.")] = "5%",
    reason: ReasonOption = "",
    json: JsonOption = False,
) -> None:
    """Show a challenger to a share of users; it is rolled back by itself when it harms."""
    from marquee.monitoring.trials import start_canary

    settings = open_settings()
    with stores(settings) as (database, _), database.begin() as connection:
        made = start_canary(
            connection,
            version=version,
            share=_share(share),
            limits=settings.canary,
            started_by=who(),
            reason=reason,
        )
    _started(made, json)


@_canary.command("status")
def canary_status(json: JsonOption = False) -> None:
    """How the canary does."""
    _status(json, kind="canary")


@_canary.command("stop")
def canary_stop(reason: ReasonOption = "", json: JsonOption = False) -> None:
    """Take the challenger away from everybody."""
    _stop(json, kind="canary", promote=None, reason=reason)


@_canary.command("promote")
def canary_promote(reason: ReasonOption = "", json: JsonOption = False) -> None:
    """Make the challenger the champion, for everybody."""
    _stop(json, kind="canary", promote="challenger", reason=reason)


@_experiment.command("start")
def experiment_start(
    name: Annotated[str, typer.Argument(help="What to call it.")],
    arm: Annotated[
        list[str],
        typer.Option(
            "--arm", help="VERSION=PERCENT or SLOT=PERCENT; the first is what others are compared with."
        ),
    ],
    reason: ReasonOption = "",
    json: JsonOption = False,
) -> None:
    """Divide users among versions; two arms of one version make an A/A test."""
    from marquee.monitoring.trials import start_experiment

    settings = open_settings()
    with stores(settings) as (database, _), database.begin() as connection:
        made = start_experiment(
            connection,
            name,
            [wanted_arm(each) for each in arm],
            limits=settings.canary,
            started_by=who(),
            reason=reason,
        )
    _started(made, json)


@_experiment.command("status")
def experiment_status(
    all_: Annotated[bool, typer.Option("--all", help="List the newest experiments.")] = False,
    json: JsonOption = False,
) -> None:
    """What the experiment has shown; looking early does no harm."""
    if all_:
        _list(json)
    else:
        _status(json, kind=None)


@_experiment.command("stop")
def experiment_stop(
    promote: Annotated[str | None, typer.Option(help="The arm whose model becomes the champion.")] = None,
    reason: ReasonOption = "",
    json: JsonOption = False,
) -> None:
    """End the experiment; everybody has the champion then."""
    _stop(json, kind=None, promote=promote, reason=reason)


def wanted_arm(text: str) -> "WantedArm":
    """An arm as the command line names it, VERSION=PERCENT."""
    from marquee.monitoring.trials import WantedArm

    version, equals, share = text.rpartition("=")
    if not equals:
        raise ValueError(f"--arm takes VERSION=PERCENT, not {text!r}")
    return WantedArm(version, _share(share))


def _share(text: str) -> float:
    try:
        return float(text.removesuffix("%")) / 100
    except ValueError:
        raise ValueError(f"A share is a percentage such as 5%, not {text!r}") from None


def _running(connection: Any, kind: str | None) -> "Experiment":
    from marquee.errors import NotFoundError
    from marquee.store.repositories import experiments

    found = experiments.running(connection)
    if found is None or kind not in (None, found.kind):
        raise NotFoundError(
            f"No {kind or 'experiment'} is running.",
            fix="`marquee experiment status --all` lists those that have ended.",
        )
    return found


def _status(json: bool, *, kind: str | None) -> None:
    from marquee.monitoring.trials import outcome_of

    settings = open_settings()
    with stores(settings) as (database, _), database.begin() as connection:
        experiment = _running(connection, kind)
        outcome = outcome_of(connection, experiment)
    if json:
        emit_json({**_as_json(experiment), "outcome": outcome.as_json()})
        return
    print_outcome(experiment, outcome)


def _stop(json: bool, *, kind: str | None, promote: str | None, reason: str) -> None:
    from marquee.monitoring.trials import stop

    settings = open_settings()
    with stores(settings) as (database, _):
        with database.begin() as connection:
            experiment = _running(connection, kind)
            ended = stop(connection, experiment, stopped_by=who(), reason=reason, promote=promote)
        if ended.status == "promoted":
            from marquee.registry import mirror_slots

            mirror_slots(settings, database)
    if json:
        emit_json(_as_json(ended))
    else:
        verdict = (ended.outcome or {}).get("verdict")
        rows_table(("experiment", "now", "shown"), [(ended.name, ended.status.replace("_", " "), verdict)])


def _list(json: bool) -> None:
    from marquee.store.repositories import experiments

    settings = open_settings()
    with stores(settings) as (database, _), database.begin() as connection:
        found = experiments.history(connection)
    if json:
        emit_json([_as_json(each) for each in found])
        return
    rows_table(
        ("id", "name", "kind", "status", "started", "ended", "shown"),
        [
            (
                each.experiment_id,
                each.name,
                each.kind,
                each.status.replace("_", " "),
                f"{each.started_at:%Y-%m-%d %H:%M}",
                None if each.ended_at is None else f"{each.ended_at:%Y-%m-%d %H:%M}",
                (each.outcome or {}).get("reason") or (each.outcome or {}).get("verdict"),
            )
            for each in found
        ],
    )


def _started(experiment: "Experiment", json: bool) -> None:
    if json:
        emit_json(_as_json(experiment))
        return
    rows_table(
        ("arm", "share", "model", "version"),
        [(arm.name, f"{arm.share:.1%}", arm.model, arm.version) for arm in experiment.arms],
        title=f"Started: {experiment.name}",
    )


def print_outcome(experiment: "Experiment", outcome: "Outcome") -> None:
    """What an experiment has shown, for people."""
    from marquee.monitoring.outcomes import PRIMARY

    rows_table(
        (
            "arm",
            "share",
            "users",
            "answers",
            "errors",
            "p95 ms",
            PRIMARY.replace("_", " "),
            "clicks",
            "watch share",
        ),
        [
            (
                arm.name,
                f"{arm.share:.1%}",
                arm.users,
                arm.health.answers,
                f"{arm.health.error_rate:.2%}",
                arm.health.p95_ms,
                *(_percent(arm.moments(metric).ratio) for metric in (PRIMARY, "click_rate", "watch_share")),
            )
            for arm in outcome.arms
        ],
        title=f"{experiment.name}: {outcome.verdict}",
    )
    rows_table(
        ("arm", "metric", "users", "difference", "95 % at one look", "95 % at all looks", ""),
        [
            (
                each.arm,
                each.metric.replace("_", " "),
                each.slice,
                _percent(each.difference.value, signed=True),
                _range(each.difference.low, each.difference.high),
                _range(each.difference.always_low, each.difference.always_high),
                each.verdict,
            )
            for each in outcome.comparisons
        ],
        title=f"Against {outcome.arms[0].name}; {PRIMARY.replace('_', ' ')} of all users decides",
    )
    if outcome.sample_ratio.alarm:
        typer.secho(
            "Users are not divided as planned (p < 0.001): look for an arm that loses requests or events "
            "before believing any of this.",
            fg="red",
        )


def _percent(value: float, *, signed: bool = False) -> str:
    if value != value:
        return "–"
    return f"{value:+.2%}" if signed else f"{value:.2%}"


def _range(low: float, high: float) -> str:
    if low == float("-inf") or low != low:
        return "too few users"
    return f"{low:+.2%} … {high:+.2%}"


def _as_json(experiment: "Experiment") -> dict[str, Any]:
    return asdict(experiment)
