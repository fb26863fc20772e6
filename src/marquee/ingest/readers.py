"""Tables in files (CSV, JSON Lines, Parquet) as frames of raw columns, in chunks of bounded memory."""

import csv
import gzip
import itertools
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from marquee.errors import SchemaError
from marquee.ingest.validate import LIST_SEPARATOR

__all__ = ["DAMAGED", "Chunk", "read_csv", "read_parquet", "read_table"]

CHUNK_ROWS: Final = 250_000
CSV_BLOCK_BYTES: Final = 8 << 20
MAX_LINE_BYTES: Final = CSV_BLOCK_BYTES
CHUNK_BYTES: Final = 64 << 20
"""Lines of a chunk together: a small packed file may hold any number of long ones."""
DAMAGED: Final = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
"""What the unpacking of a file raises that is cut short, altered, or packed by other means."""
KINDS: Final = ".csv, .tsv, .jsonl, .ndjson (each also with .gz) and .parquet"

Rejection = tuple[str, Mapping[str, Any]]  # (reason, the row)


@dataclass(frozen=True, slots=True)
class Chunk:
    """
    Some rows of a file.

    Attributes:
        frame: raw columns by their canonical names; text, or the types of Parquet.
        malformed: lines that are no rows, with the reason.
    """

    frame: pl.DataFrame
    malformed: Sequence[Rejection] = field(default=())


def read_table(path: Path, aliases: Mapping[str, str], *, multiline: bool = False) -> Iterator[Chunk]:
    """
    The rows of a file, by the ending of its name.

    Args:
        path: the file.
        aliases: other column name → canonical name.
        multiline: whether quoted CSV values may contain line breaks.

    Raises:
        SchemaError: the file is missing, of an unknown kind, or broken as a whole.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    kind = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) == 2 else "".join(suffixes[-1:])
    if not path.is_file():
        raise SchemaError(f"There is no file {path}.", fix="Check the path.")
    if kind == ".parquet":
        return read_parquet(path, aliases)
    if kind in (".jsonl", ".ndjson"):
        return _read_jsonl(path, aliases)
    if kind in (".csv", ".tsv"):
        separator = "," if kind == ".csv" else "\t"
        return read_csv(lambda: _open(path), path.name, aliases, separator=separator, multiline=multiline)
    raise SchemaError(f"{path.name} is of an unknown kind.", fix=f"Give a file that ends in {KINDS}.")


def read_csv(
    open_file: Callable[[], IO[bytes]],
    name: str,
    aliases: Mapping[str, str],
    *,
    separator: str = ",",
    header: Sequence[str] | None = None,
    multiline: bool = False,
) -> Iterator[Chunk]:
    """
    The rows of delimited text, every column as text.

    Args:
        open_file: opens the file; called twice where it has a header.
        name: of the file, for messages.
        aliases: other column name → canonical name.
        header: column names; default: the first line.
        multiline: whether quoted values may contain line breaks.

    Raises:
        SchemaError: no header, repeated columns, or text that is not UTF-8.
    """
    names = list(header) if header is not None else _header(open_file, name, separator)
    names = _canonical(names, aliases, name)
    malformed: list[Rejection] = []

    def skip(row: Any) -> str:
        reason = f"the line has {row.actual_columns} values instead of {row.expected_columns}"
        malformed.append((reason, {"line": row.text}))
        return "skip"

    with open_file() as file:
        try:
            reader = pa.csv.open_csv(
                file,
                read_options=pa.csv.ReadOptions(
                    column_names=names, skip_rows=0 if header is not None else 1, block_size=CSV_BLOCK_BYTES
                ),
                parse_options=pa.csv.ParseOptions(
                    delimiter=separator, newlines_in_values=multiline, invalid_row_handler=skip
                ),
                convert_options=pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
                ),
            )
            for batch in reader:
                yield Chunk(_from_arrow(pa.Table.from_batches([batch])), tuple(malformed))
                malformed.clear()
        except pa.ArrowInvalid as error:
            if "Empty CSV file" not in str(error):
                raise _broken(name, error) from None
        except DAMAGED as error:
            raise _broken(name, error) from None
    if malformed:
        yield Chunk(pl.DataFrame(schema=dict.fromkeys(names, pl.String)), tuple(malformed))


def read_parquet(path: Path, aliases: Mapping[str, str]) -> Iterator[Chunk]:
    """
    The rows of a Parquet file, with its types.

    Raises:
        SchemaError: it is not Parquet, or broken.
    """
    try:
        with pa.parquet.ParquetFile(path) as file:
            names = _canonical(file.schema_arrow.names, aliases, path.name)
            for batch in file.iter_batches(batch_size=CHUNK_ROWS):
                yield Chunk(_from_arrow(pa.Table.from_batches([batch]).rename_columns(names)))
            if file.metadata.num_rows == 0:
                yield Chunk(_from_arrow(file.schema_arrow.empty_table().rename_columns(names)))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _broken(path.name, error) from None


def _read_jsonl(path: Path, aliases: Mapping[str, str]) -> Iterator[Chunk]:
    names: dict[str, None] = {}
    with _open(path) as file:
        for lines in _chunks_of_lines(file, path.name):
            rows: list[dict[str, str | None]] = []
            malformed: list[Rejection] = []
            for number, line in lines:
                if not line.strip():
                    continue
                try:
                    row = orjson.loads(line)
                except orjson.JSONDecodeError:
                    row = None
                if isinstance(row, dict):
                    rows.append({aliases.get(key, key): _as_text(value) for key, value in row.items()})
                else:
                    reason = f"line {number} is not a JSON object"
                    malformed.append((reason, {"line": line.decode(errors="replace")}))
            # A column that some chunk lacks is empty there, not absent.
            names.update(dict.fromkeys(itertools.chain.from_iterable(rows)))
            columns = {name: [row.get(name) for row in rows] for name in names}
            yield Chunk(pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String)), tuple(malformed))


def _chunks_of_lines(file: IO[bytes], name: str) -> Iterator[list[tuple[int, bytes]]]:
    """Numbered lines, as many at a time as there is room for."""
    chunk: list[tuple[int, bytes]] = []
    held = 0
    for number in itertools.count(1):
        line = _line(file, name)
        if line:
            chunk.append((number, line))
            held += len(line)
        if chunk and (not line or len(chunk) == CHUNK_ROWS or held > CHUNK_BYTES):
            yield chunk
            chunk, held = [], 0
        if not line:
            return


def _line(file: IO[bytes], name: str) -> bytes:
    """The next line; none is so long that it could fill the memory."""
    try:
        line = file.readline(MAX_LINE_BYTES + 1)
    except DAMAGED as error:
        raise _broken(name, error) from None
    if len(line) > MAX_LINE_BYTES:
        raise SchemaError(
            f"{name} has a line of more than {MAX_LINE_BYTES >> 20} MiB.",
            fix="Give one row a line.",
        )
    return line


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _header(open_file: Callable[[], IO[bytes]], name: str, separator: str) -> list[str]:
    with open_file() as file:
        line = _line(file, name).decode("utf-8-sig", errors="replace")
    try:
        names = next(csv.reader([line], delimiter=separator), [])
    except csv.Error as error:
        raise _broken(name, error) from None
    if not names:
        raise SchemaError(f"{name} is empty.", fix="Give a file whose first line names its columns.")
    return [column.strip() for column in names]


def _canonical(names: Sequence[str], aliases: Mapping[str, str], file: str) -> list[str]:
    """The names without aliases; an alias whose canonical column is there too stays as it is."""
    renamed = [name if aliases.get(name, name) in names else aliases.get(name, name) for name in names]
    repeated = sorted({name for name in renamed if renamed.count(name) > 1})
    if repeated:
        raise SchemaError(
            f"{file} has more than one column for {', '.join(repeated)}.", fix="Keep one of each."
        )
    return renamed


def _from_arrow(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        return LIST_SEPARATOR.join(text for text in map(_as_text, value) if text is not None)
    return orjson.dumps(value).decode()


def _broken(name: str, error: Exception) -> SchemaError:
    first_line = str(error).partition("\n")[0].rstrip(".")
    return SchemaError(
        f"{name} cannot be read: {first_line}.", fix="Save it again as UTF-8 text or as Parquet."
    )
