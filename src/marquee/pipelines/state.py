"""What the worker tells Prometheus: how things stand in the database, and what its runs have done."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, get_args

from sqlalchemy import Connection

from marquee import monitoring
from marquee.errors import StoreError
from marquee.features.port import VIEWS
from marquee.store.postgres import Database
from marquee.store.repositories import state
from marquee.store.repositories.deployments import Slot
from marquee.store.repositories.runs import Run
from marquee.store.repositories.state import State
from marquee.telemetry import get_logger, metrics

__all__ = ["count_run", "tell", "tell_for_ever"]

READ_SECONDS: Final = 15.0
SNAPSHOTS: Final = ("prepare", "train")
"""Pipelines that take a snapshot of all data when they begin."""
INGESTED: Final[Mapping[str, str]] = {"items_read": "items", "simulated": "interactions"}
"""What runs count → the kind of row that it is a number of."""


async def tell_for_ever(database: Database) -> None:
    """Read how things stand every 15 s, until cancelled."""
    since: datetime | None = None
    while True:
        try:
            since = await database.run(tell, since)
        except StoreError as error:
            get_logger().warning("state.not_read", error=str(error))
        await asyncio.sleep(READ_SECONDS)


def tell(connection: Connection, since: datetime | None = None) -> datetime:
    """
    Set the gauges of state, and those of what monitoring has found.

    Args:
        since: what the call before returned; None: nothing is known yet.

    Returns:
        From when on the next call has to look at how runs ended.
    """
    found = state.read(connection, since=since)
    _publish(found)
    monitoring.publish(connection)
    return found.settled_before


def count_run(run: Run, steps: Sequence[Run]) -> None:
    """
    Count a run that has ended, and its steps.

    Args:
        steps: of the run; those that never began are left out.
    """
    for each in (run, *steps):
        if each.finished and each.started_at is not None and each.finished_at is not None:
            seconds = (each.finished_at - each.started_at).total_seconds()
            metrics.WORKER_RUNS.labels(each.pipeline, each.status).inc()
            metrics.WORKER_RUN_SECONDS.labels(each.pipeline).observe(max(seconds, 0.0))
    for each in steps or (run,):  # a run of steps repeats what they counted
        for name, kind in INGESTED.items():
            metrics.INGEST_ROWS.labels(kind).inc(_number(each.counts, name))
        metrics.INGEST_QUARANTINED.inc(_number(each.counts, "quarantined"))


def _publish(found: State) -> None:
    metrics.RUNS_WAITING.set(found.waiting)
    metrics.RUNS_RUNNING.set(found.running)
    waited = found.at - (found.oldest_waiting_at or found.at)
    metrics.RUNS_OLDEST_WAITING.set(max(waited.total_seconds(), 0.0))
    for (pipeline, status), ended in found.ended.items():
        gauge = metrics.RUNS_LAST_SUCCESS if status == "succeeded" else metrics.RUNS_LAST_FAILURE
        gauge.labels(pipeline).set(ended.finished_at.timestamp())
    snapshots = [
        found.ended[key].started_at for name in SNAPSHOTS if (key := (name, "succeeded")) in found.ended
    ]
    if snapshots:
        metrics.SNAPSHOT_AS_OF.labels("snapshot").set(max(snapshots).timestamp())
    if found.features is not None:
        for view in VIEWS:  # all are loaded together
            metrics.SNAPSHOT_AS_OF.labels(view).set(found.features.complete_until.timestamp())
    for slot in get_args(Slot):
        if slot in found.deployed:
            metrics.DEPLOYED.labels(slot).set(found.deployed[slot].timestamp())
        else:
            with suppress(KeyError):
                metrics.DEPLOYED.remove(slot)
    metrics.NEWEST_INTERACTION.set(_seconds(found.newest_interaction_at))
    metrics.NEWEST_BATCH.set(_seconds(found.batch_at))
    for table, rows in found.rows.items():
        metrics.TABLE_ROWS.labels(table).set(rows)
    metrics.STATE_READ.set(found.at.timestamp())


def _seconds(moment: datetime | None) -> float:
    """A moment for Prometheus; one that never was is no number, and no alert compares with it."""
    return math.nan if moment is None else moment.timestamp()


def _number(counts: Mapping[str, Any], name: str) -> float:
    value = counts.get(name, 0)
    return float(value) if isinstance(value, int | float) else 0.0
