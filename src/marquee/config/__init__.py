"""
Settings: the only reader of the environment.

Every setting is an environment variable `MARQUEE_<NAME>`; nested ones are joined by two underscores
(`MARQUEE_DATABASE__URL`). A `.env` file in the working directory is read too. `docs/configuration.md` is
generated from these classes.
"""

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
from marquee.config.settings import Paths, Settings, load_settings
from marquee.config.values import reachable

__all__ = [
    "ApiSettings",
    "AudienceSettings",
    "BackupSettings",
    "CanarySettings",
    "DatabaseSettings",
    "FeaturesSettings",
    "GateSettings",
    "LogSettings",
    "MlflowSettings",
    "MonitorSettings",
    "ObjectSettings",
    "OpsSettings",
    "Paths",
    "RetentionSettings",
    "ScheduleSettings",
    "Settings",
    "SiteSettings",
    "TmdbSettings",
    "TraceSettings",
    "WorkerSettings",
    "load_settings",
    "reachable",
]
