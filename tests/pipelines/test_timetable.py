import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from marquee.config import Settings
from marquee.errors import ConfigError
from marquee.pipelines import PIPELINES
from marquee.pipelines.timetable import next_time, run_timetable, steps_of
from marquee.pipelines.worker import run_worker
from marquee.store.repositories import runs

DEADLINE_SECONDS = 60
STEPS = ["prepare", "train", "promote", "infer"]
SOURCE = """
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
    )
    stop = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    def start(**functions: str) -> None:
        chosen = dict.fromkeys(PIPELINES, "succeed") | functions
        small = {name: f"timetable_pipelines:{function}" for name, function in chosen.items()}
        tasks.append(asyncio.create_task(run_worker(settings, stop, pipelines=small)))
        tasks.append(asyncio.create_task(run_timetable(settings, stop, pause_seconds=1)))

    yield start
    stop.set()
    await asyncio.gather(*tasks)


async def until(database, steps: int) -> list[runs.Run]:
    """The runs of the timetable, oldest first, once so many have succeeded."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            with database.begin() as connection:
                found = runs.recent(connection, limit=100)[::-1]
            if sum(run.status == "succeeded" for run in found) >= steps:
                return found
            await asyncio.sleep(0.1)


async def test_steps_run_one_after_the_other_and_a_refusal_is_no_failure(running, database):
    running(promote="refuse")
    found = (await until(database, 4))[:4]
    assert [run.pipeline for run in found] == STEPS
    assert all(before.finished_at <= after.created_at for before, after in pairwise(found))
    assert found[1].parameters == {"model": "ease"}
    assert found[2].counts["verdict"] == "refused"


async def test_step_that_failed_is_tried_again_and_those_before_it_are_not(running, database):
    running(train="fail_once")
    found = (await until(database, 4))[:5]
    assert [(run.pipeline, run.status) for run in found] == [
        ("prepare", "succeeded"),
        ("train", "failed"),
        ("train", "succeeded"),
        ("promote", "succeeded"),
        ("infer", "succeeded"),
    ]
    assert found[1].idempotency_key == found[2].idempotency_key


def test_backup_is_a_step_where_there_is_an_archive(tmp_path):
    archived = Settings(home=tmp_path, objects={"url": f"file://{tmp_path}/archive"})
    assert [name for name, _ in steps_of(archived)] == [*STEPS, "backup"]
    assert [name for name, _ in steps_of(Settings(home=tmp_path))] == STEPS


def test_time_is_of_the_zone(tmp_path):
    settings = Settings(home=tmp_path, schedule={"cron": "30 4 * * *", "zone": "Asia/Seoul"})
    found = next_time(settings, datetime(2026, 11, 23, 12, tzinfo=ZoneInfo("UTC")))
    assert found == datetime(2026, 11, 24, 4, 30, tzinfo=ZoneInfo("Asia/Seoul"))


@pytest.mark.parametrize("wrong", [{"cron": "every day"}, {"zone": "Asia/Nowhere"}])
def test_wrong_setting_is_named(tmp_path, wrong):
    with pytest.raises(ConfigError, match=f"MARQUEE_SCHEDULE__{next(iter(wrong)).upper()}"):
        next_time(Settings(home=tmp_path, schedule=wrong), datetime.now(ZoneInfo("UTC")))
