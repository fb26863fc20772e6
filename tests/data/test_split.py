from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interaction_rows import random_rows, rows

from marquee.data.dataset import Interactions
from marquee.data.schema import Event
from marquee.data.split import global_time, leave_last_out, split, summarise
from marquee.data.windows import Window

PROTOCOLS = ("rolling", "global", "last")


def queries(window: Window) -> dict[int, tuple[list[int], list[int]]]:
    """User → (history, ground truth)."""
    made = {}
    for i, user in enumerate(window.histories.user_ids.tolist()):
        past = slice(window.histories.indptr[i], window.histories.indptr[i + 1])
        future = slice(window.truth.indptr[i], window.truth.indptr[i + 1])
        made[user] = (
            window.histories.item_ids[past].tolist(),
            sorted(window.truth.item_ids[future].tolist()),
        )
    return made


def test_rolling_window_asks_for_the_second_half_of_a_users_rows():
    # 20 rows, one per microsecond: window 0 is the row 10 only, so make the windows wide.
    data = rows([(t % 2, t, t) for t in range(80)])
    first = split(data)[0]

    assert len(first.fit) == 40
    assert first.fit.timestamps.max() == 39
    # Window 0 holds the rows 40–43: user 0 at 40, 42 and user 1 at 41, 43; ⌊2/2⌋ = 1 is the second of them.
    assert queries(first) == {
        0: ([*range(0, 42, 2)], [42]),
        1: ([*range(1, 43, 2)], [43]),
    }
    assert first.histories.as_of.tolist() == [42, 43]


def test_rows_of_one_moment_are_never_parted():
    data = rows([(1, t, t) for t in range(40)] + [(1, 100 + i, 40) for i in range(40)])
    for window in split(data):
        # All of the window is of one moment: everything before it is history, all else ground truth.
        ((history, truth),) = queries(window).values()
        assert history == [*range(40)]
        assert len(truth) == 4


def test_users_without_history_or_with_one_row_are_not_asked():
    data = rows([(1, t, t) for t in range(40)] + [(2 + t // 2, 500 + t, 40 + t // 2) for t in range(40)])
    assert sum(len(window) for window in split(data)) == 0


def test_hidden_and_already_seen_items_are_no_ground_truth():
    data = rows(
        [(1, t, t) for t in range(40)] + [(1, item, 40 + i) for i, item in enumerate([70, 3, 71, 72] * 10)]
    )
    events = np.full(80, int(Event.RATE))
    events[43] = int(Event.HIDE)
    (first, *_) = split(replace(data, events=events.astype(np.int8)))

    # The second half of window 0 is the items 71 and 72 (hidden): 3 and 70 are before it.
    assert queries(first) == {1: ([*range(40), 70, 3], [71])}


def test_clicked_item_can_still_be_ground_truth():
    data = rows([(1, t, t) for t in range(40)] + [(1, 70 + t, 40 + t) for t in range(39)] + [(1, 3, 79)])
    events = np.full(80, int(Event.RATE))
    events[3] = int(Event.CLICK)
    last = split(replace(data, events=events.astype(np.int8)))[-1]
    assert 3 in queries(last)[1][1]


def test_global_splits_at_eighty_and_ninety_percent():
    data = rows([(1, t, t) for t in range(100)] + [(2, 200, 5), (3, 300, 200)])
    validation, test = global_time(data)

    assert (validation.tuning, test.tuning) == (True, False)
    assert (len(validation.fit), len(test.fit)) == (81, 91)
    assert [*queries(validation)] == [1]
    assert queries(test)[1][1] == [*range(90, 100)]


def test_last_asks_users_with_five_rows_for_their_last_one():
    data = rows([(1, t, t) for t in range(5)] + [(2, t, t) for t in range(4)])
    validation, test = leave_last_out(data)

    assert queries(validation) == {1: ([0, 1, 2], [3])}
    assert queries(test) == {1: ([0, 1, 2, 3], [4])}
    # Everything of user 2 is fit data.
    assert (len(validation.fit), len(test.fit)) == (7, 8)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(seed=st.integers(0, 10_000), n_times=st.sampled_from([5, 40, 1000]))
@settings(max_examples=25, deadline=None)
def test_no_split_leaks_the_future(protocol, seed, n_times):
    data = random_rows(seed, n_times=n_times)
    for window in split(data, protocol):
        histories, truth = window.histories, window.truth
        assert (histories.lengths > 0).all()
        assert (truth.lengths > 0).all()
        assert (histories.timestamps <= histories.as_of[histories.rows]).all()
        assert (truth.timestamps >= histories.as_of[truth.rows]).all()
        if protocol != "last":
            assert window.fit.timestamps.max() <= truth.timestamps.min(initial=np.iinfo(np.int64).max)
        if protocol == "rolling":
            assert (histories.timestamps < histories.as_of[histories.rows]).all()
        pairs = set(
            zip(histories.user_ids[histories.rows].tolist(), histories.item_ids.tolist(), strict=True)
        )
        wanted = list(zip(histories.user_ids[truth.rows].tolist(), truth.item_ids.tolist(), strict=True))
        assert len(wanted) == len(set(wanted))
        assert not pairs & set(wanted)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_order_of_the_input_rows_changes_nothing(protocol):
    data = random_rows(3)
    shuffled = data.take(np.random.default_rng(1).permutation(len(data)))
    for one, other in zip(split(data, protocol), split(shuffled, protocol), strict=True):
        assert queries(one) == queries(other)
        assert one.fit.digest() == other.fit.digest()


def test_unknown_protocol_is_named():
    with pytest.raises(ValueError, match="'random'; known: rolling, global, last"):
        split(random_rows(0), "random")  # type: ignore[arg-type]


def test_empty_data_has_windows_without_queries():
    for protocol in PROTOCOLS:
        assert sum(len(window) for window in split(rows([]), protocol)) == 0


@pytest.mark.realdata
def test_real_ratings_give_the_published_counts(realdata: Path):
    table = pq.read_table(realdata / "movielens-small.parquet")
    data = Interactions.of(
        table["user_id"].to_numpy(), table["movie_id"].to_numpy(), table["timestamp"].to_numpy() * 1_000_000
    )
    found = summarise(split(data))

    assert sum(window.n_queries for window in found if window.tuning) == 203
    test = [window for window in found if not window.tuning]
    assert sum(window.n_queries for window in test) == 260
    assert sum(window.n_truth for window in test) == 15_196
    assert sum(window.n_cold for window in test) == 2_071
    assert len(split(data, "global")[1]) == 27
    assert len(split(data, "last")[1]) == 610
