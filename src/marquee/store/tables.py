"""
Every table of Marquee, as SQLAlchemy Core metadata.

The migrations are what makes a database; this is what queries are written against, and a test holds the
two together. There are no foreign keys between the event tables and `users` or `items`: events of items
outside the catalogue are kept, and a check per row would double the time of a bulk load.
"""

from typing import Any

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Date,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from marquee.data.schema import Event

__all__ = [
    "api_keys",
    "deployments",
    "drift_alarms",
    "erasures",
    "experiment_looks",
    "experiments",
    "impressions",
    "interactions",
    "item_facts",
    "item_texts",
    "items",
    "metadata",
    "monitor_days",
    "monitor_marks",
    "monitor_results",
    "outbox",
    "predictions",
    "quarantine",
    "recommendation_batches",
    "recommendations",
    "run_logs",
    "runs",
    "shadow_answers",
    "users",
]

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)

KEY_TEXT = Text(collation="C")  # compared by bytes: faster to index, and alike on every server


def _one_of(column: str, values: list[str], *, name: str | None = None) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=name or column)


def _identity(name: str) -> Column[int]:
    return Column(name, BigInteger, Identity(always=True), primary_key=True)


def _now(name: str) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


def _search(name: str, of: str) -> Column[Any]:
    """A title as it is searched, `search_title` being a function of ours: case, accents, Hangul by letter."""
    return Column(name, Text, Computed(f"search_title({of})", persisted=True))


def _search_index(column: Column[Any]) -> Index:
    """For search that forgives typos."""
    return Index(
        f"{column.table.name}_{column.name}_idx",
        column,
        postgresql_using="gin",
        postgresql_ops={column.name: "gin_trgm_ops"},
    )


def _moment(name: str, *, nullable: bool = True) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


items = Table(
    "items",
    metadata,
    Column("item_id", BigInteger, primary_key=True, autoincrement=False),
    Column("title", Text, nullable=False),
    Column("original_title", Text),
    Column("release_date", Date),
    Column("runtime_minutes", Integer),
    Column("genres", ARRAY(Text)),
    Column("keywords", ARRAY(Text)),
    Column("people", ARRAY(Text)),
    Column("collection_id", BigInteger),
    Column("original_language", Text),
    Column("overview", Text),
    Column("poster_path", Text),
    Column("backdrop_path", Text),
    Column("adult", Boolean),
    Column("source", Text, nullable=False),
    _now("updated_at"),
    _now("checked_at"),  # when a source last confirmed the facts, changed or not
    _moment("removed_at"),
    Column("pin", Boolean, nullable=False, server_default=text("false")),
    Column("block", Boolean, nullable=False, server_default=text("false")),
    Column("boost", REAL, nullable=False, server_default=text("1")),
    Column("popularity", REAL),  # the newest of `item_facts`, kept here to sort by
    _search("search_title", "title"),
    _search("search_original_title", "original_title"),
)

item_facts = Table(
    "item_facts",
    metadata,
    Column("item_id", BigInteger, nullable=False),
    _moment("observed_at", nullable=False),
    Column("popularity", REAL),
    Column("vote_average", REAL),
    Column("vote_count", Integer),
    PrimaryKeyConstraint("item_id", "observed_at"),
)

item_texts = Table(
    "item_texts",
    metadata,
    Column("item_id", BigInteger, nullable=False),
    Column("language", Text, nullable=False),
    Column("title", Text),
    Column("overview", Text),
    Column("tagline", Text),
    Column("poster_path", Text),
    _search("search_title", "title"),
    PrimaryKeyConstraint("item_id", "language"),
)

# In the collation "C", which is not seen where tables are compared with these.
Index("items_fold_title_idx", func.fold_title(items.c.title), items.c.item_id)
_search_index(items.c.search_title)
_search_index(items.c.search_original_title)
_search_index(item_texts.c.search_title)

users = Table(
    "users",
    metadata,
    Column("user_id", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    _now("created_at"),
    _moment("erased_at"),
    _one_of("kind", ["virtual", "imported", "live"]),
)

interactions = Table(
    "interactions",
    metadata,
    _identity("interaction_id"),
    Column("user_id", BigInteger, nullable=False),
    Column("item_id", BigInteger, nullable=False),
    Column("event", Text, nullable=False),
    Column("rating", REAL),
    Column("watch_seconds", REAL),
    _moment("occurred_at", nullable=False),
    _now("ingested_at"),
    Column("source", KEY_TEXT, nullable=False),
    Column("event_key", KEY_TEXT, nullable=False),
    Column("revokes", KEY_TEXT),  # of an undo: the event_key, of the same source, that it takes back
    Column("request_id", UUID(as_uuid=True)),  # of the answer that it came from
    UniqueConstraint("source", "event_key"),
    _one_of("event", [event.label for event in Event]),
    CheckConstraint("rating BETWEEN 0 AND 10", name="rating"),
    CheckConstraint("watch_seconds >= 0 AND watch_seconds < 'Infinity'", name="watch_seconds"),
    CheckConstraint("(event = 'undo') = (revokes IS NOT NULL)", name="revokes"),
    Index("interactions_user_id_occurred_at_idx", "user_id", "occurred_at"),
    Index(
        "interactions_undos_idx",
        "user_id",
        "source",
        "revokes",
        postgresql_where=text("revokes IS NOT NULL"),
    ),
    Index("interactions_request_id_idx", "request_id", postgresql_where=text("request_id IS NOT NULL")),
)

impressions = Table(
    "impressions",
    metadata,
    Column("request_id", UUID(as_uuid=True), nullable=False),
    _moment("served_at", nullable=False),
    Column("user_id", BigInteger),
    Column("item_ids", ARRAY(BigInteger), nullable=False),
    Column("scores", ARRAY(REAL), nullable=False),
    Column("propensities", ARRAY(REAL)),
    Column("bundle", Text, nullable=False),
    Column("arm", Text),
    Column("surface", Text, nullable=False),
    _moment("viewed_at"),
    Column("tier", Text),
    Column("experiment_id", BigInteger),
    Column("duration_ms", REAL),
    Column("error", Text),  # why the arm could not answer and another did
    PrimaryKeyConstraint("request_id", "served_at"),
    Index("impressions_user_id_served_at_idx", "user_id", "served_at"),
    Index(
        "impressions_experiment_id_served_at_idx",
        "experiment_id",
        "served_at",
        postgresql_where=text("experiment_id IS NOT NULL"),
    ),
    postgresql_partition_by="RANGE (served_at)",
)

experiments = Table(
    "experiments",
    metadata,
    _identity("experiment_id"),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("arms", JSONB, nullable=False),
    Column("salt", Text, nullable=False),
    Column("limits", JSONB, nullable=False, server_default=text("'{}'")),
    Column("status", Text, nullable=False, server_default=text("'running'")),
    Column("started_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    _now("started_at"),
    _moment("ended_at"),
    Column("outcome", JSONB),
    _one_of("kind", ["canary", "ab"]),
    _one_of("status", ["running", "stopped", "promoted", "rolled_back"]),
    Index("experiments_running_idx", "status", unique=True, postgresql_where=text("status = 'running'")),
)

experiment_looks = Table(
    "experiment_looks",
    metadata,
    _identity("look_id"),
    Column("experiment_id", BigInteger, nullable=False),
    _moment("measured_at", nullable=False),
    Column("comparisons", JSONB, nullable=False),
    Index("experiment_looks_experiment_id_measured_at_idx", "experiment_id", "measured_at"),
)

shadow_answers = Table(
    "shadow_answers",
    metadata,
    Column("request_id", UUID(as_uuid=True), nullable=False),
    _moment("served_at", nullable=False),
    Column("bundle", Text, nullable=False),
    Column("item_ids", ARRAY(BigInteger), nullable=False),
    Column("scores", ARRAY(REAL), nullable=False),
    Column("agreement", REAL, nullable=False),  # share of the items shown that it would have shown too
    Column("duration_ms", REAL, nullable=False),
    Column("error", Text),
    Index("shadow_answers_served_at_idx", "served_at"),
)

recommendation_batches = Table(
    "recommendation_batches",
    metadata,
    _identity("generation"),
    Column("bundle", Text, nullable=False),
    _now("generated_at"),
    Column("is_current", Boolean, nullable=False, server_default=text("false")),
    Index(
        "recommendation_batches_current_idx",
        "is_current",
        unique=True,
        postgresql_where=text("is_current"),
    ),
)

recommendations = Table(
    "recommendations",
    metadata,
    Column("generation", BigInteger, nullable=False),
    Column("user_id", BigInteger, nullable=False),
    Column("item_ids", ARRAY(BigInteger), nullable=False),
    Column("scores", ARRAY(REAL), nullable=False),
    PrimaryKeyConstraint("generation", "user_id"),
)

predictions = Table(
    "predictions",
    metadata,
    _identity("prediction_id"),
    Column("user_id", BigInteger, nullable=False),
    Column("item_id", BigInteger, nullable=False),
    Column("rating", REAL),
    Column("watch_seconds", REAL),
    Column("popularity", REAL),
    Column("item_ids", ARRAY(BigInteger), nullable=False),
    Column("scores", ARRAY(REAL), nullable=False),
    Column("bundle", Text, nullable=False),
    _now("created_at"),
)

RUN_STATUSES = ["queued", "running", "succeeded", "failed", "cancelled"]

runs = Table(
    "runs",
    metadata,
    Column("run_id", UUID(as_uuid=True), primary_key=True),
    Column("pipeline", Text, nullable=False),
    Column("status", Text, nullable=False, server_default=text("'queued'")),
    Column("parameters", JSONB, nullable=False, server_default=text("'{}'")),
    Column("counts", JSONB, nullable=False, server_default=text("'{}'")),
    Column("step", Text),
    Column("progress", REAL),
    Column("error", Text),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    _now("created_at"),
    _moment("started_at"),
    _moment("finished_at"),
    _moment("heartbeat_at"),
    Column("parent_id", UUID(as_uuid=True)),  # of a step: the run that it is part of
    Column("step_number", SmallInteger),
    Column("idempotency_key", KEY_TEXT),
    _one_of("status", RUN_STATUSES),
    CheckConstraint("progress BETWEEN 0 AND 1", name="progress"),
    Index(
        "runs_unfinished_idx",
        "pipeline",
        unique=True,
        postgresql_where=text("status IN ('queued', 'running')"),
    ),
    Index(
        "runs_idempotency_key_idx",
        "idempotency_key",
        unique=True,
        postgresql_where=text("status NOT IN ('failed', 'cancelled')"),
    ),
    Index("runs_created_at_idx", "created_at"),
    Index("runs_parent_id_idx", "parent_id", postgresql_where=text("parent_id IS NOT NULL")),
)

run_logs = Table(
    "run_logs",
    metadata,
    _identity("line_id"),
    Column("run_id", UUID(as_uuid=True), nullable=False),
    _moment("logged_at", nullable=False),
    Column("level", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("fields", JSONB, nullable=False, server_default=text("'{}'")),
    Index("run_logs_run_id_line_id_idx", "run_id", "line_id"),
)

deployments = Table(
    "deployments",
    metadata,
    _identity("deployment_id"),
    Column("slot", Text, nullable=False),
    Column("bundle", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("version", Text),
    Column("deployed_by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("gate_report", JSONB),
    Column("run_id", UUID(as_uuid=True)),  # that deployed it: a run that is repeated deploys once
    _now("created_at"),
    UniqueConstraint("run_id", "slot"),
    _one_of("slot", ["predictor", "champion", "challenger", "shadow"]),
    Index("deployments_slot_deployment_id_idx", "slot", "deployment_id"),
)

erasures = Table(
    "erasures",
    metadata,
    Column("user_hash", LargeBinary, primary_key=True),
    _now("erased_at"),
)

outbox = Table(
    "outbox",
    metadata,
    _identity("outbox_id"),
    Column("object_key", KEY_TEXT, nullable=False),
    _now("created_at"),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("last_error", Text),
    UniqueConstraint("object_key"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", KEY_TEXT, primary_key=True),
    Column("name", Text, nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("role", Text, nullable=False),
    _now("created_at"),
    _moment("revoked_at"),
    _moment("last_used_at"),
    _one_of("role", ["viewer", "service", "operator"]),
)

quarantine = Table(
    "quarantine",
    metadata,
    _identity("quarantine_id"),
    Column("source", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("content", JSONB, nullable=False),
    Column("digest", LargeBinary, nullable=False),  # of reason and content: a repeated run adds nothing
    Column("run_id", UUID(as_uuid=True)),
    _now("created_at"),
    UniqueConstraint("source", "digest"),
)

# Monitoring: sums over many people, never a person.

monitor_days = Table(
    "monitor_days",
    metadata,
    _moment("at", nullable=False),  # the beginning of the day
    Column("name", KEY_TEXT, nullable=False),
    Column("counts", JSONB, nullable=False),
    PrimaryKeyConstraint("at", "name"),
)

monitor_marks = Table(
    "monitor_marks",
    metadata,
    Column("name", KEY_TEXT, primary_key=True),
    Column("value", JSONB, nullable=False),  # up to where rows are counted
)

monitor_results = Table(
    "monitor_results",
    metadata,
    _identity("result_id"),
    _moment("measured_at", nullable=False),
    Column("seconds", REAL, nullable=False),
    Column("values", JSONB, nullable=False),
    Index("monitor_results_measured_at_idx", "measured_at"),
)

DRIFT_KINDS = ["taste", "new_releases", "popularity", "feed", "scores", "skew"]

drift_alarms = Table(
    "drift_alarms",
    metadata,
    _identity("alarm_id"),
    Column("kind", Text, nullable=False),
    _moment("raised_at", nullable=False),
    _moment("resolved_at"),
    Column("evidence", JSONB, nullable=False),
    Column("run_id", UUID(as_uuid=True)),  # the retraining that it queued
    _one_of("kind", DRIFT_KINDS),
    Index("drift_alarms_open_idx", "kind", unique=True, postgresql_where=text("resolved_at IS NULL")),
)
