"""
Upgrade: what an older release has left is carried over to what this one needs.

In the order in which one needs the other: the embedded PostgreSQL's files, the schema, the deployed bundles.
Each part is looked at first and left alone where nothing is due, so that to begin again is always right.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from sqlalchemy import Connection

from marquee.config import Settings
from marquee.errors import IncompatibleBundleError, NotFoundError, StoreUnavailableError
from marquee.store import bundles, formats, majors
from marquee.store.migrations import HEAD, revision_of, runs_with
from marquee.store.objects import ObjectStore
from marquee.store.postgres import Database
from marquee.store.repositories import deployments
from marquee.telemetry import get_logger

__all__ = ["Part", "look", "upgrade"]

Told = Callable[[str, int, int], None]

LATER: Final = "known once what comes before it is done"


@dataclass(frozen=True)
class Part:
    """
    One of the things that are carried over.

    Attributes:
        found: what there is.
        wanted: what this release needs.
        due: whether there is something to do, or was, of what is done; None where that cannot be told yet.
        done: what was done; None before, and where nothing was due.
        notes: what could not be carried over, and what to do.
    """

    name: Literal["postgresql", "schema", "bundles"]
    found: str
    wanted: str
    due: bool | None
    done: str | None = None
    notes: tuple[str, ...] = ()


def look(settings: Settings) -> list[Part]:
    """
    What there is and what is due, in the order in which it is done; nothing is changed.

    The embedded server is started for it; a home that has none yet needs nothing.
    """
    if settings.database.url is None:
        old = majors.outdated(settings.paths)
        if old is not None:
            return [
                _postgresql(old.major, old.bundled),
                Part("schema", LATER, _revision(HEAD), due=None),
                Part("bundles", LATER, _format(), due=None),
            ]
        if not settings.paths.postgres.exists():
            return []
    with Database.open(settings, prepare=False) as database:
        with database.begin() as connection:
            schema = _schema(connection)
        if schema.due:
            return [schema, Part("bundles", LATER, _format(), due=None)]
        return [schema, _bundles(database, ObjectStore.of(settings))]


def upgrade(settings: Settings, *, old_binaries: Path | None = None, told: Told) -> list[Part]:
    """
    Carry over what is due.

    Args:
        old_binaries: folder of the programs of the older PostgreSQL; default: where systems have them.
        told: of each step, how much of it is done and how much there is.

    Returns:
        What was found, and what was done.

    Raises:
        StoreError: PostgreSQL's files could not be carried over; they are as they were.
        ConfigError: the database is of a newer Marquee, or of a PostgreSQL that is too old.
    """
    parts = []
    if settings.database.url is None:
        made = majors.carry_over(settings.paths, old_binaries, told=told)
        if made is not None:
            done = (
                f"{len(made.databases)} databases, {made.tables} tables, {made.rows:,} rows; {made.kept} kept"
            )
            parts.append(_postgresql(made.major, made.bundled, done))
    with Database.open(settings, prepare=False) as database:
        with database.begin() as connection:
            schema = _schema(connection)
        told("migrate the schema", 0, 1)
        database.prepare()
        told("migrate the schema", 1, 1)
        parts.append(_finished(schema, f"migrated to {_revision(HEAD)}"))
        parts.append(_bundles(database, ObjectStore.of(settings), settings.paths.bundles, told))
    get_logger().info("upgrade.done", parts=[part.name for part in parts if part.done])
    return parts


def _postgresql(major: int, bundled: int, done: str | None = None) -> Part:
    return Part("postgresql", f"PostgreSQL {major}", f"PostgreSQL {bundled}", due=True, done=done)


def _schema(connection: Connection) -> Part:
    found = revision_of(connection)
    if found is None:
        return Part("schema", "no tables", _revision(HEAD), due=True)
    if found != HEAD and runs_with(connection, found):
        return Part("schema", f"{_revision(found)}, of a newer Marquee", _revision(HEAD), due=False)
    return Part("schema", _revision(found), _revision(HEAD), due=found != HEAD)


def _bundles(
    database: Database, objects: ObjectStore, cache: Path | None = None, told: Told | None = None
) -> Part:
    """
    The formats of what is deployed.

    Args:
        cache: where bundles of older formats are converted; None: they are only looked at.
    """
    with database.begin() as connection:
        deployed = {one.bundle: one for one in deployments.current_all(connection).values()}
    older, notes = [], []
    for number, (key, deployment) in enumerate(deployed.items()):
        if told is not None:
            told("look at bundles", number, len(deployed))
        try:
            manifest = bundles.read_manifest(objects, key)
            if manifest["format_version"] < formats.FORMAT_VERSION:
                older.append(key)
                if cache is not None:
                    bundles.load(objects, key, cache)
        except (NotFoundError, IncompatibleBundleError, StoreUnavailableError) as error:
            notes.append(f"{deployment.slot}: {error}")
    if told is not None:
        told("look at bundles", len(deployed), len(deployed))
    found = f"{len(deployed)} deployed, {len(older)} of an older format"
    part = Part("bundles", found, _format(), due=bool(older), notes=tuple(notes))
    return part if cache is None else _finished(part, f"{len(older)} converted in {cache}")


def _finished(part: Part, done: str) -> Part:
    more: dict[str, Any] = {"done": done} if part.due else {}
    return Part(**{**vars(part), **more})


def _revision(name: str) -> str:
    return f"revision {name}"


def _format() -> str:
    return f"format {formats.FORMAT_VERSION}"
