"""
Promote: ask the gate whether a challenger may become champion, and put it there if so.

The report is stored with the deployment: of slot `champion` where it passed or was forced, of slot
`challenger` where it was refused or waits for an operator. MLflow hears of it afterwards; a tracker that is
away changes nothing about what serves.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection

from marquee.errors import NotFoundError, RegistryError
from marquee.evaluation.gate import GateReport
from marquee.evaluation.predictor_gate import PredictorReport
from marquee.pipelines.judging import judge, judge_predictor
from marquee.pipelines.run import RunContext
from marquee.registry import Registry, mirror_slots
from marquee.store import bundles
from marquee.store.repositories import deployments
from marquee.store.repositories.deployments import Deployment, Slot
from marquee.telemetry import get_logger

__all__ = ["mirror", "promote"]

GATED: Final[tuple[Slot, ...]] = ("champion", "predictor")


def promote(context: RunContext) -> dict[str, Any]:
    """
    Judge a challenger and deploy it, or say why not: a refusal is an answer, not a failure.

    Parameters of the run: `version` — default: what the slot `challenger` holds; `slot` — `champion` or
    `predictor`; `force` and `reason` — deploy it whatever the gate says; `require_approval` — if it passes it
    waits for an operator; `by` — who asked.

    Returns:
        `model`, `version`, `verdict`, `reasons`, and the whole `report` (None without a new comparison).

    Raises:
        NotFoundError: no such version, or nothing has been trained yet.
        RegistryError: the champion changed while the challenger was judged.
        ValueError: forced without a reason, or the slot has no gate.
    """
    wanted = context.parameters
    slot, reason = _slot(wanted.get("slot") or "champion"), str(wanted.get("reason") or "").strip()
    if wanted.get("force") and not reason:
        raise ValueError("Forcing needs a reason: it is recorded with the deployment")
    with context.database.begin() as connection:
        done = deployments.of_run(connection, context.run_id)
        if done:  # its process died between the commit and the record of its end
            return _counts(done[0], done[0].gate_report or {})
        challenger = _challenger(connection, wanted.get("version"))
        serving = deployments.current(connection, slot)
    if serving is not None and serving.digest == challenger.digest:
        already = _counts(challenger, {"verdict": "passed", "reasons": [f"It is the {slot} already."]})
        return {**already, "report": None}
    report = _judged(context, slot, challenger, serving)
    if wanted.get("force"):
        report = report.forced(reason)
    elif wanted.get("require_approval") and isinstance(report, GateReport):
        report = report.waiting()
    said = {**report.to_dict(), "judged_at": datetime.now(UTC).isoformat()}
    if report.passed or slot == "champion":  # there is no row for a predictor that was refused
        _deploy(context, slot if report.passed else "challenger", slot, challenger, serving, said)
    _track(context, challenger, said, report.figures())
    return _counts(challenger, said)


def mirror(context: RunContext) -> dict[str, Any]:
    """Make MLflow's aliases say what is deployed: after a rollback by an API, which does not know MLflow."""
    return {"mirrored": mirror_slots(context.settings, context.database)}


def _challenger(connection: Connection, version: object) -> Deployment:
    if version:
        return deployments.of_version(connection, str(version))
    found = deployments.current(connection, "challenger")
    if found is None:
        raise NotFoundError("There is no challenger.", fix="Run: marquee train")
    return found


def _judged(
    context: RunContext, slot: Slot, challenger: Deployment, serving: Deployment | None
) -> GateReport | PredictorReport:
    if slot == "champion":
        return judge(context, challenger, serving)
    bundle = bundles.load(context.objects, challenger.bundle, context.settings.paths.bundles)
    return judge_predictor(bundle, context.settings.gate)


def _deploy(
    context: RunContext,
    slot: Slot,
    judged_for: Slot,
    challenger: Deployment,
    serving: Deployment | None,
    report: Mapping[str, Any],
) -> None:
    """Put the challenger in a slot, unless something else has come to serve since it was compared."""
    with context.database.begin() as connection:
        deployments.hold(connection)
        now = deployments.current(connection, judged_for)
        if (now.digest if now else None) != (serving.digest if serving else None):
            raise RegistryError(
                f"The {judged_for} changed while {challenger.model}/{challenger.version} was judged.",
                fix=f"Run: marquee promote {challenger.version}",
            )
        deployments.append(
            connection,
            slot,
            bundle=challenger.bundle,
            digest=challenger.digest,
            model=challenger.model,
            version=challenger.version,
            deployed_by=str(context.parameters.get("by") or "promote"),
            reason=report["forced_reason"] or " ".join(report["reasons"]),
            gate_report=report,
            run_id=context.run_id,
        )


def _track(
    context: RunContext, challenger: Deployment, report: Mapping[str, Any], figures: Mapping[str, float]
) -> None:
    """Tell MLflow, if it answers."""
    try:
        Registry(context.settings).log_report(
            str(challenger.version), report, figures, name=f"gate/{context.run_id}.json"
        )
    except RegistryError as error:
        get_logger().warning("promote.not_tracked", version=challenger.version, error=str(error))
    mirror_slots(context.settings, context.database)


def _slot(name: str) -> Slot:
    found: Slot | None = next((slot for slot in GATED if slot == name), None)
    if found is None:
        raise ValueError(f"Only {' and '.join(GATED)} have a gate, not {name!r}")
    return found


def _counts(deployed: Deployment, report: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": deployed.model,
        "version": deployed.version,
        "verdict": report.get("verdict"),
        "reasons": report.get("reasons", []),
        "report": dict(report),
    }
