"""Monitoring: sums of days, what was measured of them, and alarms of drift."""

from alembic import op

revision = "0004"
down_revision = "0003"
runs_from = "0003"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE monitor_days (
    at timestamptz NOT NULL,
    name text COLLATE "C" NOT NULL,
    counts jsonb NOT NULL,
    CONSTRAINT monitor_days_pkey PRIMARY KEY (at, name)
);

CREATE TABLE monitor_marks (
    name text COLLATE "C" NOT NULL,
    value jsonb NOT NULL,
    CONSTRAINT monitor_marks_pkey PRIMARY KEY (name)
);

CREATE TABLE monitor_results (
    result_id bigint GENERATED ALWAYS AS IDENTITY,
    measured_at timestamptz NOT NULL,
    seconds real NOT NULL,
    values jsonb NOT NULL,
    CONSTRAINT monitor_results_pkey PRIMARY KEY (result_id)
);
CREATE INDEX monitor_results_measured_at_idx ON monitor_results (measured_at);

CREATE TABLE drift_alarms (
    alarm_id bigint GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL,
    raised_at timestamptz NOT NULL,
    resolved_at timestamptz,
    evidence jsonb NOT NULL,
    run_id uuid,
    CONSTRAINT drift_alarms_pkey PRIMARY KEY (alarm_id),
    CONSTRAINT drift_alarms_kind_check
        CHECK (kind IN ('taste', 'new_releases', 'popularity', 'feed', 'scores', 'skew'))
);
CREATE UNIQUE INDEX drift_alarms_open_idx ON drift_alarms (kind) WHERE resolved_at IS NULL;
"""


def upgrade() -> None:
    """Add what monitoring keeps."""
    op.execute(TABLES)


def downgrade() -> None:
    """Take it away again, with what is in it."""
    op.execute("DROP TABLE monitor_days, monitor_marks, monitor_results, drift_alarms")
