import uuid

import pytest
from sqlalchemy import text

from marquee.errors import ConflictError, NotFoundError
from marquee.store.postgres import Database
from marquee.store.repositories import runs

pytestmark = pytest.mark.integration


def test_run_goes_from_queued_to_succeeded(database: Database):
    with database.begin() as connection:
        made = runs.create(connection, "train", {"model": "mlp"})
        assert (made.status, made.parameters, made.finished) == ("queued", {"model": "mlp"}, False)
        started = runs.start(connection, made.run_id)
        assert (started.status, started.attempts) == ("running", 1)
        assert runs.heartbeat(connection, made.run_id, 1, step="fit", progress=0.5)
        assert runs.heartbeat(connection, made.run_id, 1)
        half = runs.get(connection, made.run_id)
        assert (half.step, half.progress) == ("fit", 0.5)
        runs.finish(connection, made.run_id, {"epochs": 3})
        done = runs.get(connection, made.run_id)
        assert (done.status, done.counts, done.finished) == ("succeeded", {"epochs": 3}, True)
        assert not runs.heartbeat(connection, made.run_id, 1)


def test_run_that_was_started_again_hears_its_former_process_no_more(database: Database):
    with database.begin() as connection:
        run = runs.start(connection, runs.create(connection, "train").run_id)
        runs.start(connection, run.run_id)
        assert not runs.heartbeat(connection, run.run_id, 1, step="fit")
        assert runs.heartbeat(connection, run.run_id, 2)
        assert runs.get(connection, run.run_id).step is None


def test_ended_runs_are_those_that_are_known_and_will_not_change(database: Database):
    with database.begin() as connection:
        failed, waiting = (runs.create(connection, name).run_id for name in ("train", "infer"))
        runs.fail(connection, failed, "no data")
        assert runs.ended(connection, {failed, waiting, uuid.uuid4()}) == {failed}
        assert runs.ended(connection, set()) == set()


def test_second_run_of_a_pipeline_conflicts_until_the_first_ends(database: Database):
    with database.begin() as connection:
        first = runs.create(connection, "train")
        runs.create(connection, "infer")
        with pytest.raises(ConflictError) as caught:
            runs.create(connection, "train")
        assert caught.value.run_id == str(first.run_id)
        runs.fail(connection, first.run_id, "no data")
        assert runs.get(connection, first.run_id).error == "no data"
        second = runs.create(connection, "train")
        assert {run.run_id for run in runs.recent(connection, pipeline="train")} == {
            first.run_id,
            second.run_id,
        }


def test_finished_run_cannot_start_or_change(database: Database):
    with database.begin() as connection:
        run = runs.create(connection, "train")
        runs.fail(connection, run.run_id, "stopped", status="cancelled")
        runs.finish(connection, run.run_id)
        assert runs.get(connection, run.run_id).status == "cancelled"
        with pytest.raises(ConflictError, match="cancelled"):
            runs.start(connection, run.run_id)
        with pytest.raises(NotFoundError):
            runs.start(connection, uuid.uuid4())


def test_silent_run_is_stale_and_can_be_taken_up_again(database: Database):
    with database.begin() as connection:
        run = runs.start(connection, runs.create(connection, "train").run_id)
        assert runs.stale(connection, silent_seconds=10) == []
        connection.execute(text("UPDATE runs SET heartbeat_at = heartbeat_at - interval '11 seconds'"))
        assert [one.run_id for one in runs.stale(connection, silent_seconds=10)] == [run.run_id]
        again = runs.start(connection, run.run_id)
        assert again.attempts == 2
        assert again.started_at == run.started_at
        assert runs.stale(connection, silent_seconds=10) == []


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_end_of_a_run_is_that_of_its_unfinished_steps(database: Database, status: str):
    with database.begin() as connection:
        whole = runs.create(connection, "pipeline")
        made = [
            runs.create(connection, name, parent_id=whole.run_id, step_number=number)
            for number, name in enumerate(("prepare", "train", "infer"))
        ]
        other = runs.create(connection, "promote")
        for step in made[:2]:
            runs.start(connection, step.run_id)
        runs.finish(connection, made[0].run_id)
        runs.fail(connection, whole.run_id, "so it ended", status=status)
        steps = runs.steps(connection, [whole.run_id, other.run_id])
        assert [(step.pipeline, step.status) for step in steps.pop(whole.run_id)] == [
            ("prepare", "succeeded"),
            ("train", status),
            ("infer", "cancelled"),
        ]
        assert steps == {}
        assert not runs.get(connection, other.run_id).finished
        assert {run.run_id for run in runs.recent(connection)} == {other.run_id, whole.run_id}
