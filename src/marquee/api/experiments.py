"""Experiments over HTTP: start, look, stop."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query
from sqlalchemy import Connection

from marquee.api.access import Caller, CallerDep
from marquee.api.deps import ServicesDep
from marquee.api.models import mirror, who
from marquee.api.problems import InvalidRequestError, responses
from marquee.api.schemas.experiments import (
    ExperimentBody,
    ExperimentList,
    ExperimentRequest,
    ExperimentSummary,
    StopRequest,
)
from marquee.api.schemas.operations import ExperimentHistory, LookBody
from marquee.config import CanarySettings
from marquee.errors import (
    ExperimentConflictError,
    NoChampionError,
    NotFoundError,
    RegistryError,
    StoreUnavailableError,
)
from marquee.store.repositories import experiment_looks, experiments
from marquee.store.repositories.experiments import Experiment
from marquee.telemetry import note

__all__ = ["router"]

ExperimentId = Annotated[int, Path(ge=1, lt=2**63)]

router = APIRouter(prefix="/v1/experiments", tags=["experiments"])


@router.get(
    "",
    summary="The newest experiments",
    response_model=ExperimentList,
    responses=responses(InvalidRequestError, StoreUnavailableError),
)
async def list_experiments(
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=100, description="How many experiments.")] = 20,
) -> ExperimentList:
    """Experiments, newest first; at most one is running."""
    found = await services.run(experiments.history, limit=limit)
    return ExperimentList(experiments=[ExperimentSummary(**_summary(each)) for each in found])


@router.post(
    "",
    status_code=201,
    summary="Start an experiment",
    response_model=ExperimentSummary,
    responses=responses(
        InvalidRequestError, NotFoundError, ExperimentConflictError, RegistryError, StoreUnavailableError
    ),
)
async def start_experiment(
    services: ServicesDep, caller: CallerDep, wanted: Annotated[ExperimentRequest, Body()]
) -> ExperimentSummary:
    """Divide users among versions from now on; each user stays in one arm."""
    made = await services.run_long(_start, wanted, caller, services.settings.canary)
    note(experiment_id=made.experiment_id)
    return ExperimentSummary(**_summary(made))


@router.get(
    "/{experiment_id}",
    summary="What an experiment has shown",
    response_model=ExperimentBody,
    responses=responses(InvalidRequestError, NotFoundError, StoreUnavailableError),
)
async def get_experiment(services: ServicesDep, experiment_id: ExperimentId) -> ExperimentBody:
    """Until now, or when it ended; looking early does no harm."""
    experiment = await services.run(experiments.get, experiment_id)
    kept = _kept(experiment)
    if kept is not None:
        return ExperimentBody(**_summary(experiment), shown=kept)
    outcome = await services.run_long(_outcome_of, experiment)
    return ExperimentBody(**_summary(experiment), shown=outcome)


@router.get(
    "/{experiment_id}/history",
    summary="What an experiment has shown over time",
    response_model=ExperimentHistory,
    responses=responses(InvalidRequestError, NotFoundError, StoreUnavailableError),
)
async def get_experiment_history(services: ServicesDep, experiment_id: ExperimentId) -> ExperimentHistory:
    """The looks that a worker has taken, oldest first, about evenly spaced; at most 500."""
    await services.run(experiments.get, experiment_id)
    looks = await services.run_long(experiment_looks.history, experiment_id)
    return ExperimentHistory(looks=[LookBody.model_validate(look) for look in looks])


@router.post(
    "/{experiment_id}/stop",
    summary="End an experiment",
    response_model=ExperimentBody,
    responses=responses(InvalidRequestError, NotFoundError, ExperimentConflictError, StoreUnavailableError),
)
async def stop_experiment(
    services: ServicesDep,
    caller: CallerDep,
    experiment_id: ExperimentId,
    wanted: Annotated[StopRequest, Body()],
) -> ExperimentBody:
    """Everybody has the champion then: the arm that is to be promoted, or the one there is."""
    experiment = await services.run(experiments.get, experiment_id)
    ended = await services.run_long(_stop, experiment, wanted, caller)
    note(experiment_id=experiment_id, status=ended.status)
    if ended.status == "promoted":
        await mirror(services)
    return ExperimentBody(**_summary(ended), shown=_kept(ended))


def _start(
    connection: Connection, wanted: ExperimentRequest, caller: Caller, limits: CanarySettings
) -> Experiment:
    # Statistics that serving starts without, imported as all that uses them here: in a thread.
    from marquee.monitoring import trials

    common: dict[str, Any] = {"limits": limits, "started_by": who(caller), "reason": wanted.reason}
    try:
        if wanted.kind == "canary":
            return trials.start_canary(connection, version=wanted.version, share=wanted.share, **common)
        arms = [trials.WantedArm(arm.version, arm.share, arm.name) for arm in wanted.arms]
        return trials.start_experiment(connection, wanted.name or "", arms, **common)
    except ValueError as error:
        raise InvalidRequestError(
            str(error), field="body.arms", fix="Send shares that sum to 1, and distinct names."
        ) from error
    except NoChampionError as error:  # no service is missing: the request cannot be met
        raise RegistryError(error.message, fix=error.fix) from error


def _outcome_of(connection: Connection, experiment: Experiment) -> dict[str, Any]:
    from marquee.monitoring import trials

    return trials.outcome_of(connection, experiment).as_json()


def _stop(connection: Connection, experiment: Experiment, wanted: StopRequest, caller: Caller) -> Experiment:
    from marquee.monitoring import trials

    return trials.stop(
        connection, experiment, stopped_by=who(caller), reason=wanted.reason, promote=wanted.promote
    )


def _summary(experiment: Experiment) -> dict[str, Any]:
    arms = [
        {name: getattr(arm, name) for name in ("name", "share", "model", "version", "bundle")}
        for arm in experiment.arms
    ]
    return {
        "experiment_id": experiment.experiment_id,
        "name": experiment.name,
        "kind": experiment.kind,
        "status": experiment.status,
        "arms": arms,
        "started_by": experiment.started_by,
        "reason": experiment.reason,
        "started_at": experiment.started_at,
        "ended_at": experiment.ended_at,
        "ended_because": (experiment.outcome or {}).get("reason"),
    }


def _kept(experiment: Experiment) -> Any:
    """What it had shown when it was stopped; None while it runs, and where a new champion ended it."""
    outcome = experiment.outcome or {}
    return outcome if "arms" in outcome else None
