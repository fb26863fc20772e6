"""Kill -9 at any moment loses no event that was acknowledged, and makes none into two."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from free_ports import free_port

from marquee.config import Settings
from marquee.store.postgres import Database

SOAK = os.environ.get("MARQUEE_SOAK") == "1"

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(1800)]

EVENTS, KILLS = (10_000, 20) if SOAK else (1_500, 6)
CLIENTS = 8
KEY = "a-key-that-nobody-guesses-in-a-test"
USERS = 40
ITEMS = range(1, 201)
KEY_SHOWN = {"authorization": f"Bearer {KEY}"}
DEADLINE_SECONDS = 900 if SOAK else 300
PAUSE_SECONDS = 0.05
"""Between two tries of a client whose event was not acknowledged."""


class Victim:
    """A process that is started again whenever it was killed."""

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._start = start
        self._process = start()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = self._start()

    def is_dead(self) -> bool:
        return self._process.poll() is not None

    def revive(self) -> None:
        """Start it again where it ended by itself, such as for want of something that was killed too."""
        if self.is_dead():
            self._process = self._start()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def ended(victim: Victim) -> Iterator[Victim]:
    try:
        yield victim
    finally:
        victim.end()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that the account of the server can reach; it refuses to run as root."""
    made = Path("/tmp" if os.geteuid() == 0 else tmp_path) / f"marquee-{uuid4().hex[:8]}"
    made.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(made, "nobody", "nogroup")
    yield made
    shutil.rmtree(made)


@pytest.fixture
def server(folder: Path) -> Iterator[tuple[Victim, str]]:
    """A PostgreSQL server of its own with fsync on, and the URL of its database."""
    found = {name: shutil.which(name) for name in ("initdb", "postgres")}
    if not all(found.values()):
        if os.environ.get("CI") == "true":
            pytest.fail("missing: PostgreSQL server binaries (initdb, postgres)")
        pytest.skip("missing: PostgreSQL server binaries (initdb, postgres)")
    account: dict[str, Any] = {"cwd": folder}
    if os.geteuid() == 0:
        account |= {"user": "nobody", "group": "nogroup", "extra_groups": []}
    data, port = folder / "data", free_port()
    command = [found["initdb"], "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]
    subprocess.run([*map(str, command), "--no-sync"], check=True, capture_output=True, **account)
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    options = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder}
    settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]

    def start() -> subprocess.Popen[bytes]:
        # Children of the former one may still be leaving: until they have, no new one starts.
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            with (folder / "log").open("ab") as log:
                process = subprocess.Popen(
                    [str(found["postgres"]), "-D", str(data), *settings], stdout=log, stderr=log, **account
                )
            while process.poll() is None:
                if answers(url):
                    return process
                time.sleep(0.02)
            assert time.monotonic() < deadline, (folder / "log").read_text()

    with ended(Victim(start)) as victim:
        yield victim, url


def test_every_acknowledged_event_is_there_once_whatever_was_killed(
    server: tuple[Victim, str], tmp_path: Path
) -> None:
    postgres, url = server
    settings = Settings(home=tmp_path / "home", database={"url": url})
    Database.open(settings).close()
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO items (item_id, title, source) SELECT i, 'Film ' || i, 'test' "
            "FROM generate_series(%s::int, %s::int) AS i",
            [ITEMS[0], ITEMS[-1]],
        )
    environment = {
        **os.environ,
        "MARQUEE_HOME": str(settings.home),
        "MARQUEE_DATABASE__URL": url,
        "MARQUEE_API__RATE_PER_KEY": "100000/second",
        "MARQUEE_OPERATOR_KEY_FILE": str(tmp_path / "key"),
        "MARQUEE_LOG__LEVEL": "warning",
    }
    (tmp_path / "key").write_text(KEY)  # a machine is not trusted without one while its database is away
    output = (tmp_path / "output").open("ab")

    def marquee(*arguments: str, **more: str) -> Callable[[], subprocess.Popen[bytes]]:
        return lambda: subprocess.Popen(
            [sys.executable, "-m", "marquee.cli", *arguments],
            env={**environment, **more},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )

    ports = [free_port(), free_port()]
    with contextlib.ExitStack() as stack:
        stack.enter_context(output)
        apis = [
            stack.enter_context(ended(Victim(marquee("serve", MARQUEE_PORT=str(port))))) for port in ports
        ]
        worker = stack.enter_context(ended(Victim(marquee("worker"))))
        chance = random.Random(0)
        victims = [postgres, *apis, worker, postgres, *apis][:KILLS]
        victims += chance.choices([postgres, *apis, worker], k=KILLS - len(victims))
        chance.shuffle(victims)
        sent, acknowledged = asyncio.run(play(ports, victims, [*apis, worker], chance))
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT event_key, user_id, item_id FROM interactions WHERE source = 'live'"
        ).fetchall()
    there = Counter(key for key, _, _ in rows)
    assert len(acknowledged) >= EVENTS
    assert sorted(acknowledged - there.keys()) == []
    assert [key for key, n in there.items() if n > 1] == []
    assert {key: (user, item) for key, user, item in rows} == {key: sent[key] for key in there}


async def play(
    ports: list[int], victims: list[Victim], dependants: list[Victim], chance: random.Random
) -> tuple[dict[str, tuple[int, int]], set[str]]:
    """
    Send events while processes are killed, each at its share of the way, until all are acknowledged.

    Returns:
        The user and item of each event by its key as stored, and the keys that were acknowledged.
    """
    sent: dict[str, tuple[int, int]] = {}
    acknowledged: set[str] = set()

    async def client(name: int) -> None:
        random_of_mine = random.Random(name)
        async with httpx.AsyncClient(timeout=5, trust_env=False, headers=KEY_SHOWN) as http:
            while len(acknowledged) < EVENTS:
                events = [some_event(f"{name}-{len(sent)}-{i}", random_of_mine) for i in range(
                    random_of_mine.choice([1, 1, 1, 10])
                )]  # fmt: skip
                keys = {f"{event['user_id']}:{event['event_key']}": event for event in events}
                sent.update({key: (event["user_id"], event["item_id"]) for key, event in keys.items()})
                body = events[0] if len(events) == 1 else {"events": events}
                while not await is_acknowledged(http, random_of_mine.choice(ports), body):
                    await asyncio.sleep(PAUSE_SECONDS)
                acknowledged.update(keys)
                if random_of_mine.random() < 0.1:  # a client that missed its answer asks once more
                    await is_acknowledged(http, random_of_mine.choice(ports), body)

    async def killer() -> None:
        for i, victim in enumerate(victims, start=1):
            while len(acknowledged) < i * EVENTS / (len(victims) + 1):
                for dependant in dependants:
                    dependant.revive()
                await asyncio.sleep(0.01)
            await asyncio.sleep(chance.random() * PAUSE_SECONDS)
            await asyncio.to_thread(victim.kill)

    async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as tasks:
        for name in range(CLIENTS):
            tasks.create_task(client(name))
        tasks.create_task(killer())
    return sent, acknowledged


def some_event(key: str, chance: random.Random) -> dict[str, Any]:
    kind = chance.choice(["watch", "like", "click", "hide"])
    return {
        "user_id": chance.randrange(USERS),
        "item_id": chance.choice(ITEMS),
        "event": kind,
        "event_key": key,
    }


async def is_acknowledged(http: httpx.AsyncClient, port: int, body: dict[str, Any]) -> bool:
    try:
        answer = await http.post(f"http://127.0.0.1:{port}/v1/events", json=body)
    except httpx.TransportError:
        return False
    assert answer.status_code in (202, 503), answer.text
    return answer.status_code == 202


def answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
