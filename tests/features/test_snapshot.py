from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marquee.data import Catalog, Event, Interactions
from marquee.errors import DataError
from marquee.features import snapshot as module
from marquee.features.snapshot import DAY, FeatureSnapshot, build

GENRES = ["Drama", "Comedy", "Western"]
N_ITEMS = 12
CATALOG = Catalog(
    pa.table(
        {
            "item_id": np.arange(1, N_ITEMS + 1),
            "title": [f"Film {i}" for i in range(N_ITEMS)],
            "genres": [[GENRES[i % 3]] if i % 4 else [GENRES[0], GENRES[2]] for i in range(N_ITEMS)],
            "runtime_minutes": pa.array([100] * N_ITEMS, pa.int32()),
            "release_date": pa.array([days * 400 for days in range(N_ITEMS)], pa.date32()),
            "original_language": ["ko"] * N_ITEMS,
        }
    )
)
AS_OF = 5_000 * DAY


def history(seed: int, n: int, low: int = AS_OF - 300 * DAY, high: int = AS_OF + 100 * DAY) -> Interactions:
    rng = np.random.default_rng(seed)
    return Interactions.of(
        rng.integers(1, 9, n),
        rng.integers(1, N_ITEMS + 3, n),  # some are in no catalogue
        rng.integers(low, high, n),
        events=rng.choice([Event.WATCH, Event.RATE, Event.LIKE, Event.HIDE, Event.CLICK], n),
        ratings=np.where(rng.random(n) < 0.5, rng.integers(0, 21, n) / 2, np.nan),
        watch_seconds=np.where(rng.random(n) < 0.5, rng.integers(0, 9_000, n), np.nan),
    )


def tables(snapshot: FeatureSnapshot) -> list[pa.Table]:
    return [snapshot.items, snapshot.users, snapshot.user_genres]


def column(table: pa.Table, name: str, **where: int | str) -> object:
    row = next(row for row in table.to_pylist() if all(row[key] == value for key, value in where.items()))
    return row[name]


@given(st.integers(0, 2**32), st.integers(2, 200))
@settings(max_examples=40, deadline=None)
def test_planted_future_events_change_nothing(seed: int, n: int) -> None:
    rows = history(seed, n)
    past = rows.before(AS_OF)
    if not len(past):
        return
    future = history(seed + 1, 50, low=AS_OF, high=AS_OF + 50 * DAY)
    planted = pa.concat_tables([rows.to_arrow(), future.to_arrow()])
    for honest, leaky in zip(
        tables(build(past.to_arrow(), CATALOG, AS_OF)), tables(build(planted, CATALOG, AS_OF)), strict=True
    ):
        assert honest.equals(leaky)


@given(st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_order_and_chunks_of_rows_change_no_bit(seed: int) -> None:
    rows = history(seed, 120)
    shuffled = rows.take(np.random.default_rng(seed).permutation(len(rows)))
    parts = [shuffled.take(slice(start, start + 17)).to_arrow() for start in range(0, len(rows), 17)]
    for whole, pieces in zip(
        tables(build(rows.to_arrow(), CATALOG, AS_OF)), tables(build(parts, CATALOG, AS_OF)), strict=True
    ):
        assert whole.equals(pieces)


@given(st.integers(0, 2**32), st.integers(1, 250))
@settings(max_examples=25, deadline=None)
def test_advancing_a_snapshot_equals_building_it(seed: int, days: int) -> None:
    rows = history(seed, 150).to_arrow()
    early = AS_OF - days * DAY
    try:
        first = build(rows, CATALOG, early)
    except DataError:
        return
    for built, advanced in zip(
        tables(build(rows, CATALOG, AS_OF)), tables(first.advance(rows, CATALOG, AS_OF)), strict=True
    ):
        assert built.schema == advanced.schema
        for name in built.column_names:
            if pa.types.is_floating(built.schema.field(name).type):
                np.testing.assert_allclose(
                    built[name].to_numpy(), advanced[name].to_numpy(), rtol=1e-5, atol=1e-6
                )
            else:
                assert built[name].equals(advanced[name])


def test_features_of_a_small_history_are_those_counted_by_hand() -> None:
    rows = Interactions.of(
        [1, 1, 1, 2],
        [1, 2, 2, 1],
        [AS_OF - 30 * DAY, AS_OF - 20 * DAY, AS_OF - 10 * DAY, AS_OF - 7 * DAY],
        events=[Event.WATCH, Event.RATE, Event.HIDE, Event.WATCH],
        ratings=[np.nan, 8.0, np.nan, 6.0],
        watch_seconds=[3_000.0, np.nan, np.nan, 9_000.0],
    )
    made = build(rows.to_arrow(), CATALOG, AS_OF)
    assert column(made.users, "n_events", user_id=1) == 3
    assert column(made.users, "mean_rating", user_id=1) == 8.0
    assert column(made.users, "mean_completion", user_id=1) == 0.5
    assert column(made.users, "mean_completion", user_id=2) == 1.0
    assert column(made.users, "tenure_days", user_id=1) == 30.0
    assert column(made.users, "recency_days", user_id=1) == 10.0
    assert column(made.items, "n_events", item_id=1) == 2
    assert column(made.items, "n_events", item_id=2) == 1  # a hidden film has not become more popular
    assert column(made.items, "popularity_7d", item_id=1) == pytest.approx(0.5 + 2 ** (-30 / 7))
    assert column(made.items, "age_days", item_id=2) == 4_600.0
    assert column(made.items, "era", item_id=2) == 1970
    assert column(made.user_genres, "share", user_id=2, genre="Western") == 0.5
    assert column(made.items, "n_events", item_id=5) == 0


def test_a_rising_item_has_a_positive_trend_and_a_fading_one_a_negative() -> None:
    late = [AS_OF - day * DAY for day in range(1, 20)]
    early = [AS_OF - day * DAY for day in range(150, 169)]
    rows = Interactions.of([1] * 38, [1] * 19 + [2] * 19, late + early)
    made = build(rows.to_arrow(), CATALOG, AS_OF)
    assert column(made.items, "trend", item_id=1) > 0 > column(made.items, "trend", item_id=2)


def test_written_snapshots_are_named_by_their_content(tmp_path: Path) -> None:
    rows = history(3, 100).to_arrow()
    first = build(rows, CATALOG, AS_OF).write(tmp_path)
    assert build(rows, CATALOG, AS_OF).write(tmp_path) == first
    assert build(rows, CATALOG, AS_OF - DAY).write(tmp_path) != first
    assert sorted(path.name for path in first.iterdir()) == [
        "items.parquet",
        "user_genres.parquet",
        "users.parquet",
    ]


def test_nothing_before_the_moment_is_an_error() -> None:
    with pytest.raises(DataError, match="before the moment"):
        build(history(0, 10, low=AS_OF).to_arrow(), CATALOG, AS_OF)


def test_advance_refuses_an_earlier_moment() -> None:
    made = build(history(0, 100).to_arrow(), CATALOG, AS_OF)
    with pytest.raises(ValueError, match="later"):
        made.advance(history(0, 10).to_arrow(), CATALOG, AS_OF)


def test_chunks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_ROWS", 10)
    assert [len(chunk) for chunk in module._chunks(history(0, 25).to_arrow())] == [10, 10, 5]
