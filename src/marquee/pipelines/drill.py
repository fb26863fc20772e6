"""
The drill: lose a whole deployment on purpose and bring it back from its archive.

It works on scratch homes with servers of their own; what proves it is what people would miss: every row of
every table, and everyone's recommendations.
"""

import hashlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import numpy as np

from marquee.config import (
    AudienceSettings,
    DatabaseSettings,
    FeaturesSettings,
    MlflowSettings,
    ObjectSettings,
    Settings,
    TmdbSettings,
)
from marquee.pipelines.infer import recommend_all
from marquee.pipelines.recovery import recover
from marquee.pipelines.run import run_here
from marquee.store.backups import take_backup
from marquee.store.backups.fingerprint import fingerprint
from marquee.store.backups.vault import Told
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.remote import RemoteStore

__all__ = ["DrillReport", "run_drill"]

LISTED: Final = 20


@dataclass(frozen=True, slots=True)
class DrillReport:
    """
    What a drill showed.

    Attributes:
        passed: all tables are byte-equal, and everyone's recommendations the same.
        different: tables that are not.
        champion: whose lists were compared.
        seconds: what each part took.
    """

    passed: bool
    different: list[str]
    same_recommendations: bool
    rows: int
    users: int
    champion: str
    seconds: dict[str, float]


def run_drill(
    settings: Settings, folder: Path | None = None, *, users: int = 100, told: Told | None = None
) -> DrillReport:
    """
    Pipeline, backup, everything dropped, restore, comparison.

    Args:
        settings: of the deployment; with an archive, a folder of its own there is used and removed again.
        folder: for the scratch homes; default: a temporary one. Removed again, too.
    """
    with ExitStack() as stack:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="marquee-drill-", dir=folder)))
        archive = settings.objects
        if archive.url is None:
            archive = archive.model_copy(update={"url": f"file://{quote(str(scratch / 'archive'))}"})
        else:
            archive = archive.model_copy(update={"url": f"{archive.url.rstrip('/')}/{scratch.name}"})
            stack.callback(_remove, archive)
        return _Drill(settings, archive, scratch, users, told).run()


class _Drill:
    def __init__(
        self, settings: Settings, archive: ObjectSettings, scratch: Path, users: int, told: Told | None
    ) -> None:
        self._scratch = scratch
        self._users = users
        self._told = told
        self._seconds: dict[str, float] = {}
        self._settings = settings.model_copy(
            update={
                "database": DatabaseSettings(),
                "objects": archive,
                "tmdb": TmdbSettings(),
                "features": FeaturesSettings(),  # an online store of the deployment is not the drill's
                "mlflow": MlflowSettings(),
                "audience": AudienceSettings(users=users),
            }
        )

    def run(self) -> DrillReport:
        first, second = self._home("lost"), self._home("restored")
        with Database.open(first) as database:
            objects = ObjectStore.of(first)
            forced = {"force": True, "reason": "drill"}  # of so few users the gate may think little
            parameters = {"prepare": {"source": "sample"}, "train": {"model": "ease"}, "promote": forced}
            with self._timed("pipeline"):
                run_here(first, database, objects, "pipeline", parameters, on_progress=self._told)
            # Not as a run: what that would write behind its own snapshot is in no backup.
            with self._timed("backup"):
                backup = take_backup(database, objects, told=self._told)
            before = self._state(first, database, objects)
        shutil.rmtree(first.home)
        with Database.open(second, prepare=False) as database:
            objects = ObjectStore.of(second)
            with self._timed("restore"):
                recover(second, database, objects, told=self._told)
            with self._timed("first lists"):
                after = self._state(second, database, objects)
        different = [name for name in before.tables if before.tables[name] != after.tables[name]]
        same = before.lists == after.lists
        return DrillReport(
            passed=not different and same,
            different=different,
            same_recommendations=same,
            rows=backup.rows,
            users=self._users,
            champion=after.champion,
            seconds=self._seconds,
        )

    def _home(self, name: str) -> Settings:
        return self._settings.model_copy(update={"home": self._scratch / name})

    def _state(self, settings: Settings, database: Database, objects: ObjectStore) -> "_State":
        champion, user_ids, ranked = recommend_all(settings, database, objects, LISTED)
        digest = hashlib.sha256(user_ids.tobytes())
        for array in (ranked.item_ids, ranked.scores):
            digest.update(np.ascontiguousarray(array).tobytes())
        return _State(fingerprint(database), champion, digest.hexdigest())

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._seconds[name] = round(time.monotonic() - began, 3)


@dataclass(frozen=True, slots=True)
class _State:
    tables: dict[str, str]
    champion: str
    lists: str


def _remove(archive: ObjectSettings) -> None:
    remote = RemoteStore(archive)
    remote.delete(*(item.key for item in remote.list()))
