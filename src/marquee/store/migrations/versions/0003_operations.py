"""Operations: runs of several steps, the log lines of runs, what experiments showed over time."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE runs
    ADD COLUMN parent_id uuid,
    ADD COLUMN step_number smallint;
CREATE INDEX runs_parent_id_idx ON runs (parent_id) WHERE parent_id IS NOT NULL;

CREATE TABLE run_logs (
    line_id bigint GENERATED ALWAYS AS IDENTITY,
    run_id uuid NOT NULL,
    logged_at timestamptz NOT NULL,
    level text NOT NULL,
    event text NOT NULL,
    fields jsonb DEFAULT '{}' NOT NULL,
    CONSTRAINT run_logs_pkey PRIMARY KEY (line_id)
);
CREATE INDEX run_logs_run_id_line_id_idx ON run_logs (run_id, line_id);

CREATE TABLE experiment_looks (
    look_id bigint GENERATED ALWAYS AS IDENTITY,
    experiment_id bigint NOT NULL,
    measured_at timestamptz NOT NULL,
    comparisons jsonb NOT NULL,
    CONSTRAINT experiment_looks_pkey PRIMARY KEY (look_id)
);
CREATE INDEX experiment_looks_experiment_id_measured_at_idx ON experiment_looks (experiment_id, measured_at);
"""


def upgrade() -> None:
    """Add what operators look at."""
    op.execute(TABLES)


def downgrade() -> None:
    """Take it away again, with what is in it."""
    op.execute(
        """
        DROP TABLE run_logs, experiment_looks;
        DROP INDEX runs_parent_id_idx;
        ALTER TABLE runs DROP COLUMN parent_id, DROP COLUMN step_number
        """
    )
