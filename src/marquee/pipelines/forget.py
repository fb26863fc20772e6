"""
Forget: take erased users out of what was stored as files before they were erased.

Input files are rewritten without them. Files that cannot be (archives of data sets) and snapshots, which are
named by their content, go when they are older than `MARQUEE_BACKUP__RAW_DAYS`; the newest ones of before an
erasure are needed to explain the model that serves.
"""

import csv
import gzip
import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final

import orjson
import polars as pl
from sqlalchemy import select

from marquee.ingest.tables import ALIASES
from marquee.pipelines.run import RunContext
from marquee.store.backups import Vault
from marquee.store.repositories import erasures, outbox
from marquee.store.tables import users

__all__ = ["forget"]

USER_COLUMNS: Final = {"user_id", *(alias for alias, name in ALIASES.items() if name == "user_id")}
OPAQUE: Final = (".zip", ".dat", ".data")
"""Endings of input files that are not rewritten."""


def forget(context: RunContext) -> dict[str, Any]:
    """Rewrite or remove the files that hold rows of erased users; doing it twice changes nothing."""
    rewritten: list[str] = []
    expired: list[str] = []
    done: set[int] = set()
    while erased := _erased(context) - done:  # who is erased meanwhile is not forgotten
        done |= erased
        _note(context, erased)
        _walk(context, erased, rewritten, expired)
    return {"users": len(done), "rewritten": len(rewritten), "expired": len(expired)}


def _note(context: RunContext, erased: set[int]) -> None:
    """Keep beside the backups who must be taken out of those of before."""
    folder = context.settings.paths.secrets
    for user_id in sorted(erased):
        with context.database.begin() as connection:
            content = erasures.note(connection, user_id, folder)
            outbox.add(connection, [context.objects.put("erasures", content, ".txt").key])


def _walk(context: RunContext, erased: set[int], rewritten: list[str], expired: list[str]) -> None:
    vault = Vault(context.objects)
    stored = {item.key: item.modified for item in _files(vault)}
    for ref in (*context.objects.list("raw"), *context.objects.list("snapshots")):
        modified = (context.objects.root / ref.key).stat().st_mtime
        stored.setdefault(ref.key, datetime.fromtimestamp(modified, UTC))
    due = datetime.now(UTC) - timedelta(days=context.settings.backup.raw_days)
    with tempfile.TemporaryDirectory(prefix="marquee-forget-") as folder:
        for number, (key, modified) in enumerate(sorted(stored.items())):
            context.progress("rewrite files", number, len(stored))
            if key.startswith("snapshots/") or key.endswith(OPAQUE):
                if modified < due:
                    _remove(context, vault, key)
                    expired.append(key)
                continue
            clean = Path(folder, "clean")
            with vault.fetched(key, Path(folder)) as path:
                changed = _rewrite(path, clean, key, erased)
            if changed:
                _replace(context, vault, key, clean)
                rewritten.append(key)


def _files(vault: Vault) -> Iterator[Any]:
    for folder in ("raw", "snapshots"):
        yield from vault.remote.list(folder)


def _replace(context: RunContext, vault: Vault, key: str, clean: Path) -> None:
    """The new file first: a process that dies between the two leaves both, and the next run does it again."""
    folder, _, name = key.rpartition("/")
    stored = context.objects.put(folder, clean, name[64:])
    with context.database.begin() as connection:
        outbox.add(connection, [stored.key])
    _remove(context, vault, key)


def _remove(context: RunContext, vault: Vault, key: str) -> None:
    with context.database.begin() as connection:
        outbox.drop(connection, [key])
    vault.remote.delete(key)
    (context.objects.root / key).unlink(missing_ok=True)


def _erased(context: RunContext) -> set[int]:
    with context.database.begin() as connection:
        return set(connection.scalars(select(users.c.user_id).where(users.c.erased_at.is_not(None))))


def _rewrite(path: Path, clean: Path, key: str, erased: set[int]) -> bool:
    """Write a file without the rows of users; whether it had any."""
    name = key.rpartition("/")[2][64:].lower()
    packed = name.endswith(".gz")
    kind = name.removesuffix(".gz")
    if kind == ".parquet":
        return _rewrite_parquet(path, clean, erased)
    if kind in (".csv", ".tsv"):
        separator = "," if kind == ".csv" else "\t"
        return _rewrite_text(path, clean, packed, lambda file: _csv_lines(file, separator, erased))
    if kind in (".jsonl", ".ndjson"):
        return _rewrite_text(path, clean, packed, lambda file: _json_lines(file, erased))
    return False


def _rewrite_text(
    path: Path, clean: Path, packed: bool, lines: Callable[[IO[bytes]], Iterator[bytes | None]]
) -> bool:
    def opened(where: Path, mode: str) -> Any:
        return gzip.open(where, mode) if packed else where.open(mode)

    changed = False
    with opened(path, "rb") as file, opened(clean, "wb") as kept:
        for line in lines(file):
            if line is None:
                changed = True
            else:
                kept.write(line)
    return changed


def _csv_lines(file: IO[bytes], separator: str, erased: set[int]) -> Iterator[bytes | None]:
    """The records of a file as they are, None in place of one that goes."""
    names = {str(user_id) for user_id in erased}
    place: int | None = None
    for number, record in enumerate(_records(file)):
        text = record.decode(errors="surrogateescape").lstrip("\ufeff")
        cells = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
        if number == 0:
            place = next((i for i, cell in enumerate(cells) if cell.strip() in USER_COLUMNS), None)
        elif place is not None and place < len(cells) and cells[place].strip() in names:
            yield None
            continue
        yield record


def _records(file: IO[bytes]) -> Iterator[bytes]:
    """Lines, those within quotes joined."""
    record = b""
    for line in file:
        record += line
        if record.count(b'"') % 2 == 0:
            yield record
            record = b""
    if record:
        yield record


def _json_lines(file: IO[bytes], erased: set[int]) -> Iterator[bytes | None]:
    names = {str(user_id) for user_id in erased}
    for line in file:
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            row = None
        named: Sequence[Any] = [row.get(column) for column in USER_COLUMNS] if isinstance(row, dict) else []
        yield None if any(str(name) in names for name in named if name is not None) else line


def _rewrite_parquet(path: Path, clean: Path, erased: set[int]) -> bool:
    rows = pl.scan_parquet(path)
    column = next((name for name in rows.collect_schema().names() if name in USER_COLUMNS), None)
    if column is None:
        return False
    goes = pl.col(column).cast(pl.String).is_in([str(user_id) for user_id in erased])
    if not rows.select(goes.any()).collect().item():
        return False
    rows.filter(~goes.fill_null(False)).sink_parquet(clean, compression="zstd")
    return True
