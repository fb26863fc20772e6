"""What `/latest-recommendations` shows, kept in memory until something changes."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Concatenate, Final, NamedTuple, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection

from marquee.api.listener import Listener
from marquee.api.served import Served, card
from marquee.api.slots import Slots
from marquee.api.translations import Translation
from marquee.api.writer import Journal
from marquee.data.schema import Ids
from marquee.errors import StoreUnavailableError
from marquee.store.repositories import items, predictions, recommendations
from marquee.telemetry import get_logger

__all__ = ["LatestRecommendations", "rendered"]

MOST: Final = 100
"""The longest list that may be asked for."""
PENDING_PREDICTIONS: Final = 200
"""Own answers that are shown before they are read back: as many as a reader looks through."""
REST_SECONDS: Final = 0.02
"""What is read is not read again before this has passed."""
PATIENCE_SECONDS: Final = 0.05
"""Whoever asks for what changed since it was read waits for the new, if it was read longer ago than this."""

P = ParamSpec("P")
R = TypeVar("R")


class Services(Protocol):
    """What is needed of the running API."""

    slots: Slots
    listener: Listener
    journal: Journal
    database_is_up: bool

    async def run(
        self, work: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Call a repository function in a transaction of its own."""


class LatestRecommendations:
    """
    The films of the newest predictions, then of the newest batch, without duplicates.

    What this process predicts is shown at once. What others commit is read when they have said so and
    somebody asks: answers are `PATIENCE_SECONDS` and a read behind it at most.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._stored = _Stored((), (), {})
        self._pending: deque[tuple[int, Ids]] = deque(maxlen=PENDING_PREDICTIONS)
        self._heard = self._batch_heard = 0.0
        self._read = self._batch_read = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self._answers: dict[tuple[int, Translation | None], bytes] = {}
        self._served: tuple[Served | None, ...] = ()
        listener = services.listener
        listener.on("marquee_predictions", self._predictions_changed)
        listener.on("marquee_recommendations", self._everything_changed)
        listener.on("marquee_items", self._everything_changed)
        listener.on_gap(self._everything_changed)

    def add(self, predicted: Iterable[tuple[int, Ids]]) -> None:
        """
        Show answers of this process.

        Args:
            predicted: the number that the journal gave each answer, and its items, best first.
        """
        self._pending.extendleft(predicted)
        self._answers.clear()

    async def answer(self, k: int, lang: str | None = None) -> bytes:
        """
        The whole answer, in a language where there are such texts.

        Raises:
            StoreUnavailableError: what changed cannot be read.
        """
        slots = self._services.slots
        served = (slots.get("predictor"), slots.get("champion"))
        if served != self._served:
            self._served = served
            # What had a card may now need one from the catalogue.
            self._everything_changed()
            self._answers.clear()
        is_news = self._heard >= self._read or not self._services.listener.connected
        if is_news or not self._services.database_is_up:
            await self._catch_up()
        translation = None if lang is None else self._translation(lang)
        body = self._answers.get((k, translation))
        if body is None:
            body = self._answers[k, translation] = rendered(self._cards(k), translation)
        return body

    async def aclose(self) -> None:
        """Give up what is being read."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    def _predictions_changed(self, _: str) -> None:
        self._heard = time.monotonic()

    def _everything_changed(self, _: str = "") -> None:
        self._heard = self._batch_heard = time.monotonic()

    async def _catch_up(self) -> None:
        age = time.monotonic() - self._read
        if self._reading is None and age >= REST_SECONDS:
            self._reading = asyncio.create_task(self._read_stored(), name="latest")
            self._reading.add_done_callback(self._has_read)
        if self._reading is not None and (age >= PATIENCE_SECONDS or not self._services.database_is_up):
            # One reader for all who wait: none of them may cancel it for the others.
            await asyncio.shield(self._reading)

    async def _read_stored(self) -> None:
        began, kept = time.monotonic(), self._services.journal.predictions_kept
        batch_is_known = self._batch_heard < self._batch_read and self._services.listener.connected
        before = self._stored if batch_is_known else None
        stored = await self._services.run(_stored, self._served_cards(), before)
        self._stored, self._read = stored, began
        if not batch_is_known:
            self._batch_read = began
        while self._pending and self._pending[-1][0] <= kept:
            self._pending.pop()
        self._answers.clear()

    def _has_read(self, reading: asyncio.Task[None]) -> None:
        self._reading = None
        error = None if reading.cancelled() else reading.exception()
        if error is not None and not isinstance(error, StoreUnavailableError):  # that is logged once
            get_logger().error("api.latest_not_read", error=str(error))

    def _served_cards(self) -> Sequence[Mapping[int, bytes]]:
        return [served.cards for served in self._served if served is not None]

    def _translation(self, lang: str) -> Translation | None:
        served = next((served for served in self._served if served is not None), None)
        return None if served is None else served.shelf.translations.find(lang)

    def _cards(self, k: int) -> Iterator[tuple[int, bytes]]:
        """At most k items with cards; items without any are left out."""
        places = [*self._served_cards(), self._stored.cards]
        predicted = (item_ids.tolist() for _, item_ids in self._pending)
        shown: set[int] = set()
        for item_id in chain(*predicted, self._stored.predicted, self._stored.batch):
            if item_id not in shown:
                shown.add(item_id)
                found = next((cards[item_id] for cards in places if item_id in cards), None)
                if found is not None:
                    yield item_id, found
                    k -= 1
                    if not k:
                        return


def rendered(cards: Iterable[tuple[int, bytes]], translation: Translation | None = None) -> bytes:
    """An answer of these items' cards."""
    if translation is not None:
        cards = ((item_id, translation.card(item_id, card)) for item_id, card in cards)
    return b'{"recent_recommendations":[%b]}' % b",".join(card for _, card in cards)


class _Stored(NamedTuple):
    """What the database says: distinct items, newest first, and the cards of those that no bundle has."""

    predicted: Sequence[int]
    batch: Sequence[int]
    cards: Mapping[int, bytes]


def _stored(connection: Connection, served: Sequence[Mapping[int, bytes]], before: _Stored | None) -> _Stored:
    """
    Read what is stored.

    Args:
        before: what was read before, where only predictions can have changed since.
    """
    predicted = predictions.latest_items(connection, MOST)
    batch = before.batch if before else recommendations.newest_items(connection, 2 * MOST)
    known = before.cards if before else {}
    others = [i for i in {*predicted, *batch} if not any(i in cards for cards in served)]
    missing = [item_id for item_id in others if item_id not in known]
    read = items.cards(connection, missing) if missing else {}
    made = {i: card(i, film.title, film.poster_path, film.overview) for i, film in read.items()}
    return _Stored(predicted, batch, made | {i: known[i] for i in others if i in known})
