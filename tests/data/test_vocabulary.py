"""A vocabulary is a bijection between external ids and dense indices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marquee.data import Vocabulary

ids = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=30)


@given(st.sets(st.integers(-(2**63), 2**63 - 1), max_size=30).map(list))
def test_ids_round_trip(distinct):
    vocabulary = Vocabulary(distinct)
    assert len(vocabulary) == len(distinct)
    np.testing.assert_array_equal(vocabulary.index(distinct), np.arange(len(distinct)))
    np.testing.assert_array_equal(vocabulary.ids[vocabulary.index(distinct)], distinct)


@given(ids, ids)
def test_index_is_minus_one_exactly_for_unknown_ids(known, asked):
    vocabulary = Vocabulary.by_count(known)
    found = vocabulary.index(asked)
    assert [(i >= 0) for i in found] == [(a in set(known)) for a in asked]
    assert all(vocabulary.ids[i] == a for i, a in zip(found, asked, strict=True) if i >= 0)
    assert all((a in vocabulary) == (a in set(known)) for a in asked)


@given(st.lists(st.integers(0, 5), max_size=40))
def test_by_count_orders_by_descending_count_then_ascending_id(values):
    ordered = Vocabulary.by_count(values).ids.tolist()
    assert ordered == sorted(set(values), key=lambda v: (-values.count(v), v))


def test_repeated_ids_are_refused():
    with pytest.raises(ValueError, match="distinct"):
        Vocabulary([1, 2, 1])


def test_ids_of_two_dimensions_are_refused():
    with pytest.raises(ValueError, match="one-dimensional"):
        Vocabulary([[1, 2]])


def test_equality_and_digest_depend_on_ids_and_their_order():
    assert Vocabulary([3, 1]) == Vocabulary([3, 1])
    assert Vocabulary([3, 1]) != Vocabulary([1, 3])
    assert Vocabulary([3, 1]).digest() == Vocabulary([3, 1]).digest()
    assert Vocabulary([3, 1]).digest() != Vocabulary([1, 3]).digest()


def test_vocabulary_is_not_hashable():
    with pytest.raises(TypeError):
        hash(Vocabulary([1]))


@pytest.mark.parametrize("gap", [1, 10**9])
def test_ids_near_and_far_apart_are_found_alike(gap: int) -> None:
    vocabulary = Vocabulary(np.array([5, -3, 9, 0]) * gap)
    asked = [9 * gap, 10 * gap, -3 * gap, -4 * gap, gap * 4, 0]
    assert vocabulary.index(asked).tolist() == [2, -1, 1, -1, -1, 3]
