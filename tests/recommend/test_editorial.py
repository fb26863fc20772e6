"""What editors pin comes first, and what they boost moves; scores stay those of the model."""

import numpy as np
import pytest

from marquee.data import Event, Interactions
from marquee.recommend import Editorial, Filters, RecommendationPipeline


@pytest.fixture
def histories(tastes):
    return tastes.interactions.histories().take(slice(0, 20))


def wishes(pinned=(), boosts=None) -> Editorial:
    boosts = boosts or {}
    return Editorial(
        np.array(pinned, np.int64),
        np.array(list(boosts), np.int64),
        np.array(list(boosts.values()), np.float32),
    )


def test_pinned_items_come_first_in_the_editors_order_where_they_are_not_seen(ease, tastes, histories):
    pinned = ease.items.ids[[40, 3, 25]]
    ranked = RecommendationPipeline(ease, tastes.catalog, editorial=wishes(pinned)).recommend(histories, 10)
    plain = RecommendationPipeline(ease, tastes.catalog).recommend(histories, 48)
    for row in range(len(histories)):
        seen = set(histories.take(slice(row, row + 1)).item_ids.tolist())
        first = [item for item in pinned.tolist() if item not in seen]
        rest = [i for i in plain.item_ids[row].tolist() if i not in first]
        assert ranked.item_ids[row].tolist() == [*first, *rest][:10]
        scores = dict(zip(plain.item_ids[row].tolist(), plain.scores[row].tolist(), strict=True))
        assert ranked.scores[row].tolist() == [scores[i] for i in ranked.item_ids[row].tolist()]
    np.testing.assert_array_equal(ranked.qualified, plain.qualified)


def test_pinned_items_must_satisfy_the_filters_and_fit_into_the_list(ease, tastes, histories):
    western = [i for i in ease.items.ids.tolist() if tastes.genre_of_item[i] == 0]
    other = [i for i in ease.items.ids.tolist() if tastes.genre_of_item[i] == 1]
    pipeline = RecommendationPipeline(ease, tastes.catalog, editorial=wishes([*other[:3], *western]))
    ranked = pipeline.recommend(histories, 2, filters=Filters(genres=("Western",)))
    for row in range(len(histories)):
        seen = set(histories.take(slice(row, row + 1)).item_ids.tolist())
        assert ranked.item_ids[row].tolist() == [i for i in western if i not in seen][:2]


@pytest.mark.parametrize("boost", [3.0, -3.0])
def test_boost_moves_an_item_by_standard_deviations_of_the_users_scores(ease, tastes, histories, boost):
    item = int(ease.items.ids[20])
    pipeline = RecommendationPipeline(ease, tastes.catalog, editorial=wishes(boosts={item: boost}))
    ranked = pipeline.recommend(histories, 48)
    scores = ease.score(histories)
    lifted = scores.copy()
    lifted[:, 20] += boost * scores.std(axis=1)
    index = ease.items.index(ranked.item_ids.ravel()).reshape(ranked.item_ids.shape)
    found = index >= 0
    np.testing.assert_array_equal(
        ranked.scores[found], np.take_along_axis(scores, np.maximum(index, 0), axis=1)[found]
    )
    ranking = np.where(found, np.take_along_axis(lifted, np.maximum(index, 0), axis=1), -1e9)
    assert (np.diff(ranking, axis=1)[found[:, 1:]] <= 1e-6).all()


def test_boost_and_pin_of_one_item_and_of_unknown_ones_do_no_harm(ease, tastes, histories):
    item = int(ease.items.ids[30])
    editorial = wishes([item, 10**9], {item: 1.0, 10**9: 5.0})
    ranked = RecommendationPipeline(ease, tastes.catalog, editorial=editorial).recommend(histories, 3)
    seen = (histories.item_ids == item) & (histories.events != Event.CLICK)
    open_rows = np.setdiff1d(np.arange(len(histories)), histories.rows[seen])
    assert (ranked.item_ids[open_rows, 0] == item).all()
    assert (ranked.scores[open_rows, 0] == ease.score(histories)[open_rows, 30]).all()


def test_exploration_leaves_pinned_places_alone(ease, tastes, histories):
    pinned = ease.items.ids[[40]]
    pipeline = RecommendationPipeline(ease, tastes.catalog, editorial=wishes(pinned))
    ranked = pipeline.recommend(histories, 10, exploration=0.5, rng=np.random.default_rng(0))
    shown = ranked.item_ids[:, 0] == pinned[0]
    assert shown.any()
    assert not ranked.explored[shown, 0].any()
    assert (ranked.propensities[shown, 0] == 1).all()
    assert ranked.explored.any()


def test_nobody_known_gets_pinned_items_too(ease, tastes):
    hidden = Interactions.of([5], [10**6], [1], events=Event.HIDE).histories()
    pinned = ease.items.ids[[44]]
    pipeline = RecommendationPipeline(ease, tastes.catalog, editorial=wishes(pinned))
    assert pipeline.recommend(hidden, 5).item_ids[0, 0] == pinned[0]
