import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text

from marquee.store.postgres import Database
from marquee.store.repositories import outcome_series, summaries, traffic

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC)


def show(connection, *, minutes_ago, user_id=1, tier="personal", ms=2.0, error=None, arm=None, items=(7, 8)):
    request_id = uuid4()
    connection.execute(
        text(
            "INSERT INTO impressions (request_id, served_at, user_id, item_ids, scores, bundle, surface,"
            " tier, duration_ms, error, arm) VALUES (:id, :at, :user, :items, '{1,1}', 'b',"
            " 'recommendations', :tier, :ms, :error, :arm)"
        ),
        {
            "id": request_id,
            "at": NOW - timedelta(minutes=minutes_ago),
            "user": user_id,
            "items": list(items),
            "tier": tier,
            "ms": ms,
            "error": error,
            "arm": arm,
        },
    )
    return request_id


def act(
    connection, event, *, minutes_ago, user_id=1, item_id=7, seconds=None, request_id=None, source="live"
):
    connection.execute(
        text(
            "INSERT INTO interactions (user_id, item_id, event, watch_seconds, occurred_at, ingested_at,"
            " source, event_key, request_id) VALUES (:user, :item, :event, :seconds, :at, :at, :source, :key,"
            " :request)"
        ),
        {
            "user": user_id,
            "item": item_id,
            "event": event,
            "seconds": seconds,
            "at": NOW - timedelta(minutes=minutes_ago),
            "source": source,
            "key": uuid4().hex,
            "request": request_id,
        },
    )


def test_traffic_of_the_last_hour_is_counted_by_minute(database: Database):
    with database.begin() as connection:
        for minutes_ago, tier in ((0, "personal"), (3, "personal"), (3, "popular"), (90, "personal")):
            show(connection, minutes_ago=minutes_ago, tier=tier)
        show(connection, minutes_ago=5, tier="popular", ms=40.0, error="deadline")
        act(connection, "click", minutes_ago=3)
        act(connection, "watch", minutes_ago=3, source="audience")
        act(connection, "click", minutes_ago=70)
        found = traffic.read(connection, now=NOW)
    assert len(found.requests) == len(found.events) == 60
    assert found.requests[-1][0] == NOW.replace(second=0, microsecond=0)
    assert [count for _, count in found.requests[-6:]] == [1, 0, 2, 0, 0, 1]
    assert [count for _, count in found.events[-4:]] == [1, 0, 0, 0]
    assert sum(count for _, count in found.requests) == 4
    assert (found.tiers, found.errors, found.share_read) == ({"personal": 2, "popular": 2}, 1, 1.0)
    assert (found.latency.p50, found.latency.p99) == (2.0, pytest.approx(38.86))


def test_nothing_came_in_yet(database: Database):
    with database.begin() as connection:
        found = traffic.read(connection, now=NOW)
    assert {count for _, count in found.requests + found.events} == {0}
    assert (found.tiers, found.errors, found.latency.p95) == ({}, 0, None)


def test_large_tables_are_read_in_part_and_counts_made_up_for(database: Database):
    with database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO impressions (request_id, served_at, item_ids, scores, bundle, surface, tier,"
                " duration_ms) SELECT gen_random_uuid(), :at, '{1,2}', '{1,1}', 'b', 's', 'popular', 1"
                " FROM generate_series(1, 20000)"
            ),
            {"at": NOW - timedelta(minutes=1)},
        )
        found = traffic.read(connection, now=NOW, max_bytes=1_000_000)
    assert found.share_read < 0.5
    assert found.tiers["popular"] == pytest.approx(20_000, rel=0.4)


def test_outcomes_are_told_by_arm_and_time(database: Database):
    with database.begin() as connection:
        for user_id in range(1, 41):
            arm = "challenger" if user_id % 2 else None
            request_id = show(connection, minutes_ago=100, user_id=user_id, arm=arm)
            if user_id % 4 == 1:
                act(connection, "click", minutes_ago=99, user_id=user_id, request_id=request_id)
                act(connection, "watch", minutes_ago=98, user_id=user_id, seconds=60)
            if user_id % 4 == 2:
                act(connection, "watch", minutes_ago=98, user_id=user_id, item_id=99, seconds=60)
        found = outcome_series.read(connection, hours=24, now=NOW)
    values = {(each.arm, each.metric): [point.value for point in each.points] for each in found}
    assert values == {
        ("challenger", "click_rate"): [0.5],
        ("challenger", "hit_rate"): [0.5],
        ("challenger", "watch_share"): [1.0],
        ("champion", "click_rate"): [0.0],
        ("champion", "hit_rate"): [0.0],
        ("champion", "watch_share"): [0.0],
    }
    (point,) = found[0].points
    assert (point.count, point.low) == (20, None)  # too few users for an interval
    assert NOW - timedelta(hours=25) < point.at <= NOW - timedelta(minutes=98)


def test_outcomes_of_many_users_have_intervals(database: Database):
    with database.begin() as connection:
        for user_id in range(1, 121):
            request_id = show(connection, minutes_ago=10, user_id=user_id)
            if user_id % 4 == 0:
                act(connection, "click", minutes_ago=9, user_id=user_id, request_id=request_id)
        found = {each.metric: each for each in outcome_series.read(connection, hours=1, now=NOW)}
    (point,) = found["click_rate"].points
    assert point.low < point.value == 0.25 < point.high
    assert "watch_share" not in found


def test_catalogue_is_summed_up(database: Database):
    with database.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO items (item_id, title, genres, poster_path, overview, source, pin, block, boost,"
                " removed_at) VALUES (1, 'A', '{Drama,Crime}', '/a', 'x', 'tmdb', true, false, 2, NULL),"
                " (2, 'B', '{Drama}', NULL, '', 'editor', false, true, 1, NULL),"
                " (3, 'C', '{Drama}', '/c', 'x', 'tmdb', false, false, 1, now())"
            )
        )
        connection.execute(
            text("INSERT INTO item_texts (item_id, language, title) VALUES (1, 'ko', '가'), (3, 'ko', '다')")
        )
        connection.execute(text("INSERT INTO users (user_id, kind) VALUES (1, 'live'), (2, 'live')"))
        act(connection, "click", minutes_ago=5)
        found = summaries.catalogue(connection)
    assert found == summaries.CatalogueSummary(
        items=2, removed=1, blocked=1, pinned=1, boosted=1, with_poster=1, with_overview=1,
        languages={"ko": 1}, by_source={"editor": 1, "tmdb": 1}, by_genre=[("Drama", 2), ("Crime", 1)],
        interactions=1, users=2, newest_event_at=NOW - timedelta(minutes=5),
    )  # fmt: skip


def test_large_tables_are_estimated(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(summaries, "EXACT_ROWS", 10)
    with database.begin() as connection:
        connection.execute(
            text("INSERT INTO users (user_id, kind) SELECT n, 'live' FROM generate_series(1, 500) AS n")
        )
        assert summaries.catalogue(connection).users == 11  # more than that, until there are statistics
        connection.execute(text("ANALYZE users"))
        assert summaries.catalogue(connection).users == 500


def test_reading_and_a_new_partition_do_not_lock_each_other_out(database: Database):
    def make_partition():
        with database.begin() as connection:
            connection.execute(text("CREATE TABLE impressions_19990101 PARTITION OF impressions"
                                    " FOR VALUES FROM ('1999-01-01') TO ('1999-01-02')"))  # fmt: skip

    with ThreadPoolExecutor(1) as pool:
        with database.begin() as reading:
            traffic.sampled(reading, NOW, 2**30)
            making = pool.submit(make_partition)
            with database.begin() as looking:
                while not looking.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
                    assert not making.done()
                    time.sleep(0.01)
            assert outcome_series.read(reading, hours=1) == []
        making.result(timeout=60)
