"""
Pipeline runs: at most one unfinished run of each pipeline.

A run may be a step of another, its parent: whatever ends the parent ends its unfinished steps.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Select, case, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from marquee.errors import ConflictError, NotFoundError
from marquee.store.tables import runs

__all__ = [
    "Run",
    "create",
    "ended",
    "fail",
    "finish",
    "first",
    "get",
    "heartbeat",
    "hold",
    "of_key",
    "recent",
    "stale",
    "start",
    "steps",
    "unfinished",
    "waiting",
]

UNFINISHED = ("queued", "running")


@dataclass(frozen=True)
class Run:
    """
    One run of a pipeline.

    Attributes:
        status: `queued`, `running`, `succeeded`, `failed` or `cancelled`.
        step: what it is doing, in words.
        progress: 0–1, None where unknown.
        attempts: how often it was started; more than one after a crash. Who has started it once more has it.
        parent_id, step_number: the run that this is a step of, and its place there; None of a whole run.
        idempotency_key: by which who asked for it finds it again.
    """

    run_id: UUID
    pipeline: str
    status: str
    parameters: dict[str, Any]
    counts: dict[str, Any]
    step: str | None
    progress: float | None
    error: str | None
    attempts: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    heartbeat_at: datetime | None
    parent_id: UUID | None = None
    step_number: int | None = None
    idempotency_key: str | None = None

    @property
    def finished(self) -> bool:
        """Whether it will not change any more."""
        return self.status not in UNFINISHED


def create(
    connection: Connection,
    pipeline: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    run_id: UUID | None = None,
    parent_id: UUID | None = None,
    step_number: int | None = None,
    idempotency_key: str | None = None,
) -> Run:
    """
    Queue a run.

    Args:
        parent_id, step_number: of a step of another run.
        idempotency_key: of whoever asks for it.

    Raises:
        ConflictError: a run of the same pipeline is unfinished, or one of the same key has not failed; it
            carries that run's id.
    """
    statement = (
        upsert(runs)
        .values(
            run_id=run_id or uuid4(),
            pipeline=pipeline,
            parameters=dict(parameters or {}),
            parent_id=parent_id,
            step_number=step_number,
            idempotency_key=idempotency_key,
        )
        .on_conflict_do_nothing()
        .returning(*runs.c)
    )
    while True:
        row = connection.execute(statement).one_or_none()
        if row is not None:
            return Run(**row._mapping)
        other = unfinished(connection, pipeline) or of_key(connection, idempotency_key)
        if other is not None:  # else it finished between the two statements: try again
            raise ConflictError(
                f"The pipeline {pipeline!r} already runs.",
                run_id=str(other.run_id),
                fix=f"Wait for the run {other.run_id}, or cancel it.",
            )


def of_key(connection: Connection, idempotency_key: str | None) -> Run | None:
    """The run that was asked for with a key, unless it failed or was cancelled: then another may be."""
    row = connection.execute(
        select(runs).where(
            runs.c.idempotency_key == idempotency_key, runs.c.status.not_in(("failed", "cancelled"))
        )
    ).one_or_none()
    return None if row is None else Run(**row._mapping)


def start(connection: Connection, run_id: UUID) -> Run:
    """
    Mark a run as running; a run that a dead worker left running is taken up again.

    Raises:
        NotFoundError: no such run.
        ConflictError: the run is finished already.
    """
    row = connection.execute(
        update(runs)
        .where(runs.c.run_id == run_id, runs.c.status.in_(UNFINISHED))
        .values(
            status="running",
            started_at=func.coalesce(runs.c.started_at, func.now()),
            heartbeat_at=func.clock_timestamp(),
            attempts=runs.c.attempts + 1,
            step=None,
            progress=None,
        )
        .returning(*runs.c)
    ).one_or_none()
    if row is None:
        finished = get(connection, run_id)
        raise ConflictError(f"The run {run_id} is {finished.status} already.", run_id=str(run_id))
    return Run(**row._mapping)


def heartbeat(
    connection: Connection,
    run_id: UUID,
    attempt: int,
    *,
    step: str | None = None,
    progress: float | None = None,
) -> bool:
    """
    Say that a run is alive, and how far it is.

    Args:
        attempt: which start of the run says so.
        step, progress: None leaves the former value.

    Returns:
        Whether the run is still to go on (False: it was cancelled, or another process has started it since).
    """
    result = connection.execute(
        update(runs)
        .where(runs.c.run_id == run_id, runs.c.status == "running", runs.c.attempts == attempt)
        .values(
            heartbeat_at=func.clock_timestamp(),
            step=func.coalesce(step, runs.c.step),
            progress=func.coalesce(progress, runs.c.progress),
        )
    )
    return result.rowcount == 1


def finish(connection: Connection, run_id: UUID, counts: Mapping[str, Any] | None = None) -> None:
    """Mark a run as succeeded, with what it counted."""
    _end(connection, run_id, status="succeeded", counts=dict(counts or {}), progress=1.0, error=None)


def fail(connection: Connection, run_id: UUID, error: str, *, status: str = "failed") -> None:
    """
    Mark a run as failed (or `cancelled`), with the error in one line.

    So ends the step that was running; those that had not begun are cancelled. What is finished already
    stays as it is.
    """
    _end(connection, run_id, status=status, error=error)
    connection.execute(
        update(runs)
        .where(runs.c.parent_id == run_id, runs.c.status.in_(UNFINISHED))
        .values(
            finished_at=func.clock_timestamp(),
            status=case((runs.c.status == "running", status), else_="cancelled"),
            error=error,
        )
    )


def get(connection: Connection, run_id: UUID) -> Run:
    """
    One run.

    Raises:
        NotFoundError: no such run.
    """
    return _only(connection, select(runs).where(runs.c.run_id == run_id), run_id)


def hold(connection: Connection, run_id: UUID) -> Run:
    """
    One run, which nobody else changes until the transaction ends.

    Raises:
        NotFoundError: no such run.
    """
    return _only(connection, select(runs).where(runs.c.run_id == run_id).with_for_update(), run_id)


def steps(connection: Connection, run_ids: Sequence[UUID]) -> dict[UUID, list[Run]]:
    """The steps of runs, in their order; runs of one step are left out."""
    made: dict[UUID, list[Run]] = {}
    query = select(runs).where(runs.c.parent_id.in_(run_ids)).order_by(runs.c.step_number)
    for row in connection.execute(query):
        made.setdefault(row.parent_id, []).append(Run(**row._mapping))
    return made


def first(connection: Connection) -> datetime | None:
    """When the first run was made; None before."""
    made: datetime | None = connection.scalar(select(func.min(runs.c.created_at)))
    return made


def recent(connection: Connection, *, limit: int = 20, pipeline: str | None = None) -> list[Run]:
    """The newest runs, newest first: whole runs, or those of one pipeline, steps of others among them."""
    query = select(runs).order_by(runs.c.created_at.desc(), runs.c.run_id).limit(limit)
    wanted = runs.c.parent_id.is_(None) if pipeline is None else runs.c.pipeline == pipeline
    return [Run(**row._mapping) for row in connection.execute(query.where(wanted))]


def unfinished(connection: Connection, pipeline: str) -> Run | None:
    """The queued or running run of a pipeline."""
    row = connection.execute(
        select(runs).where(runs.c.pipeline == pipeline, runs.c.status.in_(UNFINISHED))
    ).one_or_none()
    return None if row is None else Run(**row._mapping)


def waiting(connection: Connection) -> list[Run]:
    """Queued runs that are no steps of others, oldest first."""
    query = (
        select(runs).where(runs.c.status == "queued", runs.c.parent_id.is_(None)).order_by(runs.c.created_at)
    )
    return [Run(**row._mapping) for row in connection.execute(query)]


def stale(connection: Connection, *, silent_seconds: float) -> list[Run]:
    """Running runs without a sign of life for longer than that, oldest first."""
    silent = func.clock_timestamp() - runs.c.heartbeat_at > timedelta(seconds=silent_seconds)
    query = select(runs).where(runs.c.status == "running", silent).order_by(runs.c.created_at)
    return [Run(**row._mapping) for row in connection.execute(query)]


def ended(connection: Connection, run_ids: Collection[UUID]) -> set[UUID]:
    """Those of some runs that will not change any more; one that is not known here may be another's."""
    query = select(runs.c.run_id).where(runs.c.run_id.in_(run_ids), runs.c.status.not_in(UNFINISHED))
    return set(connection.scalars(query))


def _only(connection: Connection, query: Select[Any], run_id: UUID) -> Run:
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFoundError(f"There is no run {run_id}.", fix="`marquee runs` lists the runs.")
    return Run(**row._mapping)


def _end(connection: Connection, run_id: UUID, **values: Any) -> None:
    connection.execute(
        update(runs)
        .where(runs.c.run_id == run_id, runs.c.status.in_(UNFINISHED))
        .values(finished_at=func.clock_timestamp(), **values)
    )
