"""The first tables."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE items (
    item_id bigint NOT NULL,
    title text NOT NULL,
    original_title text,
    release_date date,
    runtime_minutes integer,
    genres text[],
    keywords text[],
    people text[],
    collection_id bigint,
    original_language text,
    overview text,
    poster_path text,
    backdrop_path text,
    adult boolean,
    source text NOT NULL,
    updated_at timestamptz DEFAULT now() NOT NULL,
    checked_at timestamptz DEFAULT now() NOT NULL,
    removed_at timestamptz,
    pin boolean DEFAULT false NOT NULL,
    block boolean DEFAULT false NOT NULL,
    boost real DEFAULT 1 NOT NULL,
    CONSTRAINT items_pkey PRIMARY KEY (item_id)
);

CREATE TABLE item_facts (
    item_id bigint NOT NULL,
    observed_at timestamptz NOT NULL,
    popularity real,
    vote_average real,
    vote_count integer,
    CONSTRAINT item_facts_pkey PRIMARY KEY (item_id, observed_at)
);

CREATE TABLE item_texts (
    item_id bigint NOT NULL,
    language text NOT NULL,
    title text,
    overview text,
    tagline text,
    poster_path text,
    CONSTRAINT item_texts_pkey PRIMARY KEY (item_id, language)
);

CREATE TABLE users (
    user_id bigint NOT NULL,
    kind text NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    erased_at timestamptz,
    CONSTRAINT users_pkey PRIMARY KEY (user_id),
    CONSTRAINT users_kind_check CHECK (kind IN ('virtual', 'imported', 'live'))
);

CREATE TABLE interactions (
    interaction_id bigint GENERATED ALWAYS AS IDENTITY,
    user_id bigint NOT NULL,
    item_id bigint NOT NULL,
    event text NOT NULL,
    rating real,
    watch_seconds real,
    occurred_at timestamptz NOT NULL,
    ingested_at timestamptz DEFAULT now() NOT NULL,
    source text COLLATE "C" NOT NULL,
    event_key text COLLATE "C" NOT NULL,
    revokes text COLLATE "C",
    CONSTRAINT interactions_pkey PRIMARY KEY (interaction_id),
    CONSTRAINT interactions_source_event_key_key UNIQUE (source, event_key),
    CONSTRAINT interactions_event_check CHECK (event IN ('watch', 'rate', 'like', 'hide', 'click', 'undo')),
    CONSTRAINT interactions_rating_check CHECK (rating BETWEEN 0 AND 10),
    CONSTRAINT interactions_watch_seconds_check CHECK (watch_seconds >= 0 AND watch_seconds < 'Infinity'),
    CONSTRAINT interactions_revokes_check CHECK ((event = 'undo') = (revokes IS NOT NULL))
);
CREATE INDEX interactions_revokes_idx ON interactions (source, revokes) WHERE revokes IS NOT NULL;
CREATE INDEX interactions_user_id_occurred_at_idx ON interactions (user_id, occurred_at);

CREATE TABLE impressions (
    request_id uuid NOT NULL,
    served_at timestamptz NOT NULL,
    user_id bigint,
    item_ids bigint[] NOT NULL,
    scores real[] NOT NULL,
    propensities real[],
    bundle text NOT NULL,
    arm text,
    surface text NOT NULL,
    viewed_at timestamptz,
    CONSTRAINT impressions_pkey PRIMARY KEY (request_id, served_at)
) PARTITION BY RANGE (served_at);
CREATE INDEX impressions_user_id_served_at_idx ON impressions (user_id, served_at);

CREATE TABLE recommendation_batches (
    generation bigint GENERATED ALWAYS AS IDENTITY,
    bundle text NOT NULL,
    generated_at timestamptz DEFAULT now() NOT NULL,
    is_current boolean DEFAULT false NOT NULL,
    CONSTRAINT recommendation_batches_pkey PRIMARY KEY (generation)
);
CREATE UNIQUE INDEX recommendation_batches_current_idx ON recommendation_batches (is_current)
    WHERE is_current;

CREATE TABLE recommendations (
    generation bigint NOT NULL,
    user_id bigint NOT NULL,
    item_ids bigint[] NOT NULL,
    scores real[] NOT NULL,
    CONSTRAINT recommendations_pkey PRIMARY KEY (generation, user_id)
);

CREATE TABLE predictions (
    prediction_id bigint GENERATED ALWAYS AS IDENTITY,
    user_id bigint NOT NULL,
    item_id bigint NOT NULL,
    rating real,
    watch_seconds real,
    popularity real,
    item_ids bigint[] NOT NULL,
    scores real[] NOT NULL,
    bundle text NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT predictions_pkey PRIMARY KEY (prediction_id)
);

CREATE TABLE runs (
    run_id uuid NOT NULL,
    pipeline text NOT NULL,
    status text DEFAULT 'queued' NOT NULL,
    parameters jsonb DEFAULT '{}' NOT NULL,
    counts jsonb DEFAULT '{}' NOT NULL,
    step text,
    progress real,
    error text,
    attempts smallint DEFAULT 0 NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    started_at timestamptz,
    finished_at timestamptz,
    heartbeat_at timestamptz,
    CONSTRAINT runs_pkey PRIMARY KEY (run_id),
    CONSTRAINT runs_status_check CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    CONSTRAINT runs_progress_check CHECK (progress BETWEEN 0 AND 1)
);
CREATE INDEX runs_created_at_idx ON runs (created_at);
CREATE UNIQUE INDEX runs_unfinished_idx ON runs (pipeline) WHERE status IN ('queued', 'running');

CREATE TABLE deployments (
    deployment_id bigint GENERATED ALWAYS AS IDENTITY,
    slot text NOT NULL,
    bundle text NOT NULL,
    digest text NOT NULL,
    model text NOT NULL,
    version text,
    deployed_by text NOT NULL,
    reason text NOT NULL,
    gate_report jsonb,
    run_id uuid,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT deployments_pkey PRIMARY KEY (deployment_id),
    CONSTRAINT deployments_run_id_slot_key UNIQUE (run_id, slot),
    CONSTRAINT deployments_slot_check CHECK (slot IN ('predictor', 'champion', 'challenger', 'shadow'))
);
CREATE INDEX deployments_slot_deployment_id_idx ON deployments (slot, deployment_id);

CREATE TABLE erasures (
    user_hash bytea NOT NULL,
    erased_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT erasures_pkey PRIMARY KEY (user_hash)
);

CREATE TABLE outbox (
    outbox_id bigint GENERATED ALWAYS AS IDENTITY,
    object_key text COLLATE "C" NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    last_error text,
    CONSTRAINT outbox_pkey PRIMARY KEY (outbox_id),
    CONSTRAINT outbox_object_key_key UNIQUE (object_key)
);

CREATE TABLE api_keys (
    key_id text COLLATE "C" NOT NULL,
    name text NOT NULL,
    secret_hash bytea NOT NULL,
    role text NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    revoked_at timestamptz,
    CONSTRAINT api_keys_pkey PRIMARY KEY (key_id),
    CONSTRAINT api_keys_role_check CHECK (role IN ('viewer', 'service', 'operator'))
);

CREATE TABLE quarantine (
    quarantine_id bigint GENERATED ALWAYS AS IDENTITY,
    source text NOT NULL,
    reason text NOT NULL,
    content jsonb NOT NULL,
    digest bytea NOT NULL,
    run_id uuid,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT quarantine_pkey PRIMARY KEY (quarantine_id),
    CONSTRAINT quarantine_source_digest_key UNIQUE (source, digest)
);
"""


def upgrade() -> None:
    """Create every table."""
    for statement in TABLES.split(";"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Drop every table."""
    op.execute(
        """
        DROP TABLE items, item_facts, item_texts, users, interactions, impressions, recommendation_batches,
            recommendations, predictions, runs, deployments, erasures, outbox, api_keys, quarantine
        """
    )
