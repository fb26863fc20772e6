"""Rows that pile up are deleted in parts, when they are old."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import Connection, text

from marquee.store.postgres import Database
from marquee.store.repositories import deployments, erasures, experiments, impressions, retention
from marquee.store.repositories.experiments import Arm

pytestmark = pytest.mark.integration

TODAY = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
ARMS = [Arm("champion", 0.5, "a", "a", "ease"), Arm("challenger", 0.5, "b", "b", "ease")]


def days_ago(days: float) -> datetime:
    return TODAY - timedelta(days=days)


def partition(connection: Connection, *ago: int) -> list[str]:
    """Make the partitions of days, and name them."""
    days = [days_ago(each).date() for each in ago]
    for day in days:
        connection.exec_driver_sql(impressions.partition_of(day))
    return [f"impressions_{day:%Y%m%d}" for day in days]


def show(connection: Connection, *moments: datetime) -> None:
    """Answer user 1 at moments, with a shadow answer a second later."""
    for moment in moments:
        row = {"id": uuid4(), "at": moment}
        for statement in (
            "INSERT INTO impressions (request_id, served_at, user_id, item_ids, scores, bundle, surface) "
            "VALUES (:id, :at, 1, '{1}', '{1}', 'b', 'recommendations')",
            "INSERT INTO shadow_answers VALUES (:id, CAST(:at AS timestamptz) + interval '1 second', "
            "'c', '{1}', '{1}', 1, 1)",
        ):
            connection.execute(text(statement), row)


def moments(connection: Connection, table: str, column: str = "served_at") -> list[datetime]:
    return list(connection.execute(text(f"SELECT {column} FROM {table} ORDER BY 1")).scalars())


def number(connection: Connection, rows: Sequence[datetime]) -> None:
    """Predictions and lines of log of these moments."""
    for moment in rows:
        for statement in (
            "INSERT INTO predictions (user_id, item_id, item_ids, scores, bundle, created_at) "
            "VALUES (1, 1, '{}', '{}', 'b', :at)",
            "INSERT INTO run_logs (run_id, logged_at, level, event) VALUES (:id, :at, 'info', 'x')",
        ):
            connection.execute(text(statement), {"at": moment, "id": uuid4()})


def test_days_that_had_ended_are_named_and_dropped_and_others_stay(database: Database) -> None:
    with database.begin() as connection:
        old, edge, young = partition(connection, 12, 11, 10)
        show(connection, days_ago(12), days_ago(11), days_ago(10))
    before = days_ago(10).replace(hour=0)
    with database.autocommit() as connection:
        assert retention.old_days(connection, before) == [old, edge]
        assert all(retention.drop_day(connection, name) for name in (old, edge))
        assert retention.old_days(connection, before) == []
        assert moments(connection, "impressions") == [days_ago(10)]
        assert moments(connection, young) == [days_ago(10)]


def test_day_that_somebody_reads_stays_until_it_is_free(database: Database) -> None:
    with database.begin() as connection:
        (old,) = partition(connection, 12)
        show(connection, days_ago(12))
    with database.begin() as reader:
        assert moments(reader, "impressions") == [days_ago(12)]
        with database.autocommit() as connection:
            assert not retention.drop_day(connection, old)
            assert retention.old_days(connection, TODAY) == [old]
    with database.autocommit() as connection:
        assert retention.drop_day(connection, old)
        assert connection.scalar(text("SHOW lock_timeout")) == "0"
        assert moments(connection, "impressions") == []


def test_old_answers_outside_of_partitions_go_in_parts(database: Database) -> None:
    with database.begin() as connection:
        show(connection, *(days_ago(20 + each / 100) for each in range(5)), days_ago(5))
        for delete, table in (
            (retention.delete_shadow_answers, "shadow_answers"),
            (retention.delete_impressions, "impressions"),
        ):
            assert [delete(connection, days_ago(10), rows=2) for _ in range(4)] == [2, 2, 1, 0]
            assert len(moments(connection, table)) == 1


def test_old_predictions_and_lines_of_log_go_in_parts(database: Database) -> None:
    with database.begin() as connection:
        number(connection, [*(days_ago(20 - each / 100) for each in range(5)), days_ago(5)])
        for delete, table, column in (
            (retention.delete_predictions, "predictions", "created_at"),
            (retention.delete_log_lines, "run_logs", "logged_at"),
        ):
            assert [delete(connection, days_ago(10), rows=2) for _ in range(4)] == [2, 2, 1, 0]
            assert moments(connection, table, column) == [days_ago(5)]


def test_deletion_waits_for_an_erasure_instead_of_locking_it_out(database: Database) -> None:
    with database.begin() as connection:
        show(connection, *(days_ago(20 + each / 100) for each in range(50)))
    deleted: list[int] = []

    def delete() -> None:
        with database.begin() as connection:
            deleted.append(retention.delete_impressions(connection, days_ago(10), rows=100))

    with database.begin() as connection:
        erasures.delete_rows(connection, 1)
        thread = threading.Thread(target=delete)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
    thread.join()
    assert deleted == [0]


def test_erasure_after_old_answers_went_is_complete(database: Database) -> None:
    with database.begin() as connection:
        (old,) = partition(connection, 20)
        show(connection, days_ago(20), days_ago(1))
        retention.delete_shadow_answers(connection, days_ago(10), rows=10)
    with database.autocommit() as connection:
        assert retention.drop_day(connection, old)
    with database.begin() as connection:
        gone = erasures.delete_rows(connection, 1)
        assert (gone["shadow_answers"], gone["impressions"]) == (1, 1)
        assert moments(connection, "shadow_answers") == moments(connection, "impressions") == []


def test_answers_are_needed_from_the_start_of_the_experiment_that_runs(database: Database) -> None:
    with database.begin() as connection:
        assert retention.needed_since(connection) is None
        begun = experiments.start(connection, "x", "ab", ARMS, started_by="a", reason="r")
        assert retention.needed_since(connection) == begun.started_at
        assert deployments.in_use(connection) == {"a", "b"}
        experiments.finish(connection, begun.experiment_id, "stopped", reason="enough")
        assert retention.needed_since(connection) is None
        assert deployments.in_use(connection) == set()


def test_files_are_needed_that_runs_of_late_name_and_the_newest_features(database: Database) -> None:
    with database.begin() as connection:
        for days, counts, parameters in (
            (
                30,
                '{"snapshot": "s1", "features": "f1", "features_complete_until": "2026-01-01T00:00Z"}',
                "{}",
            ),
            (20, '{"snapshot": "s2"}', "{}"),
            (1, '{"snapshot": "s3"}', '{"snapshot": "s4"}'),
        ):
            connection.execute(
                text(
                    "INSERT INTO runs (run_id, pipeline, status, counts, parameters, created_at) VALUES "
                    "(gen_random_uuid(), 'prepare', 'succeeded', CAST(:counts AS jsonb), "
                    "CAST(:parameters AS jsonb), :at)"
                ),
                {"counts": counts, "parameters": parameters, "at": days_ago(days)},
            )
        assert retention.needed_files(connection, days_ago(10)) == {"f1", "s3", "s4"}
