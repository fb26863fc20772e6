"""A run of a pipeline, recorded in `runs`: by the command line in its own process, by a worker in a child."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from sqlalchemy import Connection

from marquee.config import Settings
from marquee.errors import ConfigError, ConflictError, MarqueeError
from marquee.jobs import Hold, Queue, create_run
from marquee.pipelines import PIPELINES
from marquee.pipelines.run_log import RunLog
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import runs
from marquee.store.repositories.runs import Run
from marquee.telemetry import bound_everywhere, get_logger

if TYPE_CHECKING:
    from marquee.telemetry.traces import Traces

__all__ = ["Pipeline", "Report", "RunContext", "execute", "find_pipeline", "run_here", "run_steps"]

BEAT_SECONDS = 1.0

Report = Callable[[str, int, int | None], None]
"""`report(step, done, total)`: total is None where unknown."""


@dataclass
class RunContext:
    """
    What a pipeline works with.

    Attributes:
        parameters: of this run, JSON-able.
        on_progress: told of each `progress`, for example to draw a bar.
        traceparent: of the traced request that asked for the run.
    """

    settings: Settings
    database: Database
    objects: ObjectStore
    run_id: UUID
    parameters: Mapping[str, Any] = field(default_factory=dict)
    on_progress: Report | None = None
    traceparent: str | None = None
    _pipelines: Mapping[str, str] = field(default_factory=lambda: PIPELINES)
    _log: RunLog | None = None
    _traces: "Traces | None" = None
    _step: str | None = None
    _fraction: float | None = None
    _attempts: Mapping[UUID, int] = field(default_factory=dict)
    """Of this run, and of the one that it is a step of: with higher ones another process has them."""
    _stopped: threading.Event = field(default_factory=threading.Event)

    def progress(self, step: str, done: int = 0, total: int | None = None) -> None:
        """
        Say how far a step is; cheap, to be called as often as one likes.

        Raises:
            ConflictError: the run was cancelled, or another process has taken it up.
        """
        if step != self._step:
            get_logger().info("run.step", step=step)
        self._reach(step, min(done / total, 1.0) if total else None)
        if self.on_progress is not None:
            self.on_progress(step, done, total)

    def _reach(self, step: str, fraction: float | None) -> None:
        if self._stopped.is_set():
            raise self._was_stopped()
        self._step, self._fraction = step, fraction

    def _was_stopped(self) -> ConflictError:
        said = f"The run {self.run_id} was cancelled, or another process has taken it up."
        return ConflictError(said, run_id=str(self.run_id))


Pipeline = Callable[[RunContext], Mapping[str, Any]]


def find_pipeline(name: str, pipelines: Mapping[str, str] = PIPELINES) -> Pipeline:
    """
    The function of a pipeline.

    Raises:
        ValueError: no such pipeline.
    """
    if name not in pipelines:
        raise ValueError(f"Unknown pipeline {name!r}; known: {', '.join(sorted(pipelines))}")
    module, _, attribute = pipelines[name].partition(":")
    found: Pipeline = getattr(import_module(module), attribute)
    return found


def run_here(
    settings: Settings,
    database: Database,
    objects: ObjectStore,
    pipeline: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    on_progress: Report | None = None,
    pipelines: Mapping[str, str] = PIPELINES,
) -> dict[str, Any]:
    """
    Run a pipeline in this process, recorded like any other run.

    Returns:
        What it counted, with its `run_id`.

    Raises:
        ConflictError: a run of the same pipeline is unfinished; it carries that run's id.
        ValueError: no such pipeline.
    """
    find_pipeline(pipeline, pipelines)
    Queue.open(database)  # whether another run is alive is asked of the queue, too
    context = RunContext(settings, database, objects, uuid4(), dict(parameters or {}), on_progress)
    with Hold(database, context.run_id) as hold, _logged(context), _traced(context):
        with database.begin() as connection:
            create_run(connection, pipeline, context.parameters, run_id=context.run_id)
        return {**_recorded(context, pipeline, pipelines, hold), "run_id": str(context.run_id)}


def execute(context: RunContext, pipeline: str, pipelines: Mapping[str, str] = PIPELINES) -> dict[str, Any]:
    """
    Execute a run that exists, the first time or again after its process died.

    Returns:
        What it counted.

    Raises:
        ConflictError: another process executes it, or it is finished already.
        Exception: whatever the pipeline raised, after it was recorded.
    """
    with Hold(context.database, context.run_id) as hold, _logged(context), _traced(context):
        return _recorded(context, pipeline, pipelines, hold, log_failure=True)


def run_steps(context: RunContext) -> dict[str, Any]:
    """
    Execute a run of several steps, each a run of its own; those that have succeeded are not repeated.

    Returns:
        What the steps counted, in one; reports stay with the steps.

    Raises:
        ConflictError: the run was cancelled, or another process has taken it up.
        Exception: whatever a step raised; the steps behind it are not executed.
    """
    with context.database.begin() as connection:
        steps = runs.steps(connection, [context.run_id])[context.run_id]
    made: dict[str, Any] = {}
    for step in steps:
        counts = step.counts if step.status == "succeeded" else _execute_step(context, step, len(steps))
        made |= {name: value for name, value in counts.items() if not isinstance(value, dict)}
    return made


def _execute_step(context: RunContext, step: Run, of: int) -> dict[str, Any]:
    """A step; how far it is shows in the whole run, too."""
    number = step.step_number or 0

    def report(name: str, done: int, total: int | None) -> None:
        context._reach(name, (number + (min(done / total, 1.0) if total else 0.0)) / of)
        if context.on_progress is not None:
            context.on_progress(name, done, total)

    part = RunContext(
        context.settings, context.database, context.objects, step.run_id, step.parameters, report
    )
    part._traces, part._attempts, part._stopped = context._traces, context._attempts, context._stopped
    context._reach(step.pipeline, number / of)
    assert context._log is not None
    with Hold(context.database, step.run_id) as hold, context._log.about(step.run_id):
        return _recorded(part, step.pipeline, context._pipelines, hold)


@contextmanager
def _logged(context: RunContext) -> Iterator[None]:
    """Keep what is logged meanwhile."""
    with RunLog(context.database, context.run_id) as context._log:
        yield


@contextmanager
def _traced(context: RunContext) -> Iterator[None]:
    """Trace the run and its steps where traces are on; none fails for want of them."""
    settings = context.settings.trace
    if settings.url is not None:
        from marquee.telemetry.traces import Traces

        try:
            context._traces = Traces(settings, "marquee-worker")
        except ConfigError as error:
            get_logger().error("run.not_traced", error=str(error))
    try:
        yield
    finally:
        if context._traces is not None:
            context._traces.close()


def _span(context: RunContext, pipeline: str) -> AbstractContextManager[object]:
    if context._traces is None:
        return nullcontext()
    about = {"run_id": str(context.run_id), "pipeline": pipeline}
    return context._traces.span(f"run {pipeline}", about, parent=context.traceparent)


def _recorded(
    context: RunContext,
    name: str,
    pipelines: Mapping[str, str],
    hold: Hold,
    *,
    log_failure: bool = False,  # where nobody sees the exception that is raised
) -> dict[str, Any]:
    """Call a pipeline between the records of its start and its end, with heartbeats in between."""
    log = get_logger()
    context._pipelines = pipelines
    bound = bound_everywhere(run_id=str(context.run_id), pipeline=name)
    with bound, _span(context, name):
        with context.database.begin() as connection:
            run = runs.start(connection, context.run_id)
        context._attempts = {**context._attempts, run.run_id: run.attempts}
        log.info("run.started", attempt=run.attempts)
        ended = threading.Event()
        pulse = threading.Thread(
            target=_beat, args=(context, hold, run.attempts, ended), name="heartbeat", daemon=True
        )
        pulse.start()
        try:
            counts = dict(find_pipeline(name, pipelines)(context))
            with context.database.begin() as connection:
                if not _is_ours(connection, context):
                    raise context._was_stopped()
                runs.finish(connection, context.run_id, counts)
        except BaseException as error:
            _record_failure(context, error)
            if context._stopped.is_set():
                log.info("run.stopped")
            elif log_failure:
                expected = isinstance(error, MarqueeError)
                log.error("run.failed", error=_one_line(error), exc_info=None if expected else error)
            raise
        finally:
            ended.set()
            pulse.join()
        # A report is in the run's row; a line of log holds what can be read at a glance.
        log.info("run.finished", counts={k: v for k, v in counts.items() if not isinstance(v, dict)})
        return counts


def _beat(context: RunContext, hold: Hold, attempt: int, ended: threading.Event) -> None:
    while not ended.wait(BEAT_SECONDS):
        if not hold.beat(attempt, step=context._step, progress=context._fraction):
            context._stopped.set()
            return


def _is_ours(connection: Connection, context: RunContext) -> bool:
    """Whether no other process has taken the run up; until the transaction ends none does."""
    if any(runs.hold(connection, run_id).attempts != mine for run_id, mine in context._attempts.items()):
        context._stopped.set()
    return not context._stopped.is_set()


def _record_failure(context: RunContext, error: BaseException) -> None:
    """Unless the run was stopped: then somebody else says, or has said, how it ends."""
    try:
        with context.database.begin() as connection:
            if _is_ours(connection, context):
                runs.fail(connection, context.run_id, _one_line(error))
    except MarqueeError as unrecorded:
        get_logger().warning("run.failure_not_recorded", error=str(unrecorded))


def _one_line(error: BaseException) -> str:
    """An error as people read it: our own speak for themselves, others need their type."""
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted."
    message = " ".join(str(error).split())
    return message if isinstance(error, MarqueeError) else f"{type(error).__name__}: {message}"
