"""What routes need, made once per process by the composition root in `app`."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Concatenate, Final, ParamSpec, TypeVar

from fastapi import Depends, Query, Request
from sqlalchemy import Connection, text

from marquee.api.access import Access
from marquee.api.engine import Engine
from marquee.api.latest import LatestRecommendations
from marquee.api.listener import Listener
from marquee.api.predictions import Predictions
from marquee.api.previews import Previews
from marquee.api.slots import Slots, in_thread, read_followed
from marquee.api.traffic import RecentTraffic
from marquee.api.users import UserStates
from marquee.api.writer import EventWriter, Journal
from marquee.config import Settings
from marquee.errors import StoreBusyError, StoreError, StoreUnavailableError
from marquee.jobs import Queue
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import items
from marquee.telemetry import get_logger, metrics
from marquee.telemetry.spans import as_span

__all__ = ["ListLength", "Services", "ServicesDep"]

PROBE_SECONDS: Final = 1.0
STOCK_SECONDS: Final = 60.0
LONG_SECONDS: Final = 60

P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class Services:
    """
    The parts of a running API.

    Attributes:
        known_items: of the catalogue, as far as events have named them.
        database_is_up: as the last probe, or a request since, found it.
        stopping: set when the process has been asked to stop; who waits for long gives up.
    """

    settings: Settings
    database: Database
    queue: Queue
    slots: Slots
    listener: Listener
    users: UserStates
    journal: Journal
    engine: Engine
    access: Access
    events: EventWriter
    known_items: set[int] = field(default_factory=set)
    database_is_up: bool = True
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    latest: LatestRecommendations = field(init=False)
    predictions: Predictions = field(init=False)
    traffic: RecentTraffic = field(init=False)
    previews: Previews = field(init=False)
    _is_prepared: bool = False
    _deployed: asyncio.Event = field(default_factory=asyncio.Event)  # set when something may be new
    _edited: asyncio.Event = field(default_factory=asyncio.Event)
    _catalogue: str = ""  # the version that is in memory
    _probing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self.database.limit_statements()
        self.latest = LatestRecommendations(self)
        self.predictions = Predictions(self)
        self.traffic = RecentTraffic(self.run_long)
        paths = self.settings.paths
        self.previews = Previews(self.slots, ObjectStore.of(self.settings), paths.bundles)
        self.listener.on("marquee_deployments", lambda _: self._deployed.set())
        self.listener.on("marquee_experiments", lambda _: self._deployed.set())
        self.listener.on("marquee_items", lambda _: self._edited.set())
        self.listener.on_gap(self._deployed.set)
        self.listener.on_gap(self._edited.set)

    def prepare(self) -> None:
        """
        Bring the database to the newest migration; blocks.

        Raises:
            ConfigError: the server is too old, or its database too new.
            StoreUnavailableError: it cannot be reached.
        """
        self.database.prepare()
        self.queue = Queue.open(self.database)
        self._is_prepared = True

    @as_span("database")
    async def run(
        self, work: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """
        Call a repository function in a transaction of its own.

        Raises:
            StoreUnavailableError: at once while the database is known to be away, else when it does not
                answer in time.
        """
        self._refuse_while_away()
        return await self._run(work, *args, **kwargs)

    @as_span("database")
    async def run_long(
        self, work: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """
        Call a repository function that takes long or copies rows, in a thread and a transaction of its own.

        Raises:
            StoreUnavailableError: at once while the database is known to be away, or when one statement
                takes longer than a minute.
        """
        self._refuse_while_away()

        def call() -> R:
            with self.database.begin() as connection:
                connection.execute(text(f"SET LOCAL statement_timeout = '{LONG_SECONDS}s'"))
                return work(connection, *args, **kwargs)

        return await in_thread(call)

    def lost(self, reason: str) -> None:
        """Note that the database did not answer: it is done without until a probe has found it again."""
        if self.database_is_up:
            self.database_is_up = False
            get_logger().error("api.database_lost", address=self.database.address, error=reason)

    async def probe(self) -> None:
        """See whether the database answers, and follow what is deployed there."""
        async with self._probing:  # what an earlier one has read must not be followed after a later one
            try:
                if not self._is_prepared:
                    await asyncio.to_thread(self.prepare)
                followed = await self._run(read_followed)
            except StoreError as error:
                self.lost(str(error))
                get_logger().debug("api.probe_failed", error=str(error))
                self._measure()
                return
            if not self.database_is_up:
                self.database_is_up = True
                get_logger().info("api.database_back", address=self.database.address)
            self._measure()
            await self.slots.follow(followed)
            await self.slots.recount(self.database)

    async def stock(self) -> None:
        """Take the catalogue from the database, if it has changed there."""
        try:
            version = await self.run(items.version)
            if version != self._catalogue:
                await self.slots.restock(self.database, self.settings.site.languages)
                self._catalogue = version
        except StoreError as error:
            get_logger().debug("api.catalogue_not_read", error=str(error))

    async def probe_for_ever(self) -> None:
        """Probe every second, and as soon as there is news."""
        await _whenever(self._deployed, PROBE_SECONDS, self.probe)

    async def stock_for_ever(self) -> None:
        """Take the catalogue every minute, and as soon as there is news."""
        await _whenever(self._edited, STOCK_SECONDS, self.stock)

    def lacks(self) -> list[str]:
        """What is missing or not as it should be, in words; empty when all is well."""
        lacking = [] if self.database_is_up else ["database"]
        names = self.slots.names()
        lacking += [] if names["predictor"] else ["predictor"]
        return lacking + [f"{slot}: newest bundle refused" for slot in self.slots.refused()]

    def _measure(self) -> None:
        """What is measured once a second, so that nothing is for each request."""
        metrics.DATABASE_UP.set(self.database_is_up)
        metrics.POOL_IN_USE.set(self.database.connections_in_use())
        metrics.EVENTS_WAITING.set(self.events.waiting)
        metrics.JOURNAL_WAITING.set(self.journal.waiting)
        for stage, waiting in self.engine.waiting.items():
            metrics.ENGINE_WAITING.labels(stage).set(waiting)

    def _refuse_while_away(self) -> None:
        if not self.database_is_up:
            raise StoreUnavailableError(
                f"PostgreSQL at {self.database.address} cannot be reached.",
                fix="Try again; `marquee doctor` looks into it.",
            )

    async def _run(
        self, work: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        try:
            async with asyncio.timeout(self.settings.api.database_seconds):
                return await self.database.run(work, *args, **kwargs)
        except TimeoutError:
            self.lost("no answer in time")
            raise StoreUnavailableError(
                f"PostgreSQL at {self.database.address} did not answer within "
                f"{self.settings.api.database_seconds:g} s.",
                fix="Try again; `marquee doctor` looks into it.",
            ) from None
        except StoreBusyError:
            raise  # it answers, and may well do the next thing
        except StoreUnavailableError as error:
            self.lost(str(error))
            raise


async def _whenever(news: asyncio.Event, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do some work for ever: when there is news, and every so many seconds without any."""
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await news.wait()
        news.clear()
        try:
            await work()
        except Exception:  # the next round may do better
            get_logger().exception("api.following_broke")


def _services(request: Request) -> Any:
    return request.app.state.services


ServicesDep = Annotated[Services, Depends(_services)]
ListLength = Annotated[int, Query(ge=1, le=100, description="How many films to return.")]
