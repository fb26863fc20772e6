"""
Alembic migrations, run when a database is opened.

Two tables say where a database is. `schema_revision` is the revision of its schema. `alembic_version`, the
only one that Marquee 0.1 knew, is the oldest revision whose code still runs with that schema: each migration
says in `runs_from` which that is. A release therefore starts on the schema of a newer one for as long as that
has only added to it, and can be rolled back.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from marquee.errors import ConfigError

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.runtime.migration import MigrationInfo
    from alembic.script import ScriptDirectory
    from sqlalchemy import Connection

__all__ = [
    "HEAD",
    "VERSION_TABLE",
    "alembic_config",
    "downgrade",
    "note_oldest_code",
    "revision_of",
    "revisions_after",
    "runs_with",
    "upgrade",
]

HEAD: Final = "0005"
"""The newest revision, known without importing Alembic: opening a database that is at head stays fast."""
VERSION_TABLE: Final = "schema_revision"

_READ: Final = {  # where it is noted, the newer place first
    VERSION_TABLE: "SELECT version_num FROM schema_revision",
    "alembic_version": "SELECT version_num FROM alembic_version",
}
_MAKE: Final = (
    "CREATE TABLE IF NOT EXISTS {0} "
    "(version_num varchar(32) NOT NULL, CONSTRAINT {0}_pkc PRIMARY KEY (version_num))"
)


def alembic_config(connection: "Connection | None" = None) -> "Config":
    """Alembic's configuration for the migrations of this package."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def revision_of(connection: "Connection") -> str | None:
    """The revision of a database's schema, None before the first migration."""
    for table, query in _READ.items():
        if connection.exec_driver_sql(f"SELECT to_regclass('{table}') IS NOT NULL").scalar_one():
            found = connection.exec_driver_sql(query).scalar_one_or_none()
            return None if found is None else str(found)
    return None


def runs_with(connection: "Connection", revision: str | None) -> bool:
    """
    Whether this Marquee runs with a schema that a newer one has made.

    Args:
        revision: of the schema.
    """
    known = _known(_scripts())
    if revision is None or revision in known:
        return False  # not newer: to be migrated
    oldest = connection.exec_driver_sql(_READ["alembic_version"]).scalar_one_or_none()
    return oldest in known


def upgrade(connection: "Connection", before: str | None, *, address: str, to: str = "head") -> None:
    """
    Bring a database to a revision.

    Args:
        before: its revision.
        address: of the server, for messages.
        to: the revision; default: the newest.

    Raises:
        ConfigError: the revision is unknown: a newer Marquee made it.
    """
    from alembic import command

    wanted = before if to == "head" else to
    if wanted is not None and wanted not in _known(_scripts()):
        raise ConfigError(
            f"The database at {address} is at revision {wanted}, which this Marquee does not know.",
            fix="Use the Marquee version that migrated it, or a newer one.",
        )
    _take_over(connection)
    command.upgrade(alembic_config(connection), to)


def revisions_after(revision: str) -> list[str]:
    """The revisions that are newer than one, in their order."""
    newest_first = [script.revision for script in _scripts().walk_revisions()]
    return newest_first[: newest_first.index(revision)][::-1]


def downgrade(connection: "Connection") -> None:
    """Take all tables of a database away, with what is in them."""
    from alembic import command

    _take_over(connection)
    command.downgrade(alembic_config(connection), "base")


def note_oldest_code(connection: "Connection", step: "MigrationInfo") -> None:
    """Note, within the transaction of a migration, the oldest revision whose code runs after it."""
    from alembic.script import Script

    connection.exec_driver_sql("DELETE FROM alembic_version")
    for script in step.destination_revisions:
        assert isinstance(script, Script)
        oldest = getattr(script.module, "runs_from", script.revision)
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES (%s)", (oldest,))


def _take_over(connection: "Connection") -> None:
    """Make both tables, the revision being what Marquee 0.1 noted, where it was the last."""
    outer = connection.in_transaction()
    for table in _READ:
        connection.exec_driver_sql(_MAKE.format(table))
    connection.exec_driver_sql(
        "INSERT INTO schema_revision SELECT version_num FROM alembic_version "
        "WHERE NOT EXISTS (SELECT FROM schema_revision)"
    )
    if not outer:
        connection.commit()


def _scripts() -> "ScriptDirectory":
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(alembic_config())


def _known(scripts: "ScriptDirectory") -> set[str]:
    return {script.revision for script in scripts.walk_revisions()}
