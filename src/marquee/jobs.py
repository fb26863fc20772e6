"""
The queue: pipelines deferred by name, and who is alive.

Jobs live in procrastinate's tables on Marquee's own PostgreSQL, in the schema `queue`. A job carries only
the id of its run: what to do is in `runs`, and both rows are written in one transaction. A run that is
being executed holds an advisory lock, which PostgreSQL gives back the moment its process dies; so whether
a run is alive is known without guessing from clocks.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self
from uuid import UUID

from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, func, select

from marquee.errors import ConflictError, KeyReusedError, RunFinishedError, StoreError
from marquee.store.postgres import Database
from marquee.store.repositories import queue, runs
from marquee.store.repositories.runs import Run
from marquee.telemetry import get_logger
from marquee.telemetry.spans import traceparent

if TYPE_CHECKING:
    import procrastinate

__all__ = [
    "LOCKS",
    "QUEUE_NAME",
    "STEPS",
    "Hold",
    "Queue",
    "create_run",
    "fail_dead",
    "is_alive",
    "requeue_dropped",
    "requeue_stalled",
    "task_name",
    "worker_app",
]

LOCKS: Final[Mapping[str, str]] = {
    "prepare": "data",
    "simulate": "data",
    "features": "data",
    "train": "model",
    "promote": "model",
    "mirror": "tracker",
    "infer": "recommendations",
    "pipeline": "model",
    "backup": "archive",
    "forget": "archive",
    "backfill": "data",
    "drill": "archive",
    "monitor": "monitor",
}
"""Pipeline → lock. Jobs of one lock run one after the other; procrastinate inherits none by name."""

STEPS: Final[Mapping[str, Sequence[str]]] = {"pipeline": ("prepare", "train", "promote", "infer")}
"""Pipeline → those that it runs one after the other, each a run of its own."""

QUEUE_NAME: Final = "pipelines"
DIED: Final = "The process that ran it ended without a word."


class Queue:
    """
    Pipelines to be run by a worker.

    Args:
        locks: pipeline → lock; its keys are the pipelines that may be deferred.
    """

    def __init__(self, *, locks: Mapping[str, str] = LOCKS) -> None:
        self.locks = locks

    @classmethod
    def open(cls, database: Database, *, locks: Mapping[str, str] = LOCKS) -> Self:
        """The queue of a database, its tables made if need be."""
        with database.begin() as connection:
            queue.ensure_schema(connection)
        return cls(locks=locks)

    def submit(
        self,
        connection: Connection,
        pipeline: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> Run:
        """
        Queue a run: its row and its job become visible together, with the caller's transaction.

        Raises:
            ConflictError: a run of the same pipeline is unfinished; it carries that run's id.
            ValueError: no such pipeline.
        """
        self._check(pipeline)
        run = create_run(connection, pipeline, parameters, idempotency_key=idempotency_key)
        self.defer(connection, pipeline, run.run_id)
        return run

    def submit_once(
        self,
        connection: Connection,
        pipeline: str,
        parameters: Mapping[str, Any] | None,
        idempotency_key: str,
    ) -> tuple[Run, bool]:
        """
        The run that was asked for with a key, queued if there is none, or none that did not fail.

        So who lost the answer asks again and gets the same run, and who heard of a failure may try again.

        Returns:
            The run, and whether it was there before.

        Raises:
            ConflictError: another run of the same pipeline is unfinished; it carries that run's id.
            KeyReusedError: the key stands for another pipeline or other parameters.
            ValueError: no such pipeline.
        """
        known = runs.of_key(connection, idempotency_key)
        if known is None:
            try:
                made = self.submit(connection, pipeline, parameters, idempotency_key=idempotency_key)
            except ConflictError:
                known = runs.of_key(connection, idempotency_key)  # somebody was faster with the same key
                if known is None:
                    raise
            else:
                return made, False
        if known.pipeline != pipeline or _asked(known.parameters) != _asked(parameters or {}):
            raise KeyReusedError(
                f"The Idempotency-Key {idempotency_key!r} stands for another request, that of the run "
                f"{known.run_id}.",
                fix="Use a new key for a new request.",
            )
        return known, True

    def defer(self, connection: Connection, pipeline: str, run_id: UUID) -> None:
        """
        Queue the job of an existing run, in the caller's transaction.

        Raises:
            ValueError: no such pipeline.
        """
        self._check(pipeline)
        args = {"run_id": str(run_id)}
        parent = traceparent()
        if parent is not None:
            args["traceparent"] = parent
        queue.defer(connection, QUEUE_NAME, task=task_name(pipeline), lock=self.locks[pipeline], args=args)

    def cancel(self, connection: Connection, run_id: UUID, *, by: str) -> Run:
        """
        End a run, or the run that it is a step of: what executes it is stopped within seconds.

        Args:
            by: who wants it, for the record.

        Raises:
            NotFoundError: no such run.
            RunFinishedError: it has ended already.
        """
        whole = runs.get(connection, run_id).parent_id or run_id
        runs.hold(connection, whole)
        run = runs.get(connection, run_id)
        if run.finished:
            raise RunFinishedError(
                f"The run {run_id} has {run.status} already."
                if run.status in ("succeeded", "failed")
                else f"The run {run_id} is {run.status} already.",
                run_id=str(run_id),
            )
        runs.fail(connection, whole, f"Cancelled by {by}.", status="cancelled")
        queue.drop_job(connection, whole)
        return runs.get(connection, run_id)

    def silence(self, connection: Connection) -> float | None:
        """For how many seconds no worker has given a sign of life; None where none ever has."""
        return queue.silence(connection)

    def _check(self, pipeline: str) -> None:
        if pipeline not in self.locks:
            raise ValueError(f"Unknown pipeline {pipeline!r}; known: {', '.join(sorted(self.locks))}")


class Hold:
    """
    The lock of a run that is being executed, on a connection of its own.

    Use as a context manager.

    Raises:
        ConflictError: another process executes this run.
    """

    def __init__(self, database: Database, run_id: UUID) -> None:
        self.run_id = run_id
        self._database = database
        self._connection: Connection | None = None
        self._is_locked = False

    def __enter__(self) -> Self:
        with self._database.translate_errors():
            self._lock()
        if not self._is_locked:
            self.__exit__()
            raise ConflictError(
                f"Another process executes the run {self.run_id}.",
                run_id=str(self.run_id),
                fix="Wait for it.",
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection, self._is_locked = None, False

    def beat(self, attempt: int, *, step: str | None = None, progress: float | None = None) -> bool:
        """
        Report a sign of life, and where the run is.

        Args:
            attempt: which start of the run this is.

        Returns:
            Whether to go on: False when the run was cancelled or another process has taken it up. A
            database that is away for a while does not end a run, nor does a lock that is not to be had
            again: the server may not have noticed yet that the connection which had it is lost.
        """
        try:
            with self._database.translate_errors():
                connection = self._lock()
                return runs.heartbeat(connection, self.run_id, attempt, step=step, progress=progress)
        except StoreError as error:
            get_logger().warning("jobs.heartbeat_failed", run_id=str(self.run_id), error=str(error))
            if self._connection is not None:
                self._connection.invalidate()
                self.__exit__()
            return True

    def _lock(self) -> Connection:
        if self._connection is None:
            self._connection = self._connect()
        if not self._is_locked:
            taken = select(func.pg_try_advisory_lock(_lock_key(self.run_id)))
            self._is_locked = bool(self._connection.scalar(taken))
        return self._connection

    def _connect(self) -> Connection:
        connection = self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()  # closing it gives the lock back; returning it to the pool would not
        # A server notices within 25 s the silence of a host that lost its power, too (ignored on a socket).
        for name, value in (("idle", 10), ("interval", 5), ("count", 3)):
            connection.exec_driver_sql(f"SET tcp_keepalives_{name} = {value}")
        return connection


def create_run(
    connection: Connection,
    pipeline: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    run_id: UUID | None = None,
    idempotency_key: str | None = None,
) -> Run:
    """
    The row of a new run, and those of its steps; what died unfinished is marked as failed first.

    Args:
        parameters: of a run of several steps: those of each by its name.
        idempotency_key: of whoever asks for it.

    Raises:
        ConflictError: a run of the same pipeline, or of one of its steps, is alive; it carries that run's id.
    """
    whole = _create(connection, pipeline, parameters, run_id=run_id, idempotency_key=idempotency_key)
    for number, step in enumerate(STEPS.get(pipeline, ())):
        given = whole.parameters.get(step)
        _create(connection, step, given, parent_id=whole.run_id, step_number=number)
    return whole


def is_alive(connection: Connection, run_id: UUID) -> bool:
    """Whether an unfinished run, or the run that it is a step of, waits in the queue or is being executed."""
    whole = runs.get(connection, run_id).parent_id or run_id
    if queue.has_job(connection, whole):
        return True
    return not connection.scalar(select(func.pg_try_advisory_xact_lock(_lock_key(whole))))


def task_name(pipeline: str) -> str:
    """The name of a pipeline's task."""
    return f"pipeline.{pipeline}"


def worker_app(database: Database) -> "procrastinate.App":
    """The procrastinate application of a worker; it has no tasks yet and is not open."""
    import procrastinate  # here, not above: an API only submits, and starts sooner without it

    given = conninfo_to_dict(database.url).get("options")
    options = " ".join(filter(None, [str(given or ""), f"-c search_path={queue.SCHEMA}"]))
    connector = procrastinate.PsycopgConnector(
        conninfo=database.url,
        min_size=1,
        max_size=4,
        kwargs={"options": options, "application_name": "marquee worker"},
    )
    return procrastinate.App(connector=connector)


async def requeue_stalled(
    app: "procrastinate.App", *, silent_seconds: float, queue: str = QUEUE_NAME
) -> Sequence[str]:
    """
    Put the jobs of workers that went silent back in their queue.

    Returns:
        The ids of their runs.
    """
    from procrastinate import exceptions

    found = []
    stalled = await app.job_manager.get_stalled_jobs(queue=queue, seconds_since_heartbeat=silent_seconds)
    for job in stalled:
        try:
            await app.job_manager.retry_job(job)
        except exceptions.ConnectorException:
            continue  # another worker was faster
        found.append(str(job.task_kwargs.get("run_id")))
    return found


def requeue_dropped(connection: Connection, pipelines: Collection[str]) -> Sequence[str]:
    """
    Queue runs again that wait and have no job: a worker that does not know a pipeline drops its jobs.

    So does one of an older release, while both are there.

    Args:
        pipelines: those that are known here.

    Returns:
        The ids of their runs.
    """
    found = []
    for run in runs.waiting(connection):
        if run.pipeline in pipelines and run.pipeline in LOCKS and not is_alive(connection, run.run_id):
            Queue().defer(connection, run.pipeline, run.run_id)
            found.append(str(run.run_id))
    return found


def fail_dead(connection: Connection, silent_seconds: float) -> Sequence[str]:
    """
    Fail runs that nobody executes and no job would start again: who waits for them would wait for ever.

    Args:
        silent_seconds: how long such a run has given no sign of life.

    Returns:
        Their ids.
    """
    found = []
    for run in runs.stale(connection, silent_seconds=silent_seconds):
        if run.parent_id is None and not is_alive(connection, run.run_id):
            runs.fail(connection, run.run_id, DIED)
            found.append(str(run.run_id))
    return found


def _create(connection: Connection, pipeline: str, parameters: Mapping[str, Any] | None, **more: Any) -> Run:
    while True:
        try:
            return runs.create(connection, pipeline, parameters, **more)
        except ConflictError as conflict:
            other = runs.get(connection, UUID(conflict.run_id))
            if other.finished or is_alive(connection, other.run_id):
                raise
            runs.fail(connection, other.parent_id or other.run_id, DIED)


def _asked(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked for, whoever asks: their key may be a new one by then."""
    return {name: value for name, value in parameters.items() if name != "by"}


def _lock_key(run_id: UUID) -> int:
    return int.from_bytes(run_id.bytes[:8], "big", signed=True)
