"""Settings of the work behind the service, and of what is told of it."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, field_validator

from marquee.config.values import Names, Url
from marquee.errors import ConfigError

__all__ = [
    "LogSettings",
    "MonitorSettings",
    "OpsSettings",
    "ScheduleSettings",
    "TraceSettings",
    "WorkerSettings",
]

Port = Annotated[int, Field(ge=1, le=65535)]
Host = Annotated[str, Field(pattern=r"^[A-Za-z0-9.:_-]+$")]


class LogSettings(BaseModel):
    """Logs, written to standard error by commands and to standard output by servers."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level written.")
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto` is `console` on a terminal and `json` elsewhere."
    )
    file: Path | None = Field(
        None,
        description="File that servers write their lines to, too, as JSON. Each process has its own: of "
        "`marquee.log` the second takes `marquee-2.log`, and so on. A name is free again when its process "
        "has ended.",
    )
    file_mib: Annotated[float, Field(gt=0, le=4096)] = Field(
        64, description="Size at which a file is put aside as `marquee.log.1` and a new one begun, in MiB."
    )
    files: Annotated[int, Field(ge=1, le=100)] = Field(
        5, description="Files put aside that are kept of each process."
    )


class ScheduleSettings(BaseModel):
    """When the whole pipeline runs by itself: read by `marquee schedule` and by the DAGs of Airflow."""

    cron: str = Field("0 0 * * *", description="Minute, hour, day of the month, month, day of the week.")
    zone: str = Field("Asia/Seoul", description="Time zone that they are of.")
    model: str = Field("ease", description="What is trained.")


class TraceSettings(BaseModel):
    """Traces, sent over OTLP; they need the extra `tracing`, which `make setup` and the images have."""

    url: Url | None = Field(
        None,
        description="Address of an OpenTelemetry collector that takes OTLP over HTTP, such as "
        "`http://127.0.0.1:4318`; `/v1/traces` is added. Unset: no traces.",
    )
    sample: Annotated[float, Field(ge=0, le=1)] = Field(
        0.01,
        description="Share of requests that are traced; a caller's `traceparent` decides for its own. "
        "Pipeline runs always are.",
    )
    headers_file: Path | None = Field(
        None, description="File with headers for the collector, such as its key: `Name: value`, one a line."
    )

    @field_validator("url")
    @classmethod
    def _installed(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                distribution("opentelemetry-sdk")
                distribution("opentelemetry-exporter-otlp-proto-common")
            except PackageNotFoundError as missing:
                raise ConfigError(
                    f"MARQUEE_TRACE__URL is set, but {missing.name} is not installed.",
                    fix="Run: pip install 'marquee-recsys[tracing]' (in a checkout: make setup), or unset "
                    "MARQUEE_TRACE__URL.",
                ) from None
        return value


class WorkerSettings(BaseModel):
    """The process that runs pipelines."""

    concurrency: Annotated[int, Field(ge=1, le=64)] = Field(1, description="Pipelines run at a time.")
    stalled_seconds: Annotated[int, Field(ge=2, le=600)] = Field(
        10, description="A run whose worker has been silent this long is taken up again."
    )
    ops_host: str = Field("127.0.0.1", description="Address of the worker's `/livez` and `/metrics`.")
    ops_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None,
        description="Their port; unset: not served, except that `marquee up` takes the one behind the API's.",
    )


class MonitorSettings(BaseModel):
    """What is watched of data and models (docs/monitoring.md), and when it is drift."""

    every_minutes: Annotated[float, Field(ge=0, le=10_080)] = Field(
        60, description="A worker looks that often. 0: only when told to."
    )
    retrain: bool = Field(
        True, description="Whether drift of what users do queues a run of the whole pipeline, once per alarm."
    )
    day_minutes: Annotated[float, Field(gt=0, le=1_440)] = Field(
        1_440, description="What counts as a day: the least that windows are made of. Less is for tests."
    )
    window_days: Annotated[int, Field(ge=1, le=28)] = Field(
        7, description="Longest window; it is as short as `MIN_EVENTS` allows."
    )
    reference_days: Annotated[int, Field(ge=7, le=365)] = Field(
        28, description="What windows are compared with: so many days before them."
    )
    min_events: Annotated[int, Field(ge=50)] = Field(
        500, description="Events of a window; with fewer in the longest one nothing is said."
    )
    max_rows: Annotated[int, Field(ge=1_000)] = Field(
        2_000_000, description="New events that one run counts at most, the newest; older ones are left out."
    )
    psi: Annotated[float, Field(gt=0)] = Field(
        0.2, description="Population stability index from which a shift matters."
    )
    significance: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.0001, description="Probability by chance below which a shift of a window is believed."
    )
    concentration: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1,
        description="Share of all watching that few films, or new ones, gain at once, from which it matters.",
    )
    jump: Annotated[float, Field(gt=0, le=1)] = Field(
        0.3, description="How far a share of missing, constant or unknown values of a feed may rise."
    )
    collapse: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.3, description="Share of its usual rows below which a feed is broken; above the inverse, too."
    )
    skew: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="Share of places that may differ when answers are computed again."
    )
    replayed: Annotated[int, Field(ge=0, le=10_000)] = Field(
        200, description="Newest answers that are computed again. 0: none."
    )
    keep_days: Annotated[int, Field(ge=1)] = Field(400, description="How long results are kept.")


class OpsSettings(BaseModel):
    """
    Prometheus and what is beside it: where `marquee ops render` says that things run, and `marquee ops up`
    runs them. Files are those of secrets, read when a message is sent.
    """

    workhorse: Host = Field("127.0.0.1", description="Host of the API, the worker and the database.")
    controltower: Host = Field("127.0.0.1", description="Host of Airflow and the proxy.")
    nervous: Host = Field("127.0.0.1", description="Host of Prometheus, Alertmanager, Loki and Grafana.")
    site: Url | None = Field(
        None, description="Address of the site, whose certificate is watched, such as `https://example.org`."
    )
    without: Names = Field(
        (),
        description="Jobs of Prometheus that do not run here, separated by commas: `airflow,grafana`.",
    )
    addresses: Names = Field(
        (),
        description="Jobs, and `blackbox`, that are found elsewhere than on these hosts' usual ports, "
        "`job=host:port`, separated by commas: `prometheus=prometheus:9090`, as containers call each other. "
        "A path may follow, where it is not `/metrics`: `grafana=grafana:3000/grafana/metrics`.",
    )
    runbooks: Annotated[str, Field(pattern=r"^[\w:/.%~@?=&#+-]*[^/]$")] = Field(
        "docs/runbooks/alerts",
        description="Where the pages of docs/runbooks/alerts can be read, such as "
        "`https://wiki.example.org/alerts`: alerts link there.",
    )
    prometheus_port: Port = Field(9090, description="Port of Prometheus.")
    alertmanager_port: Port = Field(9093, description="Port of Alertmanager.")
    node_port: Port = Field(9100, description="Port of the node exporter.")
    postgres_port: Port = Field(9187, description="Port of the PostgreSQL exporter.")
    keep_days: Annotated[int, Field(ge=1)] = Field(
        15, description="How long `marquee ops up` keeps what it has measured."
    )
    slack_errors_channel: str = Field("#marquee-errors", description="Channel of critical alerts.")
    slack_warnings_channel: str = Field("#marquee-warnings", description="Channel of the others.")
    slack_errors_url_file: Path | None = Field(
        None,
        description="File with the webhook of the channel of critical alerts. Unset: "
        "`secrets/slack-errors-url` beside Alertmanager's configuration.",
    )
    slack_warnings_url_file: Path | None = Field(
        None, description="The same for the others. Unset: `secrets/slack-warnings-url`."
    )
    mail_to: str = Field("operators@example.org", description="Who gets critical alerts by mail.")
    mail_from: str = Field("alertmanager@example.org", description="Who they are from.")
    smtp: Annotated[str, Field(pattern=r"^\S+:\d+$")] = Field(
        "127.0.0.1:25", description="Mail server, `host:port`."
    )
    smtp_user: str | None = Field(
        None, description="Name to log in with, over TLS. Unset: neither login nor TLS."
    )
    smtp_password_file: Path | None = Field(
        None, description="File with its password. Unset: `secrets/smtp-password`."
    )
