import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from free_ports import free_port
from sqlalchemy import text
from structlog.testing import capture_logs
from waiting import eventually

from marquee import pipelines
from marquee.config import Settings
from marquee.errors import ConflictError, RunFinishedError
from marquee.jobs import Queue
from marquee.pipelines import worker
from marquee.pipelines.run import RunContext, execute, find_pipeline, run_here
from marquee.pipelines.worker import run_worker
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import run_logs, runs
from marquee.store.repositories.runs import Run

pytestmark = pytest.mark.integration

DEADLINE_SECONDS = 240
NAMES = ("count", "fail", "block", "deaf", "chatter", "die", "die_away", "die_once")
STEPS = ("prepare", "train", "promote", "infer")
PIPELINES = {
    **{name: f"marquee_test_pipelines:{name}" for name in NAMES},
    **{name: f"marquee_test_pipelines:{name}" for name in STEPS},
    "typo": "no_such_module:train",
    "pipeline": "marquee.pipelines.run:run_steps",
}
SOURCE = '''
import logging
import os
import signal
import time
from pathlib import Path

from marquee.errors import DataError
from marquee.telemetry import get_logger


def count(context):
    rows = context.parameters.get("rows", 3)
    for done in range(rows):
        context.progress("count rows", done + 1, rows)
    return {"rows": rows, "model": "none"}


def fail(context):
    if context.parameters.get("own"):
        raise DataError("The file has no rows.", fix="Give another file.")
    raise KeyError("title")


def block(context):
    """Say who executes it, then wait until told to go on."""
    home = context.settings.home
    (home / "executors").open("a").write(f"{os.getpid()}\\n")
    while not (home / "go").exists():
        context.progress("wait", 1, 4)
        time.sleep(0.02)
    return {"done": 1}


def deaf(context):
    """Hold the interpreter, as a factorisation does, and hear of nothing."""
    (context.settings.home / "executors").open("a").write(f"{os.getpid()}\\n")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(0.02)


def chatter(context):
    get_logger().info("chatter.said", word="a\\0b", key="mq_1a2b_verysecret", rows=3)
    logging.getLogger("elsewhere").warning("from a library")
    context.progress("talk", 1, 2)
    return {}


def prepare(context):
    with (context.settings.home / "prepared").open("a") as file:
        file.write("x")
    context.progress("ingest", 1, 1)
    return {"items": 2, "snapshot": "s"}


def train(context):
    mark = context.settings.home / "died"
    if context.parameters.get("dies") and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if context.parameters.get("fails"):
        raise DataError("The file has no rows.")
    if context.parameters.get("blocks"):
        block(context)
    return {"model": context.parameters["model"], "metrics": {}}


def promote(context):
    return {"verdict": "passed", "report": {"ndcg": 0.1}}


def infer(context):
    get_logger().info("infer.said")
    return {"users": 3}


def die(context):
    os.kill(os.getpid(), signal.SIGKILL)


def die_away(context):
    """Take the table of runs away, as an outage does, and die once."""
    mark = context.settings.home / "died"
    if not mark.exists():
        with context.database.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE runs RENAME TO elsewhere")
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"rows": 1}


def die_once(context):
    mark = context.settings.home / "died"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"rows": 1}
'''
WORKER = textwrap.dedent(
    """
    import ast, asyncio, sys
    from marquee.config import load_settings
    from marquee.pipelines.worker import run_worker
    sys.path.insert(0, sys.argv[1])
    asyncio.run(run_worker(load_settings(), pipelines=ast.literal_eval(sys.argv[2])))
    """
)


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "marquee_test_pipelines.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop("marquee_test_pipelines", None)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    settings.home.mkdir(exist_ok=True)
    return settings.model_copy(update={"worker": settings.worker.model_copy(update={"stalled_seconds": 2})})


@pytest.fixture
def objects(settings: Settings) -> ObjectStore:
    return ObjectStore(settings.paths.objects)


@pytest.fixture
def queue(database: Database) -> Queue:
    return Queue.open(database, locks={name: name for name in PIPELINES})


def submit(database: Database, queue: Queue, pipeline: str, **parameters: object) -> UUID:
    with database.begin() as connection:
        return queue.submit(connection, pipeline, parameters).run_id


def read(database: Database, run_id: UUID) -> Run:
    with database.begin() as connection:
        return runs.get(connection, run_id)


async def finished(database: Database, run_id: UUID) -> Run:
    await eventually(lambda: read(database, run_id).finished)
    return read(database, run_id)


def executors(settings: Settings) -> list[int]:
    file = settings.home / "executors"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


@asynccontextmanager
async def worker_here(settings: Settings) -> AsyncIterator[None]:
    stop = asyncio.Event()
    worker = asyncio.create_task(run_worker(settings, stop, pipelines=PIPELINES))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(worker, DEADLINE_SECONDS)


@contextmanager
def worker_process(settings: Settings, modules: Path) -> Iterator[subprocess.Popen[bytes]]:
    assert settings.database.url is not None
    environment = {
        **os.environ,
        "MARQUEE_HOME": str(settings.home),
        "MARQUEE_DATABASE__URL": settings.database.url.get_secret_value(),
        "MARQUEE_WORKER__STALLED_SECONDS": "2",
    }
    command = [sys.executable, "-c", WORKER, str(modules), repr(PIPELINES)]
    with subprocess.Popen(command, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_queued_run_is_executed_and_recorded(settings, database, queue):
    run_id = submit(database, queue, "count", rows=5)
    async with worker_here(settings):
        run = await finished(database, run_id)
    assert (run.status, run.counts, run.attempts) == ("succeeded", {"rows": 5, "model": "none"}, 1)
    assert run.finished_at >= run.started_at


def with_ops_port(settings: Settings, port: int) -> Settings:
    return settings.model_copy(update={"worker": settings.worker.model_copy(update={"ops_port": port})})


def exposed(port: int) -> str:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    except httpx.ConnectError:
        return ""


async def test_worker_exposes_its_runs_and_how_things_stand(settings, database, queue):
    port = free_port()
    run_id = submit(database, queue, "count")
    line = 'marquee_worker_runs_total{pipeline="count",status="succeeded"}'
    async with worker_here(with_ops_port(settings, port)):
        await finished(database, run_id)
        await eventually(lambda: line in exposed(port))
        told = exposed(port)
    assert 'marquee_worker_run_seconds_count{pipeline="count"}' in told
    assert 'marquee_state_table_rows{table="runs"}' in told
    assert "marquee_database_up" not in told
    assert exposed(port) == ""


async def test_worker_whose_ops_port_is_taken_works_and_says_so(settings, database, queue):
    with socket.create_server(("127.0.0.1", 0)) as taken, capture_logs() as said:
        async with worker_here(with_ops_port(settings, taken.getsockname()[1])):
            run = await finished(database, submit(database, queue, "count"))
    assert run.status == "succeeded"
    assert "worker.metrics_not_served" in [line["event"] for line in said]


@pytest.mark.slow
async def test_failing_runs_are_recorded_in_one_line_and_not_repeated(settings, database, queue):
    async with worker_here(settings):
        own = await finished(database, submit(database, queue, "fail", own=True))
        foreign = await finished(database, submit(database, queue, "fail"))
        missing = await finished(database, submit(database, queue, "typo"))
        after = await finished(database, submit(database, queue, "count"))
    assert (own.status, own.error) == ("failed", "The file has no rows. Give another file.")
    assert (foreign.status, foreign.error) == ("failed", "KeyError: 'title'")
    assert missing.error == "ModuleNotFoundError: No module named 'no_such_module'"
    assert own.attempts == foreign.attempts == missing.attempts == 1
    assert after.status == "succeeded"


async def test_second_run_conflicts_while_the_first_runs_and_progress_shows(settings, database, queue):
    first = submit(database, queue, "block")
    async with worker_here(settings):
        await eventually(lambda: read(database, first).progress == 0.25)
        with pytest.raises(ConflictError) as caught:
            submit(database, queue, "block")
        (settings.home / "go").touch()
        run = await finished(database, first)
    assert caught.value.run_id == str(first)
    assert (run.status, run.step) == ("succeeded", "wait")


@pytest.mark.slow
async def test_cancelled_run_ends(settings, database, queue):
    run_id = submit(database, queue, "block")
    async with worker_here(settings):
        await eventually(lambda: len(executors(settings)) == 1)
        with database.begin() as connection:
            runs.fail(connection, run_id, "Cancelled.", status="cancelled")
        after = await finished(database, submit(database, queue, "count"))
    assert after.status == "succeeded"
    assert read(database, run_id).status == "cancelled"


@pytest.mark.slow
async def test_cancelled_run_that_hears_nothing_is_ended_with_its_process(settings, database, queue):
    run_id = submit(database, queue, "deaf")
    async with worker_here(settings):
        await eventually(lambda: len(executors(settings)) == 1)
        with database.begin() as connection:
            run = queue.cancel(connection, run_id, by="a test")
        assert (run.status, run.error) == ("cancelled", "Cancelled by a test.")
        await eventually(lambda: not Path(f"/proc/{executors(settings)[0]}").exists())
        after = await finished(database, submit(database, queue, "count"))
    assert after.status == "succeeded"
    assert (read(database, run_id).status, read(database, run_id).attempts) == ("cancelled", 1)


async def test_what_a_run_logs_is_kept_without_secrets(settings, database, queue):
    run_id = submit(database, queue, "chatter")
    async with worker_here(settings):
        await finished(database, run_id)
    with database.begin() as connection:
        lines = [stored.line for stored in run_logs.read(connection, run_id)]
    said = {line.event: line for line in lines}
    assert [line.event for line in lines] == [
        "run.started", "chatter.said", "from a library", "run.step", "run.finished",
    ]  # fmt: skip
    assert said["chatter.said"].fields == {"word": "a?b", "key": "mq_1a2b_***", "rows": 3}
    assert said["from a library"].level == "warning"
    assert said["run.step"].fields == {"step": "talk"}


def test_run_goes_on_while_its_log_cannot_be_written(settings, database, objects):
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE run_logs RENAME TO elsewhere"))
    counts = run_here(settings, database, objects, "chatter", pipelines=PIPELINES)
    assert read(database, UUID(counts["run_id"])).status == "succeeded"


def submit_steps(database, queue, **train):
    return submit(database, queue, "pipeline", train={"model": "mlp", **train}, infer={"k": 5})


def steps_of(database, run_id):
    with database.begin() as connection:
        return runs.steps(connection, [run_id])[run_id]


@pytest.fixture
def pipeline_queue(database: Database) -> Queue:
    return Queue.open(database, locks=dict.fromkeys(PIPELINES, "one"))


@pytest.mark.slow
async def test_steps_of_a_run_are_runs_and_those_that_succeeded_are_not_repeated(
    settings, database, pipeline_queue
):
    run_id = submit_steps(database, pipeline_queue, dies=True)
    with pytest.raises(ConflictError):  # the steps of an unfinished run are under way, too
        submit(database, pipeline_queue, "infer")
    async with worker_here(settings):
        run = await finished(database, run_id)
    assert (run.status, run.attempts) == ("succeeded", 2)
    assert run.counts == {"items": 2, "snapshot": "s", "model": "mlp", "verdict": "passed", "users": 3}
    steps = steps_of(database, run_id)
    assert [(step.pipeline, step.status, step.attempts) for step in steps] == [
        ("prepare", "succeeded", 1), ("train", "succeeded", 2),
        ("promote", "succeeded", 1), ("infer", "succeeded", 1),
    ]  # fmt: skip
    assert (settings.home / "prepared").read_text() == "x"
    assert steps[2].counts["report"] == {"ndcg": 0.1}
    with database.begin() as connection:
        said = [each.line for each in run_logs.read(connection, run_id)]
    assert [line.run_id for line in said if line.event == "infer.said"] == [steps[3].run_id]
    assert "worker.child_died" in [line.event for line in said]


@pytest.mark.slow
async def test_failed_step_fails_its_run_and_those_behind_it_never_begin(settings, database, pipeline_queue):
    run_id = submit_steps(database, pipeline_queue, fails=True)
    async with worker_here(settings):
        run = await finished(database, run_id)
    assert (run.status, run.error) == ("failed", "The file has no rows.")
    assert [step.status for step in steps_of(database, run_id)] == [
        "succeeded", "failed", "cancelled", "cancelled",
    ]  # fmt: skip


@pytest.mark.slow
async def test_run_is_cancelled_with_its_steps_by_any_of_them(settings, database, pipeline_queue):
    run_id = submit_steps(database, pipeline_queue, blocks=True)
    async with worker_here(settings):
        await eventually(lambda: read(database, run_id).step == "wait")
        assert read(database, run_id).progress == pytest.approx((1 + 1 / 4) / 4)
        with database.begin() as connection:
            pipeline_queue.cancel(connection, steps_of(database, run_id)[1].run_id, by="a test")
        await eventually(lambda: not Path(f"/proc/{executors(settings)[0]}").exists())
    assert read(database, run_id).status == "cancelled"
    assert [step.status for step in steps_of(database, run_id)] == ["succeeded"] + 3 * ["cancelled"]


def test_run_that_waits_is_cancelled_once_and_leaves_the_queue(database, queue):
    run_id = submit(database, queue, "count")
    with database.begin() as connection:
        assert queue.cancel(connection, run_id, by="a test").status == "cancelled"
        assert connection.scalar(text("SELECT count(*) FROM queue.procrastinate_jobs")) == 0
    with database.begin() as connection, pytest.raises(RunFinishedError, match="cancelled already"):
        queue.cancel(connection, run_id, by="a test")


@pytest.mark.slow
async def test_run_whose_child_dies_is_tried_again_a_few_times(settings, database, queue):
    async with worker_here(settings):
        once = await finished(database, submit(database, queue, "die_once"))
        always = await finished(database, submit(database, queue, "die"))
    assert (once.status, once.attempts) == ("succeeded", 2)
    assert (always.status, always.attempts) == ("failed", 3)
    assert "SIGKILL" in always.error


@pytest.mark.slow
async def test_death_that_cannot_be_recorded_is_tried_again(settings, database, queue):
    def is_put_back() -> bool:
        with database.begin() as connection:
            return bool(connection.scalar(text("SELECT attempts FROM queue.procrastinate_jobs")))

    run_id = submit(database, queue, "die_away")
    async with worker_here(settings):
        await eventually(is_put_back)
        with database.begin() as connection:
            connection.execute(text("ALTER TABLE elsewhere RENAME TO runs"))
        run = await finished(database, run_id)
    assert (run.status, run.attempts) == ("succeeded", 2)


async def test_run_that_died_without_a_job_fails_once_a_worker_has_looked_for_a_while(
    settings, database, queue, monkeypatch
):
    monkeypatch.setattr(worker, "DEAD_SECONDS", 1.0)
    with database.begin() as connection:
        run_id = runs.start(connection, runs.create(connection, "count").run_id).run_id
    async with worker_here(settings):
        run = await finished(database, run_id)
    assert (run.status, run.error) == ("failed", "The process that ran it ended without a word.")


@pytest.mark.slow
async def test_run_of_a_killed_worker_is_taken_up_by_another(settings, database, queue, modules):
    run_id = submit(database, queue, "block")
    with worker_process(settings, modules) as killed:
        await eventually(lambda: len(executors(settings)) == 1)
        killed.send_signal(signal.SIGKILL)
    async with worker_here(settings):
        await eventually(lambda: len(executors(settings)) == 2)
        assert not Path(f"/proc/{executors(settings)[0]}").exists()
        (settings.home / "go").touch()
        run = await finished(database, run_id)
    assert (run.status, run.attempts) == ("succeeded", 2)


@pytest.mark.slow
async def test_stopped_worker_puts_its_run_back_and_ends_its_child(settings, database, queue, modules):
    run_id = submit(database, queue, "block")
    with worker_process(settings, modules) as stopped:
        await eventually(lambda: len(executors(settings)) == 1)
        stopped.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(stopped.wait, DEADLINE_SECONDS) == 0
    assert not Path(f"/proc/{executors(settings)[0]}").exists()
    assert not read(database, run_id).finished
    (settings.home / "go").touch()
    async with worker_here(settings):
        assert (await finished(database, run_id)).status == "succeeded"


@pytest.mark.slow
async def test_stopped_worker_lets_a_short_run_finish(settings, database, queue, modules):
    run_id = submit(database, queue, "block")
    with worker_process(settings, modules) as stopped:
        await eventually(lambda: len(executors(settings)) == 1)
        stopped.send_signal(signal.SIGTERM)
        (settings.home / "go").touch()
        assert await asyncio.to_thread(stopped.wait, DEADLINE_SECONDS) == 0
    run = read(database, run_id)
    assert (run.status, run.attempts) == ("succeeded", 1)


@pytest.mark.slow
async def test_worker_outlives_the_loss_of_its_connections(settings, database, queue):
    async with worker_here(settings):
        await finished(database, submit(database, queue, "count"))
        with database.begin() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        after = await finished(database, submit(database, queue, "count"))
    assert after.status == "succeeded"


def test_run_here_returns_the_counts_and_reports_progress(settings, database, objects):
    seen = []
    counts = run_here(
        settings, database, objects, "count", {"rows": 2},
        on_progress=lambda *step: seen.append(step), pipelines=PIPELINES,
    )  # fmt: skip
    run = read(database, UUID(counts.pop("run_id")))
    assert counts == run.counts == {"rows": 2, "model": "none"}
    assert (run.status, run.parameters) == ("succeeded", {"rows": 2})
    assert seen == [("count rows", 1, 2), ("count rows", 2, 2)]


def test_run_here_records_a_failure_and_raises_it(settings, database, objects):
    with pytest.raises(KeyError):
        run_here(settings, database, objects, "fail", pipelines=PIPELINES)
    with database.begin() as connection:
        (run,) = runs.recent(connection)
    assert (run.status, run.error) == ("failed", "KeyError: 'title'")


def test_run_here_conflicts_with_a_queued_run(settings, database, objects, queue):
    first = submit(database, queue, "count")
    with pytest.raises(ConflictError) as caught:
        run_here(settings, database, objects, "count", pipelines=PIPELINES)
    assert caught.value.run_id == str(first)


def test_finished_run_is_not_executed_again(settings, database, objects, queue):
    run_id = submit(database, queue, "count")
    context = RunContext(settings, database, objects, run_id)
    assert execute(context, "count", PIPELINES)["rows"] == 3
    with pytest.raises(ConflictError, match="succeeded already"):
        execute(context, "count", PIPELINES)


def test_unknown_pipeline_is_refused_before_it_is_recorded(settings, database, objects):
    with pytest.raises(ValueError, match="'fly'"):
        run_here(settings, database, objects, "fly", pipelines=PIPELINES)
    with database.begin() as connection:
        assert runs.recent(connection) == []


def test_every_pipeline_can_be_found():
    for name in pipelines.PIPELINES:
        assert callable(find_pipeline(name))
