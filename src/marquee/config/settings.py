"""All settings, read from the environment."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from marquee.config.data import (
    AudienceSettings,
    BackupSettings,
    DatabaseSettings,
    FeaturesSettings,
    MlflowSettings,
    ObjectSettings,
    RetentionSettings,
    TmdbSettings,
)
from marquee.config.operations import (
    LogSettings,
    MonitorSettings,
    OpsSettings,
    ScheduleSettings,
    TraceSettings,
    WorkerSettings,
)
from marquee.config.serving import ApiSettings, CanarySettings, GateSettings, SiteSettings
from marquee.errors import ConfigError

__all__ = ["Paths", "Settings", "load_settings"]


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
    def evaluations(self) -> Path:
        """Lists that were ranked to compare models, to be taken up again."""
        return self.home / "evaluations"

    @cached_property
    def mlflow(self) -> Path:
        """MLflow artifacts."""
        return self.home / "mlflow"

    @cached_property
    def feast(self) -> Path:
        """Feast's registry and its online store, where that is a file."""
        return self.home / "feast"

    @cached_property
    def secrets(self) -> Path:
        """Keys that Marquee makes for itself."""
        return self.home / "secrets"

    @cached_property
    def logs(self) -> Path:
        """Log files of the processes that `marquee up` starts."""
        return self.home / "logs"

    @cached_property
    def observe(self) -> Path:
        """Configuration and data of what `marquee ops up` starts."""
        return self.home / "observe"

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
    retention: RetentionSettings = Field(default_factory=RetentionSettings)
    tmdb: TmdbSettings = Field(default_factory=TmdbSettings)
    audience: AudienceSettings = Field(default_factory=AudienceSettings)
    api: ApiSettings = Field(default_factory=ApiSettings)
    site: SiteSettings = Field(default_factory=SiteSettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    gate: GateSettings = Field(default_factory=GateSettings)
    canary: CanarySettings = Field(default_factory=CanarySettings)
    monitor: MonitorSettings = Field(default_factory=MonitorSettings)
    features: FeaturesSettings = Field(default_factory=FeaturesSettings)
    mlflow: MlflowSettings = Field(default_factory=MlflowSettings)
    log: LogSettings = Field(default_factory=LogSettings)
    trace: TraceSettings = Field(default_factory=TraceSettings)
    schedule: ScheduleSettings = Field(default_factory=ScheduleSettings)
    ops: OpsSettings = Field(default_factory=OpsSettings)

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @property  # not kept: a copy of the settings with another home has other paths
    def paths(self) -> Paths:
        """Where things live."""
        return Paths(home=self.home)

    @property
    def local_worker_port(self) -> int | None:
        """
        Where the metrics of the worker of `marquee up` are.

        If that is not set, it is the port behind the API's, and never one of its.
        """
        if self.worker.ops_port is not None:
            return self.worker.ops_port
        taken = (self.port, self.api.ops_port)
        port = next(port for port in range(self.port + 1, self.port + 4) if port not in taken)
        return port if port <= 65535 else None


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
