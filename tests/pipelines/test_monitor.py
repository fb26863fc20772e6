"""A look: incremental, repeatable, and what it raises, resolves and queues."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from sqlalchemy import Connection, insert, text

from marquee.config import Settings
from marquee.jobs import Queue
from marquee.monitoring.watch import Look, look
from marquee.pipelines.run import run_here
from marquee.pipelines.schedule import look as look_at_schedule
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import deployments, erasures, monitoring, monitoring_rows, runs
from marquee.store.tables import impressions, interactions, items, quarantine

BEGIN = datetime(2026, 9, 7, tzinfo=UTC)
GENRES = ["Drama", "Comedy", "Horror", "Romance"]
N_ITEMS = 80


@pytest.fixture
def monitored(settings: Settings) -> Settings:
    changed = settings.monitor.model_copy(update={"min_events": 150})
    return settings.model_copy(update={"monitor": changed})


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "objects")


@pytest.fixture
def catalogue(database: Database) -> Database:
    rows = [
        {
            "item_id": i,
            "title": str(i),
            "genres": [GENRES[i % 4]],
            "release_date": "2010-01-01",
            "source": "test",
        }
        for i in range(N_ITEMS)
    ]
    with database.begin() as connection:
        connection.execute(insert(items), rows)
    return database


def events_of(day: int, seed: int = 0, *, n: int = 200, horror: float = 1.0, **change: Any) -> list[dict]:
    random = np.random.default_rng([seed, day])
    weights = 1 / (3 + np.arange(N_ITEMS))
    weights[2::4] *= horror
    chosen = random.choice(N_ITEMS, n, p=weights / weights.sum())
    at = BEGIN + timedelta(days=day)
    return [
        {
            "user_id": 1 + number % 50,
            "item_id": int(item),
            "event": "watch",
            "rating": None,
            "watch_seconds": float(random.integers(1, 7_000)),
            "occurred_at": at + timedelta(seconds=60 + number * 400),
            "ingested_at": at + timedelta(seconds=61 + number * 400),
            "source": "live",
            "event_key": str(uuid4()),
            **change,
        }
        for number, item in enumerate(chosen)
    ]


def write(database: Database, rows: Iterable[dict]) -> None:
    with database.begin() as connection:
        connection.execute(insert(interactions), list(rows))


def play(database: Database, days: range, **change: Any) -> None:
    write(database, [row for day in days for row in events_of(day, **change)])


def sums(database: Database) -> dict:
    with database.begin() as connection:
        return monitoring.days(connection, BEGIN - timedelta(days=400), BEGIN + timedelta(days=400))


def at(day: float) -> datetime:
    return BEGIN + timedelta(days=day)


@pytest.fixture
def watch(monitored: Settings, catalogue: Database, objects: ObjectStore):
    def now(day: float) -> Look:
        return look(monitored, catalogue, objects, at(day))

    return now


def test_sums_of_many_looks_are_those_of_one(watch, catalogue: Database) -> None:
    for day in range(6):
        play(catalogue, range(day, day + 1))
        assert watch(day + 1).collected.events == 200
    step_by_step = sums(catalogue)
    with catalogue.begin() as connection:
        monitoring.clear(connection)
    assert watch(6).collected.events == 1_200
    assert sums(catalogue) == step_by_step
    assert sum(sums(catalogue)[at(2), "items"].values()) == 200


def test_look_without_news_reads_nothing_and_changes_no_sum(watch, catalogue: Database) -> None:
    play(catalogue, range(2))
    watch(2)
    before = sums(catalogue)
    assert watch(2).collected.events == 0
    assert sums(catalogue) == before


def test_late_events_join_the_day_on_which_they_happened(watch, catalogue: Database) -> None:
    play(catalogue, range(3))
    watch(3)
    write(catalogue, events_of(1, seed=1, n=7))
    assert watch(3).collected.events == 7
    assert sum(sums(catalogue)[at(1), "items"].values()) == 207


def test_events_of_before_the_horizon_are_left_out_and_old_days_go(watch, catalogue: Database) -> None:
    play(catalogue, range(0, 60, 10))
    watch(60)
    assert {moment for moment, _ in sums(catalogue)} == {at(20), at(30), at(40), at(50)}
    watch(70)
    assert min(moment for moment, _ in sums(catalogue)) == at(30)


def test_look_that_dies_half_way_is_as_if_it_had_never_begun(
    watch, catalogue: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(catalogue, range(2))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(monitoring, "set_marks", die)
        with pytest.raises(KeyboardInterrupt):
            watch(2)
    assert sums(catalogue) == {}
    assert watch(2).collected.events == 400


def test_rows_of_a_transaction_under_way_are_counted_when_it_has_ended(
    watch, catalogue: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its numbers are lower than those of rows that are there already."""
    monkeypatch.setattr(monitoring_rows, "PATIENCE_SECONDS", 0.05)
    with catalogue.begin() as slow:
        slow.execute(insert(interactions), events_of(0, n=5))
        write(catalogue, events_of(0, seed=1, n=3))
        found = watch(1)
        assert (found.collected.events, found.collected.waiting) == (0, True)
    found = watch(1)
    assert (found.collected.events, found.collected.waiting) == (8, False)


def test_other_length_of_days_begins_anew(
    watch, monitored: Settings, catalogue: Database, objects: ObjectStore
) -> None:
    play(catalogue, range(2))
    watch(2)
    hours = monitored.monitor.model_copy(update={"day_minutes": 60.0})
    found = look(monitored.model_copy(update={"monitor": hours}), catalogue, objects, at(2))
    assert found.collected.events == 346  # of the last 42 hours
    assert at(1) + timedelta(hours=1) in {moment for moment, _ in sums(catalogue)}


def test_erased_users_leave_no_trace(watch, catalogue: Database, settings: Settings) -> None:
    person = 987_654_321
    play(catalogue, range(1))
    write(catalogue, events_of(0, seed=2, n=9, user_id=person))
    with catalogue.begin() as connection:
        connection.execute(insert(impressions), [answer(person, at(0.5))])
    watch(1)
    with catalogue.begin() as connection:
        erasures.mark(connection, person, settings.paths.secrets)
        erasures.delete_rows(connection, person)
    with catalogue.begin() as connection:
        for table in ("monitor_days", "monitor_marks", "monitor_results", "drift_alarms"):
            kept = connection.scalars(text(f"SELECT CAST(t AS text) FROM {table} AS t")).all()
            assert not any(str(person) in row for row in kept)
    assert watch(1).collected.events == 0


def answer(
    user_id: int | None, served_at: datetime, *, bundle: str = "bundles/a", score: float = 1.0
) -> dict:
    return {
        "request_id": uuid4(),
        "served_at": served_at,
        "user_id": user_id,
        "item_ids": [1, 2],
        "scores": [score, score / 2],
        "bundle": bundle,
        "surface": "recommendations",
        "tier": "personal",
    }


def test_answers_are_added_up_by_day_and_bundle(watch, catalogue: Database) -> None:
    with catalogue.begin() as connection:
        connection.execute(
            insert(impressions),
            [answer(1, at(0.5)), answer(2, at(0.5)), answer(1, at(1.5), bundle="bundles/b")],
        )
    watch(1.9)
    with catalogue.begin() as connection:
        connection.execute(insert(impressions), [answer(3, at(1.95), bundle="bundles/b")])
    watch(2)
    found = sums(catalogue)
    assert found[at(0), "answers"] == {"all": 2, "personal": 2}
    assert found[at(1), "answers"] == {"all": 2, "personal": 2}
    assert sum(found[at(1), "scores:bundles/b"].values()) == 2


def test_quarantine_share_is_of_the_newest_day(watch, catalogue: Database) -> None:
    write(catalogue, events_of(0, n=30))
    with catalogue.begin() as connection:
        rows = [
            {"source": "log", "reason": "r", "content": {}, "digest": bytes([i]), "created_at": at(0.5)}
            for i in range(10)
        ]
        connection.execute(insert(quarantine), rows)
    assert watch(1).quality.quarantine_share == pytest.approx(0.25)


def deploy(connection: Connection, name: str) -> None:
    deployments.append(
        connection,
        "champion",
        bundle=f"bundles/{name}",
        digest=name * 64,
        model="ease",
        deployed_by="test",
        reason="test",
    )


@pytest.fixture
def drifting(monitored: Settings, catalogue: Database, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch):
    """Tastes move on day 20; the bundles of champions are of no importance here."""
    monkeypatch.setattr("marquee.monitoring.watch.replay", lambda *_: None)
    monkeypatch.setattr("marquee.monitoring.watch.vocabulary", lambda *_: None)
    Queue.open(catalogue)
    with catalogue.begin() as connection:
        deploy(connection, "a")
    play(catalogue, range(20))
    play(catalogue, range(20, 30), horror=6.0)

    def now(day: float, **change: Any) -> Look:
        changed = monitored.monitor.model_copy(update=change)
        return look(monitored.model_copy(update={"monitor": changed}), catalogue, objects, at(day))

    return now


def test_drift_raises_one_alarm_and_queues_one_retraining(drifting, catalogue: Database) -> None:
    assert drifting(20).raised == ()
    assert drifting(21).raised == ()  # one window is none
    assert drifting(22).raised == ("taste",)
    again = drifting(23)
    assert (again.raised, [alarm.kind for alarm in again.alarms]) == ((), ["taste"])
    with catalogue.begin() as connection:
        (alarm,) = monitoring.alarms(connection)
        queued = runs.recent(connection, pipeline="pipeline")
    assert [run.run_id for run in queued] == [alarm.run_id]
    assert queued[0].parameters == {"drift_alarm": alarm.alarm_id}
    assert alarm.evidence["detail"]["genres"]["Horror"][1] > alarm.evidence["detail"]["genres"]["Horror"][0]


def test_alarm_lasts_until_a_champion_was_trained_on_it_and_is_not_raised_again(
    drifting, catalogue: Database
) -> None:
    drifting(22)
    assert [alarm.kind for alarm in drifting(29).alarms] == ["taste"]  # the reference has not moved
    with catalogue.begin() as connection:
        deploy(connection, "b")
    found = drifting(29)
    assert (found.resolved, found.raised, found.alarms) == (("taste",), (), ())
    assert drifting(30).raised == ()
    with catalogue.begin() as connection:
        (alarm,) = monitoring.alarms(connection)
    assert (alarm.resolved_at, alarm.evidence["resolved"]) == (at(29), "retrained")


def test_drift_that_goes_by_itself_resolves_its_alarm(drifting, catalogue: Database) -> None:
    drifting(22)
    play(catalogue, range(30, 34))
    assert drifting(34).resolved == ("taste",)


def test_retraining_that_is_under_way_is_not_doubled_and_asked_for_later(
    drifting, catalogue: Database
) -> None:
    with catalogue.begin() as connection:
        other = Queue().submit(connection, "pipeline")
    drifting(22)
    with catalogue.begin() as connection:
        assert monitoring.alarms(connection)[0].run_id is None
        Queue().cancel(connection, other.run_id, by="test")
    drifting(23)
    with catalogue.begin() as connection:
        assert monitoring.alarms(connection)[0].run_id is not None


def test_nothing_is_trained_where_that_is_not_wanted(drifting, catalogue: Database) -> None:
    drifting(22, retrain=False)
    with catalogue.begin() as connection:
        assert [alarm.run_id for alarm in monitoring.alarms(connection)] == [None]


def test_broken_feed_raises_its_alarm_and_trains_nothing(drifting, catalogue: Database) -> None:
    play(catalogue, range(30, 33), horror=6.0, watch_seconds=0.0)
    drifting(22)
    with catalogue.begin() as connection:
        connection.execute(text("DELETE FROM drift_alarms"))
        connection.execute(text("DELETE FROM runs"))
    found = drifting(33)
    assert found.raised == ("feed",)
    with catalogue.begin() as connection:
        assert runs.recent(connection, pipeline="pipeline") == []


def test_run_is_recorded_with_what_it_counted(
    monitored: Settings, catalogue: Database, objects: ObjectStore
) -> None:
    play(catalogue, range(2))
    counts = run_here(monitored, catalogue, objects, "monitor", {"now": at(2).isoformat()})
    assert counts["events"] == 400
    assert counts["raised"] == []
    with catalogue.begin() as connection:
        newest = monitoring.newest(connection)
        assert newest is not None
        assert newest.measured_at == at(2)
        assert newest.values["events"] == 400
        assert monitoring.history(connection, at(0)) == [newest]
        assert monitoring.history(connection, at(3)) == []


@pytest.mark.parametrize(("minutes", "queued"), [(60.0, 1), (0.0, 0)])
def test_worker_queues_looks_as_often_as_is_wanted(
    settings: Settings, database: Database, minutes: float, queued: int
) -> None:
    Queue.open(database)
    wanted = settings.monitor.model_copy(update={"every_minutes": minutes})
    changed = settings.model_copy(update={"monitor": wanted})
    with database.begin() as connection:
        look_at_schedule(connection, changed)
        look_at_schedule(connection, changed)
        assert len(runs.recent(connection, pipeline="monitor")) == queued
