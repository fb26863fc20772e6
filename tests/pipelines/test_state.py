import math
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import insert, text, update

from marquee.data.schema import Event
from marquee.pipelines import state
from marquee.store.repositories import deployments, runs
from marquee.store.repositories import state as state_rows
from marquee.store.tables import interactions, recommendation_batches
from marquee.store.tables import runs as run_rows

T = datetime(2026, 3, 1, 12, tzinfo=UTC)


def value(name, **labels):
    return REGISTRY.get_sample_value(name, labels)


def add_run(connection, pipeline, status, *, at=T, **values):
    row = {"run_id": uuid4(), "pipeline": pipeline, "status": status, "created_at": at, **values}
    if status not in ("queued",):
        row.setdefault("started_at", at + timedelta(minutes=1))
    if status in ("succeeded", "failed"):
        row["finished_at"] = at + timedelta(minutes=3)
    connection.execute(insert(run_rows).values(row))
    return row["run_id"]


def deploy(connection, slot):
    deployments.append(
        connection, slot, bundle="b", digest="d", model="mlp", deployed_by="a test", reason="to see"
    )


def test_empty_database_has_a_state_without_moments(database):
    with database.begin() as connection:
        state.tell(connection)
    assert value("marquee_runs_waiting") == value("marquee_runs_running") == 0
    assert value("marquee_runs_oldest_waiting_age_seconds") == 0
    assert math.isnan(value("marquee_ingest_newest_interaction_timestamp_seconds"))
    assert math.isnan(value("marquee_state_recommendations_timestamp_seconds"))
    assert value("marquee_state_deployed_timestamp_seconds", slot="champion") is None
    assert value("marquee_state_table_rows", table="interactions") == 0
    read_at = value("marquee_state_read_timestamp_seconds")
    assert abs(read_at - datetime.now(UTC).timestamp()) < 3600


def test_runs_that_wait_and_run_are_counted_without_their_steps(database):
    with database.begin() as connection:
        add_run(connection, "train", "queued", at=datetime.now(UTC) - timedelta(hours=2))
        whole = add_run(connection, "pipeline", "running")
        add_run(connection, "prepare", "queued", parent_id=whole, step_number=0)
        state.tell(connection)
    assert (value("marquee_runs_waiting"), value("marquee_runs_running")) == (1, 1)
    assert value("marquee_runs_oldest_waiting_age_seconds") == pytest.approx(7200, abs=600)


def test_newest_end_of_each_pipeline_and_the_snapshot_of_its_beginning_are_told(database):
    with database.begin() as connection:
        for day in range(3):
            add_run(connection, "prepare", "succeeded", at=T + timedelta(days=day))
        add_run(connection, "prepare", "failed", at=T + timedelta(days=5))
        add_run(connection, "infer", "cancelled", at=T)
        state.tell(connection)
    last = (T + timedelta(days=2)).timestamp()
    assert value("marquee_runs_last_success_timestamp_seconds", pipeline="prepare") == last + 180
    assert value("marquee_features_newest_timestamp_seconds", view="snapshot") == last + 60
    failed = (T + timedelta(days=5)).timestamp()
    assert value("marquee_runs_last_failure_timestamp_seconds", pipeline="prepare") == failed + 180
    assert value("marquee_runs_last_failure_timestamp_seconds", pipeline="infer") is None


def test_later_readings_look_at_what_had_not_ended_and_at_what_is_new(database):
    with database.begin() as connection:
        add_run(connection, "mirror", "succeeded")
        old = add_run(connection, "train", "running", at=T + timedelta(days=1))
        found = state_rows.read(connection)
    assert set(found.ended) == {("mirror", "succeeded")}
    assert found.settled_before < T + timedelta(days=1)
    with database.begin() as connection:
        runs.finish(connection, old, {})
        found = state_rows.read(connection, since=found.settled_before)
    assert set(found.ended) == {("train", "succeeded")}
    with database.begin() as connection:
        assert not state_rows.read(connection, since=found.settled_before + timedelta(hours=2)).ended


def test_slots_that_are_empty_or_emptied_are_not_told(database):
    with database.begin() as connection:
        deploy(connection, "champion")
        deploy(connection, "shadow")
        state.tell(connection)
        assert value("marquee_state_deployed_timestamp_seconds", slot="shadow") > T.timestamp()
        deployments.clear(connection, "shadow", deployed_by="a test", reason="to see")
        state.tell(connection)
    assert value("marquee_state_deployed_timestamp_seconds", slot="champion") > T.timestamp()
    assert value("marquee_state_deployed_timestamp_seconds", slot="shadow") is None


def test_newest_interaction_batch_and_rows_are_told(database):
    row = {"user_id": 1, "item_id": 2, "event": Event.WATCH.label, "occurred_at": T, "source": "s"}
    with database.begin() as connection:
        moments = [T + timedelta(hours=hour) for hour in range(5)]
        connection.execute(
            insert(interactions), [{**row, "event_key": str(at), "ingested_at": at} for at in moments]
        )
        connection.execute(insert(recommendation_batches).values(bundle="b", generated_at=T, is_current=True))
        connection.execute(update(recommendation_batches).values(generated_at=T))
    with database.begin() as connection:
        connection.execute(text("ANALYZE interactions"))
        state.tell(connection)
    assert value("marquee_ingest_newest_interaction_timestamp_seconds") == moments[-1].timestamp()
    assert value("marquee_state_recommendations_timestamp_seconds") == T.timestamp()
    assert value("marquee_state_table_rows", table="interactions") == 5
    assert value("marquee_state_table_rows", table="impressions") is not None  # of all its partitions


def test_look_ups_do_not_read_more_for_more_interactions(database):
    """The plan of the one that could: backwards along the primary key, one row."""
    with database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO interactions (user_id, item_id, event, occurred_at, source, event_key) "
                "SELECT n, n, 'watch', now(), 's', n FROM generate_series(1, 20000) n"
            )
        )
        connection.execute(text("ANALYZE interactions"))
        plan = connection.scalars(
            text("EXPLAIN SELECT ingested_at FROM interactions ORDER BY interaction_id DESC LIMIT 1")
        ).all()
    assert any("Index Scan Backward using interactions_pkey" in line for line in plan)


def test_run_and_its_steps_are_counted_once_with_what_they_took_in(database):
    def counters():
        return {
            "pipeline": value("marquee_worker_runs_total", pipeline="pipeline", status="failed") or 0,
            "prepare": value("marquee_worker_runs_total", pipeline="prepare", status="succeeded") or 0,
            "train": value("marquee_worker_runs_total", pipeline="train", status="cancelled") or 0,
            "items": value("marquee_ingest_rows_total", kind="items") or 0,
            "interactions": value("marquee_ingest_rows_total", kind="interactions") or 0,
            "quarantined": value("marquee_ingest_quarantined_rows_total"),
            "seconds": value("marquee_worker_run_seconds_sum", pipeline="prepare") or 0,
        }

    counts = {"items_read": 7, "quarantined": 2, "simulated": 5, "snapshot": "s"}
    before = counters()
    with database.begin() as connection:
        whole = add_run(connection, "pipeline", "failed", counts=counts)
        add_run(connection, "prepare", "succeeded", parent_id=whole, step_number=0, counts=counts)
        add_run(connection, "train", "cancelled", parent_id=whole, step_number=1, started_at=None)
        state.count_run(runs.get(connection, whole), runs.steps(connection, [whole])[whole])
    grown = {name: now - before[name] for name, now in counters().items()}
    assert grown == {
        "pipeline": 1, "prepare": 1, "train": 0,
        "items": 7, "interactions": 5, "quarantined": 2, "seconds": 120,
    }  # fmt: skip
