import math
from datetime import UTC, date, datetime

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from sqlalchemy import text

from marquee.store import bulk
from marquee.store.bulk import copy_in, encode, read_arrow
from marquee.store.postgres import Database

pytestmark = pytest.mark.integration

LETTERS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)
INT64 = st.integers(-(2**63), 2**63 - 1)
INT32 = st.integers(-(2**31), 2**31 - 1)
REALS = st.floats(width=32, allow_nan=False)
COLUMNS = {
    "i8": (pa.int64(), "bigint", INT64),
    "i4": (pa.int32(), "integer", INT32),
    "f4": (pa.float32(), "real", REALS),
    "f8": (pa.float64(), "double precision", st.floats(allow_nan=False)),
    "b": (pa.bool_(), "boolean", st.booleans()),
    "t": (pa.string(), "text", LETTERS),
    "d": (pa.date32(), "date", st.dates(date(1, 1, 1), date(9999, 12, 31))),
    "m": (
        pa.timestamp("us", tz="UTC"),
        "timestamptz",
        st.datetimes(datetime(1800, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC)),
    ),
    "ti": (pa.list_(pa.string()), "text[]", st.lists(st.none() | LETTERS, max_size=4)),
    "i8i": (pa.list_(pa.int64()), "bigint[]", st.lists(st.none() | INT64, max_size=4)),
    "f4i": (pa.list_(pa.float32()), "real[]", st.lists(REALS, max_size=4)),
    "bi": (pa.list_(pa.bool_()), "boolean[]", st.lists(st.booleans(), max_size=4)),
}
SCHEMA = pa.schema([pa.field(name, kind) for name, (kind, _, _) in COLUMNS.items()])
ROWS = st.lists(
    st.fixed_dictionaries({name: st.none() | values for name, (_, _, values) in COLUMNS.items()}), max_size=5
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, cut=st.integers(0, 3))
def test_any_rows_come_back_as_they_went_in(database: Database, rows: list[dict], cut: int):
    table = pa.Table.from_pylist(rows, schema=SCHEMA).slice(cut)
    definition = ", ".join(f"{name} {kind}" for name, (_, kind, _) in COLUMNS.items())
    with database.begin() as connection:
        connection.execute(text(f"CREATE TEMPORARY TABLE went ({definition}) ON COMMIT DROP"))
        assert copy_in(connection, "went", table) == len(table)
        found = [dict(row._mapping) for row in connection.execute(text("SELECT * FROM went"))]
    # The driver reads a real as the shortest decimal: the schema rounds it back to the same float.
    assert pa.Table.from_pylist(found, schema=SCHEMA).to_pylist() == table.to_pylist()


def test_slices_join_to_one_stream(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bulk, "ROWS_PER_SLICE", 7)
    table = pa.table({"user_id": np.arange(100), "kind": ["live"] * 100})
    chunked = pa.concat_tables([table.slice(0, 33), table.slice(33)])
    with database.begin() as connection:
        copy_in(connection, "users", chunked)
        query = text("SELECT array_agg(user_id ORDER BY user_id) FROM users")
        assert connection.execute(query).scalar_one() == list(range(100))


def test_no_rows_make_a_valid_stream(database: Database):
    with database.begin() as connection:
        assert copy_in(connection, "users", pa.table({"user_id": pa.array([], pa.int64())})) == 0


def test_type_without_encoding_is_a_type_error():
    with pytest.raises(TypeError, match="int8"):
        list(encode(pa.table({"x": pa.array([1], pa.int8())})))
    with pytest.raises(TypeError, match="date32"):
        list(encode(pa.table({"x": pa.array([[date(2026, 1, 1)]])})))


def test_read_arrow_keeps_types_and_quotes_parameters(database: Database):
    table = read_arrow(
        database,
        "SELECT 7::bigint AS i, 1.5::real AS r, NULL::real AS n, {name}::text AS t, {at}::timestamptz AS at, "
        "ARRAY['a', NULL] AS l, '{{}}'::text AS braces",
        name="O'Hara; --",
        at=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    )
    assert table["i"].type == pa.int64()
    assert table["r"].type == pa.float32()
    assert table["at"].type == pa.timestamp("us", tz="UTC")
    (row,) = table.to_pylist()
    assert row["t"] == "O'Hara; --"
    assert row["at"] == datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert row["l"] == ["a", None]
    assert row["braces"] == "{}"
    assert row["n"] is None
    assert math.isclose(row["r"], 1.5)
