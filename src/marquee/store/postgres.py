"""The database: opened, migrated, and its errors translated."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Self, TypeVar

import psycopg
from psycopg import conninfo
from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, exc, func, make_url, select

from marquee.config import DatabaseSettings, Settings
from marquee.errors import ConfigError, StoreBusyError, StoreError, StoreUnavailableError
from marquee.store.embedded import EmbeddedServer
from marquee.store.migrations import HEAD, revision_of
from marquee.telemetry import get_logger

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["Database"]

MINIMUM_VERSION: Final = 15
MIGRATION_LOCK: Final = 0x4D617271  # "Marq"; any number that nobody else locks
KEPT_ALIVE: Final[dict[str, Any]] = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # milliseconds
}
"""A host that is gone without a word is noticed after these, also while a statement is waited for."""
UNREACHABLE: Final = ("08", "53300", "57P0")
"""How SQLSTATEs begin of a server that is not there: broken connections, none left to give, shutting down."""
BUSY: Final = ("40", "53", "55006", "55P03", "57", "58")
"""Of one that could not do this now: deadlocks, full disks, locks, time-outs."""

P = ParamSpec("P")
R = TypeVar("R")


class Database:
    """
    A PostgreSQL database at the newest migration.

    Use `open`; every function of `repositories` takes the connection that `begin` hands out.

    Args:
        url: libpq URL, without a driver.
        settings: pool and time-outs.
        server: the embedded server that it lives in, stopped with it.
        secrets: the folder of secrets; repositories that need one find it in the connection's options.
    """

    def __init__(
        self,
        url: str,
        settings: DatabaseSettings,
        *,
        server: EmbeddedServer | None = None,
        secrets: Path | None = None,
    ) -> None:
        self.url: str = url
        self.server = server
        self._settings = settings
        self._secrets = secrets
        self._async: AsyncEngine | None = None
        self._statement_seconds = 0  # for ever
        parsed = make_url(url)
        self.address: str = _address(parsed)
        self._driver_url = parsed.set(drivername="postgresql+psycopg")
        self.engine: Engine = create_engine(self._driver_url, **self._engine_options(0))

    @classmethod
    def open(cls, settings: Settings, *, prepare: bool = True) -> Self:
        """
        Connect to the configured server, or start the embedded one, and migrate if need be.

        Args:
            prepare: whether to connect and migrate now; else that is for the caller, by `prepare`.

        Raises:
            ConfigError: the server is older than PostgreSQL 15, or its database newer than this Marquee.
            StoreUnavailableError: the server cannot be reached.
            StoreError: the server refused.
        """
        secret = settings.database.url
        if secret is None:
            server = EmbeddedServer.start(settings.paths)
            database = cls(server.url, settings.database, server=server, secrets=settings.paths.secrets)
        else:
            database = cls(
                _plain_url(secret.get_secret_value()), settings.database, secrets=settings.paths.secrets
            )
        try:
            if prepare:
                database.prepare()
        except BaseException:
            database.close()
            raise
        return database

    def prepare(self) -> None:
        """
        Check the version of the server and bring the schema to the newest revision.

        Raises:
            ConfigError: the server is older than PostgreSQL 15, or its database newer than this Marquee.
            StoreUnavailableError: the server cannot be reached.
        """
        with self.begin() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)
            version = driver.info.server_version // 10_000
            if version < MINIMUM_VERSION:
                raise ConfigError(
                    f"PostgreSQL at {self.address} is version {version}; Marquee needs 15 or newer.",
                    fix="Upgrade it, or unset MARQUEE_DATABASE__URL to use the embedded server.",
                )
            if revision_of(connection) == HEAD:
                return
        with self.translate_errors(), self.engine.connect() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_lock({MIGRATION_LOCK})")
            connection.commit()
            try:
                self._migrate(connection)
            finally:
                connection.rollback()
                connection.exec_driver_sql(f"SELECT pg_advisory_unlock({MIGRATION_LOCK})")
                connection.commit()

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A connection in a transaction: committed on leaving, rolled back on an error."""
        with self.translate_errors(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def autocommit(self) -> Iterator[Connection]:
        """A connection in no transaction, for statements that are one each."""
        with self.translate_errors(), self.engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    def limit_statements(self) -> None:
        """Have statements of asynchronous connections made from now on take no longer than is set."""
        self._statement_seconds = self._settings.statement_timeout_seconds

    def async_engine(self) -> AsyncEngine:
        """The asynchronous engine, made on first use."""
        if self._async is None:
            from sqlalchemy.ext.asyncio import create_async_engine

            options = self._engine_options(self._statement_seconds)
            self._async = create_async_engine(self._driver_url, **options)
        return self._async

    def connections_in_use(self) -> int:
        """Connections of the pools that somebody has now."""
        pools = [self.engine.pool, *([self._async.sync_engine.pool] if self._async is not None else [])]
        return sum(pool.checkedout() for pool in pools if isinstance(pool, QueuePool))

    async def run(
        self, work: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Call a repository function in a transaction of its own, from the event loop."""
        async with self.begin_async() as connection:
            result: R = await connection.run_sync(work, *args, **kwargs)
            return result

    @asynccontextmanager
    async def begin_async(self) -> AsyncIterator[Any]:
        """An `AsyncConnection` in a transaction, like `begin`."""
        with self.translate_errors():
            async with self.async_engine().begin() as connection:
                yield connection

    async def connect(self) -> psycopg.AsyncConnection[Any]:
        """
        A connection outside of the pool, in autocommit, for who keeps it; its end is noticed within seconds.

        Raises:
            StoreUnavailableError: the server cannot be reached.
        """
        with self.translate_errors():
            options = self._engine_options(self._statement_seconds)["connect_args"]
            return await psycopg.AsyncConnection.connect(self.url, autocommit=True, **options)

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Turn errors of SQLAlchemy, psycopg and ADBC into `StoreError`; no message names a password."""
        from adbc_driver_manager import Error as AdbcError

        try:
            yield
        except exc.DBAPIError as error:
            raise self._translated(error.orig or error, is_lost=error.connection_invalidated) from error
        except exc.TimeoutError:
            raise StoreUnavailableError(
                f"All connections to PostgreSQL at {self.address} are in use.",
                fix="Try again, or raise MARQUEE_DATABASE__POOL_SIZE.",
            ) from None
        except psycopg.Error as error:
            raise self._translated(error) from error
        except AdbcError as error:
            raise self._translated(error) from None

    @contextmanager
    def locked(self, key: int, *, wait: bool = False) -> Iterator[bool]:
        """
        Whether no other process holds this lock; while we do, none gets it. It goes with its process.

        Args:
            key: any number that nobody else locks.
            wait: for who holds it.
        """
        with self.translate_errors():
            connection = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            connection.detach()  # not one for others to use: it may have a lock
        try:
            with self.translate_errors():
                if wait:
                    connection.execute(select(func.pg_advisory_lock(key)))
                ours = wait or bool(connection.scalar(select(func.pg_try_advisory_lock(key))))
            try:
                yield ours
            finally:
                if ours:  # said so: a closed connection gives it back only once the server has noticed
                    with suppress(exc.DBAPIError):
                        connection.execute(select(func.pg_advisory_unlock(key)))
        finally:
            connection.close()

    def close(self) -> None:
        """Give the connections back and leave the embedded server; the asynchronous ones: `aclose`."""
        self.engine.dispose()
        if self._async is not None:
            self._async.sync_engine.dispose(close=False)
            self._async = None
        if self.server is not None:
            self.server.close()
            self.server = None

    async def aclose(self) -> None:
        """Give all connections back, the asynchronous ones first."""
        if self._async is not None:
            await self._async.dispose()
            self._async = None
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _engine_options(self, statement_seconds: int) -> dict[str, Any]:
        options = f"-c TimeZone=UTC -c statement_timeout={statement_seconds}s"
        given = self._driver_url.query.get("options")
        if given:
            options = f"{options} {given if isinstance(given, str) else ' '.join(given)}"
        return {
            "pool_size": self._settings.pool_size,
            "pool_pre_ping": True,
            "hide_parameters": True,
            "execution_options": {"secrets": self._secrets},
            "connect_args": {
                "options": options,
                "connect_timeout": self._settings.connect_timeout_seconds,
                "application_name": "marquee",
                **KEPT_ALIVE,
            },
        }

    def _migrate(self, connection: Connection) -> None:
        from marquee.store.migrations import runs_with, upgrade

        before = revision_of(connection)
        newer = before != HEAD and runs_with(connection, before)
        connection.commit()
        if before == HEAD or newer:
            return  # another process was faster, or a newer Marquee has only added to what this one needs
        upgrade(connection, before, address=self.address)
        get_logger().info("store.migrated", before=before, after=HEAD)

    def _translated(self, error: BaseException, *, is_lost: bool = False) -> StoreError:
        reason = " ".join(str(error).split("\n")[0].split())
        password = self._driver_url.password
        if password:
            reason = reason.replace(str(password), "***")
        state = getattr(error, "sqlstate", None) or ""
        if is_lost or _is_unreachable(error, state):
            return StoreUnavailableError(
                f"PostgreSQL at {self.address} cannot be reached: {reason}",
                fix="Check that it runs and that MARQUEE_DATABASE__URL is right, "
                "or unset that to use the embedded server."
                if self.server is None
                else "Try again; `marquee doctor` looks into it.",
            )
        if state.startswith(BUSY):
            return StoreBusyError(
                f"PostgreSQL at {self.address} could not do this now: {reason}",
                fix="Try again; if it stays so, the server's log says more.",
            )
        return StoreError(f"PostgreSQL at {self.address} refused: {reason}")


def _is_unreachable(error: BaseException, state: str) -> bool:
    """Whether there is no server to talk to; what has no SQLSTATE is no answer of a server."""
    if state:
        return state.startswith(UNREACHABLE)
    return not isinstance(error, psycopg.DatabaseError) or isinstance(error, psycopg.OperationalError)


def _plain_url(url: str) -> str:
    """The URL as libpq takes it, checked."""
    try:
        conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise ConfigError(
            "MARQUEE_DATABASE__URL is not a PostgreSQL URL.",
            fix="Write postgresql://user:password@host:port/name; quote special characters as %XX.",
        ) from None
    return url.replace("postgres://", "postgresql://", 1) if url.startswith("postgres://") else url


def _address(url: URL) -> str:
    """Host, port and database for messages, never the user's password."""
    host = url.host or url.query.get("host") or "localhost"
    return f"{host if isinstance(host, str) else ','.join(host)}:{url.port or 5432}/{url.database or ''}"
