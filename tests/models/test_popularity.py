"""Popularity counts, decays and never looks at the user."""

import numpy as np
import pytest

from marquee.data import Event, Histories, Interactions
from marquee.models import Popularity
from marquee.models.popularity import MICROSECONDS_PER_DAY, PopularityConfig
from marquee.testing import RecommenderConformance


class TestPopularity(RecommenderConformance):
    def make(self) -> Popularity:
        return Popularity()


class TestRecentPopularity(RecommenderConformance):
    def make(self) -> Popularity:
        return Popularity(PopularityConfig(half_life_days=14))


def test_scores_are_shares_of_the_most_popular_item():
    rows = Interactions.of([1, 2, 3, 1, 2, 1], [7, 7, 7, 5, 5, 9], np.arange(6))
    model = Popularity().fit(rows)
    assert model.items.ids.tolist() == [7, 5, 9]
    assert model.item_counts.tolist() == [3, 2, 1]
    np.testing.assert_allclose(model.score(Histories.of_items([])), [[1, 2 / 3, 1 / 3]], rtol=1e-6)


def test_hidden_items_do_not_count():
    rows = Interactions.of([1, 2, 3], [7, 5, 5], np.arange(3), events=[Event.WATCH, Event.HIDE, Event.HIDE])
    assert Popularity().fit(rows).items.ids.tolist() == [7]


@pytest.mark.parametrize(("half_life", "first"), [(None, 1), (10, 2)])
def test_half_life_prefers_recent_items(half_life, first):
    day = MICROSECONDS_PER_DAY
    rows = Interactions.of([1, 2, 3, 4, 5], [1, 1, 1, 2, 2], [0, 0, 0, 100 * day, 100 * day])
    model = Popularity(PopularityConfig(half_life_days=half_life)).fit(rows)
    assert model.recommend([], 1).item_ids.tolist() == [[first]]


def test_interaction_of_one_half_life_counts_half():
    rows = Interactions.of([1, 2], [1, 2], [0, 10 * MICROSECONDS_PER_DAY])
    model = Popularity(PopularityConfig(half_life_days=10)).fit(rows)
    np.testing.assert_allclose(model.score(Histories.of_items([])), [[0.5, 1.0]])
