"""
The courier: takes the objects of the outbox to the archive, one after the other.

An object is taken out of the outbox when all of it has arrived, so that a courier may be killed at any
moment: the next one begins that object again. Of all workers one at a time delivers.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from marquee.errors import DamagedObjectError, MarqueeError, NotFoundError, StoreError
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.remote import RemoteStore
from marquee.store.repositories import outbox
from marquee.telemetry import get_logger
from marquee.telemetry.metrics import (
    OUTBOX_DELIVERED,
    OUTBOX_DELIVERED_BYTES,
    OUTBOX_FAILURES,
    OUTBOX_OLDEST_SECONDS,
    OUTBOX_WAITING,
)

__all__ = ["Courier", "Delivery", "enqueue_lacking"]

LOCK: Final = 0x436F7572  # "Cour"; any number that nobody else locks
PARCELS_AT_A_TIME: Final = 100
LOOK_SECONDS: Final = 1.0
"""How often the outbox is looked at while it is empty."""
MAX_PAUSE_SECONDS: Final = 300.0
"""Pauses double up to this while the archive is away."""
STOP_SECONDS: Final = 3.0
"""How long a delivery may take to notice that it is to stop; then the process ends without it."""

Report = Callable[[int, int], None]
"""`report(objects, bytes)`: how many were dealt with by now, and the bytes that were delivered."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """
    What one walk through the outbox did.

    Attributes:
        delivered: objects that have arrived.
        size: their bytes.
        refused: key → why, of objects that go on waiting: they are damaged or missing here, or may not be
            delivered before one that is.
    """

    delivered: int = 0
    size: int = 0
    refused: tuple[tuple[str, str], ...] = ()


class _StoppedError(Exception):
    """The courier was told to stop."""


def enqueue_lacking(database: Database, objects: ObjectStore) -> int:
    """
    Have everything delivered that is in the directory and not, or not whole, in the archive.

    Returns:
        How many objects that is.

    Raises:
        StoreError: the archive cannot be listed.
    """
    assert objects.remote is not None
    there = {(remote.key, remote.size) for remote in objects.remote.list()}
    lacking = [ref.key for ref in objects.list() if (ref.key, ref.size) not in there]
    # Manifests are JSON; they come behind what they name.
    lacking.sort(key=lambda key: (key.endswith(".json"), (objects.root / key).stat().st_mtime_ns))
    with database.begin() as connection:
        outbox.add(connection, lacking)
    return len(lacking)


class Courier:
    """
    Delivers what waits.

    Args:
        objects: the directory; its archive must be configured.
    """

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        assert objects.remote is not None
        self._database = database
        self._objects = objects
        self._remote: RemoteStore = objects.remote
        self._stop = threading.Event()
        self._said: str | None = None

    def deliver(self, report: Report | None = None, *, wait: bool = False) -> Delivery | None:
        """
        Walk once through the outbox.

        Args:
            wait: for another process that delivers.

        Returns:
            What was done; None: another process delivers, and we did not wait.

        Raises:
            StoreUnavailableError: the archive or the database cannot be reached; all that is left waits.
            StoreError: the archive refuses us.
        """
        with self._database.begin() as connection:
            if not outbox.next_parcels(connection, 1):  # the usual case: no lock, no further connection
                OUTBOX_WAITING.set(0)
                OUTBOX_OLDEST_SECONDS.set(0)
                return Delivery()
        # None begins before this one is done, or gone.
        with self._database.locked(LOCK, wait=wait) as alone:
            return self._walk(report) if alone else None

    async def deliver_forever(self) -> None:
        """Deliver until cancelled; nothing that happens to the archive ends this."""
        thread = threading.Thread(target=self._run, name="courier", daemon=True)
        thread.start()
        try:
            await asyncio.Event().wait()
        finally:
            self._stop.set()
            await asyncio.to_thread(thread.join, STOP_SECONDS)

    def _run(self) -> None:
        pause = LOOK_SECONDS
        while not self._stop.wait(pause):
            try:
                delivery = self.deliver()
            except _StoppedError:
                return
            except MarqueeError as error:
                pause = min(2 * pause, MAX_PAUSE_SECONDS)
                self._say(error.message, fix=error.fix, pause_seconds=pause)
            except Exception as error:  # a courier that has died would be noticed too late
                pause = min(2 * pause, MAX_PAUSE_SECONDS)
                self._say(repr(error), exc_info=error, pause_seconds=pause)
            else:
                refused = () if delivery is None else delivery.refused
                pause = min(2 * pause, MAX_PAUSE_SECONDS) if refused else LOOK_SECONDS
                if delivery is not None and delivery.delivered:
                    get_logger().info("courier.delivered", objects=delivery.delivered, bytes=delivery.size)
                for key, reason in refused[:1]:
                    self._say(reason, key=key, objects=len(refused), pause_seconds=pause)
                if not refused:
                    self._said = None

    def _walk(self, report: Report | None) -> Delivery:
        made = Delivery()
        held: list[str] = []
        after = 0
        try:
            while True:
                with self._database.begin() as connection:
                    parcels = outbox.next_parcels(connection, PARCELS_AT_A_TIME, after=after)
                if not parcels:
                    return made
                for parcel in parcels:
                    after = parcel.outbox_id
                    made = self._hand_over(parcel, made, held)
                    if report is not None:
                        report(made.delivered + len(made.refused), made.size)
        finally:
            self._measure()

    def _hand_over(self, parcel: outbox.Parcel, made: Delivery, held: list[str]) -> Delivery:
        folder = parcel.key.rpartition("/")[0]
        # What comes later into the folder of an object that is stuck, or above, may name it: a manifest.
        if any(f"{other}/".startswith(f"{folder}/") for other in held):
            reason = "It may name an object that could not be delivered."
            return replace(made, refused=(*made.refused, (parcel.key, reason)))
        try:
            size = self._upload(parcel.key)
        except (DamagedObjectError, NotFoundError) as error:  # here; the archive is well
            held.append(folder)
            self._failed(parcel, error)
            return replace(made, refused=(*made.refused, (parcel.key, error.message)))
        except StoreError as error:
            self._failed(parcel, error)
            raise
        with self._database.begin() as connection:
            outbox.done(connection, parcel.outbox_id)
        OUTBOX_DELIVERED.inc()
        OUTBOX_DELIVERED_BYTES.inc(size)
        return replace(made, delivered=made.delivered + 1, size=made.size + size)

    def _upload(self, key: str) -> int:
        path = self._objects.root / key
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            if not self._remote.exists(key):
                raise NotFoundError(
                    f"The object {key} is neither here nor in {self._remote.url}.",
                    fix="Run again the step that made it.",
                ) from None
            return 0  # delivered from another home
        self._remote.upload(key, path, path.name[:64], told=self._go_on)
        return size

    def _go_on(self, _: int = 0) -> None:
        if self._stop.is_set():
            raise _StoppedError

    def _failed(self, parcel: outbox.Parcel, error: MarqueeError) -> None:
        OUTBOX_FAILURES.inc()
        with self._database.begin() as connection:
            outbox.failed(connection, parcel.outbox_id, error.message)

    def _say(self, message: str, **fields: object) -> None:
        """What goes on for an hour is said once."""
        if message != self._said:
            self._said = message
            get_logger().error("courier.not_delivered", error=message, **fields)

    def _measure(self) -> None:
        with self._database.begin() as connection:
            count, oldest = outbox.waiting(connection)
        OUTBOX_WAITING.set(count)
        OUTBOX_OLDEST_SECONDS.set(0 if oldest is None else (datetime.now(UTC) - oldest).total_seconds())
