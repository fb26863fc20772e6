"""
Bulk rows: Arrow tables in by binary COPY, query results out as Arrow by ADBC.

A COPY row is a count of fields and, per field, its length and its bytes, all big-endian. Row by row in
Python that takes seconds per million rows; here NumPy writes all fields of fixed width of a slice of rows
at once, and Arrow's kernels join them with the fields of variable width.

Source: PostgreSQL documentation, "COPY", "Binary Format"; array format from `array_recv`.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from psycopg import sql
from sqlalchemy import Connection

if TYPE_CHECKING:
    from marquee.store.postgres import Database

__all__ = ["copy_in", "encode", "encode_batches", "read_arrow"]

HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"
ROWS_PER_SLICE: Final = 65_536
POSTGRES_EPOCH_DAYS: Final = 10_957
POSTGRES_EPOCH_MICROSECONDS: Final = POSTGRES_EPOCH_DAYS * 86_400_000_000

OIDS: Final = {"bool": 16, "int8": 20, "int4": 23, "text": 25, "float4": 700, "float8": 701}


def copy_in(connection: Connection, table: str, rows: pa.Table) -> int:
    """
    Append rows to a table.

    Args:
        connection: in the caller's transaction.
        table: its name.
        rows: columns named as in the table, each of the Arrow type that matches the PostgreSQL type
            (int64 bigint, int32 integer, float32 real, float64 double precision, bool boolean, string
            text, date32 date, timestamp timestamptz, and lists of the first six); other columns of the
            table get their default.

    Returns:
        The number of rows.
    """
    driver = connection.connection.driver_connection
    assert driver is not None
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, rows.column_names))
    )
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        for part in encode(rows):
            copy.write(part)
    return len(rows)


def encode(rows: pa.Table) -> Iterator[bytes | memoryview]:
    """The byte stream of a binary COPY of the rows, in slices."""
    slices = (rows.slice(first, ROWS_PER_SLICE) for first in range(0, len(rows), ROWS_PER_SLICE))
    return encode_batches([column.combine_chunks() for column in part.columns] for part in slices)


def encode_batches(batches: Iterable[list[pa.Array]]) -> Iterator[bytes | memoryview]:
    """
    The byte stream of a binary COPY of batches of rows, each given by its columns.

    Binary values are fields as they are: whoever gives them knows PostgreSQL's format of the column.
    """
    yield HEADER
    for columns in batches:
        yield _content(_encode_rows(columns))
    yield TRAILER


def read_arrow(database: "Database", query: str, **parameters: Any) -> pa.Table:
    """
    The result of a query, over a connection of its own.

    Args:
        query: SQL; `{name}` stands for a parameter, and braces of the SQL itself are doubled.
        parameters: values, quoted by psycopg.
    """
    # Not `dbapi`: that loads pandas and Polars, which an API process has no other use for.
    from adbc_driver_manager import AdbcConnection, AdbcStatement
    from adbc_driver_postgresql import connect

    literals = {name: sql.Literal(value) for name, value in parameters.items()}
    statement = sql.SQL(query).format(**literals).as_string()
    with (
        database.translate_errors(),
        connect(database.url) as opened,
        AdbcConnection(opened) as connection,
        AdbcStatement(connection) as query_once,
    ):
        query_once.set_sql_query(statement)
        stream, _ = query_once.execute_query()
        return pa.RecordBatchReader.from_stream(stream).read_all()


def _encode_rows(columns: list[pa.Array]) -> pa.BinaryArray:
    """One binary value per row: the count of fields, then each field with its length word."""
    n = len(columns[0])
    parts: list[pa.BinaryArray] = []
    fixed: list[tuple[str, NDArray[Any]]] = [(">i2", np.full(n, len(columns), ">i2"))]
    for column in columns:
        if _is_fixed(column.type) and not column.null_count:
            values = _big_endian(column)
            fixed += [(">i4", np.full(n, values.dtype.itemsize, ">i4")), (values.dtype.str, values)]
            continue
        lengths, payload = _encode_values(column)
        fixed.append((">i4", lengths))
        parts += [_pack(fixed, n), payload]
        fixed = []
    if fixed:
        parts.append(_pack(fixed, n))
    return parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, b"")


def _encode_values(column: pa.Array) -> tuple[NDArray[Any], pa.BinaryArray]:
    """The length word of each value (-1 for null) and its bytes (none for null)."""
    if pa.types.is_list(column.type):
        payload = _encode_lists(column)
        if column.null_count:
            payload = pc.if_else(column.is_valid(), payload, pa.scalar(b""))
    elif _is_fixed(column.type):
        values = _big_endian(column)
        width = values.dtype.itemsize
        present = column.is_valid().to_numpy(zero_copy_only=False)
        payload = _binary(np.concatenate([[0], np.cumsum(present * width)]), values[present])
    else:
        payload = column if pa.types.is_binary(column.type) else column.cast(pa.string()).cast(pa.binary())
        payload = payload.fill_null(b"") if payload.null_count else payload
    lengths = np.diff(_offsets(payload)).astype(">i4")
    if column.null_count:
        lengths[column.is_null().to_numpy(zero_copy_only=False)] = -1
    return lengths, payload


def _encode_lists(column: pa.Array) -> pa.BinaryArray:
    """One-dimensional arrays: dimensions, null flag, element type, length, lower bound, elements."""
    n = len(column)
    if column.null_count:
        column = column.fill_null(pa.scalar([], column.type))
    sizes = np.diff(_offsets(column))
    elements = column.flatten()
    encoded = _encode_fields(elements)
    element_offsets = _offsets(encoded)
    bounds = element_offsets[np.concatenate([[0], np.cumsum(sizes)])]
    body = _binary(bounds, np.frombuffer(_content(encoded), np.uint8))
    head = _pack(
        [
            (">i4", np.ones(n, ">i4")),
            (">i4", np.full(n, int(elements.null_count > 0), ">i4")),
            (">i4", np.full(n, OIDS[_postgres_type(elements.type)], ">i4")),
            (">i4", sizes.astype(">i4")),
            (">i4", np.ones(n, ">i4")),
        ],
        n,
    )
    return pc.binary_join_element_wise(head, body, b"")


def _encode_fields(column: pa.Array) -> pa.BinaryArray:
    """Each value behind its length word."""
    n = len(column)
    if _is_fixed(column.type) and not column.null_count:
        values = _big_endian(column)
        return _pack([(">i4", np.full(n, values.dtype.itemsize, ">i4")), (values.dtype.str, values)], n)
    lengths, payload = _encode_values(column)
    return pc.binary_join_element_wise(_pack([(">i4", lengths)], n), payload, b"")


def _is_fixed(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_timestamp(kind)
        or pa.types.is_date32(kind)
    )


def _postgres_type(kind: pa.DataType) -> str:
    names = {
        pa.bool_(): "bool",
        pa.int64(): "int8",
        pa.int32(): "int4",
        pa.string(): "text",
        pa.float32(): "float4",
        pa.float64(): "float8",
    }
    try:
        return names[kind]
    except KeyError:
        raise TypeError(f"No COPY encoding of lists of {kind}") from None


def _big_endian(column: pa.Array) -> NDArray[Any]:
    """(n,) values in the byte order and epoch of PostgreSQL; anything where null."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        column = column.cast(pa.timestamp("us", kind.tz)).cast(pa.int64())
        return (_plain(column) - POSTGRES_EPOCH_MICROSECONDS).astype(">i8")
    if pa.types.is_date32(kind):
        return (_plain(column.cast(pa.int32())) - POSTGRES_EPOCH_DAYS).astype(">i4")
    if pa.types.is_boolean(kind):
        return _plain(column.cast(pa.uint8()))
    if kind not in (pa.int64(), pa.int32(), pa.int16(), pa.float32(), pa.float64()):
        raise TypeError(f"No COPY encoding of {kind}")
    values = _plain(column)
    return values.astype(values.dtype.newbyteorder(">"), copy=False)


def _plain(column: pa.Array) -> NDArray[Any]:
    plain = column.fill_null(0) if column.null_count else column
    return np.asarray(plain.to_numpy(zero_copy_only=False))


def _pack(fields: list[tuple[str, NDArray[Any]]], n: int) -> pa.BinaryArray:
    """(n,) binary values of one width, the fields of a row side by side."""
    record = np.empty(n, np.dtype([(f"f{i}", kind) for i, (kind, _) in enumerate(fields)]))
    for i, (_, values) in enumerate(fields):
        record[f"f{i}"] = values
    return _binary(np.arange(n + 1) * record.dtype.itemsize, record)


def _binary(offsets: NDArray[Any], content: NDArray[Any]) -> pa.BinaryArray:
    """Binary values from their (n + 1,) offsets in contiguous bytes."""
    buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(np.ascontiguousarray(content))]
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)


def _offsets(column: pa.Array) -> NDArray[np.int64]:
    """(n + 1,) offsets of the values of a binary or list array, from 0."""
    if not len(column):
        return np.zeros(1, np.int64)
    raw = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    return raw.astype(np.int64) - int(raw[0])


def _content(column: pa.BinaryArray) -> memoryview:
    """The bytes of all values of a binary array, one after the other."""
    buffer = column.buffers()[2]
    if buffer is None:
        return memoryview(b"")
    raw = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]
    return memoryview(buffer)[int(raw[0]) : int(raw[-1])]
