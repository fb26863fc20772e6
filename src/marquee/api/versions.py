"""One version of a model over HTTP: how it was trained and judged, and what it would show."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response
from fastapi import Query as Parameter

from marquee.api.access import CallerDep
from marquee.api.answers import Query, write
from marquee.api.deps import ServicesDep
from marquee.api.problems import InvalidRequestError, responses
from marquee.api.recommendations import personal_query
from marquee.api.schemas.recommendations import RecommendationList
from marquee.api.schemas.versions import ModelDetails
from marquee.errors import IncompatibleBundleError, NotFoundError, StoreUnavailableError
from marquee.store.objects import ObjectStore
from marquee.store.repositories import deployments
from marquee.store.versions import describe

__all__ = ["router"]

VersionPath = Annotated[
    str,
    Path(
        min_length=1,
        max_length=300,
        pattern=r"^[^\x00]*$",
        description="A version, with or without the name of its model before it (`ease/…`).",
    ),
]

router = APIRouter(prefix="/v1/models", tags=["models"])


# Before the other: its path fits that one, too.
@router.get(
    "/{version:path}/recommendations",
    summary="What a version would show",
    response_model=RecommendationList,
    responses=responses(InvalidRequestError, NotFoundError, IncompatibleBundleError, StoreUnavailableError),
)
async def preview_model(
    services: ServicesDep,
    caller: CallerDep,
    version: VersionPath,
    user_id: Annotated[int, Parameter(ge=0, lt=2**63, description="Whose list.")],
    query: Annotated[Query, Depends(personal_query)],
) -> Response:
    """
    The list that this version would give a user now; nobody sees it, and it is not noted as shown.

    A version that does not serve is loaded for it: the first answer takes longer.
    """
    found = await services.run(deployments.of_version, version)
    state = await services.users.get(user_id)
    answer = await services.previews.answer(found, state, query)
    return Response(write(answer, caller.request_id, user_id, query.lang), media_type="application/json")


@router.get(
    "/{version:path}",
    summary="One version",
    response_model=ModelDetails,
    responses=responses(InvalidRequestError, NotFoundError, StoreUnavailableError),
)
async def get_model(services: ServicesDep, version: VersionPath) -> ModelDetails:
    """How a version was trained, what the gate said, and where it has served."""
    objects = ObjectStore(services.settings.paths.objects)
    found = await services.run_long(describe, objects, version)  # reads a manifest from the disk
    age = (datetime.now(UTC) - found.version.trained_at).total_seconds()
    return ModelDetails.model_validate(
        {**vars(found.version), **vars(found), "version": found.version.version, "age_seconds": age},
        from_attributes=True,
    )
