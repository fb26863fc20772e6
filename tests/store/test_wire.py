"""The connection for what is asked thousands of times a second: transactions of one round trip."""

import asyncio

import numpy as np
import psycopg
import pytest

from marquee.errors import StoreError, StoreUnavailableError
from marquee.store.wire import Call, Line, Wire, array_of, bigints, reals, texts, times, uuids

pytestmark = pytest.mark.integration

INSERT = b"INSERT INTO users (user_id, kind) SELECT id, 'live' FROM unnest($1::bigint[]) AS id"
COUNT = b"SELECT count(*) FROM users"


@pytest.fixture
async def wire(database):
    opened = await Wire.open(database)
    yield opened
    opened.close()


def count(results):
    return int.from_bytes(results[-1].get_value(0, 0), "big")


async def test_arrays_arrive_as_they_were_sent(wire):
    big = [-(2**63), 0, 7, 2**63 - 1]
    words = ["", "a", None, "{\"'\\,}", "기생충"]
    ids = [b"\0" * 16, None, bytes(range(16))]
    sent = [
        Call(b"SELECT $1::bigint[], $1::bigint[]::text", [bigints(big)]),
        Call(b"SELECT $1::real[]", [reals([1.5, np.nan])]),
        Call(b"SELECT $1::timestamptz[]", [times([0, 1_700_000_000_000_000])]),
        Call(b"SELECT ($1::text[])[n] FROM generate_series(1, 5) AS n", [texts(words)]),
        Call(b"SELECT ($1::uuid[])[n] FROM generate_series(1, 3) AS n", [uuids(ids)]),
        Call(b"SELECT $1::bigint[], '{}'::bigint[], NULL::bigint[]", [bigints([])]),
    ]
    numbers, floats, moments, strings, uuid_values, empty = await wire.send(*sent)
    assert array_of(numbers.get_value(0, 0), ">i8").tolist() == big
    assert numbers.get_value(0, 1).decode() == f"{{{','.join(map(str, big))}}}"
    np.testing.assert_array_equal(array_of(floats.get_value(0, 0), ">f4"), [1.5, np.nan])
    since_2000 = array_of(moments.get_value(0, 0), ">i8")
    assert (since_2000 + 946_684_800_000_000).tolist() == [0, 1_700_000_000_000_000]
    found = [strings.get_value(row, 0) for row in range(5)]
    assert [None if value is None else value.decode() for value in found] == words
    assert [uuid_values.get_value(row, 0) for row in range(3)] == ids
    assert [len(array_of(empty.get_value(0, column), ">i8")) for column in range(3)] == [0, 0, 0]


async def test_statements_of_a_send_are_one_transaction(database, wire):
    with pytest.raises(StoreError, match="duplicate key"):
        await wire.send(
            Call(INSERT, [bigints([1])]), Call(INSERT, [bigints([2])]), Call(INSERT, [bigints([1])])
        )
    with pytest.raises(StoreUnavailableError, match="lost"):
        await wire.send()
    other = await Wire.open(database)
    assert count(await other.send(Call(INSERT, [bigints([1, 2])]), Call(COUNT, []))) == 2
    assert count(await other.send(Call(COUNT, []))) == 2
    other.close()


async def test_more_is_sent_than_a_socket_takes_at_once(wire):
    many = np.arange(2_000_000)
    (result,) = await wire.send(Call(b"SELECT $1::bigint[]", [bigints(many)]))
    np.testing.assert_array_equal(array_of(result.get_value(0, 0), ">i8"), many)


async def test_empty_send_is_a_round_trip(wire):
    assert await wire.send() == []


async def test_second_send_before_the_answer_is_a_mistake(wire):
    answer = wire.send()
    with pytest.raises(RuntimeError):
        wire.send()
    assert await answer == []


async def test_notifications_are_told_before_the_answer(database):
    told = []
    wire = await Wire.open(
        database, listen=["a"], notified=lambda channel, payload: told.append((channel, payload))
    )
    await wire.send(Call(b"SELECT pg_notify('a', 'x')", []), Call(COUNT, []))
    assert told == [("a", "x")]
    wire.close()


async def test_line_is_made_again_after_its_server_cut_it(database, database_url):
    line = Line(database, 60)
    assert count(await line.send(Call(COUNT, []))) == 0
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
    async with asyncio.timeout(60):
        while True:
            try:
                assert count(await line.send(Call(COUNT, []))) == 0
                break
            except StoreUnavailableError:
                continue
    line.close()
