"""A release of Marquee as its users run it, what it leaves, and a server of an older PostgreSQL."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
from free_ports import free_port
from waiting import until

from marquee.store import cluster

DEADLINE_SECONDS = 120
SETTINGS = {
    "MARQUEE_AUDIENCE__USERS": "40",
    "MARQUEE_BACKUP__EVERY_HOURS": "0",
    "MARQUEE_MONITOR__EVERY_MINUTES": "0",
    "MARQUEE_TMDB__MOVIES": "60",
    "OMP_NUM_THREADS": "1",
}
MAKE = """
import json
from marquee.cli.session import open_settings, run_pipeline, stores
from marquee.store.repositories import keys
with stores(open_settings()) as (database, objects):
    for name, parameters in (
        ("prepare", {}),
        ("train", {"model": "mlp"}),
        ("train", {"model": "ease"}),
        ("promote", {"force": True, "reason": "a test", "slot": "champion"}),
        ("infer", {"k": 5}),
    ):
        run_pipeline(open_settings(), database, objects, name, parameters, quiet=True)
    with database.begin() as connection:
        print(json.dumps({role: keys.create(connection, role, role)[1] for role in ("service", "operator")}))
"""


@dataclass(frozen=True)
class Release:
    """
    A release of Marquee.

    Attributes:
        source: the folder of its package; None: the present one.
    """

    source: Path | None = None

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """What its processes are told."""
        path = {} if self.source is None else {"PYTHONPATH": str(self.source)}
        return {**os.environ, **SETTINGS, "MARQUEE_HOME": str(home), **path, **more}

    def python(self, home: Path, program: str, **more: str) -> str:
        """Run a program with its code; what it printed."""
        return self._run(["-c", program], home, more)

    def marquee(self, home: Path, *arguments: str, **more: str) -> str:
        """Run a command; what it printed."""
        return self._run(["-m", "marquee.cli", *arguments], home, more)

    def _run(self, arguments: list[str], home: Path, more: Mapping[str, str]) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            env=self.environment(home, **more),
            cwd=home.parent,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    @contextmanager
    def running(self, home: Path, *arguments: str, **more: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A command that runs until the block ends."""
        log = home.parent / f"{arguments[0]}-{time.monotonic_ns()}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "marquee.cli", *arguments],
                env=self.environment(home, **more), cwd=home.parent, stdout=output, stderr=output,
            )  # fmt: skip
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(DEADLINE_SECONDS)
        assert code in (0, -signal.SIGTERM), log.read_text()[-3000:]

    @contextmanager
    def api(self, home: Path, key: str | None = None, **more: str) -> Iterator[httpx.Client]:
        """A client of its API."""
        port = free_port()
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        with (
            self.running(home, "serve", "--port", str(port), **more) as process,
            httpx.Client(
                base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60, trust_env=False
            ) as client,
        ):

            def ready() -> bool:
                with suppress(httpx.HTTPError):
                    return bool(client.get("/health").json()["champion"])
                return False

            until(ready, process=process)
            yield client


@dataclass
class Home:
    """
    What the previous release has left.

    Attributes:
        major: of its PostgreSQL.
        keys: by role.
        champion: that served.
        lists: what the API answered, by user.
        events: how many there are.
    """

    path: Path
    major: int
    keys: dict[str, str] = field(default_factory=dict)
    champion: str = ""
    lists: dict[int, list[int]] = field(default_factory=dict)
    events: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """Settings that go with it: MLflow's own database is on the same server."""
        sockets = self.path / "postgres" / "socket"
        return {"MARQUEE_MLFLOW__TRACKING_URI": f"postgresql+psycopg://postgres@/mlflow?host={sockets}"}


def lists_of(client: httpx.Client, users: list[int]) -> dict[int, list[int]]:
    """What the API recommends."""
    answers = {}
    for user in users:
        answer = client.get(f"/v1/users/{user}/recommendations", params={"k": 5})
        assert answer.status_code == 200, answer.text
        answers[user] = [item["item_id"] for item in answer.json()["items"]]
    return answers


@contextmanager
def old_server(folder: Path, binaries: Path) -> Iterator[Callable[[str], str]]:
    """
    A server of an older major version in the folder of an embedded one, as if that were the bundled one.

    Processes of a release adopt it, and while this block lasts none of them is the last to leave.

    Yields:
        The URL of a database of it.
    """
    data = folder / "data"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    account = cluster.account_for(binaries, folder)
    if not data.exists():
        cluster.own(folder, account)
        data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(data, account.uid, account.gid)
        made = account.run(
            binaries / "initdb", "-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8",
            "--auth-local=trust", "--no-sync", cwd=folder,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
    sockets = cluster.socket_folder(folder, account)
    with (folder / "users.lock").open("ab") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        cluster.launch(binaries, account, data, sockets, folder / "server.log")
        try:
            yield lambda database: cluster.url_of(sockets, database)
        finally:
            cluster.stop(data)


def send(client: httpx.Client, user: int, item: int | None = None) -> str:
    """Report that a user liked an item, by default the first of their list; the key of the event."""
    chosen = lists_of(client, [user])[user][0] if item is None else item
    answer = client.post("/v1/events", json={"user_id": user, "item_id": chosen, "event": "like"})
    assert answer.status_code == 202, answer.text
    key: str = answer.json()["event_keys"][0]
    return key


def rows_of(connection: "psycopg.Connection[Any]", table: str) -> int:
    """How many there are."""
    row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert row is not None
    return int(row[0])


def copied(home: Home, path: Path) -> Home:
    """The same, elsewhere."""
    subprocess.run(["cp", "-a", str(home.path), str(path)], check=True)
    return Home(path, home.major, home.keys, home.champion, home.lists, home.events)
