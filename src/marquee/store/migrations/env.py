"""Alembic's entry: migrate on the connection that `store.postgres` hands over."""

from collections.abc import Collection, Mapping
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo

from marquee.store.migrations import VERSION_TABLE, note_oldest_code
from marquee.store.tables import metadata


def _applied(
    ctx: MigrationContext, step: MigrationInfo, heads: Collection[Any], run_args: Mapping[str, Any]
) -> None:
    assert ctx.connection is not None
    note_oldest_code(ctx.connection, step)


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    on_version_apply=_applied,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
