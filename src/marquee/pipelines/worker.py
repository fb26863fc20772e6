"""
The worker: takes runs from the queue and executes each in a child process.

A child, because a pipeline may hold the interpreter for a minute (a factorisation), fill the memory or
crash; none of that may silence the worker's heartbeats or end it. A child whose worker is gone ends
itself. Runs of workers that fell silent are put back in the queue by those that live.
"""

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any
from uuid import UUID

import procrastinate
import psycopg
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job
from procrastinate.retry import BaseRetryStrategy, RetryDecision
from sqlalchemy import Connection

from marquee.config import Settings
from marquee.errors import NotFoundError, StoreError, StoreUnavailableError
from marquee.jobs import (
    QUEUE_NAME,
    Queue,
    fail_dead,
    requeue_dropped,
    requeue_stalled,
    task_name,
    worker_app,
)
from marquee.monitoring.canary import Watch
from marquee.pipelines import PIPELINES, state
from marquee.pipelines.courier import Courier
from marquee.pipelines.run import RunContext, execute
from marquee.pipelines.schedule import schedule
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import run_logs, runs
from marquee.store.repositories.run_logs import Line
from marquee.telemetry import bound_everywhere, configure_logs, get_logger
from marquee.telemetry.exposition import served

__all__ = ["run_worker"]

ATTEMPTS = 3
"""Starts of a run whose child process dies each time, before it counts as failed."""
GRACE_SECONDS = 5.0
"""How long a run may go on after the worker was told to stop; then it is put back in the queue."""
CANCEL_SECONDS = 3.0
"""How long a run may take to end by itself after it was cancelled; then its process is ended."""
CANCEL_POLL_SECONDS = 0.5
RETRY_SECONDS = 3
POLL_SECONDS = 2.0
DEAD_SECONDS = 300.0
"""Silence after which a run that has no job and no process counts as failed."""
WATCH_SECONDS = 1.0
"""How often the canary that runs is looked at."""
TRY_AGAIN = os.EX_TEMPFAIL


class _TryAgainError(Exception):
    """The run could not be executed now; it stays in the queue."""


class _RequeueOnly(BaseRetryStrategy):
    """Requeue runs that were interrupted; runs that failed are not repeated."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if isinstance(exception, asyncio.CancelledError):
            return RetryDecision(retry_at=datetime.now(UTC))
        # A child's death that could not be recorded: the database was away, which may have been its cause.
        if isinstance(exception, (_TryAgainError, StoreError)):
            return RetryDecision(retry_in={"seconds": RETRY_SECONDS})
        return None


async def run_worker(
    settings: Settings, stop: asyncio.Event | None = None, *, pipelines: Mapping[str, str] = PIPELINES
) -> None:
    """
    Execute queued runs until told to stop.

    Args:
        stop: set to stop; default: SIGTERM and SIGINT do.
        pipelines: name → `module:function` of what this worker can run.

    Raises:
        StoreError: the database cannot be opened at the start; later the worker waits for it.
    """
    stopping = stop if stop is not None else _stop_on_signals()
    log = get_logger()
    database = await asyncio.to_thread(Database.open, settings)
    try:
        await asyncio.to_thread(Queue.open, database)
        log.info("worker.started", pipelines=sorted(pipelines))
        with _metrics_served(settings):
            while not stopping.is_set():
                app = worker_app(database)
                for pipeline in pipelines:
                    _register(app, settings, database, pipeline, pipelines)
                try:
                    async with app.open_async():
                        await _work(app, settings, database, pipelines, stopping)
                except (ConnectorException, psycopg.Error) as error:
                    log.warning("worker.database_unavailable", error=str(error.__cause__ or error))
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), RETRY_SECONDS)
        log.info("worker.stopped")
    finally:
        await database.aclose()


def _register(
    app: procrastinate.App,
    settings: Settings,
    database: Database,
    pipeline: str,
    pipelines: Mapping[str, str],
) -> None:
    async def task(run_id: str, traceparent: str | None = None) -> None:
        process = _start(settings, pipeline, UUID(run_id), pipelines, traceparent)
        try:
            await _until_ended_or_cancelled(process, database, UUID(run_id))
        except asyncio.CancelledError:
            get_logger().info("worker.run_requeued", run_id=run_id, pipeline=pipeline)
            await asyncio.to_thread(_end, process)
            raise
        code = process.exitcode
        process.close()
        if code == TRY_AGAIN:
            raise _TryAgainError
        if code != 0 and await database.run(_record_death, UUID(run_id), code or 1):
            raise _TryAgainError
        try:
            await database.run(_count, UUID(run_id))
        except StoreError as error:  # it has ended all the same
            get_logger().warning("worker.run_not_counted", run_id=run_id, error=str(error))

    app.task(name=task_name(pipeline), queue=QUEUE_NAME, retry=_RequeueOnly())(task)


async def _work(
    app: procrastinate.App,
    settings: Settings,
    database: Database,
    pipelines: Collection[str],
    stop: asyncio.Event,
) -> None:
    """Run the queue until `stop`; an ending worker finishes or requeues what it runs."""
    silent = settings.worker.stalled_seconds
    tasks = [
        asyncio.create_task(
            app.run_worker_async(
                queues=[QUEUE_NAME],
                concurrency=settings.worker.concurrency,
                install_signal_handlers=False,
                fetch_job_polling_interval=POLL_SECONDS,
                shutdown_graceful_timeout=GRACE_SECONDS,
                update_heartbeat_interval=silent / 5,
                stalled_worker_timeout=silent,
                delete_jobs="always",
            )
        ),
        asyncio.create_task(_rescue(app, database, pipelines, silent)),
        asyncio.create_task(_watch_canaries(database)),
        asyncio.create_task(schedule(settings, database, pipelines)),
        asyncio.create_task(state.tell_for_ever(database)),
        asyncio.create_task(stop.wait()),
    ]
    objects = ObjectStore.of(settings)
    if objects.remote is not None:
        tasks.append(asyncio.create_task(Courier(database, objects).deliver_forever()))
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()


async def _rescue(
    app: procrastinate.App, database: Database, pipelines: Collection[str], silent_seconds: float
) -> None:
    there_since: float | None = None
    while True:
        try:
            for run_id in await requeue_stalled(app, silent_seconds=silent_seconds):
                get_logger().warning("worker.run_of_silent_worker_requeued", run_id=run_id)
            for run_id in await database.run(requeue_dropped, pipelines):
                get_logger().warning("worker.dropped_run_requeued", run_id=run_id)
            there_since = there_since or time.monotonic()
            # Not at once after a database was away: who works has been silent for as long, too.
            if time.monotonic() - there_since > DEAD_SECONDS:
                for run_id in await database.run(fail_dead, DEAD_SECONDS):
                    get_logger().warning("worker.dead_run_failed", run_id=run_id)
        except (ConnectorException, StoreError) as error:
            there_since = None
            get_logger().warning("worker.rescue_failed", error=str(error.__cause__ or error))
        await asyncio.sleep(silent_seconds / 5)


async def _watch_canaries(database: Database) -> None:
    watch = Watch(database)
    while True:
        try:
            await asyncio.to_thread(watch.look)
        except StoreError as error:
            get_logger().warning("worker.watch_failed", error=str(error))
        await asyncio.sleep(WATCH_SECONDS)


@contextmanager
def _metrics_served(settings: Settings) -> Iterator[None]:
    """Where a port is set; a worker that nobody can watch is better than none."""
    host, port = settings.worker.ops_host, settings.worker.ops_port
    with ExitStack() as stack:
        if port is not None:
            try:
                stack.enter_context(served(host, port))
            except OSError as error:
                get_logger().warning(
                    "worker.metrics_not_served",
                    host=host,
                    port=port,
                    error=error.strerror or str(error),
                    fix="Stop what listens there, or set MARQUEE_WORKER__OPS_PORT to another port.",
                )
        yield


def _count(connection: Connection, run_id: UUID) -> None:
    run = runs.get(connection, run_id)
    if run.finished:
        state.count_run(run, runs.steps(connection, [run_id]).get(run_id, ()))


def _record_death(connection: Any, run_id: UUID, code: int) -> bool:
    """Fail a run whose child died again and again; whether to leave it for one more try."""
    run = runs.get(connection, run_id)
    if run.finished:
        return False
    reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    get_logger().error("worker.child_died", run_id=str(run_id), reason=reason, attempt=run.attempts)
    said = {"reason": reason, "attempt": run.attempts}
    run_logs.append(connection, [Line(run_id, datetime.now(UTC), "error", "worker.child_died", said)])
    if run.attempts < ATTEMPTS:
        return True
    runs.fail(connection, run_id, f"Its process died {run.attempts} times, the last time by {reason}.")
    return False


def _start(
    settings: Settings,
    pipeline: str,
    run_id: UUID,
    pipelines: Mapping[str, str],
    traceparent: str | None,
) -> SpawnProcess:
    process = multiprocessing.get_context("spawn").Process(
        target=_child,
        args=(settings, pipeline, run_id, dict(pipelines), traceparent),
        name=f"marquee {pipeline}",
    )
    # Ctrl-C reaches the whole group of a terminal; the worker alone decides. A child inherits the mask.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process


async def _until_ended_or_cancelled(process: SpawnProcess, database: Database, run_id: UUID) -> None:
    ended = asyncio.create_task(_until_ended(process))
    cancelled = asyncio.create_task(_until_cancelled(database, run_id))
    try:
        await asyncio.wait([ended, cancelled], return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(ended), CANCEL_SECONDS)
        if not ended.done():
            get_logger().info("worker.cancelled_run_ended", run_id=str(run_id))
            await asyncio.to_thread(_stop, process)
        await ended
    finally:
        for task in (ended, cancelled):
            task.cancel()
        await asyncio.gather(ended, cancelled, return_exceptions=True)


async def _until_cancelled(database: Database, run_id: UUID) -> None:
    """A database that is away has nothing to say."""
    while True:
        await asyncio.sleep(CANCEL_POLL_SECONDS)
        with suppress(StoreError, NotFoundError):
            if (await database.run(runs.get, run_id)).status == "cancelled":
                return


async def _until_ended(process: SpawnProcess) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(process.sentinel, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(process.sentinel)
    process.join()


def _end(process: SpawnProcess) -> None:
    _stop(process)
    process.close()


def _stop(process: SpawnProcess) -> None:
    process.terminate()
    process.join(GRACE_SECONDS)
    process.kill()
    process.join()


def _child(
    settings: Settings,
    pipeline: str,
    run_id: UUID,
    pipelines: Mapping[str, str],
    traceparent: str | None,
) -> None:
    """Execute one run and exit: 0 once its end is recorded, `TRY_AGAIN` when it must wait."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    configure_logs(settings.log, server=True)
    try:
        with bound_everywhere(run_id=str(run_id), pipeline=pipeline), Database.open(settings) as database:
            with database.begin() as connection:
                run = runs.get(connection, run_id)
            objects = ObjectStore.of(settings)
            context = RunContext(settings, database, objects, run_id, run.parameters, traceparent=traceparent)
            try:
                execute(context, pipeline, pipelines)
            except Exception:  # logged and recorded, unless the database was away or another process has it
                with database.begin() as connection:
                    if not runs.get(connection, run_id).finished:
                        sys.exit(TRY_AGAIN)
    except StoreUnavailableError as error:
        get_logger().warning("worker.database_unavailable", error=str(error))
        sys.exit(TRY_AGAIN)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _stop_on_signals() -> asyncio.Event:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
