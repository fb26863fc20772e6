"""What to watch after a viewing: the predictor's vocabulary, its answers, and the newest recommendations."""

import asyncio
import re
from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Body, Response
from pydantic import TypeAdapter, ValidationError

from marquee.api.answers import DEGRADED_HEADER
from marquee.api.catalog import Language
from marquee.api.deps import ListLength, Services, ServicesDep
from marquee.api.hot import HotCall, HotRoute, PassOn, Reply
from marquee.api.latest import rendered
from marquee.api.problems import InvalidRequestError, UnknownContentError, responses
from marquee.api.schemas.service import (
    AvailableContentIds,
    AvailableContents,
    PredictRequest,
    PredictResponse,
    RecentRecommendations,
)
from marquee.errors import NoChampionError, StoreUnavailableError
from marquee.telemetry import note

__all__ = ["HOT", "router"]

_DEGRADED = ((DEGRADED_HEADER.lower().encode(), b"database"),)
_DEGRADED_DOC = {
    DEGRADED_HEADER: {
        "description": "`database`: answered without it; what the user has seen may be among the films.",
        "schema": {"type": "string"},
    }
}
_BODY: Final = TypeAdapter(PredictRequest)
_LENGTH: Final = rb"k=([1-9][0-9]?|100)"
_LANG: Final = rb"lang=([a-z]{2}(?:-[A-Z]{2})?)"
_PLAIN: Final = re.compile(rb"%b(?:&%b)?|%b" % (_LENGTH, _LANG, _LANG))
_DEFAULT_LENGTH: Final = 10

router = APIRouter(tags=["recommendations"])


@router.get(
    "/available-content-ids",
    summary="Ids of the films that the predictor knows",
    response_model=AvailableContentIds,
    responses=responses(NoChampionError),
)
async def available_content_ids(services: ServicesDep) -> Response:
    """The trained vocabulary, most watched first."""
    return _response(Reply(services.slots.predictor().content_ids))


@router.get(
    "/available-contents",
    summary="Films that the predictor knows",
    response_model=AvailableContents,
    responses=responses(InvalidRequestError, NoChampionError),
)
async def available_contents(services: ServicesDep, lang: Language = None) -> Response:
    """The films of the trained vocabulary, most watched first."""
    predictor = services.slots.predictor()
    translation = predictor.shelf.translations.find(lang)
    if translation is None:
        return _response(Reply(predictor.contents))
    return _response(Reply(await asyncio.to_thread(translation.contents, predictor.contents)))


@router.get(
    "/latest-recommendations",
    summary="The newest recommendations",
    response_model=RecentRecommendations,
    responses={200: {"headers": _DEGRADED_DOC}, **responses(InvalidRequestError, StoreUnavailableError)},
)
async def latest_recommendations(
    services: ServicesDep, k: ListLength = _DEFAULT_LENGTH, lang: Language = None
) -> Response:
    """Films of the newest `/predict` answers, then of the newest batch, without duplicates."""
    return _response(await _latest(services, k, lang))


@router.post(
    "/predict",
    summary="Films to watch after a viewing",
    response_model=PredictResponse,
    responses={
        200: {"headers": _DEGRADED_DOC},
        **responses(InvalidRequestError, UnknownContentError, NoChampionError),
    },
)
async def predict(services: ServicesDep, viewing: Annotated[PredictRequest, Body()]) -> Response:
    """
    The k most probable films other than this one and those that the user has seen, hidden or disliked.

    The answer is kept, so that `/latest-recommendations` shows it at once.
    """
    return _response(await _predict(services, viewing))


async def _predict_hot(call: HotCall) -> Reply:
    if call.header(b"content-type").partition(b";")[0] != b"application/json":
        raise PassOn
    try:
        viewing = _BODY.validate_json(call.body)
    except ValidationError:
        raise PassOn from None  # to whoever words the refusal
    return await _predict(call.services, viewing)


async def _latest_hot(call: HotCall) -> Reply:
    if not call.query:
        return await _latest(call.services, _DEFAULT_LENGTH, None)
    given = _PLAIN.fullmatch(call.query)
    if given is None:
        raise PassOn
    lang = given[2] or given[3]
    return await _latest(
        call.services, int(given[1] or _DEFAULT_LENGTH), None if lang is None else lang.decode()
    )


async def _content_ids_hot(call: HotCall) -> Reply:
    return Reply(call.services.slots.predictor().content_ids)


async def _contents_hot(call: HotCall) -> Reply:
    if call.query:
        raise PassOn
    return Reply(call.services.slots.predictor().contents)


HOT: Final[Sequence[HotRoute]] = (
    HotRoute("POST", "/predict", _predict_hot),
    HotRoute("GET", "/latest-recommendations", _latest_hot),
    HotRoute("GET", "/available-content-ids", _content_ids_hot),
    HotRoute("GET", "/available-contents", _contents_hot),
)


async def _predict(services: Services, viewing: PredictRequest) -> Reply:
    answered = await services.predictions.answer(viewing)
    note(bundle=answered.bundle)
    return _degraded(answered.body) if answered.degraded else Reply(answered.body)


async def _latest(services: Services, k: int, lang: str | None) -> Reply:
    """
    The newest recommendations; without the database the most watched films stand in.

    Raises:
        StoreUnavailableError: neither the database nor a model is there.
    """
    try:
        return Reply(await services.latest.answer(k, lang))
    except StoreUnavailableError:
        served = services.slots.get("predictor") or services.slots.get("champion")
        if served is None:
            raise
        first = served.model.items.ids[:k].tolist()
        return _degraded(
            rendered(
                ((item_id, served.cards[item_id]) for item_id in first),
                served.shelf.translations.find(lang),
            )
        )


def _degraded(body: bytes) -> Reply:
    note(degraded="database")
    return Reply(body, headers=_DEGRADED)


def _response(reply: Reply) -> Response:
    headers = {name.decode(): value.decode() for name, value in reply.headers}
    return Response(reply.body, reply.status, headers, media_type="application/json")
