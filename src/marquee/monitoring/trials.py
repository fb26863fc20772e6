"""Start and end experiments: the one way for the command line and the API."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, get_args

from sqlalchemy import Connection

from marquee.config import CanarySettings
from marquee.errors import NoChampionError, RegistryError
from marquee.monitoring.canary import decide, limits_of
from marquee.monitoring.outcomes import Outcome, keep, measure
from marquee.store.repositories import deployments, experiments
from marquee.store.repositories.deployments import Deployment, Slot
from marquee.store.repositories.experiments import CHALLENGER, CHAMPION, Arm, Experiment

__all__ = ["WantedArm", "outcome_of", "start_canary", "start_experiment", "stop"]

SLOTS: Final[dict[str, Slot]] = {slot: slot for slot in get_args(Slot)}


@dataclass(frozen=True, slots=True)
class WantedArm:
    """
    An arm to be.

    Attributes:
        version: of a model, or the name of the slot that it is in.
        share: of users, 0–1.
        name: default: the version, with a number where it is taken.
    """

    version: str
    share: float
    name: str | None = None


def start_canary(
    connection: Connection,
    *,
    share: float,
    limits: CanarySettings,
    started_by: str,
    reason: str,
    version: str = CHALLENGER,
) -> Experiment:
    """
    Let a share of users see a challenger.

    Args:
        share: of users, above 0 and below 1.
        version: of the challenger, or the slot that it is in.

    Raises:
        ExperimentConflictError: an experiment runs.
        NoChampionError: there is no champion, or nothing in the slot.
        NotFoundError: no such version.
        RegistryError: it is the champion.
        ValueError: a share outside (0, 1).
    """
    if not 0 < share < 1:
        raise ValueError(f"The share of users must lie between 0 and 100 %, not {share:.0%}.")
    deployments.hold(connection)  # a new champion ends what runs; nothing may start with the old one
    champion, challenger = _deployed(connection, CHAMPION), _deployed(connection, version)
    if champion.digest == challenger.digest:
        raise RegistryError(
            f"{challenger.model}/{challenger.version} is the champion already.",
            fix="Train a challenger, or name another version.",
        )
    arms = [_arm(champion, CHAMPION, 1 - share), _arm(challenger, CHALLENGER, share)]
    name = f"canary {challenger.model}/{challenger.version}"
    return experiments.start(
        connection, name, "canary", arms, started_by=started_by, reason=reason, limits=limits.model_dump()
    )


def start_experiment(
    connection: Connection,
    name: str,
    arms: Sequence[WantedArm],
    *,
    limits: CanarySettings,
    started_by: str,
    reason: str,
) -> Experiment:
    """
    Compare versions; what the others are compared with comes first.

    Two arms of one version make an A/A test.

    Raises:
        ExperimentConflictError: an experiment runs.
        NoChampionError: nothing in a slot.
        NotFoundError: no such version.
        ValueError: shares that do not sum to 1, fewer than two arms, or two of one name.
    """
    deployments.hold(connection)
    made: list[Arm] = []
    for wanted in arms:
        taken = sum(each.name.rpartition("#")[0] == wanted.version for each in made)
        taken += any(each.name == wanted.version for each in made)
        free = f"{wanted.version}#{taken + 1}" if taken else wanted.version
        made.append(_arm(_deployed(connection, wanted.version), wanted.name or free, wanted.share))
    return experiments.start(
        connection, name, "ab", made, started_by=started_by, reason=reason, limits=limits.model_dump()
    )


def outcome_of(connection: Connection, experiment: Experiment) -> Outcome:
    """What an experiment has shown, by the limits that it was started with."""
    return measure(connection, experiment, slow_ms=limits_of(experiment).max_latency_ms)


def stop(
    connection: Connection,
    experiment: Experiment,
    *,
    stopped_by: str,
    reason: str,
    promote: str | None = None,
) -> Experiment:
    """
    End an experiment with what it has shown; everybody has the champion then.

    Args:
        promote: the arm whose model becomes the champion; default: none.

    Raises:
        ExperimentConflictError: it has ended already.
        NotFoundError: no such arm.
    """
    arm = None if promote is None else experiment.arm(promote)
    outcome = outcome_of(connection, experiment)
    keep(connection, outcome)
    deployments.hold(connection)
    now = deployments.current(connection, CHAMPION)
    changes = arm is not None and (now is None or arm.digest != now.digest)
    ended = experiments.finish(
        connection,
        experiment.experiment_id,
        "promoted" if changes else "stopped",
        reason=reason,
        outcome={**outcome.as_json(), "stopped_by": stopped_by},
    )
    if arm is not None and changes:
        deployments.append(
            connection,
            CHAMPION,
            bundle=arm.bundle,
            digest=arm.digest,
            model=arm.model,
            version=arm.version,
            deployed_by=stopped_by,
            reason=reason,
            gate_report={
                "verdict": "passed" if _earned(experiment, outcome, arm) else "forced",
                "experiment_id": experiment.experiment_id,
                "experiment": experiment.name,
                "shown": outcome.verdict,
            },
        )
    return ended


def _earned(experiment: Experiment, outcome: Outcome, arm: Arm) -> bool:
    """Whether the experiment has decided for the arm; a canary need only be shown not to harm."""
    if outcome.sample_ratio.alarm or arm == experiment.arms[0]:
        return False
    if experiment.kind == "canary":
        return decide(outcome, limits_of(experiment), started_at=experiment.started_at).safe
    return outcome.primary(arm.name).difference.better


def _deployed(connection: Connection, version: str) -> Deployment:
    slot = SLOTS.get(version)
    if slot is None:
        return deployments.of_version(connection, version)
    found = deployments.current(connection, slot)
    if found is None:
        raise NoChampionError(
            f"No model is deployed in the slot {version!r}.",
            fix="`marquee models` lists the versions and their slots.",
        )
    return found


def _arm(deployment: Deployment, name: str, share: float) -> Arm:
    return Arm(name, share, deployment.bundle, deployment.digest, deployment.model, deployment.version)
