from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from marquee.store.postgres import Database
from marquee.store.repositories import experiment_looks

pytestmark = pytest.mark.integration

BEGIN = datetime(2026, 11, 22, tzinfo=UTC)


def test_looks_are_kept_in_order_and_by_experiment(database: Database):
    with database.begin() as connection:
        for hour in (2, 1):
            moment = BEGIN + timedelta(hours=hour)
            experiment_looks.append(connection, 1, moment, [{"arm": "b", "value": hour}])
        experiment_looks.append(connection, 2, BEGIN, [])
        found = experiment_looks.history(connection, 1)
        assert [look.comparisons[0]["value"] for look in found] == [1, 2]
        assert experiment_looks.history(connection, 3) == []


def test_thinned_looks_reach_from_the_first_to_the_newest_about_evenly(database: Database):
    """However long it goes on: no hole is much larger than another."""
    with database.begin() as connection:
        for minute in range(100):
            moment = BEGIN + timedelta(minutes=minute)
            experiment_looks.append(connection, 1, moment, [], kept=10)
        moments = [look.measured_at for look in experiment_looks.history(connection, 1)]
    assert len(moments) == 10
    assert moments[0] == BEGIN
    assert moments[-1] == BEGIN + timedelta(minutes=99)
    holes = [(after - before) / timedelta(minutes=1) for before, after in pairwise(moments)]
    assert max(holes) <= 25
