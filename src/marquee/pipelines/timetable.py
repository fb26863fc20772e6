"""
The whole pipeline at set times, on one machine without an orchestrator.

Each step is a job that waits for its run and then queues the job of the next step; a step that fails is
tried again five times with growing pauses, and one that finds its pipeline busy waits, as the DAG of Airflow
does. A run is found again by its idempotency key, so a process that dies between any two lines begins nothing
twice.
"""

import asyncio
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import croniter
import procrastinate
import psycopg
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job
from procrastinate.retry import BaseRetryStrategy, RetryDecision

from marquee.config import Settings
from marquee.errors import ConfigError, ConflictError, StoreError
from marquee.jobs import STEPS, Queue, requeue_stalled, worker_app
from marquee.store.postgres import Database
from marquee.store.repositories import runs
from marquee.telemetry import get_logger

__all__ = ["ATTEMPTS", "Step", "is_due", "next_time", "run_timetable", "steps_of"]

ATTEMPTS: Final = 6
"""One, and five more."""
QUEUE: Final = "timetable"
TICK: Final = "timetable.tick"
STEP: Final = "timetable.step"
POLL_SECONDS: Final = 1.0
RECONNECT_SECONDS: Final = 2.0
LATE_SECONDS: Final = 3600.0
"""A time that passed while nobody was there is made up for within this."""

Step = tuple[str, dict[str, Any]]


class _StepFailedError(Exception):
    """A step has not succeeded; it is tried again."""


class _StepUnwantedError(Exception):
    """Somebody has cancelled a step; those after it are left out."""


class _Again(BaseRetryStrategy):
    """What failed is tried again; what was interrupted is taken up by the next process."""

    def __init__(self, pause_seconds: int) -> None:
        self.pause_seconds = pause_seconds

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if isinstance(exception, asyncio.CancelledError):
            return RetryDecision(retry_at=datetime.now(UTC))
        tries = job.attempts + 1
        if tries < ATTEMPTS and isinstance(exception, (_StepFailedError, StoreError)):
            return RetryDecision(retry_in={"seconds": self.pause_seconds**tries})
        return None


def steps_of(settings: Settings) -> Sequence[Step]:
    """Pipelines and their parameters, in their order; a backup only where there is an archive."""
    given: Mapping[str, dict[str, Any]] = {"train": {"model": settings.schedule.model}}
    steps = [(name, given.get(name, {})) for name in STEPS["pipeline"]]
    return steps if settings.objects.url is None else [*steps, ("backup", {})]


def next_time(settings: Settings, after: datetime) -> datetime:
    """
    When the pipeline is due next.

    Raises:
        ConfigError: the setting is no cron expression, or the zone is unknown.
    """
    local = after.astimezone(_zone(settings))
    try:
        times = croniter.croniter(settings.schedule.cron, local)
        found: datetime = times.get_next(datetime)
        while _is_repeated(settings, found):
            found = times.get_next(datetime)
    except (ValueError, KeyError) as error:
        raise ConfigError(
            f"MARQUEE_SCHEDULE__CRON is no cron expression: {error}.",
            fix="Write for example `0 0 * * *`: every day at midnight.",
        ) from None
    return found


def is_due(settings: Settings, local: datetime) -> bool:
    """Whether a minute of the schedule's zone is one of its times."""
    return croniter.croniter.match(settings.schedule.cron, local) and not _is_repeated(settings, local)


async def run_timetable(
    settings: Settings, stop: asyncio.Event | None = None, *, pause_seconds: int = 4
) -> None:
    """
    Run the pipeline whenever it is due, until the process is asked to stop; a worker must run beside it.

    Args:
        stop: default: set by SIGTERM and Ctrl-C.
        pause_seconds: base of the pauses before another try, which are its powers.
    """
    if stop is None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    next_time(settings, datetime.now().astimezone())  # a wrong setting ends the start
    log = get_logger()
    database = await asyncio.to_thread(Database.open, settings)
    try:
        await asyncio.to_thread(Queue.open, database)
        while not stop.is_set():
            app = worker_app(database)
            app.periodic_defaults = {"max_delay": LATE_SECONDS}
            _register(app, settings, database, pause_seconds)
            try:
                async with app.open_async():
                    log.info("timetable.started", next=next_time(settings, datetime.now().astimezone()))
                    await _work(app, stop, settings.worker.stalled_seconds)
            except (ConnectorException, psycopg.Error) as error:
                log.warning("timetable.database_unavailable", error=str(error.__cause__ or error))
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), RECONNECT_SECONDS)
        log.info("timetable.stopped")
    finally:
        await database.aclose()


def _register(app: procrastinate.App, settings: Settings, database: Database, pause_seconds: int) -> None:
    steps = steps_of(settings)

    # Every minute, since procrastinate knows UTC only: the zone decides whether this is one of the times.
    @app.periodic(cron="* * * * *", periodic_id=TICK)
    @app.task(name=TICK, queue=QUEUE, pass_context=False)
    async def tick(timestamp: int) -> None:
        local = datetime.fromtimestamp(timestamp, _zone(settings))
        if is_due(settings, local):
            get_logger().info("timetable.due", at=local)
            await step.configure(lock=QUEUE).defer_async(due=timestamp, number=0)

    @app.task(name=STEP, queue=QUEUE, retry=_Again(pause_seconds))
    async def step(due: int, number: int) -> None:
        pipeline, parameters = steps[number]
        await _carry_out(database, pipeline, parameters, f"timetable/{due}/{pipeline}")
        if number + 1 < len(steps):
            # Before the first step of a time that has come meanwhile: it is one time after the other.
            later = step.configure(lock=QUEUE, priority=number + 1)
            await later.defer_async(due=due, number=number + 1)
        else:
            get_logger().info("timetable.done", at=datetime.fromtimestamp(due, _zone(settings)))


async def _carry_out(database: Database, pipeline: str, parameters: Mapping[str, Any], key: str) -> None:
    """Have a worker run a pipeline, after another run of it where there is one, and wait for its end."""
    run: runs.Run | None = None
    while run is None:
        try:
            run, _ = await database.run(Queue().submit_once, pipeline, parameters, key)
        except ConflictError as busy:
            get_logger().info("timetable.step_waits", pipeline=pipeline, run_id=busy.run_id)
            await _ended(database, await database.run(runs.get, UUID(busy.run_id)))
    run = await _ended(database, run)
    said = {"pipeline": pipeline, "run_id": str(run.run_id), "status": run.status}
    if run.status != "succeeded":
        get_logger().error("timetable.step_failed", **said, error=run.error)
        kind = _StepUnwantedError if run.status == "cancelled" else _StepFailedError
        raise kind(f"The run {run.run_id} of {pipeline!r} {run.status}: {run.error}")
    refused = {name: run.counts[name] for name in ("verdict", "reasons") if name in run.counts}
    get_logger().info("timetable.step_done", **said, **refused)


async def _ended(database: Database, run: runs.Run) -> runs.Run:
    while not run.finished:
        await asyncio.sleep(POLL_SECONDS)
        run = await database.run(runs.get, run.run_id)
    return run


async def _work(app: procrastinate.App, stop: asyncio.Event, silent_seconds: float) -> None:
    tasks = [
        asyncio.create_task(
            app.run_worker_async(
                queues=[QUEUE],
                concurrency=2,  # the minute's look and the step under way
                install_signal_handlers=False,
                fetch_job_polling_interval=POLL_SECONDS,
                shutdown_graceful_timeout=POLL_SECONDS,
                update_heartbeat_interval=silent_seconds / 5,
                stalled_worker_timeout=silent_seconds,
                delete_jobs="always",
            )
        ),
        asyncio.create_task(_rescue(app, silent_seconds)),
        asyncio.create_task(stop.wait()),
    ]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()


async def _rescue(app: procrastinate.App, silent_seconds: float) -> None:
    """A step whose process died is taken up again."""
    while True:
        await requeue_stalled(app, silent_seconds=silent_seconds, queue=QUEUE)
        await asyncio.sleep(silent_seconds / 5)


def _is_repeated(settings: Settings, local: datetime) -> bool:
    """Whether clocks were put back, and have shown this hour before; who wants every hour wants that, too."""
    hours = croniter.croniter.expand(settings.schedule.cron)[0][1]
    return local.fold == 1 and hours != ["*"]


def _zone(settings: Settings) -> ZoneInfo:
    try:
        return ZoneInfo(settings.schedule.zone)
    except (KeyError, OSError, ValueError):
        raise ConfigError(
            f"MARQUEE_SCHEDULE__ZONE is no time zone: {settings.schedule.zone!r}.",
            fix="Write a name of the IANA database, such as Asia/Seoul.",
        ) from None
