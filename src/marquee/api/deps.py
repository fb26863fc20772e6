"""What routes need, made once per process by the composition root in `app`."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Concatenate, Final, ParamSpec, TypeVar

from fastapi import Depends, Query, Request
from sqlalchemy import Connection

from marquee.api.slots import Slots
from marquee.config import Settings
from marquee.errors import StoreError, StoreUnavailableError
from marquee.jobs import Queue
from marquee.store.postgres import Database
from marquee.store.repositories import deployments
from marquee.telemetry import get_logger

__all__ = ["ListLength", "Services", "ServicesDep"]

PROBE_SECONDS: Final = 1.0

P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class Services:
    """
    The parts of a running API.

    Attributes:
        database_is_up: as the last probe, or a request since, found it.
        stopping: set when the process has been asked to stop; who waits for long gives up.
    """

    settings: Settings
    database: Database
    queue: Queue
    slots: Slots
    database_is_up: bool = True
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(
        self, work: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """
        Call a repository function in a transaction of its own.

        Raises:
            StoreUnavailableError: at once while the database is known to be away, else when it does not
                answer in time.
        """
        if not self.database_is_up:
            raise StoreUnavailableError(
                f"PostgreSQL at {self.database.address} cannot be reached.",
                fix="Try again; `marquee doctor` looks into it.",
            )
        return await self._run(work, *args, **kwargs)

    async def probe(self) -> None:
        """See whether the database answers, and follow what is deployed there."""
        try:
            deployed = await self._run(deployments.current_all)
        except StoreError as error:
            get_logger().debug("api.probe_failed", error=str(error))
            return
        if not self.database_is_up:
            self.database_is_up = True
            get_logger().info("api.database_back", address=self.database.address)
        await self.slots.follow(deployed)

    async def probe_for_ever(self) -> None:
        """Probe every second."""
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            try:
                await self.probe()
            except Exception:  # the probe outlives whatever goes wrong in one round
                get_logger().exception("api.probe_broke")

    def lacks(self) -> list[str]:
        """What is missing or not as it should be, in words; empty when all is well."""
        lacking = [] if self.database_is_up else ["database"]
        names = self.slots.names()
        lacking += [] if names["predictor"] else ["predictor"]
        return lacking + [f"{slot}: newest bundle refused" for slot in self.slots.refused()]

    async def _run(
        self, work: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        try:
            async with asyncio.timeout(self.settings.api.database_seconds):
                return await self.database.run(work, *args, **kwargs)
        except TimeoutError:
            self._lost("no answer in time")
            raise StoreUnavailableError(
                f"PostgreSQL at {self.database.address} did not answer within "
                f"{self.settings.api.database_seconds:g} s.",
                fix="Try again; `marquee doctor` looks into it.",
            ) from None
        except StoreUnavailableError as error:
            self._lost(str(error))
            raise

    def _lost(self, reason: str) -> None:
        if self.database_is_up:
            self.database_is_up = False
            get_logger().error("api.database_lost", address=self.database.address, error=reason)


def _services(request: Request) -> Any:
    return request.app.state.services


ServicesDep = Annotated[Services, Depends(_services)]
ListLength = Annotated[int, Query(ge=1, le=100, description="How many films to return.")]
