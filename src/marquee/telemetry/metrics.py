"""
Every Prometheus metric of the package.

Names are `marquee_<subsystem>_<what>_<unit>`; no label holds the id of a user or an item. Processes sharing a
port share their metrics through files: `marquee.api.ops` renders them, `marquee.api.server` names the folder
before they start. So gauges say how they are put together, and nothing is a callback. The worker has an
endpoint of its own, and each of the two shows only what it sets. `docs/metrics.md` is generated from here.
"""

from collections.abc import Iterable
from typing import Final

from prometheus_client import Counter, Gauge, Histogram, Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

OF_WORKER: Final = frozenset(
    {
        "archive",
        "backup",
        "data",
        "drift",
        "features",
        "ingest",
        "monitor",
        "outbox",
        "quality",
        "runs",
        "schedule",
        "state",
        "worker",
    }
)
"""Subsystems that the worker sets; all others are the API's."""
QUICK = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
"""Seconds: from an answer out of memory to one that its caller has given up."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)


def is_of_worker(name: str) -> bool:
    """Whether the worker sets a metric of ours, and not the API."""
    return name.split("_", 2)[1] in OF_WORKER


def every() -> list[MetricWrapperBase]:
    """All metrics of the package, in their order here."""
    return [value for value in globals().values() if isinstance(value, MetricWrapperBase)]


class Part(Collector):
    """
    The metrics that one kind of process sets, out of all that are declared.

    What a process merely knows of would be 0 there, and say that the database is away, or that no run ever
    succeeded.
    """

    def __init__(self, source: Collector, *, worker: bool) -> None:
        self._source = source
        self._worker = worker

    def collect(self) -> Iterable[Metric]:
        """The metrics of this part, and those of no package of ours."""
        for metric in self._source.collect():
            if not metric.name.startswith("marquee_") or is_of_worker(metric.name) is self._worker:
                yield metric


# Requests

REQUESTS = Counter("marquee_http_requests_total", "Requests answered.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "marquee_http_request_seconds",
    "Time from the first look at a request to the end of its answer.",
    ["route", "tier"],
    buckets=QUICK,
)
REQUESTS_IN_PROGRESS = Gauge(
    "marquee_http_requests_in_progress", "Requests under way.", multiprocess_mode="livesum"
)
UNHANDLED_ERRORS = Counter(
    "marquee_http_unhandled_errors_total", "Requests that ended in an error nobody foresaw.", ["route"]
)
SHED = Counter("marquee_http_shed_total", "Requests refused to protect the others.")
RATE_LIMITED = Counter("marquee_http_rate_limited_total", "Requests over a rate limit.", ["scope"])
SLOW_CLIENTS = Counter(
    "marquee_http_slow_clients_total", "Connections ended because the client was too slow.", ["phase"]
)
LOOP_LAG_SECONDS = Gauge(
    "marquee_http_loop_lag_seconds",
    "How late the event loop was to do what was due, once a second.",
    multiprocess_mode="livemax",
)
ACCESS_REFUSED = Counter("marquee_access_refused_total", "Requests without the role they need.", ["status"])

# Answers

ANSWERS = Counter("marquee_recommendations_answers_total", "Lists given.", ["surface", "tier"])
FALLBACKS = Counter(
    "marquee_recommendations_fallbacks_total", "Lists that a lower tier had to give.", ["reason"]
)
BATCH_REQUESTS = Histogram(
    "marquee_engine_batch_requests", "Requests that one computation answered.", ["stage"], buckets=SIZES
)
BATCH_SECONDS = Histogram(
    "marquee_engine_batch_seconds", "Time of one computation.", ["stage"], buckets=QUICK
)
ENGINE_WAITING = Gauge(
    "marquee_engine_waiting_requests",
    "Requests that wait for a computation, once a second.",
    ["stage"],
    multiprocess_mode="livesum",
)
SHADOW_AGREEMENT = Histogram(
    "marquee_shadow_agreement_ratio",
    "Share of the items shown that the shadow would have shown too.",
    buckets=SHARES,
)
SHADOW_SECONDS = Histogram("marquee_shadow_answer_seconds", "Time of a shadow's answer.", buckets=QUICK)
SHADOW_ERRORS = Counter("marquee_shadow_errors_total", "Shadow answers that failed.")

# Models

SWAPS = Counter("marquee_models_swaps_total", "Bundles put in a slot.", ["slot", "result"])
SWAP_SECONDS = Histogram(
    "marquee_models_swap_seconds",
    "Time from the news of a deployment to answering with it.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
BUNDLE_INFO = Gauge(
    "marquee_models_bundle_info",
    "1 for the bundle in a slot, 0 for one that was there.",
    ["slot", "bundle"],
    multiprocess_mode="livemax",
)
BUNDLE_CREATED = Gauge(
    "marquee_models_bundle_created_timestamp_seconds",
    "When the bundle in a slot was deployed.",
    ["slot"],
    multiprocess_mode="livemin",
)

# Feedback

EVENTS = Counter("marquee_events_received_total", "Events committed.", ["event", "result"])
COMMIT_EVENTS = Histogram(
    "marquee_events_commit_events", "Events that one transaction committed.", buckets=SIZES
)
COMMIT_SECONDS = Histogram("marquee_events_commit_seconds", "Time of one transaction.", buckets=QUICK)
COMMIT_WAIT_SECONDS = Histogram(
    "marquee_events_commit_wait_seconds", "Time that events waited for their transaction.", buckets=QUICK
)
EVENTS_WAITING = Gauge(
    "marquee_events_waiting_requests",
    "Requests that wait for a transaction of events, once a second.",
    multiprocess_mode="livesum",
)
JOURNAL_WAITING = Gauge(
    "marquee_journal_waiting_rows",
    "Rows that wait to be written, once a second.",
    multiprocess_mode="livesum",
)
JOURNAL_ROWS = Counter("marquee_journal_rows_total", "Rows written behind answers.", ["table"])
JOURNAL_DROPPED = Counter(
    "marquee_journal_dropped_rows_total",
    "Rows given up because the database was too slow or away.",
    ["table"],
)
JOURNAL_SECONDS = Histogram("marquee_journal_flush_seconds", "Time of one flush.", buckets=QUICK)

# Archive

OUTBOX_WAITING = Gauge(
    "marquee_outbox_waiting_objects", "Objects that wait for the archive.", multiprocess_mode="livemax"
)
OUTBOX_OLDEST_SECONDS = Gauge(
    "marquee_outbox_oldest_age_seconds",
    "For how long the object has waited that has waited longest.",
    multiprocess_mode="livemax",
)
OUTBOX_DELIVERED = Counter("marquee_outbox_delivered_total", "Objects that have reached the archive.")
OUTBOX_DELIVERED_BYTES = Counter("marquee_outbox_delivered_bytes_total", "Their bytes.")
OUTBOX_FAILURES = Counter("marquee_outbox_failures_total", "Deliveries of an object that failed.")

BACKUP_AGE_SECONDS = Gauge(
    "marquee_backup_newest_verified_age_seconds",
    "Age of the newest backup that was read as a whole and found to be right.",
    multiprocess_mode="livemin",
)
BACKUP_BYTES = Gauge("marquee_backup_bytes", "Size of that backup.", multiprocess_mode="livemax")

# The worker

WORKER_RUNS = Counter(
    "marquee_worker_runs_total", "Runs that this worker has executed.", ["pipeline", "status"]
)
WORKER_RUN_SECONDS = Histogram(
    "marquee_worker_run_seconds",
    "Time of a run, from its start to its end.",
    ["pipeline"],
    buckets=(0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200),
)
SCHEDULE_INTERVAL = Gauge(
    "marquee_schedule_interval_seconds",
    "How often this worker queues a pipeline by itself; 0: only when told to.",
    ["pipeline"],
)
INGEST_ROWS = Counter("marquee_ingest_rows_total", "Rows taken in by runs of this worker.", ["kind"])
INGEST_QUARANTINED = Counter(
    "marquee_ingest_quarantined_rows_total", "Rows that runs of this worker put into quarantine."
)

# State, as the worker reads it from the database; several workers say the same

STATE_READ = Gauge("marquee_state_read_timestamp_seconds", "When the figures of this group were last read.")
RUNS_WAITING = Gauge("marquee_runs_waiting", "Runs queued that have not begun.")
RUNS_RUNNING = Gauge("marquee_runs_running", "Runs under way.")
RUNS_OLDEST_WAITING = Gauge(
    "marquee_runs_oldest_waiting_age_seconds", "For how long the run has waited that has waited longest."
)
RUNS_LAST_SUCCESS = Gauge(
    "marquee_runs_last_success_timestamp_seconds", "When a run of a pipeline last succeeded.", ["pipeline"]
)
RUNS_LAST_FAILURE = Gauge(
    "marquee_runs_last_failure_timestamp_seconds", "When a run of a pipeline last failed.", ["pipeline"]
)
DEPLOYED = Gauge(
    "marquee_state_deployed_timestamp_seconds", "When the bundle in a slot was deployed.", ["slot"]
)
SNAPSHOT_AS_OF = Gauge(
    "marquee_features_newest_timestamp_seconds",
    "The moment up to which the newest features of a view go.",
    ["view"],
)
NEWEST_INTERACTION = Gauge(
    "marquee_ingest_newest_interaction_timestamp_seconds", "When the newest interaction came in."
)
NEWEST_BATCH = Gauge(
    "marquee_state_recommendations_timestamp_seconds", "When the precomputed lists were made."
)
TABLE_ROWS = Gauge("marquee_state_table_rows", "Rows of a table, about, as PostgreSQL counts.", ["table"])

# Quality and drift: the newest results of `marquee monitor run`, published by the worker

MONITOR_COMPUTED = Gauge("marquee_monitor_computed_timestamp_seconds", "When monitoring last ran.")
MONITOR_SECONDS = Gauge("marquee_monitor_run_seconds", "How long that took.")
QUALITY_OUTCOME = Gauge(
    "marquee_quality_outcome_ratio", "What became of the answers of a day, by arm.", ["metric", "arm"]
)
QUALITY_ANSWERS = Gauge("marquee_quality_answers", "Answers behind the figures of quality.")
QUALITY_COVERAGE = Gauge(
    "marquee_quality_coverage_ratio", "Share of the catalogue that was shown to anybody."
)
QUALITY_GINI = Gauge("marquee_quality_gini_ratio", "How unevenly items are shown: 0 all alike, 1 only one.")
QUALITY_POPULARITY = Gauge(
    "marquee_quality_popularity_share_ratio", "Share of the places given to the most popular tenth."
)
QUALITY_NOVELTY = Gauge("marquee_quality_novelty_bits", "Mean self-information of the items shown.")
QUALITY_COLD = Gauge("marquee_quality_cold_users_ratio", "Share of answers to users without a history.")
QUALITY_FALLBACK = Gauge("marquee_quality_fallback_ratio", "Share of answers that a lower tier had to give.")
QUALITY_LABEL_DELAY = Gauge(
    "marquee_quality_label_delay_seconds",
    "Time from an answer to what its user did with it.",
    ["percentile"],
)
QUALITY_SKEW = Gauge(
    "marquee_quality_skew_ratio",
    "Share of the places of replayed answers whose item is another than the one shown.",
)
QUARANTINE_SHARE = Gauge(
    "marquee_data_quarantined_ratio", "Share of the rows of the newest ingest that are in quarantine."
)
DRIFT_PSI = Gauge(
    "marquee_drift_psi_ratio",
    "Population stability index of a feature: its newest window against the reference.",
    ["feature"],
)
DRIFT_P_VALUE = Gauge(
    "marquee_drift_p_value_ratio", "Probability of such a difference by chance.", ["feature"]
)
DRIFT_ALARM = Gauge("marquee_drift_alarm_info", "1 while an alarm of a kind is open, else 0.", ["kind"])

# What is known of users

USER_CACHE = Counter("marquee_users_cache_lookups_total", "Look-ups of users.", ["result"])
USER_CACHE_BYTES = Gauge(
    "marquee_users_cache_bytes", "Memory of what is known of users.", multiprocess_mode="livesum"
)
USER_READ_SECONDS = Histogram(
    "marquee_users_read_seconds", "Time to read users from the database.", buckets=QUICK
)

# Database

DATABASE_UP = Gauge(
    "marquee_database_up",
    "1 while the database answers, as each process sees it.",
    multiprocess_mode="livemin",
)
POOL_IN_USE = Gauge(
    "marquee_database_pool_connections",
    "Pooled connections in use, once a second.",
    multiprocess_mode="livesum",
)
LISTENING = Gauge(
    "marquee_listener_connected", "1 while changes are heard of at once.", multiprocess_mode="livemin"
)
NOTIFICATIONS = Counter("marquee_listener_notifications_total", "Changes heard of.", ["channel"])
LISTENER_GAPS = Counter("marquee_listener_gaps_total", "Times that changes may have been missed.")
BARRIER_SECONDS = Histogram(
    "marquee_listener_barrier_seconds", "Time to be sure of having heard of every change.", buckets=QUICK
)
