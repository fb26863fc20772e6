"""Raw files: what came in, wherever it lies, and when it came in."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from marquee.store.backups import Vault
from marquee.store.objects import ObjectStore

__all__ = ["RawFile", "raw_files"]

_KEY: Final = re.compile(r"raw/(?P<source>.+)/(?P<day>\d{4}/\d\d/\d\d)/[0-9a-f]{64}(?P<ending>.*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class RawFile:
    """
    A raw file.

    Attributes:
        key: of the object.
        source: its name in the tables.
        day: the beginning of the day on which it came in.
        ending: of its name, behind the digest.
        came_in: when; where that is not `known`, it was no later than this.
    """

    key: str
    source: str
    day: datetime
    ending: str
    came_in: datetime
    known: bool

    @property
    def folder(self) -> str:
        """Of the files of one source and day."""
        return self.key.rpartition("/")[0]


def raw_files(
    objects: ObjectStore,
    *,
    after: datetime | None = None,
    until: datetime | None = None,
    ask: bool = True,
) -> Iterator[RawFile]:
    """
    The raw files of the archive and of the object directory, in no order.

    The name of a file holds its day. The time of day is that of the file where it was made, which goes with
    it to the archive; a copy that was fetched, or sent late, is younger than what it holds.

    Args:
        after, until: only those of the days between.
        ask: whether to ask the archive of each when it was made; else that is known of no file there.
    """
    vault = Vault(objects)
    seen = {item.key: item.modified for item in vault.remote.list("raw")}
    remote = set(seen) if vault.is_remote else set()
    for ref in objects.list("raw"):
        here = datetime.fromtimestamp((objects.root / ref.key).stat().st_mtime, UTC)
        seen[ref.key] = min(here, seen.get(ref.key, here))
    for key, moment in seen.items():
        name = _KEY.fullmatch(key)
        if name is None:
            continue
        day = datetime.strptime(name["day"], "%Y/%m/%d").replace(tzinfo=UTC)
        end = day + timedelta(days=1)
        if (after is not None and end <= after) or (until is not None and day > until):
            continue
        made = moment if key not in remote else vault.remote.made_at(key) if ask else None
        came_in = min(moment, made or moment, end)
        yield RawFile(key, name["source"], day, name["ending"], came_in, made is not None and came_in < end)
