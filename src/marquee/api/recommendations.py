"""What to watch: the predictor's vocabulary, its answers, and the newest recommendations."""

from typing import Annotated, Any

import orjson
import structlog
from fastapi import APIRouter, Body, Response
from sqlalchemy import Connection

from marquee.api.deps import ListLength, Services, ServicesDep
from marquee.api.problems import InvalidRequestError, UnknownContentError, responses
from marquee.api.schemas.service import (
    AvailableContentIds,
    AvailableContents,
    PredictRequest,
    PredictResponse,
    RecentRecommendations,
)
from marquee.api.slots import Predictor, card
from marquee.errors import NoChampionError, StoreError, StoreUnavailableError
from marquee.store.repositories import interactions, items, predictions, recommendations
from marquee.telemetry import get_logger

__all__ = ["answer_prediction", "newest_cards", "router"]

DEGRADED_HEADER = "X-Marquee-Degraded"
DEGRADED = {DEGRADED_HEADER: "database"}
_DEGRADED_DOC = {
    DEGRADED_HEADER: {
        "description": "`database`: answered without it; what the user has seen may be among the films.",
        "schema": {"type": "string"},
    }
}

router = APIRouter(tags=["recommendations"])


@router.get(
    "/available-content-ids",
    summary="Ids of the films that the predictor knows",
    response_model=AvailableContentIds,
    responses=responses(NoChampionError),
)
async def available_content_ids(services: ServicesDep) -> Response:
    """The trained vocabulary, most watched first."""
    return _json(services.slots.predictor().content_ids)


@router.get(
    "/available-contents",
    summary="Films that the predictor knows",
    response_model=AvailableContents,
    responses=responses(NoChampionError),
)
async def available_contents(services: ServicesDep) -> Response:
    """The films of the trained vocabulary, most watched first."""
    return _json(services.slots.predictor().contents)


@router.get(
    "/latest-recommendations",
    summary="The newest recommendations",
    response_model=RecentRecommendations,
    responses={200: {"headers": _DEGRADED_DOC}, **responses(InvalidRequestError, StoreUnavailableError)},
)
async def latest_recommendations(services: ServicesDep, k: ListLength = 10) -> Response:
    """Films of the newest `/predict` answers, then of the newest batch, without duplicates."""
    found, headers = await newest_cards(services, k)
    return _json(orjson.dumps({"recent_recommendations": found}), headers)


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
    body, headers = await answer_prediction(services, viewing)
    return _json(body, headers)


async def answer_prediction(services: Services, viewing: PredictRequest) -> tuple[bytes, dict[str, str]]:
    """
    The JSON of a `/predict` answer and its headers.

    Raises:
        NoChampionError: there is no predictor.
        UnknownContentError: the film is not in its vocabulary.
    """
    predictor = services.slots.predictor()
    if viewing.content_id not in predictor.model.items:
        raise UnknownContentError(
            f"The content_id {viewing.content_id} is not in the trained vocabulary.",
            fix="GET /available-content-ids lists the known ones.",
        )
    headers: dict[str, str] = {}
    try:
        ranked = await services.run(_predict_and_keep, predictor, viewing)
    except StoreError as error:
        get_logger().warning("api.predicted_without_database", error=str(error))
        ranked, headers = _predict(predictor, viewing, frozenset()), _degraded()
    structlog.contextvars.bind_contextvars(bundle=predictor.name)
    films = [predictor.cards[item_id] for item_id, _ in ranked]
    return orjson.dumps({"user_id": viewing.user_id, "recommendations": films}), headers


async def newest_cards(services: Services, k: int) -> tuple[list[orjson.Fragment], dict[str, str]]:
    """
    The cards of `/latest-recommendations` and the headers of the answer.

    Without the database the most watched films stand in.

    Raises:
        StoreUnavailableError: neither the database nor a model is there.
    """
    cards = services.slots.cards()
    try:
        return await services.run(_newest_cards, k, cards), {}
    except StoreUnavailableError as error:
        served = services.slots.get("predictor") or services.slots.get("champion")
        if served is None:
            raise
        get_logger().warning("api.popular_without_database", error=str(error))
        popular = (cards[item_id] for item_id in served.model.items.ids[:k].tolist())
        return list(popular), _degraded()


def _predict_and_keep(
    connection: Connection, predictor: Predictor, viewing: PredictRequest
) -> list[tuple[int, float]]:
    ranked = _predict(predictor, viewing, interactions.seen_items(connection, viewing.user_id))
    predictions.append(
        connection,
        user_id=viewing.user_id,
        item_id=viewing.content_id,
        rating=viewing.rating,
        watch_seconds=viewing.watch_seconds,
        popularity=viewing.popularity,
        item_ids=[item_id for item_id, _ in ranked],
        scores=[score for _, score in ranked],
        bundle=predictor.deployment.bundle,
    )
    return ranked


def _predict(predictor: Predictor, viewing: PredictRequest, seen: frozenset[int]) -> list[tuple[int, float]]:
    return predictor.predict(
        rating=viewing.rating,
        popularity=viewing.popularity,
        watch_seconds=viewing.watch_seconds,
        k=viewing.k,
        exclude=seen | {viewing.content_id},
    )


def _newest_cards(connection: Connection, k: int, cards: Any) -> list[orjson.Fragment]:
    newest = dict.fromkeys(predictions.latest_items(connection, k))
    if len(newest) < k:
        newest.update(dict.fromkeys(recommendations.newest_items(connection, k + len(newest))))
    missing = [item_id for item_id in newest if item_id not in cards]
    known = items.cards(connection, missing) if missing else {}
    rendered = {i: card(i, film.title, film.poster_path, film.overview) for i, film in known.items()}
    every = (cards.get(item_id) or rendered.get(item_id) for item_id in newest)
    return [film for film in every if film is not None][:k]


def _degraded() -> dict[str, str]:
    structlog.contextvars.bind_contextvars(degraded="database")
    return dict(DEGRADED)


def _json(body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(body, media_type="application/json", headers=headers)
