"""Data and pipelines: runs, what came in, how fresh it is, whether copies of it are safe."""

from grafana_foundation_sdk.models.dashboard import Dashboard
from panels import RANGE, Panel, ages, graph, number, quantiles, query, rows, variable, workboard


def data() -> Dashboard:
    """Runs, intake, freshness, archive and backups, the database."""
    return workboard(
        "marquee-data",
        "Marquee · Data & pipelines",
        "Runs of pipelines, what came in, how fresh it is, and whether copies of it are safe.",
        variables=[variable("pipeline", "Pipeline", "label_values(marquee_worker_runs_total, pipeline)")],
        time_from="now-24h",
        sections=[
            ("Now", _now()),
            ("Runs", _runs()),
            ("Intake and freshness", _intake()),
            ("Archive and backups", _archive()),
            ("PostgreSQL", _postgres()),
        ],
    )


def _now() -> list[Panel]:
    return [
        number(
            "Waiting", "Runs queued that have not begun.", query("max(marquee_runs_waiting)"), limits=(5, 20)
        ),
        number("Running", "Runs under way.", query("max(marquee_runs_running)")),
        number(
            "Longest wait",
            "For how long the run has waited that has waited longest.",
            query("max(marquee_runs_oldest_waiting_age_seconds)"),
            unit="s",
            limits=(600, 1_800),
        ),
        number(
            "Newest interaction",
            "Since an interaction last came in.",
            query(ages("marquee_ingest_newest_interaction_timestamp_seconds")),
            unit="s",
        ),
        number(
            "Newest backup",
            "Age of the newest backup that was read as a whole and found to be right.",
            query("max(marquee_backup_newest_verified_age_seconds)"),
            unit="s",
            limits=(26 * 3_600, 50 * 3_600),
        ),
        number(
            "State read",
            "Since the worker last read these figures: when it is silent, they are old.",
            query(ages("marquee_state_read_timestamp_seconds")),
            unit="s",
            limits=(60, 300),
        ),
    ]


def _runs() -> list[Panel]:
    return [
        graph(
            "Runs that ended",
            "Runs that ended in an hour, by pipeline and status.",
            query(
                'sum by (pipeline, status) (increase(marquee_worker_runs_total{pipeline=~"$pipeline"}[1h]))',
                "{{pipeline}} · {{status}}",
            ),
        ),
        graph(
            "Time of a run",
            "95th percentile over a day, by pipeline.",
            *quantiles(
                "marquee_worker_run_seconds",
                '{pipeline=~"$pipeline"}',
                of=(0.95,),
                by="pipeline",
                window="1d",
            ),
            unit="s",
        ),
        rows(
            "Last success and failure",
            "For how long it has been, and how often the worker queues it by itself.",
            (
                "Succeeded",
                ages('marquee_runs_last_success_timestamp_seconds{pipeline=~"$pipeline"}', by="pipeline"),
            ),
            (
                "Failed",
                ages('marquee_runs_last_failure_timestamp_seconds{pipeline=~"$pipeline"}', by="pipeline"),
            ),
            ("Queued every", "max by (pipeline) (marquee_schedule_interval_seconds > 0)"),
            by="pipeline",
            unit="s",
            span=8,
        ),
    ]


def _intake() -> list[Panel]:
    return [
        graph(
            "Rows taken in",
            "In an hour, by kind, and rows put into quarantine.",
            query("sum by (kind) (increase(marquee_ingest_rows_total[1h]))", "{{kind}}"),
            query("sum(increase(marquee_ingest_quarantined_rows_total[1h]))", "quarantine"),
        ),
        graph(
            "Quarantine",
            "Share of the rows of the newest ingest that are in quarantine.",
            query("max(marquee_data_quarantined_ratio)", "quarantined"),
            unit="percentunit",
            lines_at=(0.01, 0.05),
        ),
        graph(
            "Freshness",
            "Since the newest features, by view, and since the precomputed lists were made.",
            query(ages("marquee_features_newest_timestamp_seconds", by="view"), "features: {{view}}"),
            query(ages("marquee_state_recommendations_timestamp_seconds"), "precomputed lists"),
            unit="s",
        ),
        graph(
            "Rows of tables",
            "About, as PostgreSQL counts.",
            query("max by (table) (marquee_state_table_rows)", "{{table}}"),
            span=24,
        ),
    ]


def _archive() -> list[Panel]:
    return [
        graph(
            "Objects that wait",
            "For the archive: they are safe on this machine only.",
            query("max(marquee_outbox_waiting_objects)", "objects"),
        ),
        graph(
            "Longest wait",
            "Of an object for the archive.",
            query("max(marquee_outbox_oldest_age_seconds)", "oldest"),
            unit="s",
            lines_at=(900, 3_600),
        ),
        graph(
            "Deliveries",
            "Objects a second that reached the archive, and deliveries that failed.",
            query(f"sum(rate(marquee_outbox_delivered_total[{RANGE}]))", "delivered"),
            query(f"sum(rate(marquee_outbox_failures_total[{RANGE}]))", "failed"),
        ),
        graph(
            "Bytes delivered",
            "To the archive, a second.",
            query(f"sum(rate(marquee_outbox_delivered_bytes_total[{RANGE}]))", "bytes"),
            unit="Bps",
        ),
        graph(
            "Age of the newest verified backup",
            "It grows until the next one is verified.",
            query("max(marquee_backup_newest_verified_age_seconds)", "age"),
            unit="s",
            lines_at=(26 * 3_600, 50 * 3_600),
        ),
        graph(
            "Size of the backup",
            "Of the same backup.",
            query("max(marquee_backup_bytes)", "size"),
            unit="bytes",
        ),
    ]


def _postgres() -> list[Panel]:
    return [
        graph(
            "Connections",
            "By database, as the server counts them.",
            query('sum by (datname) (pg_stat_database_numbackends{datname!=""})', "{{datname}}"),
        ),
        graph(
            "Transactions",
            "A second, of all databases: committed and rolled back.",
            query(f"sum(rate(pg_stat_database_xact_commit[{RANGE}]))", "committed"),
            query(f"sum(rate(pg_stat_database_xact_rollback[{RANGE}]))", "rolled back"),
            unit="ops",
        ),
        graph(
            "Size",
            "Of each database on disk.",
            query("max by (datname) (pg_database_size_bytes)", "{{datname}}"),
            unit="bytes",
        ),
    ]
