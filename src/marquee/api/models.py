"""Versions of models over HTTP: what there is, promote, roll back, approve."""

from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Body, Query, Request, Response
from sqlalchemy import Connection

from marquee.api.access import Caller, CallerDep
from marquee.api.deps import Services, ServicesDep
from marquee.api.operations import ACCEPTED, How, answered, carry_out
from marquee.api.problems import InvalidRequestError, RunFailedError, responses
from marquee.api.schemas.models import (
    ApprovalRequest,
    Deployed,
    ModelList,
    ModelVersion,
    PromotionRequest,
    PromotionResult,
    RollbackRequest,
)
from marquee.errors import (
    ConflictError,
    KeyReusedError,
    NoChampionError,
    NotFoundError,
    RegistryError,
    StoreError,
    StoreUnavailableError,
)
from marquee.store.objects import ObjectStore
from marquee.store.repositories import deployments
from marquee.store.repositories.deployments import Deployment
from marquee.store.versions import list_versions
from marquee.telemetry import get_logger, note

__all__ = ["mirror", "router", "who"]

PROMOTE: Final = "promote"
MIRROR: Final = "mirror"

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get(
    "",
    summary="Versions of models",
    response_model=ModelList,
    responses=responses(InvalidRequestError, StoreUnavailableError),
)
async def list_models(
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=200, description="How many versions.")] = 20,
) -> ModelList:
    """Every trained version, newest first: where it serves, what was measured, what the gate said."""
    # Each version has a manifest to be read from the disk: not by the loop that answers everybody.
    objects = ObjectStore(services.settings.paths.objects)
    found = await services.run_long(list_versions, objects, limit=limit)
    now = datetime.now(UTC)
    return ModelList(
        models=[
            ModelVersion.model_validate(
                {**vars(one), "age_seconds": (now - one.trained_at).total_seconds()}, from_attributes=True
            )
            for one in found
        ]
    )


@router.post(
    "/promote",
    summary="Put a version before the gate",
    response_model=PromotionResult,
    responses={
        **ACCEPTED,
        **responses(
            InvalidRequestError,
            KeyReusedError,
            NotFoundError,
            ConflictError,
            RunFailedError,
            StoreUnavailableError,
        ),
    },
)
async def promote_model(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    wanted: Annotated[PromotionRequest, Body()],
    how: How,
) -> Response:
    """
    Compare a version with the champion, and promote it if it is better and fit to serve.

    A refusal is an answer: look at `verdict`.
    """
    if wanted.force and not (wanted.reason or "").strip():
        raise InvalidRequestError(
            "Forcing needs a reason.", field="body.reason", fix="Say why; it is kept with the deployment."
        )
    if wanted.force and wanted.require_approval:
        raise InvalidRequestError(
            "force and require_approval exclude one another.", field="body.force", fix="Send one of them."
        )
    if wanted.version is not None:
        await services.run(deployments.of_version, wanted.version)
    parameters = {**wanted.model_dump(), "by": who(caller)}
    run = await carry_out(request, services, PROMOTE, parameters, how)
    return answered(run, lambda: PromotionResult.model_validate(run.counts), how)


@router.post(
    "/rollback",
    summary="Put back what served before",
    response_model=Deployed,
    responses=responses(InvalidRequestError, RegistryError, StoreUnavailableError),
)
async def roll_back_model(
    services: ServicesDep, caller: CallerDep, wanted: Annotated[RollbackRequest, Body()]
) -> Deployed:
    """Give a slot back what it held before, on every API process within two seconds."""
    slot: deployments.Slot = "predictor" if wanted.slot == "predictor" else "champion"
    made = await services.run(_roll_back, slot, caller, wanted.reason)
    return await _deployed(services, made)


@router.post(
    "/approve",
    summary="Promote a version that waits",
    response_model=Deployed,
    responses=responses(InvalidRequestError, NotFoundError, RegistryError, StoreUnavailableError),
)
async def approve_model(
    services: ServicesDep, caller: CallerDep, wanted: Annotated[ApprovalRequest, Body()]
) -> Deployed:
    """Make a version champion that has passed the gate and waits for an operator."""
    made = await services.run(_approve, caller, wanted)
    return await _deployed(services, made)


def who(caller: Caller) -> str:
    """Who did it, for the record."""
    return f"api:{caller.key_id or caller.role}"


async def mirror(services: Services) -> None:
    """Have a worker tell the tracker, which the API does not know, what is deployed."""
    try:
        await services.run(services.queue.submit, MIRROR)
    except ConflictError as error:  # one is queued: it reads what is deployed when it runs
        get_logger().debug("api.mirror_queued_already", error=str(error))
    except StoreError as error:  # what serves is decided; the tracker follows with the next deployment
        get_logger().warning("api.mirror_not_queued", error=str(error))


def _roll_back(connection: Connection, slot: deployments.Slot, caller: Caller, reason: str) -> Deployment:
    try:
        return deployments.roll_back(connection, slot, deployed_by=who(caller), reason=reason)
    except NoChampionError as error:  # no service is missing: the request cannot be met
        raise RegistryError(error.message, fix=error.fix) from error


def _approve(connection: Connection, caller: Caller, wanted: ApprovalRequest) -> Deployment:
    return deployments.approve(
        connection, deployed_by=who(caller), reason=wanted.reason, version=wanted.version
    )


async def _deployed(services: Services, made: Deployment) -> Deployed:
    note(slot=made.slot, bundle=made.bundle)
    await mirror(services)
    return Deployed.model_validate(made)
