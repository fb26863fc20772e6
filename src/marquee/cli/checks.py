"""The checks of `marquee doctor`: each finds a fact and says how to mend it."""

import os
import platform
import shutil
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

from marquee.config import Settings
from marquee.errors import MarqueeError, ModelError

__all__ = ["Check", "run_checks"]

MINIMUM_FREE_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class Check:
    """
    What a check found.

    Attributes:
        state: `ok`, `note` (works, but something is missing) or `failed`.
        fix: what to do; None when all is well.
    """

    name: str
    state: Literal["ok", "note", "failed"]
    found: str
    fix: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """The fields by name."""
        return asdict(self)


def run_checks(settings: Settings) -> list[Check]:
    """All checks, in the order in which things are needed."""
    checks: list[Callable[[Settings], Check]] = [
        *(_python, _home, _disk, _port, _objects, _archive, _tmdb, _rankers)
    ]
    return [check(settings) for check in checks] + _database_and_models(settings)


def _python(_: Settings) -> Check:
    # An older Python never gets here: the installation refuses it.
    return Check("Python", "ok", f"{platform.python_version()} ({platform.system()} {platform.machine()})")


def _home(settings: Settings) -> Check:
    home = settings.home
    parent = next(path for path in (home, *home.parents) if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        return Check("home", "failed", f"{home} is not writable", "Set MARQUEE_HOME to a directory of yours.")
    return Check("home", "ok", str(home) if home.exists() else f"{home} (will be made)")


def _disk(settings: Settings) -> Check:
    parent = next(path for path in (settings.home, *settings.home.parents) if path.exists())
    free = shutil.disk_usage(parent).free
    found = f"{free / 1024**3:.1f} GiB free"
    if free < MINIMUM_FREE_BYTES:
        return Check("disk", "failed", found, f"Free at least {MINIMUM_FREE_BYTES // 1024**3} GiB.")
    return Check("disk", "ok", found)


def _port(settings: Settings) -> Check:
    address = f"{settings.host}:{settings.port}"
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            import httpx

            try:
                answer = httpx.get(f"http://{address}/info", timeout=2).json()
            except (httpx.HTTPError, ValueError):
                answer = {}
            if isinstance(answer, dict) and answer.get("service") == "marquee":
                return Check("port", "ok", f"{address} (Marquee {answer.get('version')} answers there)")
            return Check("port", "failed", f"{address}: {error.strerror}", "Set MARQUEE_PORT to a free port.")
    return Check("port", "ok", f"{address} is free")


def _objects(settings: Settings) -> Check:
    from marquee.store.objects import ObjectStore

    try:
        store = ObjectStore(settings.paths.objects)
        kept = store.put("doctor", b"marquee doctor\n", ".txt")
        store.get(kept.key)
    except (MarqueeError, OSError) as error:
        return Check(
            "object store", "failed", str(error), "Make the directory writable, or set MARQUEE_HOME."
        )
    return Check("object store", "ok", str(settings.paths.objects))


def _archive(settings: Settings) -> Check:
    from marquee.store.remote import RemoteStore

    try:
        remote = RemoteStore.open(settings.objects)
        if remote is None:
            fix = "Set MARQUEE_OBJECTS__URL to keep a second copy of everything elsewhere."
            return Check("archive", "note", "none: what this home loses is lost", fix)
        remote.put_named("doctor/marquee.txt", b"marquee doctor\n")
    except MarqueeError as error:
        return Check("archive", "failed", error.message, error.fix or "See docs/configuration.md.")
    return Check("archive", "ok", remote.url)


def _tmdb(settings: Settings) -> Check:
    if settings.tmdb.configured:
        return Check("TMDB key", "ok", "set")
    return Check(
        "TMDB key",
        "note",
        "not set: the sample catalogue is used",
        "Set MARQUEE_TMDB__BEARER_TOKEN for a live catalogue.",
    )


def _rankers(_: Settings) -> Check:
    from marquee.models.tree_ranker import load_lightgbm

    try:
        found = load_lightgbm()
    except ModelError as error:
        return Check("training of rankers", "note", error.message, error.fix)
    return Check("training of rankers", "ok", f"LightGBM {found.__version__}")


def _database_and_models(settings: Settings) -> list[Check]:
    from sqlalchemy import text

    from marquee.store.bundles import load
    from marquee.store.objects import ObjectStore
    from marquee.store.postgres import Database
    from marquee.store.repositories import deployments

    kind = "embedded" if settings.database.url is None else "by URL"
    try:
        with Database.open(settings) as database, database.begin() as connection:
            version = connection.execute(text("SHOW server_version")).scalar_one()
            slots = deployments.current_all(connection)
    except MarqueeError as error:
        return [
            Check("database", "failed", error.message, error.fix or "See docs/configuration.md."),
            Check("model", "note", "not known without a database"),
        ]
    checks = [Check("database", "ok", f"PostgreSQL {version}, {kind}")]
    if not slots:
        return [*checks, Check("model", "note", "none yet", "Run: marquee pipeline run")]
    for slot, deployed in slots.items():
        try:
            load(ObjectStore.of(settings), deployed.bundle, settings.paths.bundles)
        except MarqueeError as error:
            checks.append(Check(slot, "failed", error.message, "Train again: marquee pipeline run"))
        else:
            checks.append(Check(slot, "ok", f"{deployed.model} of {deployed.created_at:%Y-%m-%d %H:%M}"))
    if "champion" not in slots:
        checks.append(
            Check("champion", "note", "none yet: popular items are recommended", "Run: marquee promote")
        )
    return checks
