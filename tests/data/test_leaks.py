from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from interaction_rows import random_rows, rows

from marquee.data.dataset import Interactions
from marquee.data.leaks import check_facts, check_window
from marquee.data.split import split
from marquee.errors import DataError

PROTOCOLS = ("rolling", "global", "last")


def test_planted_later_fit_row_is_refused():
    window = split(random_rows(0))[6]
    late = rows([(99, 1, 10_000)])
    fit = Interactions(
        *(np.concatenate([getattr(window.fit, f), getattr(late, f)]) for f in window.fit.__slots__)
    )
    with pytest.raises(DataError, match=r"rolling-6 leaks: fit data as late as 1970-01-01T00:00:00.010000Z"):
        check_window(replace(window, fit=fit))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_planted_ground_truth_row_in_the_fit_data_is_refused(protocol):
    window = next(w for w in split(random_rows(0), protocol) if len(w))
    planted = rows(
        [(int(window.histories.user_ids[0]), int(window.truth.item_ids[0]), int(window.truth.timestamps[0]))]
    )
    fit = Interactions(
        *(np.concatenate([getattr(window.fit, f), getattr(planted, f)]) for f in window.fit.__slots__)
    )
    with pytest.raises(DataError, match="leaks"):
        check_window(replace(window, fit=fit))


def test_planted_history_event_after_the_query_is_refused():
    window = split(random_rows(0))[2]
    moved = replace(window.histories, timestamps=window.histories.timestamps + 1000)
    with pytest.raises(DataError, match="a history up to"):
        check_window(replace(window, histories=moved))


def test_planted_ground_truth_before_the_query_is_refused():
    window = split(random_rows(0))[2]
    moved = replace(window.histories, as_of=window.histories.as_of + 1000)
    with pytest.raises(DataError, match="a query at"):
        check_window(replace(window, histories=moved))


def test_facts_without_a_date_are_refused():
    with pytest.raises(DataError, match="vote_count carry no date"):
        check_facts(pa.table({"item_id": [1], "vote_count": [3]}), before=10)


@pytest.mark.parametrize("day", [None, datetime(2020, 1, 2, tzinfo=UTC)])
def test_facts_of_a_later_or_unknown_day_are_refused(day):
    facts = pa.table(
        {"popularity": [1.0, 2.0], "observed_at": pa.array([datetime(2019, 1, 1, tzinfo=UTC), day])}
    )
    cut = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp() * 1e6)
    with pytest.raises(DataError, match="popularity leak"):
        check_facts(facts, before=cut)


def test_lasting_and_earlier_facts_are_accepted():
    check_facts(pa.table({"item_id": [1], "title": ["x"]}), before=0)
    observed = pa.array([datetime(2019, 1, 1, tzinfo=UTC)])
    check_facts(
        pa.table({"popularity": [1.0], "observed_at": observed}),
        before=int(datetime(2020, 1, 1, tzinfo=UTC).timestamp() * 1e6),
    )
