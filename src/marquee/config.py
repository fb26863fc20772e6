"""
Settings: the only reader of the environment.

Every setting is an environment variable `MARQUEE_<NAME>`; nested ones are joined by two underscores
(`MARQUEE_DATABASE__URL`). A `.env` file in the working directory is read too. `docs/configuration.md` is
generated from these classes.
"""

import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from marquee.errors import ConfigError

__all__ = ["ObjectSettings", "Paths", "Settings", "load_settings"]

PLACEHOLDERS = {"changeme", "change-me", "secret", "password", "your-key", "xxx"}


def _split(value: object) -> object:
    """A list as people write it in one variable."""
    return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Url = Annotated[str, Field(pattern=r"^https?://[^\s;,'\"<>]+$")]


class DatabaseSettings(BaseModel):
    """PostgreSQL."""

    url: SecretStr | None = Field(
        None,
        description="`postgresql://user:password@host:port/name` of a server (PostgreSQL 15 or newer). "
        "Unset: Marquee starts its own, embedded one in its home.",
    )
    pool_size: Annotated[int, Field(ge=1, le=100)] = Field(5, description="Connections kept per process.")
    connect_timeout_seconds: Annotated[int, Field(ge=1, le=300)] = Field(
        5, description="How long a connection attempt may take."
    )
    statement_timeout_seconds: Annotated[int, Field(ge=0)] = Field(
        0, description="How long one statement of the API may take; 0: no limit."
    )

    @field_validator("url")
    @classmethod
    def _postgres_only(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("must start with postgresql:// (PostgreSQL is the only database Marquee speaks)")
        return value


class ObjectSettings(BaseModel):
    """
    The archive: where raw files, snapshots, models and backups go besides the home.

    Keys: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, else `~/.aws/credentials`, else the machine's role.
    """

    url: str | None = Field(
        None,
        pattern=r"^(s3://[a-z0-9][a-z0-9.-]+(/[A-Za-z0-9._=+@:,-]+)*/?|file:///.+)$",
        description="`s3://bucket/prefix` of any S3-compatible service, or `file:///path` of a second "
        "directory. Unset: everything stays in the home alone.",
    )
    endpoint: Url | None = Field(None, description="Address of the service, where it is not Amazon's.")
    region: str | None = Field(
        None, description="Region that requests are signed for. Unset: `AWS_REGION`, else `us-east-1`."
    )
    path_style: bool | None = Field(
        None,
        description="Put the bucket into the path, not the host name. Unset: where an endpoint is given.",
    )
    encryption: Literal["none", "AES256", "aws:kms"] = Field(
        "none", description="Encryption that the service is asked for; what the bucket does, it does anyway."
    )
    kms_key: str | None = Field(None, description="Key for `aws:kms`. Unset: the service's own.")
    credentials_file: Path | None = Field(
        None,
        description="File like `~/.aws/credentials`, read again every five minutes. Unset: see above.",
    )
    profile: str | None = Field(
        None, description="Section of that file. Unset: `AWS_PROFILE`, else `default`."
    )
    timeout_seconds: Annotated[float, Field(gt=0)] = Field(
        60, description="How long one request may take; large objects travel in parts of about 8 MiB."
    )
    connect_timeout_seconds: Annotated[float, Field(gt=0)] = Field(
        5, description="How long a connection attempt may take."
    )
    retries: Annotated[int, Field(ge=0, le=20)] = Field(
        3,
        description="How often a request is repeated, with growing pauses, until the archive counts as away.",
    )

    @property
    def shared_credentials(self) -> tuple[Path, str] | None:
        """The credentials file to use and its section; None: the environment or the machine's role."""
        profile = self.profile or os.environ.get("AWS_PROFILE", "default")
        if self.credentials_file is not None:
            return self.credentials_file, profile
        if {"AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"} & os.environ.keys():
            return None
        usual = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")).expanduser()
        return (usual, profile) if usual.is_file() else None


class BackupSettings(BaseModel):
    """Backups of all tables; see the runbook about restoring."""

    every_hours: Annotated[float, Field(ge=0, le=24 * 31)] = Field(
        24, description="How often a worker backs up where there is an archive; 0: only when told to."
    )
    keep_daily: Annotated[int, Field(ge=0)] = Field(7, description="Days whose newest backup is kept.")
    keep_weekly: Annotated[int, Field(ge=0)] = Field(4, description="Weeks whose newest backup is kept.")
    raw_days: Annotated[int, Field(ge=1)] = Field(
        30,
        description="Within so many days, what was stored of an erased user is gone also from input files "
        "and snapshots that cannot be rewritten.",
    )


class TmdbSettings(BaseModel):
    """The TMDB API, source of the catalogue."""

    bearer_token: SecretStr | None = Field(None, description="TMDB API read access token (v4).")
    api_key: SecretStr | None = Field(
        None, description="TMDB API key (v3); used when no bearer token is set."
    )
    base_url: str = Field("https://api.themoviedb.org/3", description="Address of the API.")
    language: str = Field("en-US", description="Language of titles and overviews, e.g. `ko-KR`.")
    region: str | None = Field(None, description="ISO 3166-1 country whose popular list is read, e.g. `KR`.")
    movies: Annotated[int, Field(ge=1, le=10_000)] = Field(200, description="Popular movies to ingest.")
    requests_per_second: Annotated[float, Field(gt=0, le=40)] = Field(
        40.0, description="Request rate shared by all tasks; TMDB allows about 40."
    )
    timeout_seconds: Annotated[float, Field(gt=0)] = Field(10.0, description="Time-out of one request.")
    attempts: Annotated[int, Field(ge=1, le=20)] = Field(6, description="Tries of one request in all.")

    @field_validator("bearer_token", "api_key")
    @classmethod
    def _no_placeholder(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and value.get_secret_value().strip().lower() in PLACEHOLDERS:
            raise ValueError("is a placeholder; set a real key or leave it unset")
        return value

    @property
    def configured(self) -> bool:
        """Whether a key is set."""
        return self.bearer_token is not None or self.api_key is not None


class AudienceSettings(BaseModel):
    """The virtual audience that stands in for users until there are real ones."""

    users: Annotated[int, Field(ge=1)] = Field(300, description="Virtual users.")
    days: Annotated[int, Field(ge=1, le=3650)] = Field(90, description="Days of simulated viewing.")
    interactions_per_user: Annotated[float, Field(gt=0)] = Field(
        9.7, description="Mean interactions of a user."
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Seed: the same seed gives the same audience.")


class LogSettings(BaseModel):
    """Logs, written to standard error by commands and to standard output by servers."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level written.")
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto` is `console` on a terminal and `json` elsewhere."
    )


class WorkerSettings(BaseModel):
    """The process that runs pipelines."""

    concurrency: Annotated[int, Field(ge=1, le=64)] = Field(1, description="Pipelines run at a time.")
    stalled_seconds: Annotated[int, Field(ge=2, le=600)] = Field(
        10, description="A run whose worker has been silent this long is taken up again."
    )


class ApiSettings(BaseModel):
    """The HTTP API."""

    wait_seconds: Annotated[float, Field(ge=0, le=86_400)] = Field(
        900, description="How long `POST /run/*` waits for its run before it answers 202 with the run id."
    )
    database_seconds: Annotated[float, Field(gt=0, le=60)] = Field(
        2, description="How long an answer waits for the database before it is given without."
    )
    shutdown_seconds: Annotated[int, Field(ge=1, le=600)] = Field(
        10, description="How long requests under way may take to finish when the API is stopped."
    )
    processes: Annotated[int, Field(ge=1, le=64)] = Field(1, description="API processes on one port.")
    ops_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None, description="Port of `/metrics`, `/livez` and `/readyz` alone. Unset: they are on the API's."
    )
    deadline_ms: Annotated[float, Field(gt=0, le=10_000)] = Field(
        50, description="How long a personal list may take before the precomputed or popular one is given."
    )
    user_cache_mib: Annotated[float, Field(gt=0)] = Field(
        64, description="Memory for what is known of recent users, per process."
    )
    group_commit_ms: Annotated[float, Field(ge=0, le=100)] = Field(
        5, description="How long an event waits at most for others to share its transaction."
    )
    exploration: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0, description="Expected share of the places of a list given to items with few interactions."
    )
    cors_origins: Names = Field(
        (),
        description="Other sites whose pages may call the API, such as `https://example.org`, "
        "separated by commas.",
    )
    trusted_proxies: Names = Field(
        (),
        description="Addresses or networks of proxies whose `X-Forwarded-For` is believed, "
        "separated by commas.",
    )
    rate_per_key: str = Field("1000/second", description="Requests that one API key or visitor may make.")
    rate_per_address: str = Field("200/second", description="Requests of one address without a key.")
    max_concurrent: Annotated[int, Field(ge=1)] = Field(
        256, description="Requests under way in one process; more are refused with 503 at once."
    )
    slow_client_seconds: Annotated[float, Field(gt=0)] = Field(
        10, description="How long a client may take to send its request."
    )
    history_days_ahead: Annotated[float, Field(ge=0)] = Field(
        0.01, description="How far in the future an event may lie (clocks differ), in days."
    )


class SiteSettings(BaseModel):
    """The site, served by the API."""

    folder: Path | None = Field(
        None, description="Folder of the built site. Unset: the one that ships with Marquee."
    )
    api: Url | None = Field(
        None, description="Where its pages find the API. Unset: where they come from themselves."
    )
    languages: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[a-z]{2}(-[A-Z]{2})?$")], ...],
        NoDecode,
        BeforeValidator(_split),
        Field(min_length=1),
    ] = Field(("en", "ko"), description="Languages it offers, separated by commas.")
    images: Url = Field("https://image.tmdb.org/t/p", description="Where posters come from.")
    mlflow_url: Url | None = Field(None, description="MLflow, linked for operators.")
    airflow_url: Url | None = Field(None, description="Airflow, linked for operators.")
    grafana_url: Url | None = Field(None, description="Grafana, linked for operators.")


class GateSettings(BaseModel):
    """What a challenger must show before it becomes champion."""

    margin: Annotated[float, Field(ge=0, le=1)] = Field(
        0.02, description="Share of the champion's NDCG@10 that may be lost for a better second metric."
    )
    second_metric: Literal["coverage_at_10", "recall_at_20", "novelty", "diversity"] = Field(
        "coverage_at_10", description="The metric that must be better where NDCG@10 is only not worse."
    )
    slice_drop: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="Share of the champion's NDCG@10 that a slice may lose."
    )
    max_bundle_mib: Annotated[float, Field(gt=0)] = Field(2048, description="Largest bundle.")
    max_latency_ms: Annotated[float, Field(gt=0)] = Field(
        50, description="Slowest single request (95th percentile of 100 replayed ones)."
    )
    min_accuracy: Annotated[float, Field(ge=0, le=1)] = Field(
        0.9, description="Least test accuracy of a predictor."
    )
    max_cross_entropy: Annotated[float, Field(gt=0)] = Field(
        0.5, description="Greatest test cross-entropy of a predictor, in nats."
    )


class CanarySettings(BaseModel):
    """When a canary is rolled back by itself."""

    max_error_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        0.02, description="Share of its answers that another model had to give."
    )
    max_latency_ms: Annotated[float, Field(gt=0)] = Field(100, description="95th percentile of its answers.")
    hit_rate_drop: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="Share of the champion's online hit rate that it may lose."
    )
    min_answers: Annotated[int, Field(ge=1)] = Field(
        100, description="Answers of each arm before anything is decided."
    )
    max_hours: Annotated[float, Field(gt=0)] = Field(
        72, description="A canary that cannot be told apart for so long is rolled back."
    )


class MlflowSettings(BaseModel):
    """Experiment tracking."""

    tracking_uri: str | None = Field(
        None, description="An MLflow server or database. Unset: a database of its own beside Marquee's."
    )
    port: Annotated[int, Field(ge=1, le=65535)] = Field(5001, description="Port of `marquee mlflow`.")


class Paths(BaseModel):
    """Where things live under `MARQUEE_HOME`."""

    home: Path

    @cached_property
    def postgres(self) -> Path:
        """Data directory and log of the embedded PostgreSQL."""
        return self.home / "postgres"

    @cached_property
    def objects(self) -> Path:
        """The object directory: raw files, snapshots, bundles."""
        return self.home / "objects"

    @cached_property
    def bundles(self) -> Path:
        """Unpacked, verified bundles, by digest."""
        return self.home / "bundles"

    @cached_property
    def checkpoints(self) -> Path:
        """Training checkpoints, by run."""
        return self.home / "checkpoints"

    @cached_property
    def mlflow(self) -> Path:
        """MLflow artifacts."""
        return self.home / "mlflow"

    @cached_property
    def secrets(self) -> Path:
        """Keys that Marquee makes for itself."""
        return self.home / "secrets"

    @cached_property
    def logs(self) -> Path:
        """Log files of the processes that `marquee up` starts."""
        return self.home / "logs"

    def as_dict(self) -> dict[str, Path]:
        """Name → directory, in the order of a listing."""
        names = ("home", "postgres", "objects", "bundles", "checkpoints", "mlflow", "secrets", "logs")
        return {name: getattr(self, name) for name in names}


class Settings(BaseSettings):
    """All settings of Marquee."""

    model_config = SettingsConfigDict(
        env_prefix="MARQUEE_",
        env_nested_delimiter="__",
        env_file=".env",
        extra="ignore",
        frozen=True,
    )

    home: Path = Field(
        Path("~/.marquee"), description="Where Marquee keeps its database, objects, models and logs."
    )
    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(8000, description="Port of the API.")
    demo: bool = Field(False, description="Let visitors play any virtual user.")
    operator_key_file: Path | None = Field(
        None, description="File with an operator key that is valid from the start, for containers."
    )
    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    objects: ObjectSettings = Field(default_factory=ObjectSettings)
    backup: BackupSettings = Field(default_factory=BackupSettings)
    tmdb: TmdbSettings = Field(default_factory=TmdbSettings)
    audience: AudienceSettings = Field(default_factory=AudienceSettings)
    api: ApiSettings = Field(default_factory=ApiSettings)
    site: SiteSettings = Field(default_factory=SiteSettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    gate: GateSettings = Field(default_factory=GateSettings)
    canary: CanarySettings = Field(default_factory=CanarySettings)
    mlflow: MlflowSettings = Field(default_factory=MlflowSettings)
    log: LogSettings = Field(default_factory=LogSettings)

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @cached_property
    def paths(self) -> Paths:
        """Where things live."""
        return Paths(home=self.home)


def load_settings(**overrides: Any) -> Settings:
    """
    Settings from the environment.

    Args:
        overrides: fields that win over the environment (command-line options).

    Raises:
        ConfigError: naming each wrong variable and what it must be.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        problems = [
            f"MARQUEE_{'__'.join(str(part) for part in item['loc']).upper()} {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        ]
        raise ConfigError("; ".join(problems), fix="See docs/configuration.md.") from None
