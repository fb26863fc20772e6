"""What a backup is: a manifest whose name holds its moment and its digest."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Self

from marquee.errors import DamagedObjectError, StoreError

__all__ = ["FOLDER", "FORMAT_VERSION", "Backup", "BackupTable", "Piece", "name_moment"]

FORMAT_VERSION: Final = 1
FOLDER: Final = "backups"

_NAME: Final = re.compile(r"(?P<moment>\d{8}T\d{6}\.\d{6}Z)-(?P<digest>[0-9a-f]{12})\.json", re.ASCII)
_MOMENT: Final = "%Y%m%dT%H%M%S.%fZ"
_TABLE: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}", re.ASCII)
_OBJECT: Final = re.compile(
    r"(?:[A-Za-z0-9_=+@:,-][A-Za-z0-9._=+@:,-]*/)+[0-9a-f]{64}[A-Za-z0-9._-]*", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Piece:
    """
    Some rows of a table, in one Parquet object.

    Attributes:
        key: of the object; its name begins with the SHA-256 of the content.
        size: of the object in bytes.
        low, high: the rows are those of `low <= column < high` of a table that grows at its end, times in
            microseconds since 1970; None of a table that is written anew each time.
        mark: with `rows`, what tells cheaply whether the rows are still the same.
        confirmed: the backup, by its moment, that last looked whether they are.
    """

    key: str
    rows: int
    size: int
    low: int | None = None
    high: int | None = None
    mark: str = ""
    confirmed: str = ""

    @property
    def sha256(self) -> str:
        """Digest of the object."""
        return self.key.rpartition("/")[2][:64]

    @property
    def bounds(self) -> tuple[int, int]:
        """Of a table that grows at its end."""
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high


@dataclass(frozen=True, slots=True)
class BackupTable:
    """
    A table.

    Attributes:
        columns: name → type as PostgreSQL writes it; generated ones are left out.
        sequence: the last value of its identity column and whether it has been given away.
    """

    columns: Mapping[str, str]
    pieces: Sequence[Piece]
    sequence: tuple[int, bool] | None = None

    @property
    def rows(self) -> int:
        """Of all pieces."""
        return sum(piece.rows for piece in self.pieces)

    @property
    def size(self) -> int:
        """Bytes of all pieces."""
        return sum(piece.size for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Backup:
    """
    A manifest.

    Attributes:
        created_at: the moment of the snapshot: what was committed before is in it, and nothing else.
        revision: of the schema.
        code_version: of Marquee.
        in_flight: transactions from this number on may have been under way.
        tables: by name.
        objects: keys of what else must be there: the bundles of all deployments.
        missing: those of them that were nowhere to be found.
    """

    created_at: datetime
    revision: str
    code_version: str
    in_flight: int
    tables: Mapping[str, BackupTable]
    objects: Sequence[str] = ()
    missing: Sequence[str] = field(default=())

    @property
    def name(self) -> str:
        """Sorts by time."""
        return f"{self.created_at:{_MOMENT}}-{hashlib.sha256(self.encode()).hexdigest()[:12]}"

    @property
    def key(self) -> str:
        """Of the manifest."""
        return f"{FOLDER}/{self.name}.json"

    @property
    def rows(self) -> int:
        """Of all tables."""
        return sum(table.rows for table in self.tables.values())

    @property
    def size(self) -> int:
        """Bytes of all tables."""
        return sum(table.size for table in self.tables.values())

    def only(self, names: Sequence[str]) -> dict[str, BackupTable]:
        """
        Some tables, in the order of the backup; default: all.

        Raises:
            ValueError: no such table.
        """
        unknown = [name for name in names if name not in self.tables]
        if unknown:
            raise ValueError(
                f"The backup has no table {unknown[0]!r}; it has: {', '.join(sorted(self.tables))}"
            )
        return {name: table for name, table in self.tables.items() if not names or name in names}

    def encode(self) -> bytes:
        """The manifest as it is stored."""
        content = {**asdict(self), "created_at": self.created_at.isoformat(), "format": FORMAT_VERSION}
        return json.dumps(content, sort_keys=True, indent=1).encode()

    @classmethod
    def decode(cls, key: str, content: bytes) -> Self:
        """
        A manifest, verified by its name.

        Raises:
            DamagedObjectError: it is not what was stored under this name.
            StoreError: another version of Marquee wrote it.
        """
        match = _NAME.fullmatch(key.rpartition("/")[2])
        if match is None or not hashlib.sha256(content).hexdigest().startswith(match["digest"]):
            raise _damaged(key, "its content has not the digest in its name")
        try:
            values: dict[str, Any] = json.loads(content)
            version = values.pop("format")
            if version != FORMAT_VERSION:
                raise StoreError(
                    f"The backup {key} has the format {version}; this Marquee reads {FORMAT_VERSION}.",
                    fix=f"Use Marquee {values.get('code_version')}.",
                )
            values["created_at"] = datetime.fromisoformat(values["created_at"])
            values["tables"] = {name: _table(name, table) for name, table in values["tables"].items()}
            return cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise _damaged(key, f"it is not one of ours ({error})") from error


def name_moment(key: str) -> datetime | None:
    """The moment in the name of a manifest; None of another object."""
    match = _NAME.fullmatch(key.rpartition("/")[2])
    return None if match is None else datetime.strptime(match["moment"], _MOMENT).replace(tzinfo=UTC)


def _table(name: str, table: Mapping[str, Any]) -> BackupTable:
    """Names of tables stand in statements, and keys of pieces in paths: anything else is refused."""
    if not _TABLE.fullmatch(name):
        raise ValueError(f"{name!r} is no table")
    pieces = [Piece(**piece) for piece in table["pieces"]]
    for piece in pieces:
        if not _OBJECT.fullmatch(piece.key):
            raise ValueError(f"{piece.key!r} is no object")
    sequence = None if table["sequence"] is None else tuple(table["sequence"])
    return BackupTable(columns=table["columns"], pieces=pieces, sequence=sequence)


def _damaged(key: str, reason: str) -> DamagedObjectError:
    return DamagedObjectError(
        f"The manifest {key} is damaged: {reason}.",
        fix="Restore an older backup; `marquee backup list` shows them.",
    )
