"""Settings of where things come from and are kept."""

import os
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import BaseModel, BeforeValidator, Field, SecretStr, field_validator, model_validator

from marquee.config.values import Url
from marquee.errors import ConfigError

__all__ = [
    "AudienceSettings",
    "BackupSettings",
    "DatabaseSettings",
    "FeaturesSettings",
    "MlflowSettings",
    "ObjectSettings",
    "RetentionSettings",
    "TmdbSettings",
]

SecretFile = Annotated[Path | None, BeforeValidator(lambda value: value or None)]
"""A file with one line; no name is no file, since Compose cannot leave a variable out."""
PLACEHOLDERS = {"changeme", "change-me", "secret", "password", "your-key", "xxx"}
SHOWN_DAYS = 8
"""The console shows what became of the answers of a week, by the clock; monitoring looks back less far."""


class DatabaseSettings(BaseModel):
    """PostgreSQL."""

    url: SecretStr | None = Field(
        None,
        description="`postgresql://user:password@host:port/name` of a server (PostgreSQL 15 or newer). "
        "Unset: Marquee starts its own, embedded one in its home.",
    )
    password_file: SecretFile = Field(
        None, description="File with the password of the user in that URL, for containers."
    )
    pool_size: Annotated[int, Field(ge=1, le=100)] = Field(5, description="Connections kept per process.")
    connect_timeout_seconds: Annotated[int, Field(ge=1, le=300)] = Field(
        5, description="How long a connection attempt may take."
    )
    statement_timeout_seconds: Annotated[int, Field(ge=0)] = Field(
        0,
        description="How long one statement of the API may take, but for those that read or write much; "
        "0: no limit.",
    )

    def at(self, url: str) -> Self:
        """The same for the database of another URL, which brings its own password."""
        return type(self)(**{**self.model_dump(), "url": SecretStr(url), "password_file": None})

    @field_validator("url")
    @classmethod
    def _postgres_only(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("must start with postgresql:// (PostgreSQL is the only database Marquee speaks)")
        return value

    @model_validator(mode="after")
    def _with_password(self) -> Self:
        """Put the password into the URL, where everyone who connects finds it."""
        if self.password_file is None:
            return self
        name = "MARQUEE_DATABASE__PASSWORD_FILE"
        password = _read_secret(name, self.password_file)
        if not password:
            raise ConfigError(f"{name} {self.password_file} is empty.", fix="Write the password into it.")
        if self.url is None:
            raise ConfigError(
                f"{name} is set, and MARQUEE_DATABASE__URL is not.",
                fix="Set it to postgresql://user@host:port/name.",
            )
        self.url = SecretStr(_with_user_password(self.url.get_secret_value(), password))
        return self


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
        description="Within so many days, what was stored of an erased user is gone also from input files, "
        "snapshots and batch predictions that cannot be rewritten.",
    )


class RetentionSettings(BaseModel):
    """
    How long what piles up is kept; 0: for ever. What is older goes daily: behind a backup where there is an
    archive, else by itself (docs/deployment.md has the table).
    """

    answers_days: Annotated[int, Field(ge=0, le=36_500)] = Field(
        400,
        description="Answers that were given: impressions, shadow answers, predictions. At least "
        f"{SHOWN_DAYS}: the console looks a week back. What a running experiment is measured by stays.",
    )
    log_days: Annotated[int, Field(ge=0, le=36_500)] = Field(90, description="What runs have logged.")
    files_days: Annotated[int, Field(ge=0, le=36_500)] = Field(
        90,
        description="Snapshots, features and batch predictions in the object store, here and in the archive, "
        "and on this machine unpacked bundles that nobody has used and rankings of evaluations. The newest "
        "files and bundles stay, and what serves.",
    )

    @field_validator("answers_days")
    @classmethod
    def _long_enough(cls, value: int) -> int:
        if 0 < value < SHOWN_DAYS:
            raise ValueError(f"must be 0, for ever, or at least {SHOWN_DAYS}")
        return value


class TmdbSettings(BaseModel):
    """The TMDB API, source of the catalogue."""

    bearer_token: SecretStr | None = Field(None, description="TMDB API read access token (v4).")
    bearer_token_file: SecretFile = Field(
        None, description="File with that token, for containers. Empty: there is none."
    )
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

    @model_validator(mode="after")
    def _with_token(self) -> Self:
        if self.bearer_token_file is None:
            return self
        name = "MARQUEE_TMDB__BEARER_TOKEN_FILE"
        token = SecretStr(_read_secret(name, self.bearer_token_file).strip())
        if self.bearer_token not in (None, token):
            raise ConfigError(
                f"{name} and MARQUEE_TMDB__BEARER_TOKEN are both set.", fix="Unset one of them."
            )
        self.bearer_token = self._no_placeholder(token) if token else None
        return self

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


class FeaturesSettings(BaseModel):
    """Where features are kept (docs/features.md)."""

    store: Literal["builtin", "feast"] = Field(
        "builtin", description="`feast` needs the extra `feast`, which `make setup-feast` installs."
    )
    offline: Literal["duckdb", "dask"] = Field(
        "duckdb",
        description="Offline store of Feast. `dask` is refused: it loses rows that match no feature.",
    )
    online: Literal["sqlite", "postgresql", "redis"] = Field(
        "sqlite", description="Online store of Feast; `sqlite` is a file in the home."
    )
    online_url: SecretStr | None = Field(
        None,
        description="`postgresql://…` or `redis://…` of the online store. Unset: Marquee's own database, or "
        "Redis on this machine.",
    )
    moments: Annotated[int, Field(ge=1, le=1000)] = Field(
        8,
        description="Moments of the past that features are kept of, with about as many events between them.",
    )

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.store != "feast":
            return self
        if self.offline == "dask":
            raise ConfigError(
                "MARQUEE_FEATURES__OFFLINE is dask, which loses rows that match no feature.",
                fix="Unset it: DuckDB keeps every row.",
            )
        schemes = {
            "sqlite": (),
            "postgresql": ("postgresql://", "postgres://"),
            "redis": ("redis://", "rediss://"),
        }
        if self.online_url and not self.online_url.get_secret_value().startswith(schemes[self.online]):
            raise ConfigError(
                f"MARQUEE_FEATURES__ONLINE_URL is not an address of {self.online}.",
                fix="Set MARQUEE_FEATURES__ONLINE to the kind of store that it is of.",
            )
        return self


class MlflowSettings(BaseModel):
    """Experiment tracking."""

    tracking_uri: str | None = Field(
        None, description="An MLflow server or database. Unset: a database of its own beside Marquee's."
    )
    port: Annotated[int, Field(ge=1, le=65535)] = Field(5001, description="Port of `marquee mlflow`.")


def _read_secret(name: str, path: Path) -> str:
    """The line in a file that a setting names, which may be empty."""
    try:
        secret = path.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ConfigError(
            f"{name} {path} cannot be read: {reason}.",
            fix="Name a file that the user of this process may read.",
        ) from None
    if not secret.isprintable():
        raise ConfigError(
            f"{name} {path} holds more than one line of text.", fix="Keep the secret alone in it."
        )
    return secret


def _with_user_password(url: str, password: str) -> str:
    """The URL with a password, quoted; the rest of it as it is, since it may name several hosts."""
    parts = urlsplit(url)
    account, at, hosts = parts.netloc.rpartition("@")
    user, colon, own = account.partition(":")
    quoted = quote(password, safe="")
    if not at or not user:
        raise ConfigError(
            "MARQUEE_DATABASE__PASSWORD_FILE is set, and MARQUEE_DATABASE__URL names no user.",
            fix="Write postgresql://user@host:port/name.",
        )
    if colon and own != quoted:
        raise ConfigError(
            "MARQUEE_DATABASE__URL holds a password, and MARQUEE_DATABASE__PASSWORD_FILE is set.",
            fix="Leave the password out of the URL, or unset the file.",
        )
    return urlunsplit(parts._replace(netloc=f"{user}:{quoted}@{hosts}"))
