"""A process that lost its run to another one leaves it alone; what it made is not what counts."""

import sys
from collections.abc import Callable
from types import ModuleType
from uuid import UUID

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from marquee.config import Settings
from marquee.errors import ConflictError
from marquee.jobs import Hold, Queue, create_run
from marquee.pipelines.run import Pipeline, RunContext, execute
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import runs
from marquee.store.repositories.runs import Run

pytestmark = pytest.mark.integration

Execute = Callable[..., None]


@pytest.fixture
def execute_with(settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch) -> Execute:
    """Execute a run, some of whose pipelines are functions of a test."""

    def execute_run(run: Run, **functions: Pipeline) -> None:
        module = ModuleType("pipelines_of_a_test")
        vars(module).update(functions)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        known = {name: f"{module.__name__}:{name}" for name in functions}
        context = RunContext(settings, database, ObjectStore(settings.paths.objects), run.run_id)
        execute(context, run.pipeline, {"pipeline": "marquee.pipelines.run:run_steps", **known})

    Queue.open(database)
    return execute_run


def made(database: Database, pipeline: str) -> Run:
    with database.begin() as connection:
        return create_run(connection, pipeline)


def read(database: Database, run_id: UUID) -> Run:
    with database.begin() as connection:
        return runs.get(connection, run_id)


def take_up(database: Database, run_id: UUID) -> None:
    """As another worker does once the server has given up the connection of this one."""
    with database.begin() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks "
                "WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
            )
        )
    with Hold(database, run_id), database.begin() as connection:
        runs.start(connection, run_id)


@pytest.mark.parametrize("error", [KeyError("title"), None], ids=["fails", "succeeds"])
def test_end_of_a_run_that_another_process_has_taken_up_is_not_recorded(database, execute_with, error):
    run = made(database, "train")

    def train(context: RunContext) -> dict[str, int]:
        take_up(database, run.run_id)
        if error is not None:
            raise error
        return {"rows": 3}

    with capture_logs() as said, pytest.raises(type(error) if error else ConflictError):
        execute_with(run, train=train)
    now = read(database, run.run_id)
    assert (now.status, now.attempts, now.counts, now.error) == ("running", 2, {}, None)
    assert [line["event"] for line in said if line["event"].startswith("run.")] == [
        "run.started",
        "run.stopped",
    ]


@pytest.mark.parametrize("error", [KeyError("title"), None], ids=["fails", "succeeds"])
def test_step_of_a_run_that_another_process_has_taken_up_is_left_to_that(database, execute_with, error):
    run = made(database, "pipeline")

    def prepare(context: RunContext) -> dict[str, int]:
        take_up(database, run.run_id)
        if error is not None:
            raise error
        return {"rows": 3}

    with pytest.raises(type(error) if error else ConflictError):
        execute_with(run, prepare=prepare)
    with database.begin() as connection:
        steps = runs.steps(connection, [run.run_id])[run.run_id]
    assert read(database, run.run_id).status == "running"
    assert [step.status for step in steps] == ["running", "queued", "queued", "queued"]


def test_run_that_was_cancelled_unheard_does_not_succeed(database, execute_with):
    run = made(database, "train")

    def train(context: RunContext) -> dict[str, int]:
        with database.begin() as connection:
            Queue().cancel(connection, run.run_id, by="a test")
        context._stopped.wait(30)  # deaf until its end
        return {"rows": 3}

    with pytest.raises(ConflictError, match="cancelled"):
        execute_with(run, train=train)
    now = read(database, run.run_id)
    assert (now.status, now.error) == ("cancelled", "Cancelled by a test.")
