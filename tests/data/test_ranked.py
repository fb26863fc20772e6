"""Top-k equals a full stable sort, however scores tie or are missing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from marquee.data import RankedItems, top_k
from marquee.data.ranked import rank_keys, unpack

few_values = st.sampled_from([-np.inf, np.nan, np.inf, -1.0, 0.0, -0.0, 0.5, 1.0, 2.0])
any_values = st.floats(width=32, allow_nan=True, allow_infinity=True)
shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)


def oracle(scores, k):
    indices = np.full((len(scores), k), -1)
    values = np.full((len(scores), k), np.nan, np.float32)
    for i, row in enumerate(scores):
        allowed = [j for j in range(len(row)) if not np.isnan(row[j]) and row[j] > -np.inf]
        best = sorted(allowed, key=lambda j: (-row[j], j))[:k]
        indices[i, : len(best)] = best
        values[i, : len(best)] = row[best]
    return indices, values


@given(
    st.one_of(hnp.arrays(np.float32, shapes, elements=e) for e in (few_values, any_values)),
    st.integers(1, 15),
)
def test_top_k_equals_a_full_sort(scores, k):
    indices, values = top_k(scores, k)
    expected_indices, expected_values = oracle(scores, k)
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_array_equal(values, expected_values)
    assert indices.dtype == np.int64
    assert values.dtype == np.float32


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_top_k_of_nothing_is_padding(shape):
    indices, values = top_k(np.zeros(shape, np.float32), 4)
    assert indices.shape == values.shape == (shape[0], 4)
    assert (indices == -1).all()
    assert np.isnan(values).all()


def test_top_k_leaves_its_input_as_it_is():
    scores = np.array([[1, np.nan, 3, 3]], np.float32)
    before = scores.copy()
    scores.flags.writeable = False
    top_k(scores, 2)
    np.testing.assert_array_equal(scores, before)


def test_lists_carry_external_ids_and_end_where_items_end():
    indices, scores = top_k(np.array([[0.1, -np.inf, 0.3]], np.float32), 4)
    ranked = RankedItems.from_indices(indices, scores, np.array([10, 20, 30]))
    assert (len(ranked), ranked.k) == (1, 4)
    assert ranked.item_ids.tolist() == [[30, 10, -1, -1]]
    assert [[item for item, _ in row] for row in ranked.rows()] == [[30, 10]]
    np.testing.assert_allclose([score for _, score in next(ranked.rows())], [0.3, 0.1], rtol=1e-6)


def test_lists_over_no_items_are_all_padding():
    ranked = RankedItems.from_indices(*top_k(np.zeros((2, 0), np.float32), 3), np.array([], np.int64))
    assert list(ranked.rows()) == [[], []]


def test_keys_order_pairs_by_score_then_lower_column() -> None:
    scores = np.array([-np.float32(3e38), -1.5, -1e-40, 0.0, 1e-40, 2.0, 2.0], np.float32)
    columns = np.array([5, 0, 9, 3, 1, 8, 7])
    keys = rank_keys(scores, columns)
    assert (np.diff(keys.astype(object)) > 0).all()
    found, values = unpack(keys)
    np.testing.assert_array_equal(found, columns)
    np.testing.assert_array_equal(values, scores)


def test_zeros_of_both_signs_have_one_key() -> None:
    keys = rank_keys(np.array([0.0, -0.0], np.float32), np.array([4, 4]))
    assert keys[0] == keys[1]
