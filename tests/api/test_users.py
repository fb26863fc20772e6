"""What is known of users is what the repositories say, whoever wrote it, and it is read once."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import hypothesis
import numpy as np
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from stored_events import append_events, seen_items

from marquee.api.listener import Listener
from marquee.api.users import EMPTY, UserState, UserStates, histories
from marquee.config import Settings
from marquee.data import Event, Histories, RankedItems
from marquee.errors import StoreUnavailableError
from marquee.store.notify import notify_users
from marquee.store.postgres import Database
from marquee.store.repositories import interactions, recommendations
from marquee.store.repositories.interactions import NewEvent
from marquee.store.repositories.user_states import EVENTS

pytestmark = pytest.mark.integration

START = datetime(2026, 1, 1, tzinfo=UTC)
MEBIBYTE = 2**20


@pytest.fixture
async def listener(database):
    listener = Listener(database, silence_seconds=60)
    task = asyncio.create_task(listener.run())
    await listener.until_connected()
    yield listener
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def states_of(database, listener, max_bytes=MEBIBYTE):
    states = UserStates(database, listener, max_bytes, silence_seconds=60)
    try:
        yield states
    finally:
        await states.aclose()


@pytest.fixture
async def states(database, listener):
    async with states_of(database, listener) as made:
        yield made


@pytest.fixture
def happen(database):
    def append(*events):
        with database.begin() as connection:
            append_events(connection, events)

    return append


def event(key, *, user=1, item=10, kind=Event.WATCH, minute=0, **more):
    return NewEvent(user, item, kind, f"{user}:{key}", START + timedelta(minutes=minute), **more)


def assert_as_stored(database, state):
    """The state says what the repository says."""
    with database.begin() as connection:
        history = interactions.user_history(connection, state.user_id, limit=10_000)
        seen = seen_items(connection, state.user_id)
    order = np.lexsort((history.events, history.item_ids, history.timestamps))[-200:]
    stored = history.take(order)
    for field, column in (
        ("item", stored.item_ids),
        ("timestamp", stored.timestamps),
        ("event", stored.events),
        ("rating", stored.ratings),
        ("watch", stored.watch_seconds),
    ):
        np.testing.assert_array_equal(state.events[field], column)
    assert state.seen.tolist() == sorted(seen)


async def test_unknown_user_has_no_events_and_is_nobody_else(states):
    state = await states.get(404)
    assert (state.user_id, len(state.events), len(state.seen), state.precomputed) == (404, 0, 0, None)


async def test_state_has_what_events_carry(states, happen):
    happen(event("a", kind=Event.RATE, rating=7.5, minute=1), event("b", item=11, watch_seconds=60.0))
    state = await states.get(1)
    assert state.events["item"].tolist() == [11, 10]
    assert state.events["event"].tolist() == [Event.WATCH, Event.RATE]
    np.testing.assert_array_equal(state.events["rating"], np.array([np.nan, 7.5], np.float32))
    np.testing.assert_array_equal(state.events["watch"], np.array([60.0, np.nan], np.float32))
    assert state.events["timestamp"][0] == START.timestamp() * 1e6


KINDS = st.sampled_from(list(Event))
STEPS = st.lists(
    st.tuples(
        st.integers(1, 3),  # user
        st.integers(1, 4),  # item
        KINDS,
        st.integers(0, 5),  # minute
        st.integers(0, 30),  # of an undo: which event it takes back
    ),
    max_size=30,
)


@pytest.fixture(scope="module")
def module_database(postgres, tmp_path_factory):
    """One database for all examples of a property."""
    with psycopg.connect(postgres.url_of("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE test_users TEMPLATE template_marquee STRATEGY file_copy")
        url = postgres.url_of("test_users")
        with Database.open(Settings(home=tmp_path_factory.mktemp("home"), database={"url": url})) as opened:
            yield opened
        connection.execute("DROP DATABASE test_users WITH (FORCE)")


@pytest.fixture(scope="module")
def loop_runner():
    with asyncio.Runner() as runner:
        yield runner


@hypothesis.settings(max_examples=25)
@given(rounds=st.lists(STEPS, min_size=1, max_size=3))
def test_states_equal_the_repository_whatever_happens(rounds, module_database, loop_runner):
    async def run():
        listener = Listener(module_database, silence_seconds=60)
        task = asyncio.create_task(listener.run())
        await listener.until_connected()
        with module_database.begin() as connection:
            connection.execute(text("TRUNCATE interactions, users"))
            notify_users(connection, range(10_000))
        async with states_of(module_database, listener) as states:
            number = 0
            for steps in rounds:
                events = []
                for user, item, kind, minute, other in steps:
                    revokes = f"{user}:{other}" if kind is Event.UNDO else None
                    events.append(
                        event(str(number), user=user, item=item, kind=kind, minute=minute, revokes=revokes)
                    )
                    number += 1
                with module_database.begin() as connection:
                    append_events(connection, events)
                for state in await states.get_many([3, 1, 2, 1]):
                    assert_as_stored(module_database, state)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    loop_runner.run(run())


async def test_only_the_newest_events_are_kept_and_everything_seen(database, states, happen):
    happen(*(event(str(i), item=i, minute=i // 3) for i in range(250)))
    state = await states.get(1)
    assert len(state.events) == 200
    assert len(state.seen) == 250
    assert_as_stored(database, state)


async def test_ids_and_times_of_any_size_keep_their_order(database, states, happen):
    happen(
        event("a", item=2**62),
        event("b", item=2**62, kind=Event.LIKE),
        event("c", item=5),
        NewEvent(1, 7, Event.WATCH, "1:old", datetime(1900, 1, 1, tzinfo=UTC)),
        event("d", user=2**62, item=2**62),
    )
    assert_as_stored(database, await states.get(1))
    assert_as_stored(database, await states.get(2**62))


async def test_unchanged_user_is_read_once_and_a_changed_one_again(database, states, happen):
    happen(event("a"), event("b", user=2))
    first = await states.get_many([1, 2])
    again = await states.get_many([1, 2])
    assert all(one is other for one, other in zip(first, again, strict=True))
    happen(event("c", item=11))
    changed = await states.get_many([1, 2])
    assert changed[0].seen.tolist() == [10, 11]
    assert changed[1] is first[1]
    with database.begin() as connection:
        notify_users(connection, range(5_000))
    assert (await states.get(2)) is not first[1]


async def test_concurrent_callers_share_reads(database, states, happen):
    happen(*(event("a", user=user, item=user) for user in range(1, 50)))
    reads = 0
    send = states._line.send

    async def counted(*calls):
        nonlocal reads
        reads += 1
        return await send(*calls)

    states._line.send = counted
    found = await asyncio.gather(*(states.get(1 + i % 49) for i in range(200)))
    assert [state.seen.tolist() for state in found] == [[1 + i % 49] for i in range(200)]
    assert reads <= 2


async def test_read_that_a_commit_overtook_is_not_kept(states, happen):
    happen(event("a"))
    send = states._line.send

    async def overtaken(*calls):
        results = await send(*calls)
        happen(event("b", item=11))
        await states._listener.barrier()
        return results

    states._line.send = overtaken
    assert (await states.get(1)).seen.tolist() == [10]
    states._line.send = send
    assert (await states.get(1)).seen.tolist() == [10, 11]


async def test_next_state_of_another_process_has_every_acknowledged_event(database, listener, happen):
    async with states_of(database, listener) as states:
        for i in range(60):
            happen(event(str(i), user=i % 3, item=i))
            assert i in (await states.get(i % 3)).seen


async def test_memory_is_bounded_and_the_newest_users_stay(database, listener, happen):
    happen(*(event("a", user=user, item=user) for user in range(1, 101)))
    async with states_of(database, listener, max_bytes=20_000) as states:
        await states.get_many(range(1, 101))
        kept = [user for user in range(1, 101) if states.cached(user) is not None]
        assert 10 < len(kept) < 60
        assert kept == list(range(101 - len(kept), 101))
        state = await states.get(kept[0])
        await states.get_many(range(1, len(kept)))
        assert states.cached(state.user_id) is state


async def test_erased_user_has_no_events(database, states, happen):
    happen(event("a"))
    with database.begin() as connection:
        connection.execute(text("UPDATE users SET erased_at = now()"))
        notify_users(connection, [1])
    assert len((await states.get(1)).events) == 0


def store_lists(database, generated_at=None, **lists):
    users = np.array([int(user.removeprefix("u")) for user in lists], np.int64)
    items = np.array(list(lists.values()), np.int64)
    with database.begin() as connection:
        ranked = RankedItems(items, np.full(items.shape, 0.5, np.float32))
        recommendations.replace_all(connection, users, ranked, bundle="ease/1", generated_at=generated_at)


async def test_precomputed_list_counts_until_something_happens(database, states, happen):
    happen(event("a"))
    store_lists(database, u1=[5, 6], u2=[7, 8])
    one, two = await states.get_many([1, 2])
    assert one.precomputed.item_ids.tolist() == [5, 6]
    assert one.precomputed.bundle == "ease/1"
    assert two.precomputed.item_ids.tolist() == [7, 8]
    happen(event("b", item=11))
    assert (await states.get(1)).precomputed is None
    store_lists(database, u1=[9, 10])
    one, two = await states.get_many([1, 2])
    assert one.precomputed.item_ids.tolist() == [9, 10]
    assert two.precomputed is None


async def test_list_made_without_the_newest_event_does_not_count(database, states, happen):
    happen(event("a"), event("a", user=2))
    with database.begin() as connection:
        read = recommendations.now(connection)
    happen(event("b", item=11))
    store_lists(database, generated_at=read, u1=[5, 6], u2=[7, 8])
    one, two = await states.get_many([1, 2])
    assert one.precomputed is None
    assert two.precomputed.item_ids.tolist() == [7, 8]


async def test_undo_makes_a_precomputed_list_old(database, states, happen):
    happen(event("a"))
    store_lists(database, u1=[5, 6])
    happen(event("b", kind=Event.UNDO, revokes="1:a"))
    state = await states.get(1)
    assert (len(state.events), state.precomputed) == (0, None)


async def test_without_connection_what_was_known_is_still_there(database, happen):
    listener = Listener(database, silence_seconds=60)
    states = UserStates(database, listener, MEBIBYTE, silence_seconds=60)
    task = asyncio.create_task(listener.run())
    await listener.until_connected()
    happen(event("a"))
    state = await states.get(1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    with pytest.raises(StoreUnavailableError):
        await states.get(1)
    assert states.cached(1) is state
    assert states.cached(2) is None
    await states.aclose()


def state_of(user_id, *rows):
    return UserState(user_id, np.array(list(rows), EVENTS), np.empty(0, np.int64), None)


def test_histories_are_those_of_the_evaluation():
    states = [
        state_of(5, (10, 100, 0, np.nan, 60.0), (11, 200, 1, 8.0, np.nan)),
        EMPTY,
        state_of(7, (12, 900, 2, np.nan, np.nan)),
    ]
    made = histories(states, 500)
    assert isinstance(made, Histories)
    assert made.indptr.tolist() == [0, 2, 2, 3]
    assert made.item_ids.tolist() == [10, 11, 12]
    assert made.events.tolist() == [0, 1, 2]
    assert made.as_of.tolist() == [500, 500, 901]  # a clock that is ahead does not hide its events
    assert made.user_ids.tolist() == [5, -1, 7]
    assert made.take(np.array([2, 0])).item_ids.tolist() == [12, 10, 11]
    assert len(histories([], 1)) == 0
