"""Input files without the rows of some users: found, and where the format allows it, rewritten."""

import csv
import gzip
import io
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final, Literal

import orjson
import polars as pl

from marquee.ingest.tables import ALIASES

__all__ = ["Finding", "rewrite"]

Finding = Literal["nobody", "others", "named", "rewritten"]
"""
What a file holds: no users at all, other users only, rows of those in question that stay in it, or such rows
until it was rewritten.
"""

USER_COLUMNS: Final = {"user_id", *(alias for alias, name in ALIASES.items() if name == "user_id")}
OLD_RATINGS: Final = {".dat": b"::", ".data": b"\t"}
"""MovieLens ratings of old: the user comes first."""
OF_OLD: Final = ("ratings.dat", "u.data")

UNREADABLE: Final = (
    csv.Error,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    zipfile.BadZipFile,
    pl.exceptions.PolarsError,
)

Records = Callable[[IO[bytes]], Iterator[tuple[bytes, Sequence[Any]]]]
"""Records as they are, each with whom it may name."""


def rewrite(path: Path, clean: Path, ending: str, users: Collection[int]) -> Finding:
    """
    Look for rows of users, and write the file without them.

    Args:
        path: the file.
        clean: where it is written; there is a file there whatever is found, or none.
        ending: of its name, in the object store's way: `.csv.gz`, `.movielens-ratings.dat`, `.zip`.
        users: whom to look for.
    """
    kind = ending.lower()
    try:
        if kind.endswith(".zip"):
            return _look_into_zip(path, users)
        if kind.endswith(".parquet"):
            return _rewrite_parquet(path, clean, users)
        return _rewrite_text(path, clean, kind, users)
    except UNREADABLE:
        return "named"  # nobody can tell


def _rewrite_text(path: Path, clean: Path, kind: str, users: Collection[int]) -> Finding:
    records = _records_of(kind.removesuffix(".gz"))
    if records is None:
        return "nobody"
    opener: Any = gzip.open if kind.endswith(".gz") else open
    found: Finding = "nobody"
    with opener(path, "rb") as file, opener(clean, "wb") as kept:
        for record, named in records(file):
            if any(_number(user) in users for user in named):
                found = "rewritten"
                continue
            if named and found == "nobody":
                found = "others"
            kept.write(record)
    return found


def _records_of(kind: str) -> Records | None:
    """How a file of text is read; None where no users are in it."""
    if kind.endswith((".csv", ".tsv")):
        separator = "," if kind.endswith(".csv") else "\t"
        return lambda file: _csv_records(file, separator)
    if kind.endswith((".jsonl", ".ndjson")):
        return _json_lines
    if kind.endswith(("ratings.dat", "ratings.data")):
        mark = OLD_RATINGS[f".{kind.rpartition('.')[2]}"]
        return lambda file: ((line, [line.partition(mark)[0]]) for line in file)
    return None


def _csv_records(file: IO[bytes], separator: str) -> Iterator[tuple[bytes, Sequence[str]]]:
    place: int | None = None
    for number, record in enumerate(_quoted_lines(file)):
        if number == 0:
            names = [name.strip() for name in _cells(record, separator)]
            place = next((i for i, name in enumerate(names) if name in USER_COLUMNS), None)
            yield record, ()
            continue
        # Where quotes do not match, lines that were joined may be rows of their own.
        parts = {record, *record.splitlines()} if place is not None else ()
        rows = [_cells(part, separator) for part in parts]
        yield record, [row[place] for row in rows if place is not None and place < len(row)]


def _cells(record: bytes, separator: str) -> list[str]:
    text = record.decode(errors="surrogateescape").lstrip("\ufeff")
    return next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])


def _quoted_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Lines, those within quotes joined."""
    record = b""
    for line in file:
        record += line
        if record.count(b'"') % 2 == 0:
            yield record
            record = b""
    if record:
        yield record


def _json_lines(file: IO[bytes]) -> Iterator[tuple[bytes, Sequence[Any]]]:
    for line in file:
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            row = None
        named = [row.get(column) for column in USER_COLUMNS] if isinstance(row, dict) else []
        yield line, [user for user in named if user is not None]


def _number(user: Any) -> int | None:
    """A user as the contract reads it: `7`, `"07"` and `7.0` are one."""
    try:
        number = float(user) if isinstance(user, float) else int(user)
    except (ValueError, TypeError, OverflowError):
        return None
    return int(number) if number == number // 1 else None


def _rewrite_parquet(path: Path, clean: Path, users: Collection[int]) -> Finding:
    rows = pl.scan_parquet(path)
    column = next((name for name in rows.collect_schema().names() if name in USER_COLUMNS), None)
    if column is None:
        return "nobody"
    goes = pl.col(column).cast(pl.Int64, strict=False).is_in(list(users)).fill_null(False)
    if not rows.select(goes.any()).collect(engine="streaming").item():
        return "others"
    rows.filter(~goes).sink_parquet(clean, compression="zstd")
    return "rewritten"


def _look_into_zip(path: Path, users: Collection[int]) -> Finding:
    """An archive of a data set is not rewritten: it would no longer be what was published."""
    found: Finding = "nobody"
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            base = name.rpartition("/")[2].lower()
            records = _records_of(f"ratings{Path(base).suffix}" if base in OF_OLD else base)
            if records is None:
                continue
            with archive.open(name) as member:
                for _, named in records(member):
                    if any(_number(user) in users for user in named):
                        return "named"
                    if named:
                        found = "others"
    return found
