"""What to watch: lists for users, sessions and everybody, and films like a film."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Final
from uuid import UUID, uuid4

import numpy as np
from fastapi import APIRouter, Body, Depends, Path, Response
from fastapi import Query as Parameter
from starlette.types import Scope

from marquee.api.access import CallerDep
from marquee.api.answers import DEGRADED_HEADER, Answer, Query, write, write_similar
from marquee.api.catalog import Language
from marquee.api.deps import ServicesDep
from marquee.api.engine import Engine
from marquee.api.hot import HotCall, HotRoute, PassOn, Reply
from marquee.api.problems import InvalidRequestError, responses
from marquee.api.schemas.recommendations import (
    MOST_EXCLUDED,
    BatchRequest,
    ListOptions,
    RecommendationList,
    RecommendationLists,
    SessionEvent,
    SessionRequest,
    SimilarList,
)
from marquee.api.schemas.service import LANGUAGE
from marquee.api.users import EVENTS, UserState
from marquee.data import Event
from marquee.errors import NoChampionError, NotFoundError
from marquee.recommend.filters import Filters
from marquee.telemetry import note

__all__ = ["HOT", "personal_query", "router"]

_DEGRADED_DOC = {
    DEGRADED_HEADER: {
        "description": "What the list had to do without: `database` (what the user did of late may be "
        "missing), `deadline` or `model` (a simpler list stands in).",
        "schema": {"type": "string"},
    }
}
_ANSWERED: Final[dict[int | str, dict[str, Any]]] = {200: {"headers": _DEGRADED_DOC}}

router = APIRouter(tags=["recommendations"])

UserId = Annotated[int, Path(ge=0, lt=2**63)]
ItemId = Annotated[int, Path(ge=0, lt=2**63)]
Excluded = Annotated[int, Parameter(ge=0, lt=2**63)]
Word = Annotated[str, Parameter(min_length=1, max_length=100)]


def _filters(
    genre: Annotated[list[Word], Parameter(description="At least one of these.", max_length=50)] = [],  # noqa: B006
    year_from: Annotated[int | None, Parameter(ge=0, le=9999, description="Of release, included.")] = None,
    year_to: Annotated[int | None, Parameter(ge=0, le=9999, description="Of release, included.")] = None,
    language: Annotated[
        list[Word], Parameter(description="Original language, one of these codes.", max_length=50)
    ] = [],  # noqa: B006
    max_runtime: Annotated[int | None, Parameter(ge=1, le=100_000, description="Minutes.")] = None,
    include_adult: bool = False,
) -> Filters:
    return Filters(tuple(genre), year_from, year_to, tuple(language), max_runtime, include_adult)


def _query(
    filters: Annotated[Filters, Depends(_filters)],
    k: Annotated[int, Parameter(ge=1, le=100, description="How many films to return.")] = 10,
    exclude: Annotated[
        list[Excluded], Parameter(description="Films that must not be listed.", max_length=MOST_EXCLUDED)
    ] = [],  # noqa: B006
    lang: Language = None,
) -> Query:
    return Query(k, filters, tuple(exclude), lang=lang)


def _popular_query(
    query: Annotated[Query, Depends(_query)],
    diversity: Annotated[
        float,
        Parameter(
            ge=0, le=1, allow_inf_nan=False, description="0: the most watched; 1: as varied as can be."
        ),
    ] = 0.0,
) -> Query:
    return replace(query, diversity=diversity)


def personal_query(
    query: Annotated[Query, Depends(_query)],
    diversity: Annotated[
        float, Parameter(ge=0, le=1, allow_inf_nan=False, description="0: the best; 1: as varied as can be.")
    ] = 0.0,
    explain: Annotated[bool, Parameter(description="Say of each film why it is listed.")] = False,
) -> Query:
    """What somebody asks for by the parameters of a query string."""
    return replace(query, diversity=diversity, explain=explain)


@router.get(
    "/v1/users/{user_id}/recommendations",
    summary="Films for a user",
    response_model=RecommendationList,
    responses={**_ANSWERED, **responses(InvalidRequestError, NoChampionError)},
)
async def recommendations(
    services: ServicesDep,
    caller: CallerDep,
    user_id: UserId,
    query: Annotated[Query, Depends(personal_query)],
) -> Response:
    """
    The k best films that the user has not seen, hidden or disliked.

    Everything that was acknowledged before counts. A user of whom nothing is known gets popular films.
    """
    return _response(await _for_user(services.engine, caller.request_id, user_id, query))


@router.post(
    "/v1/recommendations",
    summary="Films for a session",
    response_model=RecommendationList,
    responses={**_ANSWERED, **responses(InvalidRequestError, NoChampionError)},
)
async def session_recommendations(
    services: ServicesDep, caller: CallerDep, session: Annotated[SessionRequest, Body()]
) -> Response:
    """The k best films after these events of somebody of whom nothing else is known."""
    request_id = UUID(caller.request_id)
    answer = await services.engine.for_session(_session(session.events), _query_of(session), request_id)
    return _response(_reply(answer, caller.request_id, None, session.lang))


@router.post(
    "/v1/recommendations/batch",
    summary="Films for many users",
    response_model=RecommendationLists,
    responses={**_ANSWERED, **responses(InvalidRequestError, NoChampionError)},
)
async def batch_recommendations(services: ServicesDep, asked: Annotated[BatchRequest, Body()]) -> Response:
    """One list per user, in their order, each with a `request_id` of its own."""
    request_ids = [uuid4() for _ in asked.user_ids]
    answers = await services.engine.many(asked.user_ids, _query_of(asked), request_ids)
    lists = [
        write(answer, str(request_id), user_id, asked.lang)
        for answer, request_id, user_id in zip(answers, request_ids, asked.user_ids, strict=True)
    ]
    degraded = dict.fromkeys(reason for answer in answers for reason in answer.degraded)
    return _response(Reply(b'{"lists":[%b]}' % b",".join(lists), headers=_degraded(tuple(degraded))))


@router.get(
    "/v1/items/{item_id}/similar",
    summary="Films like a film",
    response_model=SimilarList,
    responses=responses(InvalidRequestError, NotFoundError, NoChampionError),
)
async def similar(
    services: ServicesDep, caller: CallerDep, item_id: ItemId, query: Annotated[Query, Depends(_query)]
) -> Response:
    """Watched by the same people, and about the same things; of a new film, about the same things."""
    return _response(_similar(services.engine, caller.request_id, item_id, query))


@router.get(
    "/v1/popular",
    summary="Films that are popular",
    response_model=RecommendationList,
    responses=responses(InvalidRequestError, NoChampionError),
)
async def popular(
    services: ServicesDep, caller: CallerDep, query: Annotated[Query, Depends(_popular_query)]
) -> Response:
    """The most watched films that satisfy the filters; with `diversity`, those of them that vary."""
    answer = await services.engine.popular(query, UUID(caller.request_id))
    return _response(_reply(answer, caller.request_id, None, query.lang))


async def _recommendations_hot(call: HotCall) -> Reply:
    query = _parsed(call.query)
    return await _for_user(call.services.engine, _request_id(call.scope), call.params[0], query)


async def _similar_hot(call: HotCall) -> Reply:
    query = _parsed(call.query)
    if query.diversity or query.explain:
        raise PassOn
    return _similar(call.services.engine, _request_id(call.scope), call.params[0], query)


HOT: Final[Sequence[HotRoute]] = (
    HotRoute("GET", "/v1/users/{user_id}/recommendations", _recommendations_hot),
    HotRoute("GET", "/v1/items/{item_id}/similar", _similar_hot),
)


async def _for_user(engine: Engine, request_id: str, user_id: int, query: Query) -> Reply:
    answer = await engine.for_user(user_id, query, UUID(request_id))
    return _reply(answer, request_id, user_id, query.lang)


def _similar(engine: Engine, request_id: str, item_id: int, query: Query) -> Reply:
    answer = engine.similar(item_id, query, UUID(request_id))
    return Reply(write_similar(answer, request_id, item_id, query.lang), headers=_degraded(answer.degraded))


def _reply(answer: Answer, request_id: str, user_id: int | None, lang: str | None) -> Reply:
    note(bundle=answer.served.name, tier=answer.tier)
    return Reply(write(answer, request_id, user_id, lang), headers=_degraded(answer.degraded))


def _degraded(reasons: tuple[str, ...]) -> Sequence[tuple[bytes, bytes]]:
    return ((DEGRADED_HEADER.lower().encode(), ", ".join(reasons).encode()),) if reasons else ()


def _response(reply: Reply) -> Response:
    headers = {name.decode(): value.decode() for name, value in reply.headers}
    return Response(reply.body, media_type="application/json", headers=headers)


def _request_id(scope: Scope) -> str:
    request_id: str = scope["marquee"].request_id
    return request_id


def _query_of(options: ListOptions) -> Query:
    filters = Filters(
        tuple(options.genre),
        options.year_from,
        options.year_to,
        tuple(options.language),
        options.max_runtime,
        options.include_adult,
    )
    return Query(options.k, filters, tuple(options.exclude), options.diversity, options.explain, options.lang)


def _session(events: Sequence[SessionEvent]) -> UserState:
    """What the events of a session tell; those without a moment are of now, in their order."""
    now = datetime.now(UTC)
    rows = np.zeros(len(events), EVENTS)
    for place, event in enumerate(events):
        moment = event.occurred_at or now
        micros = int(moment.timestamp() * 1e6)
        rows[place] = (
            event.item_id,
            micros if event.occurred_at else micros - (len(events) - place),
            Event.from_label(event.event),
            np.nan if event.rating is None else event.rating,
            np.nan if event.watch_seconds is None else event.watch_seconds,
        )
    rows = rows[np.lexsort((rows["event"], rows["item"], rows["timestamp"]))]
    seen = np.unique(rows["item"][rows["event"] != Event.CLICK])
    return UserState(-1, rows, seen, None)


_PLAIN: Final = re.compile(rb"[a-z_]+=[A-Za-z0-9._-]+(&[a-z_]+=[A-Za-z0-9._-]+)*")
_SHORT: Final = 400
_FLAGS: Final = {"true": True, "false": False}


def _number(pattern: str, low: int, high: int) -> Callable[[str], int]:
    plain = re.compile(pattern)

    def parse(value: str) -> int:
        if not plain.fullmatch(value) or not low <= int(value) <= high:
            raise PassOn
        return int(value)

    return parse


def _flag(value: str) -> bool:
    if value not in _FLAGS:
        raise PassOn
    return _FLAGS[value]


def _dial(value: str) -> float:
    if not re.fullmatch(r"0(\.[0-9]{1,6})?|1(\.0{1,6})?", value):
        raise PassOn
    return float(value)


def _word(value: str) -> str:
    if len(value) > 100:
        raise PassOn
    return value


def _language(value: str) -> str:
    if len(value) > 35 or not re.fullmatch(LANGUAGE, value):
        raise PassOn
    return value


_NUMBER: Final = r"0|[1-9][0-9]{0,17}"
_SINGLE: Final[dict[str, Callable[[str], Any]]] = {
    "k": _number(_NUMBER, 1, 100),
    "year_from": _number(_NUMBER, 0, 9999),
    "year_to": _number(_NUMBER, 0, 9999),
    "max_runtime": _number(_NUMBER, 1, 100_000),
    "include_adult": _flag,
    "diversity": _dial,
    "explain": _flag,
    "lang": _language,
}
_REPEATED: Final[dict[str, Callable[[str], Any]]] = {
    "genre": _word,
    "language": _word,
    "exclude": _number(_NUMBER, 0, 10**18),
}


@lru_cache(maxsize=4096)
def _parsed(query: bytes) -> Query:
    """
    The plain forms of a query; whatever is out of the ordinary is for the framework.

    Raises:
        PassOn: a parameter that is unknown, repeated where it may not be, out of range or escaped.
    """
    if not query:
        return Query()
    if len(query) > _SHORT or not _PLAIN.fullmatch(query):
        raise PassOn
    single: dict[str, Any] = {}
    repeated: dict[str, list[Any]] = {}
    for part in query.decode().split("&"):
        name, _, value = part.partition("=")
        if name in _REPEATED:
            repeated.setdefault(name, []).append(_REPEATED[name](value))
        elif name in _SINGLE and name not in single:
            single[name] = _SINGLE[name](value)
        else:
            raise PassOn
    if any(len(values) > 50 for values in repeated.values()):
        raise PassOn
    filters = Filters(
        tuple(repeated.get("genre", ())),
        single.get("year_from"),
        single.get("year_to"),
        tuple(repeated.get("language", ())),
        single.get("max_runtime"),
        single.get("include_adult", False),
    )
    return Query(
        single.get("k", 10),
        filters,
        tuple(repeated.get("exclude", ())),
        single.get("diversity", 0.0),
        single.get("explain", False),
        single.get("lang"),
    )
