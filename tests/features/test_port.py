"""The built-in feature store, against brute force."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marquee.data import Catalog, Event, Interactions
from marquee.features.port import (
    AS_OF,
    AT,
    VIEWS,
    BuiltinFeatures,
    ItemMatrix,
    join_as_of,
    moments,
    training_rows,
    view_tables,
)
from marquee.features.snapshot import DAY, FeatureSnapshot, build

UTC_MICROSECONDS = pa.timestamp("us", "UTC")
CATALOG = Catalog(
    pa.table(
        {
            "item_id": np.arange(1, 11),
            "title": [f"Film {i}" for i in range(10)],
            "genres": [["Drama"] if i % 2 else ["Comedy", "Western"] for i in range(10)],
            "runtime_minutes": pa.array([100] * 10, pa.int32()),
        }
    )
)


def history(seed: int, n: int = 150) -> Interactions:
    rng = np.random.default_rng(seed)
    return Interactions.of(
        rng.integers(1, 9, n),
        rng.integers(1, 13, n),
        rng.integers(4_000 * DAY, 4_100 * DAY, n),
        events=rng.choice([Event.WATCH, Event.RATE, Event.HIDE], n),
        ratings=np.where(rng.random(n) < 0.5, rng.integers(0, 21, n) / 2, np.nan),
    ).sorted()


def snapshots(rows: Interactions, count: int = 5) -> list[FeatureSnapshot]:
    first, *later = moments(rows, count)
    made = [build(rows.to_arrow(), CATALOG, first)]
    for moment in later:
        made.append(made[-1].advance(rows.to_arrow(), CATALOG, moment))
    return made


def rows_of(table: pa.Table) -> list[str]:
    """Rows to compare; NaN equals itself."""
    return [repr(row) for row in table.to_pylist()]


def moments_of(values: list[int]) -> pa.Array:
    return pa.array(values, UTC_MICROSECONDS)


@given(st.integers(0, 2**32), st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=40)
def test_join_equals_a_search_through_all_rows(seed: int, n_features: int, n_entities: int) -> None:
    rng = np.random.default_rng(seed)
    versions = np.unique(rng.integers(0, 8, (n_features, 2)), axis=0)
    features = pa.table(
        {
            "key": versions[:, 0],
            AS_OF: moments_of(versions[:, 1].tolist()),
            "value": rng.permutation(len(versions)),
            "text": [f"version {i}" for i in range(len(versions))],
        }
    )
    key, at = rng.integers(0, 9, n_entities), rng.integers(0, 9, n_entities)
    entities = pa.table({"other": key, "key": key, AT: moments_of(at.tolist())})
    joined = join_as_of(features, entities, "key")
    assert joined.schema == features.select(["value", "text"]).schema
    for found, wanted_key, moment in zip(joined.to_pylist(), key, at, strict=True):
        old = [i for i, (k, as_of) in enumerate(versions) if k == wanted_key and as_of <= moment]
        newest = features.select(["value", "text"]).slice(old[-1], 1).to_pylist()[0] if old else None
        assert found == (newest or {"value": None, "text": None})


@given(st.integers(0, 2**32))
@settings(max_examples=10)
def test_training_rows_hold_what_the_newest_snapshot_before_each_row_says(seed: int) -> None:
    rows = history(seed)
    taken = snapshots(rows)
    joined = training_rows(BuiltinFeatures(view_tables(taken)), rows).to_pylist()
    for row, at in zip(joined, rows.timestamps.tolist(), strict=True):
        before = [each for each in taken if each.as_of <= at]
        for view, key in (("users", "user_id"), ("items", "item_id")):
            known = (
                [found for found in getattr(before[-1], view).to_pylist() if found[key] == row[key]]
                if before
                else []
            )
            names = [name for name in row if name.startswith(f"{view}__")]
            expected = {name: known[0][name.partition("__")[2]] if known else None for name in names}
            assert {name: row[name] for name in names} == expected


@given(st.integers(0, 2**32))
@settings(max_examples=10)
def test_events_at_or_after_a_row_change_nothing_of_it(seed: int) -> None:
    rows = history(seed)
    cut = int(rows.timestamps[len(rows) // 2])
    past = rows.before(cut)
    if len(past) < 2:
        return
    at = moments(rows, 5)
    honest = [build(past.to_arrow(), CATALOG, moment) for moment in at if moment > past.timestamps[0]]
    leaky = [build(rows.to_arrow(), CATALOG, moment) for moment in at if moment > past.timestamps[0]]
    asked = rows.take(rows.timestamps <= cut)
    joined = [training_rows(BuiltinFeatures(view_tables(taken)), asked) for taken in (honest, leaky)]
    assert rows_of(joined[0]) == rows_of(joined[1])


def test_moments_divide_the_events_and_end_behind_them() -> None:
    rows = history(0, 100)
    at = moments(rows, 4)
    assert at == sorted(set(at))
    assert at[-1] == rows.timestamps[-1] + 1
    np.testing.assert_allclose(np.searchsorted(rows.timestamps, at), [25, 50, 75, 100], atol=2)
    assert moments(rows, 1) == at[-1:]


@pytest.fixture
def store() -> BuiltinFeatures:
    return BuiltinFeatures(view_tables(snapshots(history(1))))


def test_user_has_the_newest_features_and_genres_in_one_row(store: BuiltinFeatures) -> None:
    newest = snapshots(history(1))[-1]
    user = store.user(3)
    assert user is not None
    [expected] = [row for row in newest.users.to_pylist() if row["user_id"] == 3]
    assert expected.items() <= user.items()
    genres = sorted(
        (row["genre"], row["n_events"], row["share"])
        for row in newest.user_genres.to_pylist()
        if row["user_id"] == 3
    )
    assert genres
    assert list(zip(user["genre_name"], user["genre_n_events"], user["genre_share"], strict=True)) == genres


def test_unknown_user_has_no_features(store: BuiltinFeatures) -> None:
    assert store.user(999) is None


def test_item_rows_come_in_the_order_asked_and_unknown_ones_are_nan(store: BuiltinFeatures) -> None:
    matrix = store.items()
    newest = {row["item_id"]: row for row in snapshots(history(1))[-1].items.to_pylist()}
    rows = matrix.rows([7, 999, 2, 7])
    assert np.isnan(rows[1]).all()
    np.testing.assert_array_equal(rows[0], rows[3])
    for number, item_id in ((0, 7), (2, 2)):
        expected = [
            np.nan if newest[item_id][name] is None else newest[item_id][name] for name in matrix.names
        ]
        np.testing.assert_allclose(rows[number], expected)


def test_item_matrix_keeps_numbers_alone() -> None:
    table = pa.table({"item_id": [5], "genres": [["Drama"]], "era": pa.array([None], pa.int32()), "n": [3]})
    matrix = ItemMatrix.of(table)
    assert matrix.names == ("era", "n")
    np.testing.assert_array_equal(matrix.rows([5]), [[np.nan, 3]])


def test_views_have_a_row_for_each_thing_and_moment() -> None:
    taken = snapshots(history(2))
    for view, table in view_tables(taken).items():
        keys = list(zip(table[VIEWS[view]].to_pylist(), table[AS_OF].to_pylist(), strict=True))
        assert (
            len(keys)
            == len(set(keys))
            == sum(len(each.users if view != "items" else each.items) for each in taken)
        )
