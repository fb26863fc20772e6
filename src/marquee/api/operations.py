"""Pipelines over HTTP: queue them, wait for them, look at their runs."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Header, Query, Request, Response
from pydantic import BaseModel
from sqlalchemy import Connection

from marquee.api.access import CallerDep
from marquee.api.deps import Services, ServicesDep
from marquee.api.problems import InvalidRequestError, RunFailedError, responses
from marquee.api.schemas.operations import LogLine, LogPage, PipelineRequest
from marquee.api.schemas.service import RunAccepted, RunList, RunResult, RunStatus, RunStep, TrainRequest
from marquee.errors import (
    ConflictError,
    KeyReusedError,
    NotFoundError,
    RunFinishedError,
    StoreUnavailableError,
)
from marquee.models import model_names
from marquee.store.repositories import run_logs, runs
from marquee.store.repositories.runs import Run
from marquee.telemetry import get_logger, note
from marquee.telemetry.spans import untraced

__all__ = [
    "ACCEPTED",
    "INFER",
    "PREPARE",
    "RUN",
    "TRAIN",
    "How",
    "answered",
    "carry_out",
    "router",
    "run_and_answer",
]

PREPARE: Final = "prepare"
TRAIN: Final = "train"
INFER: Final = "infer"
PIPELINE: Final = "pipeline"
BACKUP: Final = "backup"
MONITOR: Final = "monitor"

POLL_SECONDS: Final = 0.1

REPLAYED: Final = "Idempotency-Replayed"


class Wanted:
    """How a run is asked for."""

    def __init__(
        self,
        request: Request,
        wait: Annotated[
            bool, Query(description="Answer when the run has finished; `false`: at once, with its id.")
        ] = True,
        idempotency_key: Annotated[
            str | None,
            Header(
                min_length=1,
                max_length=200,
                pattern=r"^[!-~]+$",
                description="Whoever sends it again gets the run that it stands for, not a second one, "
                "unless that run failed or was cancelled.",
            ),
        ] = None,
    ) -> None:
        self.wait = wait
        self.key = idempotency_key
        self.is_replayed = False
        self.prefix: str = request.scope.get("root_path", "")  # of paths, as the caller sees them


How = Annotated[Wanted, Depends()]

router = APIRouter()

ACCEPTED: Final[dict[int | str, dict[str, Any]]] = {
    202: {
        "model": RunAccepted,
        "description": "Queued, or still running after the longest wait",
        "headers": {
            "Location": {"description": "Where to look at it.", "schema": {"type": "string"}},
            REPLAYED: {"description": "It was asked for before.", "schema": {"type": "string"}},
        },
    }
}
RUN: Final[dict[str, Any]] = {
    "tags": ["pipelines"],
    "response_model": RunResult,
    "responses": {
        **ACCEPTED,
        **responses(
            InvalidRequestError, KeyReusedError, ConflictError, RunFailedError, StoreUnavailableError
        ),
    },
}


@router.post("/run/prepare-data", summary="Bring in data", **RUN)
async def run_prepare_data(request: Request, services: ServicesDep, how: How) -> Response:
    """Ingest the catalogue and, where there are no users yet, simulate an audience."""
    return await run_and_answer(request, services, PREPARE, {}, "prepare-data", how)


@router.post("/run/train", summary="Train a model", **RUN)
async def run_train(request: Request, services: ServicesDep, wanted: TrainRequest, how: How) -> Response:
    """Train on all interactions: the model becomes the challenger, and a good `mlp` the predictor too."""
    _check_model(wanted.model_name)
    return await run_and_answer(request, services, TRAIN, {"model": wanted.model_name}, "train", how)


@router.post("/run/model-inference", summary="Compute everyone's recommendations", **RUN)
async def run_model_inference(request: Request, services: ServicesDep, how: How) -> Response:
    """Write the champion's top-k of every user, visible all at once."""
    return await run_and_answer(request, services, INFER, {}, "model-inference", how)


@router.post("/run/pipeline", summary="Do all of it", **RUN)
async def run_pipeline(
    request: Request,
    services: ServicesDep,
    wanted: Annotated[PipelineRequest, Body(default_factory=PipelineRequest)],
    how: How,
) -> Response:
    """
    Bring in data, train a model, promote it if it passes the gate, compute everyone's recommendations.

    One run, each of whose `steps` is a run, too. A challenger that the gate refuses is no failure.
    """
    _check_model(wanted.model_name)
    parameters = {TRAIN: {"model": wanted.model_name}, INFER: {"k": wanted.k}}
    return await run_and_answer(request, services, PIPELINE, parameters, PIPELINE, how)


@router.post("/run/backup", summary="Back up all tables", **RUN)
async def run_backup(request: Request, services: ServicesDep, how: How) -> Response:
    """Write a backup, prove that it can be read, and let old ones go."""
    return await run_and_answer(request, services, BACKUP, {}, BACKUP, how)


@router.post("/run/monitor", summary="Watch quality and drift", **RUN)
async def run_monitor(request: Request, services: ServicesDep, how: How) -> Response:
    """Add up what came in, measure the answers of the last day, and look for drift."""
    return await run_and_answer(request, services, MONITOR, {}, MONITOR, how)


@router.get(
    "/v1/runs/{run_id}",
    summary="One run",
    tags=["runs"],
    response_model=RunStatus,
    responses=responses(InvalidRequestError, NotFoundError, StoreUnavailableError),
)
async def get_run(services: ServicesDep, run_id: UUID) -> RunStatus:
    """What a pipeline run is doing, or how it ended."""
    return (await services.run(_with_steps, [await services.run(runs.get, run_id)]))[0]


@router.post(
    "/v1/runs/{run_id}/cancel",
    summary="End a run",
    tags=["runs"],
    response_model=RunStatus,
    responses=responses(InvalidRequestError, NotFoundError, RunFinishedError, StoreUnavailableError),
)
async def cancel_run(services: ServicesDep, caller: CallerDep, run_id: UUID) -> RunStatus:
    """
    Cancel what waits or runs; the process that executes it is ended within seconds.

    A step is cancelled with the whole run that it is part of.
    """
    by = f"api:{caller.key_id or caller.role}"
    run = await services.run(services.queue.cancel, run_id, by=by)
    note(run_id=str(run_id))
    return (await services.run(_with_steps, [run]))[0]


@router.get(
    "/v1/runs/{run_id}/logs",
    summary="What a run has logged",
    tags=["runs"],
    response_model=LogPage,
    responses=responses(InvalidRequestError, NotFoundError, StoreUnavailableError),
)
async def get_run_logs(
    services: ServicesDep,
    run_id: UUID,
    after: Annotated[
        str, Query(pattern=r"^[0-9]{1,18}$", description="`next` of the answer before; `0`: from the start.")
    ] = "0",
    limit: Annotated[int, Query(ge=1, le=1_000, description="How many lines.")] = 500,
) -> LogPage:
    """The newest lines that are kept of a run and its steps, oldest first; they are at most a second old."""
    await services.run(runs.get, run_id)
    found = await services.run(run_logs.read, run_id, after=int(after), limit=limit)
    lines = [
        LogLine(
            id=stored.line_id,
            run_id=stored.line.run_id,
            at=stored.line.logged_at,
            level=stored.line.level,
            event=stored.line.event,
            fields=stored.line.fields,
        )
        for stored in found
    ]
    return LogPage(lines=lines, next=str(lines[-1].id) if lines else after)


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
    """Pipeline runs, newest first; steps of others are listed only with their pipeline."""
    found = await services.run(runs.recent, limit=limit, pipeline=pipeline)
    return RunList(runs=await services.run(_with_steps, found))


async def carry_out(
    request: Request, services: Services, pipeline: str, parameters: Mapping[str, Any], how: Wanted
) -> Run:
    """
    Queue a run for a worker, or find the one that was asked for before, and wait for its end if wanted.

    Raises:
        ConflictError: another run of the pipeline is unfinished.
        KeyReusedError: the key stands for another request.
        RunFailedError: it did not succeed.
    """
    if how.key is None:
        run = await services.run(services.queue.submit, pipeline, parameters)
    else:
        submit = services.queue.submit_once
        run, how.is_replayed = await services.run(submit, pipeline, parameters, how.key)
    note(run_id=str(run.run_id))
    # What the run's own lines say is not who asked for it.
    get_logger().info("run.joined" if how.is_replayed else "run.submitted", pipeline=pipeline)
    if how.wait:
        run = await _finished(request, services, run)
    if run.finished and run.status != "succeeded":
        raise RunFailedError(
            f"The run {run.run_id} of {pipeline!r} {run.status}: {run.error}",
            run_id=str(run.run_id),
            fix=f"GET /v1/runs/{run.run_id} shows it.",
        )
    return run


async def run_and_answer(
    request: Request,
    services: Services,
    pipeline: str,
    parameters: Mapping[str, Any],
    result: str,
    how: Wanted,
) -> Response:
    """
    Carry out a run; the answer says that it has finished, or where to look at it.

    Args:
        result: what the answer calls it.
    """
    run = await carry_out(request, services, pipeline, parameters, how)
    return answered(run, lambda: RunResult(result=f"{result} finished"), how)


def answered(run: Run, result: Callable[[], BaseModel], how: Wanted) -> Response:
    """The answer about a run: its result, or where to look as long as it has not ended."""
    location = f"{how.prefix}/v1/runs/{run.run_id}"
    headers = {"Location": location} | ({REPLAYED: "true"} if how.is_replayed else {})
    if run.finished:
        return _json(result().model_dump_json(), 200, headers)
    body = RunAccepted(run_id=run.run_id, status=run.status, location=location)
    return _json(body.model_dump_json(), 202, headers)


def _check_model(name: str) -> None:
    known = model_names()
    if name not in known:
        raise InvalidRequestError(
            f"Unknown model_name {name!r}; known: {', '.join(known)}.",
            field="body.model_name",
            fix="Send one of the known names.",
        )


def _with_steps(connection: Connection, found: Sequence[Run]) -> list[RunStatus]:
    steps = runs.steps(connection, [run.run_id for run in found])
    return [
        RunStatus.model_validate({**vars(run), "steps": [_step(each) for each in steps.get(run.run_id, ())]})
        for run in found
    ]


def _step(run: Run) -> RunStep:
    return RunStep.model_validate({**vars(run), "name": run.pipeline})


async def _finished(request: Request, services: Services, run: Run) -> Run:
    """The run at its end, or as it is when the wait is over: too long, the caller gone, the API stopping."""
    try:
        async with asyncio.timeout(services.settings.api.wait_seconds):
            with untraced():
                while not (run.finished or services.stopping.is_set() or await request.is_disconnected()):
                    await asyncio.sleep(POLL_SECONDS)
                    run = await services.run(runs.get, run.run_id)
    except TimeoutError:
        pass  # the run goes on in its worker, and its id is all that the caller needs
    return run


def _json(body: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, media_type="application/json")
