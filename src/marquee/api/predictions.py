"""Answers of the predictor: made for many at once, kept, and shown by `/latest-recommendations`."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from marquee.api.batching import Batcher
from marquee.api.latest import LatestRecommendations
from marquee.api.problems import UnknownContentError
from marquee.api.schemas.service import PredictRequest
from marquee.api.slots import Slots
from marquee.api.users import UserStates
from marquee.api.writer import Journal
from marquee.data.schema import Ids, Matrix
from marquee.errors import StoreBusyError, StoreError, StoreUnavailableError
from marquee.store.repositories.predictions import NewPrediction
from marquee.telemetry import get_logger
from marquee.telemetry.spans import as_span

__all__ = ["Prediction", "Predictions"]

MOST_TOGETHER = 32
"""Answers made in one go: the rows of one product of the network, which takes a few milliseconds."""
_NOTHING: Ids = np.zeros(0, np.int64)


class Services(Protocol):
    """What is needed of the running API."""

    slots: Slots
    users: UserStates
    journal: Journal
    latest: LatestRecommendations
    database_is_up: bool

    def lost(self, reason: str) -> None:
        """Note that the database did not answer."""


class Prediction(NamedTuple):
    """
    An answer.

    Attributes:
        body: as JSON.
        bundle: what made it.
        degraded: made without the database, so that what the user has seen may be among the films.
    """

    body: bytes
    bundle: str
    degraded: bool


class _Viewing(NamedTuple):
    """A request, and what its user has seen."""

    request: PredictRequest
    seen: Ids
    degraded: bool


class Predictions:
    """Answers `/predict`: concurrent requests share one look-up of their users and one matrix product."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._batcher = Batcher("predict", self._answer, most=MOST_TOGETHER)

    @as_span("predictor.batch")
    async def answer(self, request: PredictRequest) -> Prediction:
        """
        The k most probable films other than this one and those that the user has seen, hidden or disliked.

        Raises:
            NoChampionError: there is no predictor.
            UnknownContentError: the film is not in its vocabulary.
        """
        if request.content_id not in self._services.slots.predictor().column_of:
            raise UnknownContentError(
                f"The content_id {request.content_id} is not in the trained vocabulary.",
                fix="GET /available-content-ids lists the known ones.",
            )
        return await self._batcher.ask(self._viewing(request))

    async def _viewing(self, request: PredictRequest) -> _Viewing:
        services = self._services
        if services.database_is_up:
            try:
                state = await services.users.get(request.user_id)
                return _Viewing(request, state.seen, False)
            except StoreBusyError as error:
                get_logger().warning("api.predicted_without_database", error=str(error))
            except StoreUnavailableError as error:
                services.lost(str(error))
            except StoreError as error:
                get_logger().error("api.predicted_without_database", error=str(error))
        known = services.users.cached(request.user_id)
        return _Viewing(request, _NOTHING if known is None else known.seen, True)

    def _answer(self, viewings: Sequence[_Viewing]) -> Sequence[Prediction]:
        predictor = self._services.slots.predictor()
        vocabulary = predictor.model.items
        requests = [viewing.request for viewing in viewings]
        seen = [viewing.seen for viewing in viewings]
        each = np.arange(len(viewings))
        left_out = vocabulary.index(np.concatenate([*seen, [request.content_id for request in requests]]))
        rows = np.concatenate([np.repeat(each, [len(ids) for ids in seen]), each])
        columns, scores = predictor.model.most_probable(
            [request.rating for request in requests],
            [request.popularity for request in requests],
            [request.watch_seconds for request in requests],
            k=max(request.k for request in requests),
            excluded=(rows[left_out >= 0], left_out[left_out >= 0]),
        )
        lengths = np.minimum((columns >= 0).sum(axis=1), [request.k for request in requests]).tolist()
        self._keep(requests, vocabulary.ids[columns], scores, lengths, predictor.bundle)
        return [
            Prediction(
                b'{"user_id":%d,"recommendations":[%b]}'
                % (request.user_id, b",".join(predictor.cards_of(chosen[:length], request.lang))),
                predictor.name,
                viewing.degraded,
            )
            for request, viewing, chosen, length in zip(
                requests, viewings, columns.tolist(), lengths, strict=True
            )
        ]

    def _keep(
        self,
        requests: Sequence[PredictRequest],
        item_ids: NDArray[np.int64],
        scores: Matrix,
        lengths: Sequence[int],
        bundle: str,
    ) -> None:
        """Journal the answers, and show them before they are written."""
        services, made = self._services, []
        for request, ids, values, length in zip(requests, item_ids, scores, lengths, strict=True):
            row = NewPrediction(
                request.user_id,
                request.content_id,
                request.rating,
                request.watch_seconds,
                request.popularity,
                ids[:length],
                values[:length],
                bundle,
            )
            made.append((services.journal.prediction(row), ids[:length]))
        services.latest.add(made)
