import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from marquee import jobs
from marquee.config import Settings
from marquee.errors import ConflictError, StoreUnavailableError
from marquee.jobs import Hold, Queue
from marquee.pipelines import PIPELINES
from marquee.store.postgres import Database
from marquee.store.repositories import runs

pytestmark = pytest.mark.integration


@pytest.fixture
def queue(database: Database) -> Queue:
    return Queue.open(database)


def queued(database: Database) -> list[tuple[str, str, str]]:
    with database.begin() as connection:
        rows = connection.execute(
            text("SELECT task_name, lock, args ->> 'run_id' FROM queue.procrastinate_jobs ORDER BY id")
        )
        return [tuple(row) for row in rows]


def test_every_pipeline_has_a_lock():
    assert jobs.LOCKS.keys() == PIPELINES.keys()


def test_queue_opens_twice_and_in_several_threads_at_once(database):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(Queue.open, [database] * 8))
    assert queued(database) == []


def test_search_path_of_the_caller_is_left_alone(database, queue):
    with database.begin() as connection:
        before = connection.scalar(text("SHOW search_path"))
        queue.submit(connection, "train")
        assert connection.scalar(text("SHOW search_path")) == before


def test_run_and_job_commit_together(database, queue):
    with database.begin() as connection:
        run = queue.submit(connection, "train", {"model": "mlp"})
        with database.begin() as other:
            assert runs.recent(other) == []
    assert queued(database) == [("pipeline.train", "model", str(run.run_id))]
    with database.begin() as connection:
        assert runs.get(connection, run.run_id).parameters == {"model": "mlp"}


def test_run_and_job_roll_back_together(database, queue):
    with database.engine.connect() as connection:
        queue.submit(connection, "train")
        connection.rollback()
    assert queued(database) == []
    with database.begin() as connection:
        assert runs.recent(connection) == []


async def test_submit_works_from_an_event_loop(database, queue):
    try:
        run = await database.run(queue.submit, "infer", {"k": 5})
    finally:
        await database.async_engine().dispose()
    assert queued(database) == [("pipeline.infer", "recommendations", str(run.run_id))]


def test_second_run_of_a_pipeline_conflicts_with_the_first(database, queue):
    with database.begin() as connection:
        first = queue.submit(connection, "train")
    with pytest.raises(ConflictError) as caught, database.begin() as connection:
        queue.submit(connection, "train")
    assert caught.value.run_id == str(first.run_id)
    with database.begin() as connection:
        assert queue.submit(connection, "infer").pipeline == "infer"


def test_unknown_pipeline_is_refused_with_the_known_ones(database, queue):
    with (
        pytest.raises(ValueError, match=r"'fly'.*known: .*prepare, promote"),
        database.begin() as connection,
    ):
        queue.submit(connection, "fly")


def test_run_is_held_by_one_at_a_time(database):
    run_id = uuid4()
    with Hold(database, run_id):
        with pytest.raises(ConflictError, match=str(run_id)), Hold(database, run_id):
            pass
        with Hold(database, uuid4()):
            pass
    with Hold(database, run_id):
        pass


def test_run_that_nobody_holds_or_waits_for_gives_way_to_a_new_one(database, queue):
    with database.begin() as connection:
        dead = runs.create(connection, "train").run_id
        runs.start(connection, dead)
    with database.begin() as connection:
        assert not jobs.is_alive(connection, dead)
        new = queue.submit(connection, "train")
    with database.begin() as connection:
        assert runs.get(connection, dead).status == "failed"
        assert runs.get(connection, new.run_id).status == "queued"


def test_run_that_is_held_does_not_give_way(database, queue):
    with database.begin() as connection:
        held = runs.create(connection, "train").run_id
    with Hold(database, held), pytest.raises(ConflictError) as caught, database.begin() as connection:
        queue.submit(connection, "train")
    assert UUID(caught.value.run_id) == held


def test_beat_tells_of_cancelling(database, queue):
    with database.begin() as connection:
        run_id = runs.create(connection, "train").run_id
        runs.start(connection, run_id)
    with Hold(database, run_id) as hold:
        assert hold.beat(1, step="fit", progress=0.5)
        with database.begin() as connection:
            run = runs.get(connection, run_id)
            assert (run.step, run.progress) == ("fit", 0.5)
            runs.fail(connection, run_id, "Cancelled.", status="cancelled")
        assert not hold.beat(1)


def test_hold_survives_a_lost_connection(database, queue):
    with database.begin() as connection:
        run_id = runs.create(connection, "train").run_id
        runs.start(connection, run_id)
    with Hold(database, run_id) as hold:
        terminate_lock_holders(database)
        assert hold.beat(1)  # notices the loss
        assert hold.beat(1, step="again")  # has the lock again
        with pytest.raises(ConflictError), Hold(database, run_id):
            pass


def started(database: Database, pipeline: str = "train") -> UUID:
    with database.begin() as connection:
        return runs.start(connection, runs.create(connection, pipeline).run_id).run_id


def test_hold_that_was_lost_to_another_process_ends(database, queue):
    run_id = started(database)
    with Hold(database, run_id) as hold:
        terminate_lock_holders(database)
        assert hold.beat(1)
        with Hold(database, run_id):
            with database.begin() as connection:
                runs.start(connection, run_id)
            assert not hold.beat(1)


def test_hold_goes_on_while_the_server_believes_that_its_lost_connection_lives(database, queue):
    run_id = started(database)
    with Hold(database, run_id) as hold:
        terminate_lock_holders(database)
        assert hold.beat(1)
        with Hold(database, run_id):  # as the lost connection does, for whom nobody starts the run
            assert hold.beat(1)
            assert hold.beat(1, step="fit")
        with database.begin() as connection:
            assert runs.get(connection, run_id).step == "fit"
        assert hold.beat(1)  # has the lock again
        with pytest.raises(ConflictError), Hold(database, run_id):
            pass


def test_hold_goes_on_while_all_connections_are_in_use(database, queue, monkeypatch):
    monkeypatch.setattr(database.engine.pool, "_timeout", 0.01)
    run_id = started(database)
    with Hold(database, run_id) as hold, ExitStack() as others:
        terminate_lock_holders(database)
        assert hold.beat(1)
        with pytest.raises(StoreUnavailableError, match="in use"):
            while True:
                others.enter_context(database.begin())
        assert hold.beat(1)
        others.close()
        assert hold.beat(1, step="again")


def test_server_notices_soon_that_a_host_has_gone(server_url):
    settings = Settings(database={"url": server_url})
    with Database.open(settings, prepare=False) as database, Hold(database, uuid4()) as hold:
        shown = [
            hold._connection.scalar(text(f"SHOW tcp_keepalives_{name}"))
            for name in ("idle", "interval", "count")
        ]
    assert shown == ["10", "5", "3"]


def test_silent_run_that_nobody_executes_or_will_fails_with_its_steps(database, queue):
    with database.begin() as connection:
        dead = jobs.create_run(connection, "pipeline")
        step = runs.steps(connection, [dead.run_id])[dead.run_id][0]
        for run_id in (dead.run_id, step.run_id):
            runs.start(connection, run_id)
        queued = queue.submit(connection, "backup").run_id
        runs.start(connection, queued)
    held, lively = started(database, "features"), started(database, "monitor")
    with database.begin() as connection:
        silent = "UPDATE runs SET heartbeat_at = heartbeat_at - interval '11 seconds' WHERE run_id <> :lively"
        connection.execute(text(silent), {"lively": lively})
    with Hold(database, held), database.begin() as connection:
        assert jobs.fail_dead(connection, 10) == [str(dead.run_id)]
    with database.begin() as connection:
        assert "without a word" in runs.get(connection, dead.run_id).error
        assert runs.get(connection, step.run_id).status == "failed"
        assert {runs.get(connection, run_id).status for run_id in (queued, held, lively)} == {"running"}


def test_racing_submits_make_one_run(database, queue):
    barrier = threading.Barrier(4)

    def submit(_: int) -> str:
        barrier.wait(30)
        try:
            with database.begin() as connection:
                return str(queue.submit(connection, "train").run_id)
        except ConflictError as conflict:
            return conflict.run_id

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(submit, range(4)))) == 1
    assert len(queued(database)) == 1


def terminate_lock_holders(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks "
                "WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
            )
        )


def test_waiting_run_whose_job_was_dropped_is_queued_again_by_who_knows_its_pipeline(database, queue):
    with database.begin() as connection:
        run = queue.submit(connection, "monitor")
        connection.execute(text("DELETE FROM queue.procrastinate_jobs"))
    for known, requeued in (({"train"}, []), (PIPELINES, [str(run.run_id)]), (PIPELINES, [])):
        with database.begin() as connection:
            assert jobs.requeue_dropped(connection, known) == requeued
    assert queued(database) == [("pipeline.monitor", "monitor", str(run.run_id))]


def test_run_that_has_a_job_or_is_held_was_not_dropped(database, queue):
    with database.begin() as connection:
        queue.submit(connection, "pipeline")  # its steps wait without jobs of their own
        held = jobs.create_run(connection, "backup")
    with Hold(database, held.run_id), database.begin() as connection:
        assert jobs.requeue_dropped(connection, PIPELINES) == []
