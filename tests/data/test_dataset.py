"""Interactions, histories and the catalogue keep every fact and never look past a moment."""

from dataclasses import fields

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marquee.data import Catalog, Event, Histories, Interactions, Vocabulary
from marquee.data.schema import INTERACTIONS, ITEMS
from marquee.errors import SchemaError

small = st.integers(0, 4)
rows_strategy = st.lists(
    st.tuples(
        small,
        small,
        st.integers(0, 6),
        st.sampled_from([e for e in Event if e != Event.UNDO]),
        st.one_of(st.just(float("nan")), st.floats(0, 10, width=32)),
        st.one_of(st.just(float("nan")), st.floats(0, 9000, width=32)),
    ),
    max_size=25,
)


def interactions(rows):
    columns = list(zip(*rows, strict=True)) if rows else [[]] * 6
    users, items, times, events, ratings, seconds = columns
    return Interactions.of(
        users, items, times, events=np.array(events, np.int8), ratings=ratings, watch_seconds=seconds
    )


def assert_same(left, right):
    for field in fields(left):
        np.testing.assert_array_equal(
            getattr(left, field.name), getattr(right, field.name), err_msg=field.name
        )


@given(rows_strategy)
def test_interactions_round_trip_through_arrow(rows):
    made = interactions(rows)
    table = made.to_arrow()
    assert table.schema == INTERACTIONS
    assert_same(Interactions.from_arrow(table), made)
    assert Interactions.from_arrow(table).digest() == made.digest()


def test_interactions_of_several_chunks_and_looser_types_are_read():
    table = interactions([(1, 2, 3, Event.LIKE, 4.0, 5.0)]).to_arrow()
    loose = pa.concat_tables([table, table]).set_column(
        0, "user_id", pa.chunked_array([[1], [2]], pa.int32())
    )
    assert Interactions.from_arrow(loose).user_ids.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns("rating"), "rating"),
        (lambda t: t.set_column(0, "user_id", pa.array(["x"])), "cast"),
        (lambda t: t.set_column(0, "user_id", pa.array([None], pa.int64())), "user_id"),
        (lambda t: t.set_column(2, "event", pa.array(["dance"])), "Unknown events"),
        (lambda t: t.set_column(5, "occurred_at", pa.array(["yesterday"])), "cast"),
    ],
)
def test_interactions_of_a_wrong_table_are_refused(change, message):
    table = interactions([(1, 2, 3, Event.LIKE, 4.0, 5.0)]).to_arrow()
    with pytest.raises(SchemaError, match=message):
        Interactions.from_arrow(change(table))


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="one length"):
        Interactions.of([1, 2], [1], [1, 2])


@given(rows_strategy, st.randoms())
def test_sorted_is_by_time_then_user_then_item(rows, random):
    random.shuffle(rows)
    made = interactions(rows).sorted()
    keys = list(zip(made.timestamps.tolist(), made.user_ids.tolist(), made.item_ids.tolist(), strict=True))
    assert keys == sorted(keys)
    assert len(made) == len(rows)


@given(rows_strategy, st.integers(0, 7))
def test_before_and_positives_keep_exactly_the_matching_rows(rows, moment):
    made = interactions(rows)
    assert made.before(moment).item_ids.tolist() == [r[1] for r in rows if r[2] < moment]
    assert made.positives().item_ids.tolist() == [r[1] for r in rows if r[3] != Event.HIDE]


@given(rows_strategy)
def test_matrix_marks_the_known_pairs_once(rows):
    users, items = Vocabulary([3, 1, 0]), Vocabulary([2, 4, 1])
    dense = interactions(rows).matrix(users, items)
    expected = np.zeros((3, 3), np.float32)
    for user, item, *_ in rows:
        if user in users and item in items:
            expected[users.index([user])[0], items.index([item])[0]] = 1
    assert dense.dtype == np.float32
    assert dense.has_sorted_indices
    np.testing.assert_array_equal(dense.toarray(), expected)


@given(
    rows_strategy,
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 8)), max_size=8),
    st.randoms(),
)
def test_history_holds_exactly_the_events_strictly_before_its_moment(rows, queries, random):
    shuffled = rows.copy()
    random.shuffle(shuffled)
    histories = Histories.gather(
        interactions(shuffled), [u for u, _ in queries], [moment for _, moment in queries]
    )
    assert len(histories) == len(queries)
    for row, (user, moment) in enumerate(queries):
        start, stop = histories.indptr[row : row + 2]
        expected = sorted((r[2], r[1], r[3]) for r in rows if r[0] == user and r[2] < moment)
        found = zip(
            histories.timestamps[start:stop].tolist(),
            histories.item_ids[start:stop].tolist(),
            histories.events[start:stop].tolist(),
            strict=True,
        )
        assert list(found) == expected
    assert histories.lengths.sum() == len(histories.item_ids) == len(histories.rows)


@given(rows_strategy, st.lists(st.integers(0, 3), max_size=6))
def test_taken_histories_are_the_rows_one_by_one(rows, wanted):
    histories = Histories.gather(interactions(rows), np.arange(4), 5)
    taken = histories.take(np.array(wanted, dtype=np.int64))
    assert taken.user_ids.tolist() == wanted
    for position, row in enumerate(wanted):
        assert_same(taken.take(slice(position, position + 1)), histories.take(slice(row, row + 1)))


@given(rows_strategy, st.integers(0, 4))
def test_last_keeps_the_newest_events(rows, n):
    histories = Histories.gather(interactions(rows), np.arange(5), 7)
    cut = histories.last(n)
    for row in range(5):
        whole = histories.item_ids[slice(*histories.indptr[row : row + 2])].tolist()
        assert cut.item_ids[slice(*cut.indptr[row : row + 2])].tolist() == (whole[-n:] if n else [])


@given(rows_strategy)
def test_history_matrix_keeps_the_largest_weight_of_a_positive_item(rows):
    histories = Histories.gather(interactions(rows), np.arange(5), 7)
    items = Vocabulary([4, 2, 0])
    weights = np.nan_to_num(histories.ratings, nan=1.0)
    matrix = histories.matrix(items, weights)
    expected = np.zeros((5, 3), np.float32)
    stored = set()
    for row, item, event, weight in zip(
        histories.rows, histories.item_ids, histories.events, weights, strict=True
    ):
        if event != Event.HIDE and item in items:
            column = items.index([item])[0]
            expected[row, column] = max(expected[row, column], weight)
            stored.add((row, column))
    np.testing.assert_array_equal(matrix.toarray(), expected)
    assert matrix.nnz == len(stored)
    assert matrix.has_sorted_indices


def test_plain_lists_become_histories_in_their_order():
    histories = Histories.of_items([603, 604, 9], [], [862])
    assert histories.item_ids.tolist() == [603, 604, 9, 862]
    assert histories.lengths.tolist() == [3, 0, 1]
    assert histories.user_ids.tolist() == [-1, -1, -1]
    assert set(histories.events.tolist()) == {Event.LIKE}


def test_no_lists_become_no_histories():
    assert len(Histories.of_items()) == 0


def test_default_moment_of_histories_is_after_the_last_event():
    made = interactions([(2, 5, 3, Event.LIKE, 1.0, 1.0), (1, 6, 9, Event.LIKE, 1.0, 1.0)])
    histories = made.histories()
    assert histories.user_ids.tolist() == [1, 2]
    assert histories.item_ids.tolist() == [6, 5]
    assert made.histories(as_of=9).item_ids.tolist() == [5]


def test_digest_depends_on_every_column():
    base = interactions([(1, 2, 3, Event.LIKE, 4.0, 5.0)])
    digests = {base.digest()}
    for changed in [
        (9, 2, 3, Event.LIKE, 4.0, 5.0),
        (1, 9, 3, Event.LIKE, 4.0, 5.0),
        (1, 2, 9, Event.LIKE, 4.0, 5.0),
        (1, 2, 3, Event.CLICK, 4.0, 5.0),
        (1, 2, 3, Event.LIKE, 9.0, 5.0),
        (1, 2, 3, Event.LIKE, 4.0, 9.0),
    ]:
        digests.add(interactions([changed]).digest())
    assert len(digests) == 7


def test_catalog_is_sorted_and_filled_with_nulls():
    catalog = Catalog(pa.table({"title": ["B", "A"], "item_id": [2, 1], "note": ["x", "y"]}))
    assert catalog.table.schema == ITEMS
    assert catalog.item_ids.tolist() == [1, 2]
    assert catalog.table["title"].to_pylist() == ["A", "B"]
    assert catalog.table["genres"].null_count == 2


def test_aligned_catalog_follows_the_vocabulary_with_nulls_for_unknown_items():
    catalog = Catalog(pa.table({"item_id": [1, 2], "title": ["A", "B"], "genres": [["x"], ["y"]]}))
    aligned = catalog.align(Vocabulary([2, 7, 1]))
    assert aligned["item_id"].to_pylist() == [2, 7, 1]
    assert aligned["title"].to_pylist() == ["B", None, "A"]
    assert aligned["genres"].to_pylist() == [["y"], None, ["x"]]


def test_empty_catalog_is_a_catalog():
    assert (
        len(Catalog(pa.table({"item_id": pa.array([], pa.int64()), "title": pa.array([], pa.string())}))) == 0
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item_id": [1]}, "title"),
        ({"item_id": [1, 1], "title": ["A", "B"]}, "distinct"),
        ({"item_id": ["x"], "title": ["A"]}, "cast"),
        ({"item_id": [1], "title": [None]}, "title"),
        ({"item_id": [1], "title": ["A"], "runtime_minutes": ["long"]}, "cast"),
    ],
)
def test_catalog_of_a_wrong_table_is_refused(columns, message):
    with pytest.raises(SchemaError, match=message):
        Catalog(pa.table(columns))
