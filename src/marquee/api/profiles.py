"""Users in a few numbers, and the genres there are."""

import math
from collections.abc import Mapping
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query

from marquee.api.access import CallerDep
from marquee.api.catalog import PageLength
from marquee.api.deps import Services, ServicesDep
from marquee.api.problems import InvalidRequestError, responses
from marquee.api.schemas.profiles import GenreCount, GenreList, UserList, UserProfile, UserSummary
from marquee.errors import NoChampionError, StoreUnavailableError
from marquee.store.repositories import profiles
from marquee.store.repositories.interactions import UserKind

__all__ = ["router"]

FAVOURITES: Final = 5

router = APIRouter(prefix="/v1")


@router.get(
    "/genres",
    tags=["catalogue"],
    summary="Genres",
    response_model=GenreList,
    responses=responses(NoChampionError),
)
async def list_genres(services: ServicesDep) -> GenreList:
    """The genres of the films that may be shown, the most frequent first; from memory."""
    counted = services.slots.champion().shelf.genres
    return GenreList(genres=[GenreCount(genre=genre, items=n) for genre, n in counted.items()])


@router.get(
    "/users",
    tags=["users"],
    summary="Users",
    response_model=UserList,
    responses=responses(InvalidRequestError, StoreUnavailableError),
)
async def list_users(
    services: ServicesDep,
    caller: CallerDep,
    kind: Annotated[UserKind | None, Query(description="Only these.")] = None,
    limit: PageLength = 20,
) -> UserList:
    """
    The first users by their number, and what they like.

    In demo mode this is open to everybody, who see the virtual users: those that can be played.
    """
    if not caller.may_read_anybody:
        kind = "virtual"
    found = await services.run(profiles.listed, kind=kind, limit=limit)
    return UserList(
        users=[
            UserSummary(
                user_id=user.user_id,
                kind=user.kind,
                events=user.events,
                favourite_genres=_favourites(services, user.genres),
            )
            for user in found
        ]
    )


@router.get(
    "/users/{user_id}",
    tags=["people"],
    summary="A person in numbers",
    response_model=UserProfile,
    responses=responses(InvalidRequestError, StoreUnavailableError),
)
async def get_user(services: ServicesDep, user_id: Annotated[int, Path(ge=0, lt=2**63)]) -> UserProfile:
    """How much a person did, since when, and what they like; of an unknown or erased person nothing."""
    found = await services.run(profiles.get, user_id)
    return UserProfile.model_validate(
        {**vars(found), "favourite_genres": _favourites(services, found.genres)}, extra="ignore"
    )


def _favourites(services: Services, watched: Mapping[str, int]) -> list[str]:
    """The genres most watched; against the square root of what there is, or everybody would like drama."""
    try:
        offered = services.slots.champion().shelf.genres
    except NoChampionError:
        offered = {}
    weighed = {genre: n / math.sqrt(max(offered.get(genre, 1), 1)) for genre, n in watched.items()}
    return sorted(weighed, key=lambda genre: (-weighed[genre], genre))[:FAVOURITES]
