"""Pipelines over HTTP: queue them, wait for them, look at their runs."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Final
from uuid import UUID

import structlog
from fastapi import APIRouter, Query, Request, Response

from marquee.api.deps import Services, ServicesDep
from marquee.api.problems import InvalidRequestError, RunFailedError, responses
from marquee.api.schemas.service import RunAccepted, RunList, RunResult, RunStatus, TrainRequest
from marquee.errors import ConflictError, NotFoundError, StoreUnavailableError
from marquee.models import model_names
from marquee.store.repositories import runs
from marquee.store.repositories.runs import Run

__all__ = ["ACCEPTED", "INFER", "PREPARE", "TRAIN", "Wait", "accepted", "carry_out", "router"]

PREPARE: Final = "prepare"
TRAIN: Final = "train"
INFER: Final = "infer"

POLL_SECONDS: Final = 0.1

Wait = Annotated[bool, Query(description="Answer when the run has finished; `false`: at once, with its id.")]

router = APIRouter()

ACCEPTED: Final[dict[int | str, dict[str, Any]]] = {
    202: {
        "model": RunAccepted,
        "description": "Queued, or still running after the longest wait",
        "headers": {"Location": {"description": "Where to look at it.", "schema": {"type": "string"}}},
    }
}
_RUN: Final[dict[str, Any]] = {
    "tags": ["pipelines"],
    "response_model": RunResult,
    "responses": {
        **ACCEPTED,
        **responses(InvalidRequestError, ConflictError, RunFailedError, StoreUnavailableError),
    },
}


@router.post("/run/prepare-data", summary="Bring in data", **_RUN)
async def run_prepare_data(request: Request, services: ServicesDep, wait: Wait = True) -> Response:
    """Ingest the catalogue and, where there are no users yet, simulate an audience."""
    return await _run(request, services, PREPARE, {}, "prepare-data", wait=wait)


@router.post("/run/train", summary="Train a model", **_RUN)
async def run_train(
    request: Request, services: ServicesDep, wanted: TrainRequest, wait: Wait = True
) -> Response:
    """Train on all interactions: the model becomes the challenger, and a good `mlp` the predictor too."""
    known = model_names()
    if wanted.model_name not in known:
        raise InvalidRequestError(
            f"Unknown model_name {wanted.model_name!r}; known: {', '.join(known)}.",
            field="body.model_name",
            fix="Send one of the known names.",
        )
    return await _run(request, services, TRAIN, {"model": wanted.model_name}, "train", wait=wait)


@router.post("/run/model-inference", summary="Compute everyone's recommendations", **_RUN)
async def run_model_inference(request: Request, services: ServicesDep, wait: Wait = True) -> Response:
    """Write the champion's top-k of every user, visible all at once."""
    return await _run(request, services, INFER, {}, "model-inference", wait=wait)


@router.get(
    "/v1/runs/{run_id}",
    summary="One run",
    tags=["runs"],
    response_model=RunStatus,
    responses=responses(InvalidRequestError, NotFoundError, StoreUnavailableError),
)
async def get_run(services: ServicesDep, run_id: UUID) -> RunStatus:
    """What a pipeline run is doing, or how it ended."""
    return RunStatus.model_validate(await services.run(runs.get, run_id))


@router.get(
    "/v1/runs",
    summary="The newest runs",
    tags=["runs"],
    response_model=RunList,
    responses=responses(InvalidRequestError, StoreUnavailableError),
)
async def list_runs(
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=100, description="How many runs.")] = 20,
    pipeline: Annotated[
        str | None, Query(max_length=100, pattern=r"^[a-z_-]+$", description="Of one pipeline only.")
    ] = None,
) -> RunList:
    """Pipeline runs, newest first."""
    found = await services.run(runs.recent, limit=limit, pipeline=pipeline)
    return RunList(runs=[RunStatus.model_validate(run) for run in found])


async def carry_out(
    request: Request, services: Services, pipeline: str, parameters: Mapping[str, Any], *, wait: bool
) -> Run:
    """
    Queue a run for a worker and, if wanted, wait for its end.

    Raises:
        ConflictError: a run of the pipeline is unfinished.
        RunFailedError: it did not succeed.
    """
    run = await services.run(services.queue.submit, pipeline, parameters)
    structlog.contextvars.bind_contextvars(run_id=str(run.run_id))
    if wait:
        run = await _finished(request, services, run)
    if run.finished and run.status != "succeeded":
        raise RunFailedError(
            f"The run {run.run_id} of {pipeline!r} {run.status}: {run.error}",
            run_id=str(run.run_id),
            fix=f"GET /v1/runs/{run.run_id} shows it.",
        )
    return run


def accepted(run: Run) -> Response:
    """The answer about a run that has not ended yet."""
    location = f"/v1/runs/{run.run_id}"
    body = RunAccepted(run_id=run.run_id, status=run.status, location=location)
    return _json(body.model_dump_json(), 202, {"Location": location})


async def _run(
    request: Request,
    services: Services,
    pipeline: str,
    parameters: Mapping[str, Any],
    result: str,
    *,
    wait: bool,
) -> Response:
    run = await carry_out(request, services, pipeline, parameters, wait=wait)
    if not run.finished:
        return accepted(run)
    return _json(RunResult(result=f"{result} finished").model_dump_json())


async def _finished(request: Request, services: Services, run: Run) -> Run:
    """The run at its end, or as it is when the wait is over: too long, the caller gone, the API stopping."""
    try:
        async with asyncio.timeout(services.settings.api.wait_seconds):
            while not (run.finished or services.stopping.is_set() or await request.is_disconnected()):
                await asyncio.sleep(POLL_SECONDS)
                run = await services.run(runs.get, run.run_id)
    except TimeoutError:
        pass  # the run goes on in its worker, and its id is all that the caller needs
    return run


def _json(body: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, media_type="application/json")
