"""Events are committed before they are acknowledged, many at a time; rows behind answers follow them."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import numpy as np
import psycopg
import pytest
from sqlalchemy import text
from stored_events import append_events

from marquee.api.writer import EventWriter, Journal
from marquee.data import Event
from marquee.errors import ErasedUserError, StoreError, StoreUnavailableError
from marquee.store.repositories.impressions import Impression, ShadowAnswer, View, rendered
from marquee.store.repositories.interactions import NewEvent
from marquee.store.repositories.predictions import NewPrediction

pytestmark = pytest.mark.integration

NOW = datetime(2026, 11, 22, 20, 15, 0, 123456, tzinfo=UTC)
DEADLINE_SECONDS = 60


@pytest.fixture
async def writer(database):
    made = EventWriter(database, 0.005, silence_seconds=60)
    yield made
    await made.aclose()


@pytest.fixture
async def journal(database):
    made = Journal(database)
    yield made
    await made.aclose()


def event(key, *, user=1, item=10, kind=Event.WATCH, **more):
    return NewEvent(user, item, kind, f"{user}:{key}", NOW, **more)


def impression(*, request_id=None, user_id=1, item_ids=(10, 11), served_at=None, **more):
    served = datetime.now(UTC) if served_at is None else served_at
    fields = {"propensities": None, "bundle": "ease/1", "arm": None, "surface": "home", "tier": "personal"}
    fields |= {"experiment_id": None, "duration_ms": 1.5, **more}
    scores = np.linspace(1, 0.1, len(item_ids), dtype=np.float32)
    return Impression(request_id or uuid4(), served, user_id, item_ids, scores, **fields)


def rows(database, query, **parameters):
    with database.begin() as connection:
        return [tuple(row) for row in connection.execute(text(query), parameters)]


def cut_connections(database_url, which="true"):
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE pid <> pg_backend_pid() AND datname = current_database() AND {which}"
        )


async def test_event_is_stored_with_all_that_it_carries(database, writer):
    request_id = uuid4()
    events = [
        event("a", kind=Event.RATE, rating=7.5, watch_seconds=60.0, request_id=request_id),
        event("u", item=0, kind=Event.UNDO, revokes="1:other"),
        event("\N{HANGUL SYLLABLE GAG} '\"{},\\", user=2),
    ]
    assert await writer.append(events) == [True, True, True]
    columns = (
        "user_id, item_id, event, rating, watch_seconds, occurred_at, source, event_key, revokes, request_id"
    )
    assert rows(database, f"SELECT {columns} FROM interactions ORDER BY user_id, event") == [
        (1, 10, "rate", 7.5, 60.0, NOW, "live", "1:a", None, request_id),
        (1, 0, "undo", None, None, NOW, "live", "1:u", "1:other", None),
        (2, 10, "watch", None, None, NOW, "live", events[2].event_key, None, None),
    ]
    assert rows(database, "SELECT user_id, kind FROM users ORDER BY user_id") == [(1, "live"), (2, "live")]


async def test_concurrent_requests_share_transactions(database, writer):
    done = await asyncio.gather(*(writer.append([event(str(i), user=i % 7)]) for i in range(300)))
    assert done == [[True]] * 300
    assert rows(database, "SELECT count(*) FROM interactions") == [(300,)]
    (transactions,) = rows(database, "SELECT count(DISTINCT xmin::text) FROM interactions")
    assert transactions[0] < 30


async def test_retried_key_changes_nothing_within_and_across_transactions(database, writer):
    assert await writer.append([event("a"), event("a", item=11), event("b")]) == [True, False, True]
    assert await writer.append([event("a", item=12), event("c")]) == [False, True]
    both = await asyncio.gather(*(writer.append([event("d")]) for _ in range(10)))
    assert sum(is_new for (is_new,) in both) == 1
    assert rows(database, "SELECT event_key, item_id FROM interactions ORDER BY 1") == [
        ("1:a", 10), ("1:b", 10), ("1:c", 10), ("1:d", 10)
    ]  # fmt: skip


async def test_two_writers_with_the_same_keys_store_each_once(database, writer):
    other = EventWriter(database, 0.005, silence_seconds=60)
    keys = [str(i) for i in range(200)]
    shuffled = [str(i) for i in np.random.default_rng(0).permutation(200)]
    one, two = await asyncio.gather(
        writer.append([event(key) for key in keys]), other.append([event(key) for key in shuffled])
    )
    await other.aclose()
    assert sum(one) + sum(two) == 200
    assert rows(database, "SELECT count(*) FROM interactions") == [(200,)]


async def test_many_events_at_once_are_stored_and_counted(database, writer):
    big = [event(str(i), user=i, item=i) for i in range(6_000)]
    small = [event("x", user=7_000)]
    done = await asyncio.gather(writer.append(big), writer.append(small))
    assert [sum(each) for each in done] == [6_000, 1]
    assert rows(database, "SELECT count(*) FROM interactions") == [(6_001,)]


async def test_request_with_an_erased_user_is_refused_whole_and_the_others_are_not(database, writer):
    with database.begin() as connection:
        connection.execute(text("INSERT INTO users (user_id, kind, erased_at) VALUES (2, 'live', now())"))
    done = await asyncio.gather(
        writer.append([event("a", user=1)]),
        writer.append([event("b", user=3), event("c", user=2)]),
        writer.append([event("d", user=4)]),
        return_exceptions=True,
    )
    assert done[0] == done[2] == [True]
    assert isinstance(done[1], ErasedUserError)
    assert "2" in str(done[1])
    assert rows(database, "SELECT user_id FROM interactions ORDER BY 1") == [(1,), (4,)]


async def test_refused_group_fails_and_the_next_is_stored(database, writer):
    with pytest.raises(StoreError) as refused:
        await writer.append([event("a", rating=11.0)])
    assert not isinstance(refused.value, StoreUnavailableError)
    assert await writer.append([event("b")]) == [True]


async def test_failure_at_commit_is_no_acknowledgement(database, writer):
    with database.begin() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'at commit'; END $$"
            )
        )
        connection.execute(
            text(
                "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON interactions DEFERRABLE INITIALLY DEFERRED "
                "FOR EACH ROW EXECUTE FUNCTION refuse()"
            )
        )
    with pytest.raises(StoreError, match="at commit"):
        await writer.append([event("a")])
    assert rows(database, "SELECT count(*) FROM interactions") == [(0,)]


async def test_lost_connection_fails_what_is_under_way_and_the_next_request_is_stored(
    database, database_url, writer
):
    assert await writer.append([event("a")]) == [True]
    with psycopg.connect(database_url) as blocking:
        blocking.execute("LOCK TABLE interactions")
        waiting = asyncio.create_task(writer.append([event("b")]))
        while not rows(database, "SELECT 1 FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)
        cut_connections(database_url, "wait_event_type = 'Lock'")
        with pytest.raises(StoreUnavailableError):
            await waiting
    assert await writer.append([event("b")]) == [True]
    assert rows(database, "SELECT count(*) FROM interactions") == [(2,)]


async def test_server_that_does_not_answer_is_taken_for_lost(database, database_url):
    writer = EventWriter(database, 0.005, silence_seconds=0.2)
    with psycopg.connect(database_url) as blocking:
        blocking.execute("LOCK TABLE interactions")
        with pytest.raises(StoreUnavailableError, match="did not answer"):
            await writer.append([event("a")])
    await writer.aclose()


async def test_cancelled_caller_leaves_the_others_their_answer(writer):
    tasks = [asyncio.create_task(writer.append([event(str(i))])) for i in range(4)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [done[i] for i in (0, 2, 3)] == [[True]] * 3


async def test_view_marks_the_list_of_its_user_once(database, writer, journal):
    mine, theirs, nobodys = (impression(user_id=user) for user in (1, 2, None))
    for row in (mine, theirs, nobodys):
        journal.impression(row)
    await journal.flush()
    seen = datetime.now(UTC)
    moment = int(seen.timestamp() * 1e6)
    views = [View(row.request_id, 1, moment) for row in (mine, theirs, nobodys)]
    assert await writer.append([], [*views, View(mine.request_id, 1, moment + 5_000_000)]) == ()
    await writer.append([], [View(mine.request_id, 1, moment + 9_000_000)])
    marked = rows(database, "SELECT request_id FROM impressions WHERE viewed_at IS NOT NULL")
    assert {row[0] for row in marked} == {mine.request_id, nobodys.request_id}
    (at,) = rows(database, "SELECT viewed_at FROM impressions WHERE request_id = :id", id=mine.request_id)
    assert at[0] - seen < timedelta(seconds=1)


async def test_view_that_comes_before_its_list_is_written_waits_for_it(
    database, writer, journal, monkeypatch
):
    monkeypatch.setattr("marquee.api.writer.VIEW_PAUSES", (0.03,) * 2000)
    row = impression()
    view = View(row.request_id, 1, int(time.time() * 1e6))
    viewing = asyncio.create_task(writer.append([event("a")], [view]))
    await asyncio.sleep(0.02)
    journal.impression(row)
    await journal.flush()
    assert await viewing == [True]
    assert rows(database, "SELECT count(*) FROM impressions WHERE viewed_at IS NOT NULL") == [(1,)]


async def test_view_of_an_unknown_list_does_not_keep_its_events_waiting(writer):
    unknown = View(uuid4(), 1, int(time.time() * 1e6))
    assert await writer.append([event("b")], [unknown]) == [True]


async def test_journal_writes_every_kind_of_row_as_it_was_given(database, journal):
    names = {"arm": "a\tb\\n", "error": "line\nline\r\0", "experiment_id": 3}
    row = impression(item_ids=[10, 2**62], propensities=[0.5, None], user_id=None, **names)
    journal.impression(row)
    journal.shadow(ShadowAnswer(row.request_id, row.served_at, "ease/2", np.array([11]), [0.25], 0.5, 2.0))
    assert journal.prediction(NewPrediction(1, 10, None, 60.0, 1.5, [], [], "mlp/1")) == 1
    assert journal.predictions_kept == 0
    await journal.flush()
    assert journal.predictions_kept == 1
    (stored,) = rows(database, f"SELECT {', '.join(Impression._fields)} FROM impressions")
    assert stored == (*row[:4], pytest.approx(row.scores), *row[5:7], "a\tb\\n", *row[8:12], "line\nline\r")
    assert rows(database, "SELECT item_ids, scores, error FROM shadow_answers") == [([11], [0.25], None)]
    assert rows(database, "SELECT rating, watch_seconds, item_ids FROM predictions") == [(None, 60.0, [])]


def test_rendered_row_is_one_line():
    assert rendered(impression(error="a\nb")).count(b"\n") == 1


async def test_journal_writes_by_itself_and_tells_of_predictions(database, journal):
    connection = await database.connect()
    await connection.execute("LISTEN marquee_predictions")
    writing = asyncio.create_task(journal.run())
    journal.prediction(NewPrediction(1, 10, 5.0, 60.0, 1.5, [1, 2], [0.5, 0.25], "mlp/1"))
    async for told in connection.notifies(timeout=DEADLINE_SECONDS, stop_after=1):
        assert told.payload == "*"
        assert rows(database, "SELECT item_ids FROM predictions") == [([1, 2],)]
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await connection.close()


async def test_rows_of_today_and_tomorrow_have_partitions_of_their_own(database, journal):
    now = datetime.now(UTC)
    for days in (0, 1, 40):
        journal.impression(impression(served_at=now + timedelta(days=days)))
    await journal.flush()
    other = Journal(database)
    await other.flush()
    await other.aclose()
    tomorrow = now + timedelta(days=1)
    assert rows(database, "SELECT tableoid::regclass::text FROM impressions ORDER BY served_at") == [
        (f"impressions_{now:%Y%m%d}",), (f"impressions_{tomorrow:%Y%m%d}",), ("impressions_rest",)
    ]  # fmt: skip


async def test_day_with_rows_among_everything_else_keeps_no_other_from_its_partition(database, journal):
    now = datetime.now(UTC)
    tomorrow = now + timedelta(days=1)
    with database.begin() as connection:
        connection.execute(
            text("INSERT INTO impressions (request_id, served_at, item_ids, scores, bundle, surface) "
                 "VALUES (gen_random_uuid(), :now, '{}', '{}', 'b', 'x')"), {"now": now}
        )  # fmt: skip
    for moment in (now, tomorrow):
        journal.impression(impression(served_at=moment))
    await journal.flush()
    assert rows(database, "SELECT tableoid::regclass::text FROM impressions ORDER BY served_at") == [
        ("impressions_rest",), ("impressions_rest",), (f"impressions_{tomorrow:%Y%m%d}",)
    ]  # fmt: skip


async def test_backup_that_keeps_partitions_from_being_made_holds_nobody_up(
    database, database_url, journal, writer, monkeypatch
):
    monkeypatch.setattr("marquee.api.writer.LOCKED_SECONDS", 0.0)  # the next flush tries again
    row = impression()
    view = View(row.request_id, 1, int(time.time() * 1e6))
    with psycopg.connect(database_url) as reading:
        reading.execute("LOCK TABLE impressions IN ACCESS SHARE MODE")
        journal.impression(row)
        await journal.flush()
        assert rows(database, "SELECT tableoid::regclass::text FROM impressions") == [("impressions_rest",)]
        trying = asyncio.create_task(journal.flush())
        while not rows(database, "SELECT 1 FROM pg_locks WHERE NOT granted"):
            assert not trying.done()
            await asyncio.sleep(0.01)
        assert await writer.append([event("a")], [view]) == [True]
        await trying
    journal.impression(impression(served_at=datetime.now(UTC) + timedelta(days=1)))
    await journal.flush()
    assert rows(database, "SELECT viewed_at IS NOT NULL FROM impressions_rest") == [(True,)]
    assert rows(database, "SELECT count(*) FROM impressions") == [(2,)]


async def test_busy_process_that_makes_partitions_holds_nobody_up(journal, database_url):
    journal.impression(impression())
    making = asyncio.create_task(journal.flush())
    with psycopg.connect(database_url, autocommit=True, options="-c lock_timeout=20s") as reading:
        while not making.done():
            await asyncio.sleep(0)
            reading.execute("SELECT count(*) FROM impressions")  # nothing else happens here meanwhile
    await making


async def test_journal_keeps_rows_while_the_database_is_away(database, database_url, journal):
    journal.impression(impression())
    await journal.flush()
    cut_connections(database_url)
    url, database.url = database.url, "postgresql://nobody@127.0.0.1:1/none"
    journal.impression(impression())
    with pytest.raises(StoreUnavailableError):
        for _ in range(2):  # the first may find the connection cut, the second none
            await journal.flush()
    database.url = url
    journal.impression(impression())
    await journal.flush()
    assert rows(database, "SELECT count(*) FROM impressions") == [(3,)]


async def test_journal_gives_up_the_oldest_rows_when_it_is_full(database, journal, monkeypatch):
    monkeypatch.setattr("marquee.api.writer.MOST_ROWS", 100)
    for i in range(150):
        journal.impression(impression(user_id=i))
    await journal.flush()
    kept = [user for (user,) in rows(database, "SELECT user_id FROM impressions ORDER BY user_id")]
    assert kept == list(range(150 - len(kept), 150))
    assert 90 <= len(kept) <= 100


async def test_rows_that_the_database_refuses_are_given_up_and_the_next_are_written(database, journal):
    row = impression()
    journal.impression(row)
    journal.impression(row)
    with pytest.raises(StoreError):
        await journal.flush()
    journal.impression(impression())
    await journal.flush()
    assert rows(database, "SELECT count(*) FROM impressions") == [(1,)]


async def test_everything_given_is_written_at_the_end(database):
    journal = Journal(database)
    journal.impression(impression())
    await journal.aclose()
    assert rows(database, "SELECT count(*) FROM impressions") == [(1,)]


async def test_writer_and_repository_store_alike(database, writer):
    with database.begin() as connection:
        append_events(connection, [event("a", rating=3.0)])
    assert await writer.append([event("a", rating=3.0), event("b", rating=3.0)]) == [False, True]
    columns = "user_id, item_id, event, rating, watch_seconds, occurred_at, source, revokes, request_id"
    one, two = rows(database, f"SELECT {columns} FROM interactions")
    assert one == two
