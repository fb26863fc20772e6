"""Weights of training rows and histories fade as their formulas say."""

import numpy as np
import pytest

from marquee.data import Event, Histories, Interactions, Vocabulary
from marquee.models.recency import MICROSECONDS_PER_DAY, RecencyConfig, history_matrix, training_matrix

ITEMS = Vocabulary([10, 20, 30])
NONE = RecencyConfig(
    training_half_life_days=None,
    history_half_life_events=None,
    history_half_life_days=None,
    rating_weight=0.0,
)


def with_fields(**values):
    return RecencyConfig.from_dict({**NONE.to_dict(), **values})


def test_without_half_lives_all_weigh_one():
    """The plain binary matrices."""
    rows = Interactions.of([1, 1, 2], [10, 20, 10], [1, 2, 3])
    assert training_matrix(rows, ITEMS, NONE).toarray().tolist() == [[1, 1, 0], [1, 0, 0]]
    assert history_matrix(rows.histories(), ITEMS, NONE).toarray().tolist() == [[1, 1, 0], [1, 0, 0]]


def test_training_row_of_one_half_life_has_half_the_square():
    """The value is the root, so that squares and products decay with age."""
    day = MICROSECONDS_PER_DAY
    rows = Interactions.of([1, 1], [10, 20], [0, 30 * day])
    X = training_matrix(rows, ITEMS, with_fields(training_half_life_days=30.0)).toarray()
    np.testing.assert_allclose(X**2, [[0.5, 1.0, 0.0]], rtol=1e-6)


def test_of_a_repeated_pair_the_largest_counts():
    """Watching again makes it fresh, and it counts once."""
    day = MICROSECONDS_PER_DAY
    rows = Interactions.of([1, 1, 1], [10, 10, 20], [30 * day, 0, 30 * day])
    X = training_matrix(rows, ITEMS, with_fields(training_half_life_days=30.0)).toarray()
    np.testing.assert_allclose(X, [[1.0, 1.0, 0.0]])


def test_history_fades_by_events():
    """Each newer event halves."""
    H = history_matrix(Histories.of_items([10, 20, 30]), ITEMS, with_fields(history_half_life_events=1.0))
    np.testing.assert_allclose(H.toarray(), [[0.25, 0.5, 1.0]])


def test_history_fades_by_days_before_the_newest_event():
    """What counts is the distance within the history, not how long the user has been away."""
    day = MICROSECONDS_PER_DAY
    rows = Interactions.of([1, 1], [10, 20], [0, 7 * day])
    soon, late = (
        history_matrix(rows.histories(moment), ITEMS, with_fields(history_half_life_days=7.0)).toarray()
        for moment in (8 * day, 800 * day)
    )
    np.testing.assert_allclose(soon, [[0.5, 1.0, 0.0]])
    np.testing.assert_array_equal(late, soon)


def test_events_of_one_moment_weigh_alike():
    """Their order by id carries no information."""
    rows = Interactions.of([1, 1, 1], [10, 20, 30], [1, 1, 2])
    H = history_matrix(rows.histories(), ITEMS, with_fields(history_half_life_events=1.0)).toarray()
    assert H[0, 0] == H[0, 1] < H[0, 2]


def test_rating_above_the_users_mean_adds_weight():
    """A harsh and a generous user who order items alike weigh them alike; unrated events weigh one."""
    rows = Interactions.of([1, 1, 2, 2, 3], [10, 20, 10, 20, 10], range(5), ratings=[2, 4, 8, 10, np.nan])
    config = with_fields(rating_weight=0.6)
    for X in (training_matrix(rows, ITEMS, config), history_matrix(rows.histories(), ITEMS, config)):
        np.testing.assert_allclose(X.toarray(), [[0.8, 1.2, 0.0], [0.8, 1.2, 0.0], [1, 0, 0]], rtol=1e-6)


def test_hidden_and_unknown_items_have_no_weight_and_take_no_place():
    """A hidden newest event does not age the others."""
    rows = Interactions.of([1, 1, 1], [10, 20, 99], [1, 2, 3], events=[Event.LIKE, Event.HIDE, Event.LIKE])
    H = history_matrix(rows.histories(), ITEMS, with_fields(history_half_life_events=1.0))
    np.testing.assert_allclose(H.toarray(), [[1.0, 0.0, 0.0]])


@pytest.mark.parametrize("n", [0, 1])
def test_empty_histories_are_empty_rows(n):
    """Cold start gives rows without entries."""
    H = history_matrix(Histories.of_items(*[[] for _ in range(n)]), ITEMS, RecencyConfig())
    assert H.shape == (n, 3)
    assert H.nnz == 0


def test_history_matrix_is_made_once_for_all_who_ask_the_same_and_anew_for_others():
    items = Vocabulary([1, 2, 3])
    histories = Histories.of_items([1, 2], [3])
    config = RecencyConfig()
    made = history_matrix(histories, items, config)
    assert history_matrix(histories, Vocabulary([1, 2, 3]), config) is made
    assert history_matrix(histories, Vocabulary([1, 2]), config).shape == (2, 2)
    assert history_matrix(histories, items, RecencyConfig(history_half_life_events=1.0)) is not made
    assert history_matrix(Histories.of_items([1, 2], [3]), items, config) is not made
