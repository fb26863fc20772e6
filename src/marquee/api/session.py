"""Visitors of the site: each gets a cookie that names one user."""

import secrets
from typing import Annotated, Final

from fastapi import APIRouter, Body, Request, Response

from marquee.api.access import CallerDep
from marquee.api.deps import Services, ServicesDep
from marquee.api.problems import ForbiddenError, InvalidRequestError, responses
from marquee.api.schemas.session import PlayRequest, SessionState, Visitor
from marquee.errors import NotFoundError, StoreError, StoreUnavailableError
from marquee.store.repositories import people

__all__ = ["FIRST_VISITOR", "router"]

FIRST_VISITOR: Final = 2**52
"""Visitors get random ids from here to twice it: exact in every language, and in no data set."""

NOBODY_ELSE: Final = PlayRequest(user_id=None)

router = APIRouter(tags=["users"])


@router.post(
    "/v1/session",
    summary="Become a visitor",
    response_model=Visitor,
    responses={
        200: {
            "headers": {
                "Set-Cookie": {
                    "description": "`marquee_session`, signed, HttpOnly, SameSite=Lax.",
                    "schema": {"type": "string"},
                }
            }
        },
        **responses(InvalidRequestError, ForbiddenError, NotFoundError, StoreUnavailableError),
    },
)
async def start_session(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    wanted: Annotated[PlayRequest, Body()] = NOBODY_ELSE,
) -> Response:
    """
    A new visitor gets a new user; one who comes back stays who they are.

    In demo mode the body may name a virtual user to play; without a body the visitor is themselves again.
    """
    cookies = services.access.cookies
    shown = request.headers.get("cookie", "").encode("latin-1")
    own = await _own(services, None if caller.user_id is None else cookies.own_user_of(shown))
    if wanted.user_id is not None:
        user_id = await _played(services, wanted.user_id)
        cookie = cookies.header_for(user_id, own=own, secure=request.url.scheme == "https")
    else:
        user_id = own
        cookie = cookies.header_for(user_id, secure=request.url.scheme == "https")
    content = Visitor(user_id=user_id).model_dump_json()
    headers = {"set-cookie": cookie, "cache-control": "no-store"}
    return Response(content, headers=headers, media_type="application/json")


@router.get("/v1/session", summary="Who you are", response_model=SessionState)
async def get_session(services: ServicesDep, caller: CallerDep, response: Response) -> SessionState:
    """The user that the cookie names, and what the caller may do; nothing is changed."""
    response.headers["cache-control"] = "no-store"
    return SessionState(user_id=caller.user_id, role=caller.role, demo=services.settings.demo)


async def _played(services: Services, user_id: int) -> int:
    if not services.settings.demo:
        raise ForbiddenError(
            f"Nobody may play the user {user_id} here.",
            fix="Send no body to get a user of your own; operators may set MARQUEE_DEMO=1.",
        )
    if await services.run(people.kind_of, user_id) != "virtual":
        raise NotFoundError(
            f"There is no virtual user {user_id}.", fix="`marquee simulate` makes virtual users."
        )
    return user_id


async def _own(services: Services, known: int | None) -> int:
    """The visitor's user; a new one for new visitors, and for those who had themselves erased."""
    if known is not None:
        try:
            if await services.run(people.kind_of, known) != "erased":
                return known
        except StoreError:
            return known  # the erasure stays: nothing is kept of an erased user
    return FIRST_VISITOR + secrets.randbelow(FIRST_VISITOR)
