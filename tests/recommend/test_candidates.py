"""Candidates: the union of what sources propose, with its provenance."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from marquee.data import Event, Histories, Interactions, Vocabulary
from marquee.recommend.candidates import gather_candidates, seen_cells

NOTHING = (np.zeros(0, np.int64), np.zeros(0, np.int64))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(1, 4), n_items=st.integers(1, 30), depth=st.integers(1, 8))
def test_candidates_equal_the_union_of_sorted_sources(seed: int, n: int, n_items: int, depth: int) -> None:
    rng = np.random.default_rng(seed)
    scores = [rng.integers(0, 6, (n, n_items)).astype(np.float32) for _ in range(3)]
    seen = np.nonzero(rng.random((n, n_items)) < 0.3)
    found = gather_candidates(scores, seen, depth, proposing=2)
    assert found.proposed.shape == (len(found.items), 3)
    assert not found.proposed[:, 2].any()
    for row in range(n):
        open_items = np.setdiff1d(np.arange(n_items), seen[1][seen[0] == row])
        best = [open_items[np.argsort(-s[row, open_items], kind="stable")[:depth]] for s in scores[:2]]
        mine = slice(found.indptr[row], found.indptr[row + 1])
        np.testing.assert_array_equal(found.items[mine], np.union1d(*best))
        for source in range(2):
            proposed = found.items[mine][found.proposed[mine, source]]
            np.testing.assert_array_equal(proposed, np.sort(best[source]))
        for source, matrix in enumerate(scores):
            np.testing.assert_array_equal(found.scores[mine, source], matrix[row, found.items[mine]])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(1, 4), n_items=st.integers(1, 30), depth=st.integers(1, 8))
def test_one_ranking_for_all_proposes_as_one_for_each_and_leaves_no_trace(
    seed: int, n: int, n_items: int, depth: int
) -> None:
    rng = np.random.default_rng(seed)
    shared = np.broadcast_to(rng.random(n_items, np.float32), (n, n_items))
    scores = [rng.integers(0, 6, (n, n_items)).astype(np.float32), shared]
    before = [matrix.copy() for matrix in scores]
    seen = np.nonzero(rng.random((n, n_items)) < 0.3)
    found = gather_candidates(iter(scores), seen, depth)
    np.testing.assert_array_equal(scores, before)
    each = gather_candidates(before, seen, depth)
    for name in ("indptr", "items", "scores", "proposed"):
        np.testing.assert_array_equal(getattr(found, name), getattr(each, name))


def test_user_who_has_seen_everything_gets_no_candidate() -> None:
    seen = (np.zeros(3, np.int64), np.arange(3))
    found = gather_candidates([np.ones((2, 3), np.float32)], seen, 2)
    assert np.diff(found.indptr).tolist() == [0, 2]


def test_clicked_items_may_be_proposed_again_but_hidden_ones_may_not() -> None:
    rows = Interactions.of(
        [1, 1, 1, 1], [7, 8, 9, 99], [1, 2, 3, 4], events=[Event.CLICK, Event.HIDE, Event.WATCH, Event.WATCH]
    )
    row, column = seen_cells(Histories.gather(rows, [1], [10]), Vocabulary([9, 8, 7]))
    assert row.tolist() == [0, 0]
    assert sorted(column.tolist()) == [0, 1]
