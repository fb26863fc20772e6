import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from procrastinate.jobs import Job
from sqlalchemy import text
from structlog.testing import capture_logs
from waiting import eventually

from marquee.config import Settings
from marquee.errors import ConfigError, StoreUnavailableError
from marquee.jobs import Queue
from marquee.pipelines import PIPELINES, timetable
from marquee.pipelines.timetable import next_time, run_timetable, steps_of
from marquee.pipelines.worker import run_worker
from marquee.store.repositories import runs

STEPS = ["prepare", "train", "promote", "infer"]
ANOTHER_TIME = text(
    """
    INSERT INTO queue.procrastinate_jobs (queue_name, task_name, lock, args)
    VALUES ('timetable', 'timetable.step', 'timetable', '{"due": 60, "number": 0}')
    """
)
SOURCE = """
import time

from marquee.errors import DataError


def succeed(context):
    return {"rows": 3}


def fail_once(context):
    mark = context.settings.home / "failed"
    if not mark.exists():
        mark.touch()
        raise DataError("There are no interactions.")
    return {"rows": 3}


def refuse(context):
    return {"verdict": "refused", "reasons": ["It is worse."]}


def wait(context):
    while not (context.settings.home / "go").exists():
        context.progress("wait", 0, 1)
        time.sleep(0.05)
    return {"rows": 3}
"""


@pytest.fixture
async def running(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[..., Settings]]:
    """The real worker with small pipelines, and a timetable that is due every minute, thus at once."""
    (tmp_path / "timetable_pipelines.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    settings = Settings(
        home=settings.home,
        database=settings.database,
        schedule={"cron": "* * * * *"},
        monitor={"every_minutes": 0},
        worker={"concurrency": 2},
    )
    stops: list[asyncio.Event] = []
    tasks: list[asyncio.Task[None]] = []

    def stoppable() -> asyncio.Event:
        stops.append(asyncio.Event())
        return stops[-1]

    def start(**functions: str) -> Callable[[], Awaitable[None]]:
        chosen = dict.fromkeys(PIPELINES, "succeed") | functions
        small = {name: f"timetable_pipelines:{function}" for name, function in chosen.items()}
        tasks.append(asyncio.create_task(run_worker(settings, stoppable(), pipelines=small)))
        tasks.append(asyncio.create_task(run_timetable(settings, stoppable(), pause_seconds=1)))

        async def restart() -> None:
            stops[-1].set()
            await tasks[-1]
            tasks.append(asyncio.create_task(run_timetable(settings, stoppable(), pause_seconds=1)))

        return restart

    yield start
    (settings.home / "go").touch()
    for stop in stops:
        stop.set()
    await asyncio.gather(*tasks)


def all_runs(database) -> list[runs.Run]:
    """The runs there are, oldest first."""
    with database.begin() as connection:
        return runs.recent(connection, limit=100)[::-1]


async def once_succeeded(database, steps: int) -> list[runs.Run]:
    """The runs of the timetable, oldest first, once so many have succeeded."""

    def wanted() -> list[runs.Run]:
        found = all_runs(database)
        return found if sum(run.status == "succeeded" for run in found) >= steps else []

    return await eventually(wanted)


async def of_first_time(database, holds: Callable[[list[runs.Run]], bool]) -> list[runs.Run]:
    """The runs of the first time that was due, oldest first, once they are as wanted."""

    def wanted() -> list[runs.Run]:
        found = all_runs(database)
        of_times = [(run.idempotency_key or "").rpartition("/")[0] for run in found]
        first = next(filter(None, of_times), "none")
        these = [run for run, of_time in zip(found, of_times, strict=True) if of_time == first]
        return these if holds(these) else []

    return await eventually(wanted)


def trains(found: list[runs.Run]) -> bool:
    return [run.status for run in found] == ["succeeded", "running"]


def is_done(found: list[runs.Run]) -> bool:
    return [run.pipeline for run in found] == STEPS


async def test_steps_run_one_after_the_other_and_a_refusal_is_no_failure(running, database):
    running(promote="refuse")
    found = (await once_succeeded(database, 4))[:4]
    assert [run.pipeline for run in found] == STEPS
    assert all(before.finished_at <= after.created_at for before, after in pairwise(found))
    assert found[1].parameters == {"model": "ease"}
    assert found[2].counts["verdict"] == "refused"


async def test_step_that_failed_is_tried_again_and_those_before_it_are_not(running, database):
    running(train="fail_once")
    found = (await once_succeeded(database, 4))[:5]
    assert [(run.pipeline, run.status) for run in found] == [
        ("prepare", "succeeded"),
        ("train", "failed"),
        ("train", "succeeded"),
        ("promote", "succeeded"),
        ("infer", "succeeded"),
    ]
    assert found[1].idempotency_key == found[2].idempotency_key


async def test_step_under_way_is_joined_by_the_next_process_before_another_time(running, database, settings):
    restart = running(train="wait")
    before = await of_first_time(database, trains)
    with database.begin() as connection:
        connection.execute(ANOTHER_TIME)
    await restart()
    (settings.home / "go").touch()
    after = (await once_succeeded(database, 5))[:5]
    assert [run.pipeline for run in after] == [*STEPS, "prepare"]
    assert after[1].run_id == before[1].run_id


async def test_step_waits_for_another_run_of_its_pipeline(running, database, settings):
    queue = Queue.open(database)
    with database.begin() as connection:
        other = queue.submit(connection, "train", {"model": "mlp"})
    with capture_logs() as said:
        running(train="wait")
        await eventually(lambda: any(line["event"] == "timetable.step_waits" for line in said))
    (settings.home / "go").touch()
    found = await of_first_time(database, is_done)
    with database.begin() as connection:
        ended = runs.get(connection, other.run_id).finished_at
    assert ended <= found[1].created_at


async def test_cancelled_step_was_not_wanted_and_is_not_tried_again(running, database):
    running(train="wait")
    before = await of_first_time(database, trains)
    with database.begin() as connection:
        Queue().cancel(connection, before[1].run_id, by="cli:kim")
    due = before[1].idempotency_key.split("/")[1]
    jobs = text("SELECT count(*) FROM queue.procrastinate_jobs WHERE args ->> 'due' = :due")

    def are_gone() -> bool:
        with database.begin() as connection:
            return not connection.scalar(jobs, {"due": due})

    await eventually(are_gone)
    after = await of_first_time(database, bool)
    assert [run.status for run in after] == ["succeeded", "cancelled"]


def test_step_is_tried_six_times_with_growing_pauses():
    again = timetable._Again(4)

    def decide(attempts, error):
        job = Job(id=1, queue="", priority=0, lock=None, queueing_lock=None, task_name="", attempts=attempts)
        return again.get_retry_decision(exception=error, job=job)

    decisions = [decide(attempts, StoreUnavailableError("It is away.")) for attempts in range(6)]
    assert decisions[5] is None
    assert all(before.retry_at < after.retry_at for before, after in pairwise(decisions[:5]))
    assert decide(0, ValueError("a bug")) is None
    assert decide(9, asyncio.CancelledError()) is not None, (
        "who stops the process wants the step all the same"
    )


def test_backup_is_a_step_where_there_is_an_archive(tmp_path):
    archived = Settings(home=tmp_path, objects={"url": f"file://{tmp_path}/archive"})
    assert [name for name, _ in steps_of(archived)] == [*STEPS, "backup"]
    assert [name for name, _ in steps_of(Settings(home=tmp_path))] == STEPS


def test_time_is_of_the_zone(tmp_path):
    settings = Settings(home=tmp_path, schedule={"cron": "30 4 * * *", "zone": "Asia/Seoul"})
    found = next_time(settings, datetime(2026, 11, 23, 12, tzinfo=ZoneInfo("UTC")))
    assert found == datetime(2026, 11, 24, 4, 30, tzinfo=ZoneInfo("Asia/Seoul"))


@pytest.mark.parametrize(
    ("cron", "hours"),
    [
        ("30 2 * * *", ["02:30+02", "02:30+01 tomorrow"]),
        ("30 1-3 * * *", ["01:30+02", "02:30+02", "03:30+01", "01:30+01 tomorrow"]),
        ("30 * * * *", ["00:30+02", "01:30+02", "02:30+02", "02:30+01", "03:30+01"]),
    ],
)
def test_hour_that_comes_twice_at_the_end_of_summer_time_counts_once_unless_every_hour_does(
    tmp_path, cron, hours
):
    settings = Settings(home=tmp_path, schedule={"cron": cron, "zone": "Europe/Berlin"})
    moment = datetime(2026, 10, 25, tzinfo=ZoneInfo("Europe/Berlin")) - timedelta(seconds=1)
    found = []
    for _ in hours:
        moment = next_time(settings, moment)
        found.append(f"{moment:%H:%M%z}"[:-2] + (" tomorrow" if moment.day == 26 else ""))
        assert timetable.is_due(settings, moment)
    assert found == hours
    again = datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin"))
    assert timetable.is_due(settings, again) == (cron == "30 * * * *")


@pytest.mark.parametrize("wrong", [{"cron": "every day"}, {"zone": "Asia/Nowhere"}])
def test_wrong_setting_is_named(tmp_path, wrong):
    with pytest.raises(ConfigError, match=f"MARQUEE_SCHEDULE__{next(iter(wrong)).upper()}"):
        next_time(Settings(home=tmp_path, schedule=wrong), datetime.now(ZoneInfo("UTC")))
