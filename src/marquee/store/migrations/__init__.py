"""Alembic migrations, run when a database is opened."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from marquee.errors import ConfigError

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

__all__ = ["HEAD", "alembic_config", "downgrade", "upgrade"]

HEAD: Final = "0005"
"""The newest revision, known without importing Alembic: opening a database that is at head stays fast."""


def alembic_config(connection: "Connection | None" = None) -> "Config":
    """Alembic's configuration for the migrations of this package."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


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
    from alembic.script import ScriptDirectory

    config = alembic_config(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    wanted = before if to == "head" else to
    if wanted is not None and wanted not in known:
        raise ConfigError(
            f"The database at {address} is at revision {wanted}, which this Marquee does not know.",
            fix="Use the Marquee version that migrated it, or a newer one.",
        )
    command.upgrade(config, to)


def downgrade(connection: "Connection") -> None:
    """Take all tables of a database away, with what is in them."""
    from alembic import command

    command.downgrade(alembic_config(connection), "base")
