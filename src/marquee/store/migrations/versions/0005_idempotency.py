"""Idempotency: who asked for a run and lost the answer finds the run again."""

from alembic import op

revision = "0005"
down_revision = "0004"
runs_from = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the keys of runs."""
    op.execute(
        """
        ALTER TABLE runs ADD COLUMN idempotency_key text COLLATE "C";
        CREATE UNIQUE INDEX runs_idempotency_key_idx ON runs (idempotency_key)
            WHERE status NOT IN ('failed', 'cancelled')
        """
    )


def downgrade() -> None:
    """Take them away again."""
    op.execute("ALTER TABLE runs DROP COLUMN idempotency_key")
