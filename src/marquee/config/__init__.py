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
    MlflowSettings,
    ObjectSettings,
    TmdbSettings,
)
from marquee.config.operations import LogSettings, WorkerSettings
from marquee.config.serving import ApiSettings, CanarySettings, GateSettings, SiteSettings
from marquee.config.settings import Paths, Settings, load_settings

__all__ = [
    "ApiSettings",
    "AudienceSettings",
    "BackupSettings",
    "CanarySettings",
    "DatabaseSettings",
    "GateSettings",
    "LogSettings",
    "MlflowSettings",
    "ObjectSettings",
    "Paths",
    "Settings",
    "SiteSettings",
    "TmdbSettings",
    "WorkerSettings",
    "load_settings",
]
