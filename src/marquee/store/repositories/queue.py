"""
The tables of the queue, which are procrastinate's own, in the schema `queue`.

What becomes visible with a row of ours is written here; what a worker asks of them, procrastinate does.
"""

import json
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, func, select, text

__all__ = ["SCHEMA", "defer", "drop_job", "ensure_schema", "has_job", "silence"]

SCHEMA: Final = "queue"

_SCHEMA_LOCK: Final = 0x51756575  # "Queu"; any number that nobody else locks

# procrastinate writes its names unqualified: each function finds them wherever it is called from.
_PIN_SEARCH_PATH: Final = f"""
DO $$
DECLARE routine regprocedure;
BEGIN
    FOR routine IN SELECT oid FROM pg_proc WHERE pronamespace = '{SCHEMA}'::regnamespace LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = {SCHEMA}, pg_temp', routine);
    END LOOP;
END $$
"""
_DEFER: Final = text(
    f"""
    SELECT {SCHEMA}.procrastinate_defer_jobs_v1(
        ARRAY[ROW(:queue, :task, 0, :lock, NULL, CAST(:args AS jsonb), NULL)]
        ::{SCHEMA}.procrastinate_job_to_defer_v1[]
    )
    """
)
_HAS_JOB: Final = text(
    f"""
    SELECT EXISTS (
        SELECT FROM {SCHEMA}.procrastinate_jobs
        WHERE status IN ('todo', 'doing') AND args ->> 'run_id' = :run_id
    )
    """
)
_DROP_JOB: Final = text(
    f"DELETE FROM {SCHEMA}.procrastinate_jobs WHERE status = 'todo' AND args ->> 'run_id' = :run_id"
)
_SILENCE: Final = text(
    f"SELECT extract(epoch FROM now() - max(last_heartbeat)) FROM {SCHEMA}.procrastinate_workers"
)


def ensure_schema(connection: Connection) -> None:
    """Make the tables if need be; the caller's search path stays what it is."""
    # Not to_regclass: within a transaction it may answer from a cache that is older than the lock.
    known = text("SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = :schema)").bindparams(schema=SCHEMA)
    if connection.scalar(known):
        return
    connection.execute(select(func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
    if connection.scalar(known):
        return  # another process was faster
    from procrastinate.schema import SchemaManager  # here, not above: an API starts sooner without it

    before = connection.scalar(select(func.current_setting("search_path")))
    connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    connection.exec_driver_sql(f"SET LOCAL search_path TO {SCHEMA}")
    # Many statements at once: only without parameters does PostgreSQL take them.
    plain = connection.execution_options(no_parameters=True)
    plain.exec_driver_sql(SchemaManager.get_schema())
    plain.exec_driver_sql(_PIN_SEARCH_PATH)
    connection.execute(select(func.set_config("search_path", before, True)))


def defer(connection: Connection, queue: str, *, task: str, lock: str, args: Mapping[str, str]) -> None:
    """
    Append a job.

    Args:
        lock: jobs of one lock run one after the other.
        args: of the task; `run_id` is the run that it is about.
    """
    connection.execute(_DEFER, {"queue": queue, "task": task, "lock": lock, "args": json.dumps(args)})


def has_job(connection: Connection, run_id: UUID) -> bool:
    """Whether the job of a run waits or is being executed."""
    return bool(connection.scalar(_HAS_JOB, {"run_id": str(run_id)}))


def drop_job(connection: Connection, run_id: UUID) -> None:
    """Take the job of a run out of the queue if it waits there."""
    connection.execute(_DROP_JOB, {"run_id": str(run_id)})


def silence(connection: Connection) -> float | None:
    """For how many seconds no worker has given a sign of life; None where none ever has."""
    seconds = connection.scalar(_SILENCE)
    return None if seconds is None else float(seconds)
