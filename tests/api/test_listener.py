"""What one connection commits, another has heard once its barrier returns."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys

import psycopg
import pytest

from marquee.api.listener import Listener
from marquee.errors import StoreUnavailableError

pytestmark = pytest.mark.integration

ALTERNATIONS = 2_000
WRITER = """
import sys, psycopg
with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    for line in sys.stdin:
        connection.execute("SELECT pg_notify('marquee_users', %s)", [line.strip()])
        print(line.strip(), flush=True)
"""


@contextlib.asynccontextmanager
async def listening(database, silence_seconds=60):
    listener = Listener(database, silence_seconds=silence_seconds)
    task = asyncio.create_task(listener.run())
    try:
        yield listener
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def listener(database):
    async with listening(database) as made:
        await made.until_connected()
        yield made


@pytest.fixture
def heard(listener):
    payloads = []
    listener.on("marquee_users", payloads.append)
    return payloads


async def test_barrier_follows_every_commit_of_another_connection(database, listener, heard):
    connection = await database.connect()
    try:
        for i in range(ALTERNATIONS):
            async with connection.transaction():
                await connection.execute("SELECT pg_notify('marquee_users', %s)", [str(i)])
            await listener.barrier()
            assert heard[-1:] == [str(i)]
    finally:
        await connection.close()
    assert len(heard) == ALTERNATIONS


async def test_barrier_follows_every_commit_of_another_process(database_url, listener, heard):
    command = [sys.executable, "-c", WRITER, database_url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        for i in range(ALTERNATIONS):
            writer.stdin.write(f"{i}\n")
            writer.stdin.flush()
            assert (await asyncio.to_thread(writer.stdout.readline)).strip() == str(i)
            await listener.barrier()
            assert heard[-1:] == [str(i)]
        writer.stdin.close()


async def test_concurrent_barriers_each_follow_the_commit_before_them(database, listener, heard):
    async def alternate(name):
        connection = await database.connect()
        try:
            for i in range(100):
                await connection.execute("SELECT pg_notify('marquee_users', %s)", [f"{name}/{i}"])
                await listener.barrier()
                assert f"{name}/{i}" in heard
        finally:
            await connection.close()

    await asyncio.gather(*(alternate(name) for name in "abcdefgh"))


async def test_cancelled_caller_leaves_the_others_their_answer(listener):
    tasks = [asyncio.create_task(listener.barrier()) for _ in range(5)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[3].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(each, asyncio.CancelledError) for each in done] == [True, False, False, True, False]
    await listener.barrier()


async def test_callback_that_raises_keeps_nobody_from_hearing(database, listener):
    heard = []
    listener.on("marquee_items", lambda _: 1 / 0)
    listener.on("marquee_items", heard.append)
    connection = await database.connect()
    await connection.execute("SELECT pg_notify('marquee_items', '*')")
    await connection.close()
    await listener.barrier()
    assert heard == ["*"]


async def test_lost_connection_is_a_gap_and_is_made_again(database, database_url, listener, heard):
    gaps = []
    listener.on_gap(lambda: gaps.append(listener.connected))
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE query LIKE 'LISTEN%' AND pid <> pg_backend_pid() AND datname = current_database()"
        )
        with pytest.raises(StoreUnavailableError):
            while True:
                await listener.barrier()
        async with asyncio.timeout(60):
            while len(gaps) < 2:
                await asyncio.sleep(0.01)
            await listener.until_connected()
        connection.execute("SELECT pg_notify('marquee_users', '7')")
        await listener.barrier()
    assert gaps == [False, False]
    assert heard == ["7"]


async def test_server_that_does_not_answer_in_time_is_taken_for_lost(database, database_url):
    async with listening(database, silence_seconds=0.2) as listener:
        await listener.until_connected()
        lost = asyncio.Event()
        listener.on_gap(lost.set)
        with psycopg.connect(database_url) as connection:
            (server,) = connection.execute(
                "SELECT pid FROM pg_stat_activity "
                "WHERE query LIKE 'LISTEN%' AND pid <> pg_backend_pid() AND datname = current_database()"
            ).fetchone()
        os.kill(server, signal.SIGSTOP)
        try:
            async with asyncio.timeout(60):
                await lost.wait()
        finally:
            os.kill(server, signal.SIGCONT)


async def test_absent_database_is_waited_for(database, database_url):
    other = f"{database_url.rpartition('/')[2].partition('?')[0]}_late"
    database.url = database_url.replace(database_url.rpartition("/")[2].partition("?")[0], other)
    async with listening(database) as listener:
        with pytest.raises(StoreUnavailableError):
            await listener.barrier()
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {other}")
            try:
                async with asyncio.timeout(60):
                    await listener.until_connected()
                await listener.barrier()
            finally:
                connection.execute(f"DROP DATABASE {other} WITH (FORCE)")
