"""
The deployed bundles in memory, and how they follow what is deployed.

A slot is swapped by one assignment once its new bundle is loaded, verified and warm; a request holds on to
the `Served` that it began with, and nothing else does. What was followed last is remembered in a file beside
the unpacked bundles, so that a process starts and answers while the database is away.
"""

import asyncio
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection

from marquee.api.served import Cards, Predictor, Served, card, counted, load
from marquee.api.shelf import Shelf
from marquee.api.startup import give_back
from marquee.errors import IncompatibleBundleError, MarqueeError, NoChampionError
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import deployments, experiments, interactions
from marquee.store.repositories.deployments import Deployment, Slot
from marquee.store.repositories.experiments import Arm, Experiment
from marquee.store.unpacked import let_unused_go
from marquee.telemetry import get_logger
from marquee.telemetry.metrics import BUNDLE_CREATED, BUNDLE_INFO, SWAP_SECONDS, SWAPS

__all__ = ["Cards", "Followed", "Predictor", "Served", "Slots", "card", "in_thread", "read_followed"]

SERVED_SLOTS: Final[tuple[Slot, ...]] = ("predictor", "champion", "shadow")
NAMED_SLOTS: Final[tuple[Slot, ...]] = ("predictor", "champion")
RETRY_SECONDS: Final = 30.0
"""After this long a bundle that was refused is tried again: it may have been restored."""
RECOUNT_SECONDS: Final = 60.0
"""How old the popularity that stands in for a champion may get."""
NICENESS: Final = 10
"""Requests come first: what prepares a swap gets about a tenth of a busy core."""
REMEMBERED: Final = "deployed.json"

R = TypeVar("R")


@dataclass(frozen=True)
class Followed:
    """
    What the database says is to be served.

    Attributes:
        deployed: slot → its newest deployment.
        experiment: the one under way.
    """

    deployed: dict[str, Deployment]
    experiment: Experiment | None = None

    def bundles(self) -> set[str]:
        """The keys of all that a slot or an arm has."""
        arms = () if self.experiment is None else self.experiment.arms
        return {one.bundle for one in self.deployed.values()} | {arm.bundle for arm in arms}

    def roles(self) -> dict[str, Deployment]:
        """What must be loaded: by slot, and the arms of the experiment by their digest."""
        wanted: dict[str, Deployment] = {
            slot: self.deployed[slot] for slot in SERVED_SLOTS if slot in self.deployed
        }
        if self.experiment is not None:
            for arm in self.experiment.arms:
                wanted[_role(arm.digest)] = _as_deployment(arm, self.experiment)
        return wanted


def read_followed(connection: Connection) -> Followed:
    """What is to be served now."""
    return Followed(deployments.current_all(connection), experiments.running(connection))


class Slots:
    """
    What is served, by slot.

    Args:
        objects: where bundles are.
        cache: folder of unpacked bundles.
        unused: a bundle that was not used for so long goes from there; None: none does.

    Attributes:
        experiment: whose arms answer now, None where none is under way.
        warm_up: called with what is about to answer, in the thread that loaded it.
    """

    def __init__(self, objects: ObjectStore, cache: Path, *, unused: timedelta | None = None) -> None:
        self._objects = objects
        self._cache = cache
        self._unused = unused
        self._served: Mapping[str, Served] = {}  # by role: a slot, or an arm of the experiment
        self._counted: Served | None = None
        self._counted_at = -RECOUNT_SECONDS
        self._shelf: Shelf | None = None
        self._refused: dict[str, tuple[str, float]] = {}  # role → digest, and when it is tried again
        self._remembered: Followed | None = None
        self._lock = asyncio.Lock()
        self._behind: ThreadPoolExecutor | None = None
        self.experiment: Experiment | None = None
        self.warm_up: Callable[[Served], None] | None = None

    def get(self, slot: Slot) -> Served | None:
        """What a slot serves, None where nothing is."""
        return self._served.get(slot)

    def arm(self, digest: str) -> Served | None:
        """The bundle of an arm of the experiment, None where it could not be loaded."""
        return self._served.get(_role(digest))

    @property
    def shelf(self) -> Shelf | None:
        """The newest catalogue, None before any was read."""
        return self._shelf

    def serving(self, digest: str) -> Served | None:
        """The bundle with this digest, None where no slot and no arm holds it."""
        return next((one for one in self._served.values() if one.deployment.digest == digest), None)

    def predictor(self) -> Predictor:
        """
        What answers `/predict`.

        Raises:
            NoChampionError: nothing is deployed there, or it could not be loaded.
        """
        served = self._served.get("predictor")
        if isinstance(served, Predictor):
            return served
        raise NoChampionError(
            "No model is deployed in the slot 'predictor'.",
            fix="Run `marquee pipeline run --model mlp`, or POST /run/train.",
        )

    def champion(self) -> Served:
        """
        What recommends: the champion, without one popularity, without counts whatever there is.

        Raises:
            NoChampionError: there is nothing to recommend by.
        """
        found = self._served.get("champion") or self._counted or self._served.get("predictor")
        if found is not None:
            return found
        raise NoChampionError(
            "There is no model yet, and no film that could be popular.",
            fix="Run `marquee pipeline run`, or POST /run/prepare-data and /run/train.",
        )

    def names(self) -> dict[str, str | None]:
        """Slot → bundle."""
        served = self._served
        return {slot: served[slot].name if slot in served else None for slot in NAMED_SLOTS}

    def refused(self) -> Sequence[str]:
        """The slots and arms whose bundle could not be loaded; the one before it still answers."""
        return sorted(self._refused)

    async def follow(self, followed: Followed) -> None:
        """
        Make what is deployed what is served.

        A bundle is loaded beside the event loop. One that is refused is logged, and the slot goes on
        serving what it had.
        """
        if self.experiment != followed.experiment:
            self.experiment = None  # an end is obeyed at once, a beginning when its bundles are there
        async with self._lock:
            wanted = followed.roles()
            for role, deployment in wanted.items():
                await self._fill(role, deployment)
            emptied = [role for role in self._served if role not in wanted]
            if "champion" in emptied and "predictor" in self._served:
                await self._beside(self._served["predictor"].prepare)  # it may have to stand in
            for role in emptied:
                self._served = {name: served for name, served in self._served.items() if name != role}
                get_logger().info("slots.emptied", slot=role)
            self._refused = {role: tried for role, tried in self._refused.items() if role in wanted}
            self.experiment = followed.experiment
            if followed != self._remembered:
                await self._beside(partial(_remember, self._cache, followed))
                before, self._remembered = self._remembered, followed
                await self._beside(give_back)  # what the bundles before were made of
                # A machine that serves may have a folder of its own. Not by what is remembered of old.
                if self._unused is not None and before is not None:
                    await self._beside(partial(let_unused_go, self._cache, followed.bundles(), self._unused))

    async def restock(self, database: Database, languages: Sequence[str]) -> None:
        """
        Take the catalogue from the database, for everything that is served; meanwhile slots may move.

        Args:
            languages: of the texts that come with it.
        """
        shelf = await self._beside(partial(Shelf.read, database, languages))
        if not len(shelf.catalog):
            return  # bundles may still know films
        self._shelf = shelf  # what is loaded from now on begins with it
        while stale := next((s for s in self._served.values() if s.shelf is not shelf), None):
            renewed = await self._beside(partial(stale.on, shelf))
            # One bundle in several roles has one pipeline.
            self._served = {
                role: replace(renewed, deployment=served.deployment)
                if served.around is stale.around
                else served
                for role, served in self._served.items()
            }
            if self._shelf is not shelf:
                return
        self._counted_at = -RECOUNT_SECONDS

    async def recount(self, database: Database) -> None:
        """Count what is popular, for want of a champion, if that was not done of late."""
        async with self._lock:
            if "champion" in self._served:
                self._counted = None
            elif self._shelf is not None and time.monotonic() - self._counted_at >= RECOUNT_SECONDS:
                self._counted = await self._beside(partial(_count, database, self._shelf))
                self._counted_at = time.monotonic()
            await self._prepare_stand_in()

    async def restore(self) -> None:
        """Serve what was followed last, as far as its bundles are here."""
        path = self._cache / REMEMBERED
        try:
            followed = TypeAdapter(Followed).validate_json(path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, ValidationError) as error:
            get_logger().warning("slots.memory_unreadable", path=str(path), error=str(error))
            return
        await self.follow(followed)
        await self._prepare_stand_in()

    def close(self) -> None:
        """Let go of the thread."""
        if self._behind is not None:
            self._behind.shutdown(wait=True, cancel_futures=True)

    async def _prepare_stand_in(self) -> None:
        """Where a predictor must recommend for want of anything else, it is prepared before it is asked."""
        stand_in = self._served.get("predictor")
        if stand_in is not None and "champion" not in self._served and self._counted is None:
            await self._beside(stand_in.prepare)

    async def _fill(self, role: str, wanted: Deployment) -> None:
        served = self._served.get(role)
        if served is not None and _same_bundle(served.deployment, wanted):
            if served.deployment != wanted:
                self._swap(role, replace(served, deployment=wanted))
            return
        tried, retry_at = self._refused.get(role, ("", 0.0))
        if tried == wanted.digest and time.monotonic() < retry_at:
            return
        started = time.perf_counter()
        try:
            loaded = await self._beside(partial(self._load, role, wanted))
        except Exception as error:  # whatever is wrong with a bundle, the old one must go on serving
            self._refused[role] = (wanted.digest, time.monotonic() + RETRY_SECONDS)
            SWAPS.labels(_slot_label(role), "refused").inc()
            get_logger().error(
                "slots.bundle_refused",
                slot=role,
                bundle=wanted.bundle,
                serving=served.name if served is not None else None,
                error=str(error),
                exc_info=None if isinstance(error, MarqueeError) else error,
            )
            return
        self._swap(role, loaded)
        SWAP_SECONDS.observe(time.perf_counter() - started)

    def _swap(self, role: str, served: Served) -> None:
        before = self._served.get(role)
        self._served = {**self._served, role: served}
        self._refused.pop(role, None)
        label = _slot_label(role)
        SWAPS.labels(label, "swapped").inc()
        if before is not None and before.name != served.name:
            BUNDLE_INFO.labels(label, before.name).set(0)
        BUNDLE_INFO.labels(label, served.name).set(1)
        BUNDLE_CREATED.labels(label).set(served.deployment.created_at.timestamp())
        get_logger().info("slots.swapped", slot=role, bundle=served.name)

    def _load(self, role: str, deployment: Deployment) -> Served:
        """The deployed bundle, verified and warm."""
        other = next((s for s in self._served.values() if _same_bundle(s.deployment, deployment)), None)
        if other is None:
            other = load(self._objects, self._cache, deployment, self._shelf)
        if role == "predictor" and not isinstance(other, Predictor):
            raise IncompatibleBundleError(
                f"The slot 'predictor' needs an 'mlp', not the {deployment.model!r} {deployment.bundle}.",
                fix="Run `marquee train --model mlp`.",
            )
        if role != "predictor":
            other.prepare()
            if self.warm_up is not None:
                self.warm_up(other)
        return replace(other, deployment=deployment)

    async def _beside(self, work: Callable[[], R]) -> R:
        """Work in a thread: at first like any other, once something is served behind the requests."""
        if not self._served:
            return await in_thread(work)
        if self._behind is None:
            self._behind = ThreadPoolExecutor(2, thread_name_prefix="slots", initializer=_step_back)
        return await in_thread(work, self._behind)


async def in_thread(work: Callable[[], R], executor: ThreadPoolExecutor | None = None) -> R:
    """Work in a thread, and be cancelled only when it is done: what it holds is given back by then."""
    running = asyncio.get_running_loop().run_in_executor(executor, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def _role(digest: str) -> str:
    return f"arm {digest}"


def _slot_label(role: str) -> str:
    return role.partition(" ")[0]


def _as_deployment(arm: Arm, experiment: Experiment) -> Deployment:
    return Deployment(
        0,
        "challenger",
        arm.bundle,
        arm.digest,
        arm.model,
        arm.version,
        experiment.started_by,
        experiment.reason,
        None,
        None,
        experiment.started_at,
    )


def _same_bundle(one: Deployment, other: Deployment) -> bool:
    return (one.bundle, one.digest) == (other.bundle, other.digest)


def _count(database: Database, shelf: Shelf) -> Served:
    with database.begin() as connection:
        item_ids, counts = interactions.item_counts(connection)
    return counted(item_ids, counts, shelf)


def _remember(cache: Path, followed: Followed) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    content = TypeAdapter(Followed).dump_json(followed)
    descriptor, name = tempfile.mkstemp(prefix=f".{REMEMBERED}-", dir=cache)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    Path(name).replace(cache / REMEMBERED)


def _step_back() -> None:
    if sys.platform == "linux":  # where a thread has a priority of its own
        thread = threading.get_native_id()
        # In a process that has stepped back further it would be a step forward, which is refused to users.
        niceness = max(os.getpriority(os.PRIO_PROCESS, thread), NICENESS)
        os.setpriority(os.PRIO_PROCESS, thread, niceness)
